"""The same run for every case of a folder; what is done stays. No torch.

A case of a task with one image is a volume of the folder; of synthesis it is a folder with a volume for each given
sequence, named after it (bSSFP.nii.gz, T2.nii.gz). Beside each result lies its provenance, which also says what was
asked for, so the same run in the same folder goes on where it was stopped.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import InputError, SettingError, StorageError, UserError
from ..packs import PackInfo
from ..request import FORMATS, Request
from ..settings import SynthesisSettings
from ..worker.outputs import Write, remove_abandoned, write_together
from ..worker.protocol import to_json
from .manifest import cell, file_record, unchanged

WORD = "SYNTHETIC"
ASKED = "asked"
"""Entry of the provenance beside a result: request, weights and files as they were when the run began."""
TABLE = "batch.csv"
COLUMNS = ("case", "state", "told", "seconds", "result")
DONE, KEPT, FAILED = "done", "kept", "failed"
"""States of a case: computed now, done before, not done."""


@dataclass(frozen=True)
class Case:
    """One run.

    Attributes:
        name: of the file without its suffix, or of the folder.
        inputs: role to file.
        places: role to the file of each result, and 'provenance'.
    """

    name: str
    inputs: dict[str, Path]
    places: dict[str, Path]

    @property
    def suffix(self) -> str:
        """Format of the results: that of the first input."""
        return (_suffix(self.places["result"]) or "").lower()


@dataclass(frozen=True)
class Row:
    """What became of a case; `told` are warnings, or why it failed."""

    case: Case
    state: str
    told: str = ""
    seconds: float | None = None


def find_cases(source: Path, out: Path, request: Request, roles: Sequence[str]) -> list[Case]:
    """The cases of a folder, in the order of their names.

    Args:
        source: is read, never written.
        out: for the results; made if its parent exists.
        request: what is wanted of every case, with any inputs.
        roles: of a task with one image that one; otherwise the sequences that may be given.

    Raises:
        InputError: no such folder, no case in it, or two cases of one name.
        SettingError: a scale for a sequence that is not among `roles`.
        StorageError: `out` is or lies in `source`, cannot be made, or is named like a volume.
    """
    source, out = source.absolute(), out.absolute()
    for role, _scale in getattr(request.settings, "scales", ()):
        if role not in roles:
            raise SettingError(f"there is a scale for {role}, which no case can have", f"Known are {', '.join(roles)}")
    if _suffix(out) is not None and not out.is_dir():
        raise StorageError(f"{source} is a folder and {out.name} the name of a volume", "Name a folder for the results")
    found = _files(source, roles[0]) if request.task != "synthesis" else _folders(source, roles)
    if out.resolve().is_relative_to(source.resolve()):
        raise StorageError(f"{out} lies in {source}", "Choose a folder outside: results would be taken for cases")
    try:
        out.mkdir(exist_ok=True)
    except OSError as error:
        raise StorageError(f"the folder {out} cannot be made ({error.strerror})", "Choose another one") from error
    remove_abandoned(out)
    several = request.settings.samples > 1
    return [Case(name, inputs, _places(name, inputs, out, several)) for name, inputs in sorted(found.items())]


def for_case(request: Request, case: Case) -> Request:
    """The request with the inputs of a case; a scale for a sequence that it lacks is left out."""
    settings = request.settings
    if isinstance(settings, SynthesisSettings):
        settings = replace(settings, scales=tuple(each for each in settings.scales if each[0] in case.inputs))
    return replace(request, inputs={role: str(path) for role, path in case.inputs.items()}, settings=settings)


def asked(case: Case, request: Request, pack: PackInfo) -> dict[str, Any]:
    """What a run of a case depends on: the request, the weights, the files. Raises InputError."""
    files = {role: file_record(path) for role, path in case.inputs.items()}
    return {"request": for_case(request, case).to_json(), "weights_sha256": pack.weights_sha256, "files": files}


def is_done(case: Case, request: Request, pack: PackInfo) -> bool:
    """Whether the results of a case are there, as now wanted, from the files as they are now."""
    try:
        written = json.loads(case.places["provenance"].read_text(encoding="utf-8"))
        before = written[ASKED]
        same = before["request"] == json.loads(to_json(for_case(request, case).to_json()))
        given = all(unchanged(path, before["files"][role]) for role, path in case.inputs.items())
        made = [case.places[role] for role in written["outputs"]]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return same and given and before["weights_sha256"] == pack.weights_sha256 and all(path.is_file() for path in made)


def remove_stale(case: Case) -> None:
    """After a failure: results of files that were there before. Nobody must take them for results of those now there.

    Results of the same files, made with other choices, stay; so does what this program did not make.
    """
    try:
        written = json.loads(case.places["provenance"].read_text(encoding="utf-8"))
        if all(unchanged(path, written[ASKED]["files"][role]) for role, path in case.inputs.items()):
            return
    except UserError:  # a file cannot be read any more
        pass
    except (OSError, ValueError, KeyError, TypeError):
        return
    for path in case.places.values():
        with contextlib.suppress(OSError):
            path.unlink()


def write_table(rows: Iterable[Row], out: Path) -> Path:
    """What became of each case, for people. Raises StorageError."""
    place = out.absolute() / TABLE

    def write(path: Path) -> None:
        # A file name need not be text.
        with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream:
            table = csv.writer(stream)
            table.writerow(COLUMNS)
            for row in rows:
                result = "" if row.state == FAILED else row.case.places["result"].name
                told = " ".join(row.told.split())
                table.writerow([cell(value) for value in (row.case.name, row.state, told, row.seconds, result)])

    files: dict[Path, Write] = {place: write}
    write_together(files)
    return place


def _files(source: Path, role: str) -> dict[str, dict[str, Path]]:
    found: dict[str, dict[str, Path]] = {}
    for path in _entries(source):
        suffix = _suffix(path)
        if suffix is None or path.name.startswith(".") or not path.is_file():
            continue
        name = path.name[: -len(suffix)]
        if name in found:
            raise InputError(f"{found[name][role].name} and {path.name} have one name", "Move one to another folder")
        found[name] = {role: path}
    if not found:
        raise InputError(f"{source} holds no volume", f"Put files with {', '.join(FORMATS)} there")
    return found


def _folders(source: Path, roles: Sequence[str]) -> dict[str, dict[str, Path]]:
    known = {role.lower(): role for role in roles}
    found = {}
    for folder in _entries(source):
        if folder.name.startswith(".") or not folder.is_dir():
            continue
        inputs: dict[str, Path] = {}
        for path in _entries(folder):
            suffix = _suffix(path)
            role = None if suffix is None else known.get(path.name[: -len(suffix)].lower())
            if role in inputs:
                raise InputError(f"{folder} holds {role} twice", "Leave one")
            if role is not None:
                inputs[role] = path
        if inputs:  # in the order of the roles: the first decides the result's slices
            found[folder.name] = {role: inputs[role] for role in roles if role in inputs}
    if not found:
        names = ", ".join(f"{role}.nii.gz" for role in roles)
        raise InputError(f"{source} holds no case", f"Make a folder for each case, with some of {names} in it")
    return found


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder / name for name in os.listdir(folder))
    except OSError as error:
        raise InputError(f"the folder {folder} cannot be read ({error.strerror})", "Check the name") from error


def _suffix(path: Path) -> str | None:
    return next((path.name[-len(each) :] for each in FORMATS if path.name.lower().endswith(each)), None)


def _places(name: str, inputs: dict[str, Path], out: Path, several: bool) -> dict[str, Path]:
    suffix = _suffix(next(iter(inputs.values())))
    stem = f"{WORD}-{name}"
    places = {"result": out / f"{stem}{suffix}", "provenance": out / f"{stem}.json"}
    if several:
        places["standard_deviation"] = out / f"{stem}_standard_deviation{suffix}"
    return places
