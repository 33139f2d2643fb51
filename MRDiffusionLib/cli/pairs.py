"""`pairs build`: training pairs of a cohort."""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cohort.decision import DECISIONS, FAILED, Limits
from ..errors import InputError
from ..request import Progress
from ..settings import DegradationSettings
from .bar import Bar, duration
from .running import add_command, number_or_auto, pack_path, printable, whole

if TYPE_CHECKING:
    from ..cohort.build import Run
    from ..cohort.manifest import Record

SHOWN = 5
"""Cases that failed and are named at the end; the manifest has all of them."""


def add_commands(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Register the commands of this module."""
    parser = add_command(subparsers, common, "pairs", None, "training pairs of low and high quality")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    parser = add_command(
        actions,
        common,
        "build",
        build,
        "measure the acquired pairs of a cohort; keep or mend each",
        "Keep aligned pairs; of a misaligned one synthesise the low-quality image from the high-quality one, or where "
        "that has artefacts the high-quality image from the low-quality one (docs/pairs.md). Writes a folder for each "
        "case and the manifest. The same command goes on from where an earlier one was stopped.",
    )
    parser.add_argument("source", metavar="IN", type=Path, help="a folder for each case, with high.* and low.* in it")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder for the pairs; made if it does not exist")
    parser.add_argument("--kind", choices=("noise", "blur"), required=True, help="what the low-quality scans lack")
    parser.add_argument(
        "--level",
        type=number_or_auto,
        default=None,
        metavar="L",
        help="of the low quality, 0 to 1; auto estimates it from each low-quality image [default auto]",
    )
    parser.add_argument(
        "--limit",
        type=_limit,
        action="append",
        default=[],
        metavar="NAME=X",
        help="from where on something counts: "
        + ", ".join(f"{f.name}={f.default:g}" for f in fields(Limits)).replace("%", "%%"),
    )
    parser.add_argument("--degrader", default="", metavar="PACK", help="[default the shipped one of the kind]")
    parser.add_argument("--enhancer", default="brain-enhance", metavar="PACK", help="[default brain-enhance]")
    steps = DegradationSettings.steps
    parser.add_argument("--steps", type=int, default=steps, metavar="N", help=f"of the degrader [default {steps}]")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same pairs [default 0]")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="[default auto]")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of the networks [default fp32]")
    parser.add_argument("--batch", type=int, default=0, help="slices computed together; 0 chooses [default 0]")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--workers",
        type=whole,
        metavar="N",
        help="processes on this machine; 0 uses none but this one, without Dask [default one a GPU, or one a core]",
    )
    where.add_argument("--scheduler", metavar="ADDRESS", help="a Dask scheduler that runs already: tcp://HOST:8786")
    where.add_argument("--slurm", type=Path, metavar="CONFIG", help="a .json file for dask-jobqueue (docs/pairs.md)")


def build(options: argparse.Namespace) -> None:
    """The command.

    Raises:
        UserError: what no case can be done with; and at the end, with the number, if some cases failed.
    """
    from ..cohort.build import build_pairs
    from ..cohort.manifest import TABLE
    from ..cohort.plan import Plan

    plan = Plan(
        options.kind,
        options.level,
        pack_path(options.degrader),
        pack_path(options.enhancer),
        Limits(**dict(options.limit)),
        options.seed,
        options.steps,
        options.precision,
        options.device,
        options.batch,
    )
    plan.check()
    cases = Cases()
    try:
        with cases:
            counts = build_pairs(options.source, options.out, plan, _run(options), cases.tell)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        raise
    print(summary(counts))
    for record in cases.failed:
        print(f"failed: {printable(record['case'])}: {printable(record['reason'])}", file=sys.stderr)
    table = options.out / TABLE
    if counts[FAILED]:
        what = f"{counts[FAILED]} of {counts.total()} cases failed"
        raise InputError(what, f"The others are done; {table} has the reasons, and the same command tries them again")
    if sys.stderr.isatty():
        print(f"wrote {table}", file=sys.stderr)


def summary(counts: Counter[str]) -> str:
    """A line for each decision: how many cases, and what share of them."""
    cases = counts.total()
    return "\n".join(f"{counts[name]:>7}  {counts[name] / cases:>4.0%}  {name}" for name in DECISIONS)


class Cases(Bar):
    """The bar over all cases; the time left goes by those of this run alone. Keeps the first failures."""

    def __init__(self) -> None:
        super().__init__(words=in_words)
        self.failed: list[Record] = []
        self._begun, self._made = time.monotonic(), 0

    def tell(self, done: int, cases: int, record: Record | None) -> None:
        """Called for each case (`cohort.build.Told`)."""
        self._made += record is not None
        left = (cases - done) * (time.monotonic() - self._begun) / self._made if self._made else None
        if record is not None and record["decision"] == FAILED and len(self.failed) < SHOWN:
            self.failed.append(record)
        self(Progress(done, cases, 1, 1, left))


def in_words(state: Progress) -> str:
    """'3 of 10 cases, 9 s left'."""
    text = f"{state.slice} of {state.slices} cases"
    return text if state.seconds_left is None else f"{text}, {duration(state.seconds_left)} left"


def _run(options: argparse.Namespace) -> Run:
    from ..cohort import cluster, slurm

    if options.workers == 0:
        return cluster.one_by_one
    if options.scheduler:
        place = cluster.at(options.scheduler)
    elif options.slurm:
        place = slurm.slurm(options.slurm)
    else:
        place = cluster.local(options.workers, options.device)
    return functools.partial(cluster.run_on, place)


def _limit(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    try:
        if name in {f.name for f in fields(Limits)} and float(number) >= 0:
            return name, float(number)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is no limit such as misaligned_pixels=0.5")
