"""A command's run for every case of a folder."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ..cohort.batch import (
    ASKED,
    DONE,
    FAILED,
    KEPT,
    Case,
    Row,
    asked,
    find_cases,
    for_case,
    is_done,
    remove_stale,
    write_table,
)
from ..errors import InputError, UserError
from ..packs import PackInfo, find_pack
from ..request import Progress, Request
from .bar import Bar, duration
from .running import printable, write

SHOWN = 5
"""Cases that failed and are named at the end; the table has all of them."""


def run_folder(request: Request, source: Path, roles: Sequence[str], options: argparse.Namespace) -> None:
    """Run every case that is not done yet, and write the table.

    Args:
        request: with any inputs.
        source: of the cases (`cohort.batch.find_cases`).
        roles: that a case may have.

    Raises:
        UserError: folders that cannot be used; and at the end, with the number, if some cases failed.
    """
    pack = find_pack(request.pack)
    cases = find_cases(source, options.out, request, roles)
    rows: list[Row] = []
    try:
        with Bar(words=in_words) as bar:
            for row in _rows(cases, request, pack, options.force, bar):
                rows.append(row)
    finally:
        table = write_table(rows, options.out)
    for state in (DONE, KEPT, FAILED):
        print(f"{sum(row.state == state for row in rows):>7}  {state}")
    failed = [row for row in rows if row.state == FAILED]
    for row in failed[:SHOWN]:
        print(f"failed: {printable(row.case.name)}: {printable(row.told)}", file=sys.stderr)
    if failed:
        what = f"{len(failed)} of {len(rows)} cases failed"
        raise InputError(what, f"The others are done; {table} has the reasons, and the same command tries them again")


def _rows(cases: list[Case], request: Request, pack: PackInfo, force: bool, bar: Bar) -> Iterator[Row]:
    """What becomes of each case, as soon as it is known."""
    from .. import tasks

    cache, clock = tasks.PackCache(), _Clock(len(cases), bar)
    for number, case in enumerate(cases, 1):
        if not force and is_done(case, request, pack):
            yield Row(case, KEPT)
            continue
        try:
            progress = clock.of_case(number)
            wanted = asked(case, request, pack)
            result = tasks.run(for_case(request, case), cache=cache, progress=progress)
            write(result, case.places, **{ASKED: wanted})
            yield Row(case, DONE, " ".join(result.warnings), result.measurements.get("seconds"))
        except UserError as error:
            remove_stale(case)
            yield Row(case, FAILED, f"{error.message}. {error.hint}")


class _Clock:
    """Tells the bar how far all cases are, and the time left by those that were computed."""

    def __init__(self, cases: int, bar: Bar) -> None:
        self._cases, self._bar = cases, bar
        self._begun, self._computed = time.monotonic(), 0

    def of_case(self, number: int) -> Callable[[Progress], None]:
        """What a run of the case gets, counted from 1."""
        before, self._computed = self._computed, self._computed + 1

        def progress(state: Progress) -> None:
            step, steps = (state.slice - 1) * state.steps + state.step, state.slices * state.steps
            share = step / steps
            left = (self._cases - number + 1 - share) * (time.monotonic() - self._begun) / (before + share)
            self._bar(Progress(number, self._cases, step, steps, left))

        return progress


def in_words(state: Progress) -> str:
    """'case 3 of 10, 9 s left'."""
    text = f"case {state.slice} of {state.slices}"
    return text if state.seconds_left is None else f"{text}, {duration(state.seconds_left)} left"
