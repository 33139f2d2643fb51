"""All cases of a folder: what is done stays, what is missing or has changed is done, and everything is written down."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path

from ..errors import InputError, StorageError
from ..worker.outputs import remove_abandoned
from .decision import FAILED
from .manifest import LINES, TABLE, Manifest, Record
from .plan import PAIR_FILES, Job, Plan, find_cases

Run = Callable[[Iterable[Job]], Generator[Record, None, None]]
"""Gives the records of jobs in any order, taking them as it needs them (`cluster.one_by_one`, `cluster.run_on`)."""

Told = Callable[[int, int, Record | None], None]
"""Called with the cases done, those there are, and the newest record; None for one that was done before."""


def build_pairs(source: Path, out: Path, plan: Plan, run: Run, told: Told | None = None) -> Counter[str]:
    """Build the pairs of all cases.

    Args:
        source: a folder with a folder for each case.
        out: the folder for pairs and manifest; made if its parent exists.
        plan: checked (`Plan.check`).
        run: does the work.

    Returns:
        How many cases of `source` ended with each decision, those of earlier runs included.

    Raises:
        UserError: folders that cannot be used, a manifest that cannot be written. Not for a case that fails.
    """
    # A worker may have another working folder.
    source, out = source.absolute(), out.absolute()
    names = find_cases(source)
    if out.resolve().is_relative_to(source.resolve()):
        raise StorageError(f"{out} lies in {source}", "Choose a folder outside: it would be taken for a case")
    if taken := {LINES, TABLE} & set(names):
        raise InputError(f"a case is named {taken.pop()}, as the manifest is", "Rename its folder")
    try:
        out.mkdir(exist_ok=True)
    except OSError as error:
        raise StorageError(f"the folder {out} cannot be made ({error.strerror})", "Choose another one") from error
    identity = plan.identity()
    counts: Counter[str] = Counter()
    begun: set[str] = set()
    told = told or (lambda done, cases, record: None)

    with Manifest(out) as manifest:

        def missing() -> Iterator[Job]:
            for name in names:
                if manifest.holds(name, source / name, identity):
                    record = manifest.get(name)
                    assert record is not None
                    counts[record["decision"]] += 1
                    told(counts.total(), len(names), None)
                else:
                    begun.add(name)
                    yield Job(name, source / name, out / name, plan, identity)

        try:
            # Closed before anything is removed: nobody works on a case any more.
            with contextlib.closing(run(missing())) as records:
                for record in records:
                    manifest.add(record)
                    begun.discard(record["case"])
                    if record["decision"] == FAILED:
                        remove_pair(out / record["case"])
                    counts[record["decision"]] += 1
                    told(counts.total(), len(names), record)
        finally:
            # Of workers that were ended in the midst of a case.
            for name in begun:
                remove_abandoned(out / name)
    return counts


def remove_pair(place: Path) -> None:
    """What an earlier run made of files that were there then; nobody must take it for the pair of a failed case."""
    with contextlib.suppress(OSError):
        for name in PAIR_FILES:
            (place / name).unlink(missing_ok=True)
        place.rmdir()
