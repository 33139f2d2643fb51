"""All cases of a folder: what is done stays, what is missing or has changed is done, and everything is written down."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ..errors import StorageError
from ..worker.outputs import remove_abandoned
from .manifest import Manifest, Record
from .plan import Job, Plan, find_cases

Run = Callable[[Iterable[Job]], Iterator[Record]]
"""Gives the records of jobs in any order, taking them as it needs them."""

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
    names = find_cases(source)
    if out.resolve().is_relative_to(source.resolve()):
        raise StorageError(f"{out} lies in {source}", "Choose a folder outside: it would be taken for a case")
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
            for record in run(missing()):
                manifest.add(record)
                begun.discard(record["case"])
                counts[record["decision"]] += 1
                told(counts.total(), len(names), record)
        finally:
            # Of workers that were ended in the midst of a case.
            for name in begun:
                remove_abandoned(out / name)
    return counts
