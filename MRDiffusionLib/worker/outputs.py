"""What a run leaves: several files that appear together or not at all, one of them its provenance."""

from __future__ import annotations

import contextlib
import operator
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import StorageError
from ..request import Result


def sidecar(told: Mapping[str, Any], files: Mapping[str, Path]) -> dict[str, Any]:
    """The JSON that lies beside a result: its provenance, what was measured, the files and checksums of their voxels.

    Args:
        told: 'provenance', 'measurements', 'warnings' and 'sha256' by role, as the worker's result message has them.
        files: role to the file of each volume.
    """
    return {
        **told["provenance"],
        "measurements": told["measurements"],
        "warnings": list(told["warnings"]),
        "outputs": {role: {"file": path.name, "sha256": told["sha256"].get(role)} for role, path in files.items()},
    }


def told_of(result: Result, sha256: Callable[[Any], str] = operator.attrgetter("sha256")) -> dict[str, Any]:
    """What `sidecar` takes, of a result with its volumes in memory; `sha256` gives the checksum of one."""
    return {
        "provenance": result.provenance,
        "measurements": result.measurements,
        "warnings": list(result.warnings),
        "sha256": {role: sha256(volume) for role, volume in result.volumes.items()},
    }


Write = Callable[[Path], None]
"""Writes one file at the path that it is given."""


def write_together(files: Mapping[Path, Write], check: Callable[[], None] = lambda: None) -> None:
    """Write files that belong together; all of them must go into one folder, which exists.

    They are written into a hidden folder beside their place and moved when the last one is complete, so an error, a
    cancel or a kill leaves what was there before.

    Args:
        files: place of each file, and what writes it.
        check: called before each file and before the first move; it may raise to stop.

    Raises:
        StorageError: no room or no right to write.
    """
    folder = next(iter(files)).parent
    staged = folder
    try:
        with staging(folder) as staged:
            for place, write in files.items():
                check()
                write(staged / place.name)
            check()
            with uninterrupted():
                for place in files:
                    (staged / place.name).replace(place)
    except StorageError as error:
        # A person knows nothing of the hidden folder.
        raise StorageError(error.message.replace(str(staged), str(folder)), error.hint) from error
    except OSError as error:
        raise StorageError(
            f"{folder} cannot be written to ({error.strerror or error})", "Free some space or choose another folder"
        ) from error


PREFIX = ".MRDiffusion-partial-"

_unfinished: set[Path] = set()


@contextlib.contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """A hidden folder on the same file system, removed at the end."""
    staged = Path(tempfile.mkdtemp(prefix=PREFIX, dir=folder))
    _unfinished.add(staged)
    try:
        yield staged
    finally:
        shutil.rmtree(staged, ignore_errors=True)
        _unfinished.discard(staged)


def remove_unfinished() -> None:
    """For a process that is about to end while another thread still writes."""
    for staged in list(_unfinished):
        shutil.rmtree(staged, ignore_errors=True)


def remove_abandoned(folder: Path) -> None:
    """Remove what processes that were killed left in a folder; nobody else may be writing there."""
    for staged in folder.glob(f"{PREFIX}*"):
        shutil.rmtree(staged, ignore_errors=True)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back for a moment and deliver them afterwards. Only the main thread gets signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before: dict[int, Any] = {n: signal.signal(n, lambda number, _: held.append(number)) for n in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for number in held:
        signal.raise_signal(number)
