"""The records of a cohort: `manifest.jsonl`, one line a case, and `manifest.csv` for people. No torch.

One process writes it, a line as soon as a case is done, so a run that is stopped or killed at any time goes on from
there. In memory it keeps where each case's line begins, not the lines.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import InputError, StorageError, UserError
from ..worker.outputs import Write, write_together
from ..worker.protocol import to_json
from .decision import FAILED
from .plan import ROLES, Job, input_files

try:
    import fcntl
except ImportError:  # Windows: two runs at once are not found out
    fcntl = None  # type: ignore[assignment]

LINES, TABLE, LOCK = "manifest.jsonl", "manifest.csv", ".manifest.lock"
COLUMNS: dict[str, tuple[str, ...]] = {
    "case": ("case",),
    "decision": ("decision",),
    "reason": ("reason",),
    "kind": ("kind",),
    "level": ("level",),
    "misalignment_mm": ("measurements", "misalignment", "mean_mm"),
    "misalignment_pixels": ("measurements", "misalignment", "mean_pixels"),
    "ghosts_percent": ("measurements", "artefacts", "ghosts_percent"),
    "spikes": ("measurements", "artefacts", "spikes"),
    "seconds": ("seconds",),
}
"""Of the table: the keys of each value in a record."""

Record = dict[str, Any]


class Manifest:
    """Opens the manifest of a folder for writing; use it as a context.

    Raises:
        InputError: a manifest with a line that is none.
        StorageError: the folder cannot be written to, or another run writes into it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / LINES
        self._places: dict[str, int] = {}
        with contextlib.ExitStack() as opened:
            try:
                self._lock = opened.enter_context((folder / LOCK).open("w"))
                self._take()
                # Without a buffer: what does not fit on the disk must not be tried again when the file is closed.
                self._stream = opened.enter_context(self.path.open("ab", buffering=0))
                self._lines = opened.enter_context(self.path.open("rb"))
            except OSError as error:
                what = f"{folder} cannot be written to ({error.strerror})"
                raise StorageError(what, "Choose another folder") from error
            self._read()
            self._opened = opened.pop_all()

    def __enter__(self) -> Manifest:
        return self

    def __exit__(self, *_: object) -> None:
        with self._opened:
            self._finish()

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Record]:
        """The newest record of each case, by name."""
        return (self._at(self._places[case]) for case in sorted(self._places))

    def get(self, case: str) -> Record | None:
        """The newest record of a case."""
        return self._at(self._places[case]) if case in self._places else None

    def add(self, record: Record) -> None:
        """Write a line; it is on the disk when this returns. Raises StorageError."""
        line = (to_json(record) + "\n").encode("ascii")
        place = self._stream.seek(0, os.SEEK_END)
        try:
            if self._stream.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._stream.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):
                self._stream.truncate(place)
            what = f"{self.path} cannot be written ({error.strerror})"
            raise StorageError(what, "Free some space; the same command goes on from here") from error
        self._places[record["case"]] = place

    def holds(self, case: str, source: Path, identity: Record) -> bool:
        """Whether a case is done: made as now wanted, from the files that are there now, and its pair is still there.

        Args:
            source: the folder of its images.
            identity: of the plan.
        """
        record = self.get(case)
        if record is None or record["decision"] == FAILED or record["plan"] != identity:
            return False
        try:
            files = input_files(source)
        except UserError:
            return False
        given = all(unchanged(files[role], record["inputs"][role]) for role in files)
        made = (self.folder / case / output["file"] for output in record["outputs"].values())
        sizes = (output["bytes"] for output in record["outputs"].values())
        return given and all(_size(path) == size for path, size in zip(made, sizes))

    def _take(self) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StorageError(f"another run writes into {self.folder}", "Wait for its end or stop it") from error
        except OSError:  # the file systems of some clusters have no locks
            return

    def _read(self) -> None:
        end = 0
        for number, line in enumerate(self._lines, 1):
            # A line without its end was being written when the run was killed; its case is done again.
            if not line.endswith(b"\n"):
                self._stream.truncate(end)
                break
            self._places[_case_of(line, f"line {number} of {self.path}")] = end
            end += len(line)

    def _at(self, place: int) -> Record:
        record: Record = json.loads(self._line(place))
        return record

    def _line(self, place: int) -> bytes:
        self._lines.seek(place)
        return self._lines.readline()

    def _finish(self) -> None:
        """One line a case, in the order of their names, and the table."""

        def lines(path: Path) -> None:
            with path.open("wb") as stream:
                for case in sorted(self._places):
                    stream.write(self._line(self._places[case]))
                stream.flush()
                os.fsync(stream.fileno())

        def table(path: Path) -> None:
            # A file name need not be text.
            with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream:
                rows = csv.writer(stream)
                rows.writerow(COLUMNS)
                rows.writerows([_value(record, keys) for keys in COLUMNS.values()] for record in self)

        files: dict[Path, Write] = {self.path: lines, self.folder / TABLE: table}
        write_together(files)


def failure(job: Job, reason: str, seconds: float | None = None) -> Record:
    """The record of a case that could not be done."""
    return {
        "case": job.case,
        "decision": FAILED,
        "reason": " ".join(reason.split()),
        "kind": job.plan.kind,
        "level": job.plan.level,
        "seconds": seconds,
        "plan": job.identity,
    }


def file_record(path: Path) -> Record:
    """What tells a file from another: name, bytes, time of its last change and SHA-256. Raises InputError."""
    try:
        with path.open("rb") as stream:
            state = os.fstat(stream.fileno())
            digest = hashlib.file_digest(stream, "sha256") if hasattr(hashlib, "file_digest") else _digest(stream)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})", "Check the rights of the file") from error
    return {"file": path.name, "bytes": state.st_size, "modified_ns": state.st_mtime_ns, "sha256": digest.hexdigest()}


def _digest(stream: io.BufferedReader) -> Any:
    """`hashlib.file_digest` of Python 3.11."""
    digest = hashlib.sha256()
    while part := stream.read(1 << 20):
        digest.update(part)
    return digest


def _case_of(line: bytes, where: str) -> str:
    """The name in a line. Raises InputError for a line that `holds` could not use."""
    try:
        record = json.loads(line)
        case, _, done = record["case"], record["plan"], record["decision"] != FAILED
        if done:
            for role in ROLES:
                _ = record["inputs"][role], record["outputs"][role]
        if not isinstance(case, str):
            raise TypeError
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{where} is no record", "Remove the line; its case is then done again") from error
    return case


def unchanged(path: Path, record: Record) -> bool:
    """Whether a file is the one of a `file_record`.

    As git does: the content is only looked at where name and size are the same and the time is another.
    """
    try:
        state = path.stat()
    except OSError:
        return False
    if path.name != record["file"] or state.st_size != record["bytes"]:
        return False
    return state.st_mtime_ns == record["modified_ns"] or file_record(path)["sha256"] == record["sha256"]


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _value(record: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        record = record.get(key) if isinstance(record, dict) else None
    return cell(record)


def cell(value: Any) -> Any:
    """A value as a table for spreadsheets has it."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@")):
        return "'" + value  # it would be computed
    return f"{value:.6g}" if isinstance(value, float) else value
