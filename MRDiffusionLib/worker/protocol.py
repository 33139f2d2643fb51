"""The worker's messages: one JSON object a line. No torch; the panel and the worker both import it.

To the worker, on its standard input:

    {"type": "run", "id": "1", "request": {...}, "output": "/folder"}    `Request.to_json()`; an existing folder;
                                           "previews": false where nobody looks at them: each costs some computing;
                                           "suffix": ".nii.gz" for another format than ".nrrd"
    {"type": "evaluate", "id": "2", "reference": "/a.nrrd", "test": "/b.nrrd"}    image quality of b; also of a region
                                           with "mask": "/m.nrrd"; the reference is resampled where it has to be,
                                           and b multiplied by "factor": 1.0 first
    {"type": "warm", "id": "3", "pack": "name", "device": "auto"}    load a pack and try it for a moment, so that the
                                           first run begins at once; whatever comes next goes first and cancels it
    {"type": "cancel", "id": "1"}          a run that is queued or running; any other id is ignored (it has just ended)
    {"type": "shutdown"}                   stop what runs, clean up, end; closing standard input does the same

From the worker, on its standard output:

    {"type": "ready", "device", "versions", "seconds"}                         once, when requests can be computed
    {"type": "progress", "id", "slice", "slices", "step", "steps", "seconds_left"}
    {"type": "preview", "id", "slice", "path", "affine"}    .npy, float32 (rows, columns), kept until some newer ones
                                           are there; affine (4, 4): from (column, row, 0, 1) to LPS mm
    {"type": "note", "id", "message"}      a sentence before the end: memory was short, and the run has begun again
    {"type": "result", "id", "volumes", "measurements", "provenance", "warnings", "sha256"}     volumes: role to a file
                                           in `output`; sha256: role to the checksum of its voxels
    {"type": "evaluation", "id", "figures"}          `evaluation.evaluate_files`
    {"type": "warmed", "id", "measurements"}         of some trials: a list of what those of a result hold
    {"type": "cancelled", "id"}
    {"type": "error", "id", "kind", "message", "hint", "details"}     id null: no run of its own (an unreadable message)

Every run ends with exactly one of result, evaluation, warmed, cancelled or error. Several runs wait in order.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..request import FORMATS, Progress, Request, check_device
from ..settings import shown

KINDS = ("input", "setting", "pack", "device", "storage", "memory", "internal")
"""What an error is about; all but 'internal' can be put right by the person."""

ENDS = ("result", "evaluation", "warmed", "cancelled", "error")
"""Types of the message that ends a run."""

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class ProtocolError(UserError):
    """A line that is no message, or a run with a wrong request. `id` is the run's where it could be read."""

    def __init__(self, message: str, hint: str = "", run_id: str | None = None, kind: str = "input") -> None:
        super().__init__(message, hint)
        self.id, self.kind = run_id, kind


@dataclass(frozen=True)
class Run:
    """Run a request and write its volumes into the folder `output`."""

    id: str
    request: Request
    output: str
    previews: bool = True
    suffix: str = ".nrrd"


@dataclass(frozen=True)
class Evaluate:
    """Compare a volume with a reference, both files; `mask` is one more, or empty. The volume is multiplied first."""

    id: str
    reference: str
    test: str
    mask: str = ""
    factor: float = 1.0


@dataclass(frozen=True)
class Warm:
    """Load a pack for a device, and try it."""

    id: str
    pack: str
    device: str = "auto"


Task = Run | Evaluate | Warm
"""What waits in the queue."""


@dataclass(frozen=True)
class Cancel:
    """Stop a run within one denoising step, or take it out of the queue."""

    id: str


@dataclass(frozen=True)
class Shutdown:
    """Stop everything and end."""


def parse(line: bytes | str) -> Task | Cancel | Shutdown:
    """Read a line sent to the worker.

    Raises:
        ProtocolError: not JSON, not an object, an unknown type, a missing or wrong entry, also in the request.
    """
    message = decode(line)
    kind = message.get("type")
    if kind == "shutdown":
        return Shutdown()
    if kind not in ("run", "evaluate", "warm", "cancel"):
        hint = "Known types are run, evaluate, warm, cancel, shutdown"
        raise ProtocolError(f"message type {shown(kind)} is unknown", hint)
    run_id = message.get("id")
    # An id becomes part of file names.
    if not isinstance(run_id, str) or not _ID.fullmatch(run_id):
        raise ProtocolError(
            f"the id of a {kind} message is {shown(run_id)}", "Give 1 to 64 letters, digits, '-' or '_'"
        )
    if kind == "cancel":
        return Cancel(run_id)
    if kind == "evaluate":
        reference, test, mask = message.get("reference"), message.get("test"), message.get("mask", "")
        if not (isinstance(reference, str) and isinstance(test, str) and isinstance(mask, str) and reference and test):
            text = f"the files of evaluation {run_id} are {shown([reference, test, mask])}"
            raise ProtocolError(text, "Give the paths of reference and test, and of a mask if there is one", run_id)
        factor = message.get("factor", 1.0)
        if not isinstance(factor, (int, float)) or isinstance(factor, bool) or not (0 < factor < math.inf):
            raise ProtocolError(
                f"the factor of evaluation {run_id} is {shown(factor)}", "Give a number above 0", run_id
            )
        return Evaluate(run_id, reference, test, mask, factor)
    if kind == "warm":
        return _warm(run_id, message)
    output = message.get("output")
    if not isinstance(output, str) or not output:
        raise ProtocolError(f"the output of run {run_id} is {shown(output)}", "Give an existing folder", run_id)
    previews = message.get("previews", True)
    if not isinstance(previews, bool):
        raise ProtocolError(f"previews of run {run_id} is {shown(previews)}", "Give true or false", run_id)
    suffix = message.get("suffix", Run.suffix)
    if suffix not in FORMATS:
        raise ProtocolError(f"suffix of run {run_id} is {shown(suffix)}", f"Give one of {', '.join(FORMATS)}", run_id)
    try:
        return Run(run_id, Request.from_json(message.get("request", {})), output, previews, suffix)
    except UserError as problem:
        raise ProtocolError(problem.message, problem.hint, run_id, problem.kind) from problem


def _warm(run_id: str, message: dict[str, Any]) -> Warm:
    pack, device = message.get("pack"), message.get("device", Warm.device)
    if not isinstance(pack, str) or not pack.strip():
        raise ProtocolError(f"the pack of warm {run_id} is {shown(pack)}", "Give the name of a pack", run_id)
    try:
        check_device(device)
    except UserError as problem:
        raise ProtocolError(problem.message, problem.hint, run_id, problem.kind) from problem
    return Warm(run_id, pack, device)


def decode(line: bytes | str) -> dict[str, Any]:
    """One line as a JSON object. Raises ProtocolError."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"the message {shown(line)} is not valid JSON", "Send one JSON object a line") from error
    if not isinstance(message, dict):
        raise ProtocolError(f"the message {shown(message)} is not a JSON object", "Send one JSON object a line")
    return message


def encode(message: Mapping[str, Any]) -> bytes:
    """A message as one line of ASCII, with its line end."""
    return (to_json(message) + "\n").encode("ascii")


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON text, also from NumPy numbers, paths and tuples. A number that is not finite becomes null."""
    return json.dumps(_plain(value), indent=indent, allow_nan=False)


def ready(device: str, versions: Mapping[str, str], seconds: float) -> dict[str, Any]:
    return {"type": "ready", "device": device, "versions": dict(versions), "seconds": round(seconds, 3)}


def progress(run_id: str, state: Progress) -> dict[str, Any]:
    return {"type": "progress", "id": run_id, **asdict(state)}


def note(run_id: str, message: str) -> dict[str, Any]:
    return {"type": "note", "id": run_id, "message": message}


def preview(run_id: str, slice_number: int, path: Path, affine: Any) -> dict[str, Any]:
    """`affine` is (4, 4), from (column, row, 0, 1) to LPS mm."""
    return {"type": "preview", "id": run_id, "slice": slice_number, "path": str(path), "affine": affine}


def result(run_id: str, volumes: Mapping[str, Path], told: Mapping[str, Any]) -> dict[str, Any]:
    """`told` is what `outputs.told_of` gives."""
    return {
        "type": "result",
        "id": run_id,
        "volumes": {role: str(path) for role, path in volumes.items()},
        **told,
    }


def evaluation(run_id: str, figures: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "evaluation", "id": run_id, "figures": dict(figures)}


def warmed(run_id: str, measurements: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "warmed", "id": run_id, "measurements": measurements}


def cancelled(run_id: str) -> dict[str, Any]:
    return {"type": "cancelled", "id": run_id}


def error(run_id: str | None, kind: str, message: str, hint: str = "", details: str = "") -> dict[str, Any]:
    """`details` is for a log: a traceback of an internal error."""
    assert kind in KINDS
    return {"type": "error", "id": run_id, "kind": kind, "message": message, "hint": hint, "details": details}


def user_error(run_id: str | None, problem: UserError) -> dict[str, Any]:
    return error(run_id, problem.kind, problem.message, problem.hint)


def worker_command(python: str = sys.executable) -> list[str]:
    """The command that starts a worker under a Python interpreter."""
    return [python, "-m", "MRDiffusionLib", "worker"]


def worker_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables for a worker: it finds this package wherever it stands, and does not load another program's ITK."""
    variables = dict(os.environ if environment is None else environment)
    for name in ("ITK_AUTOLOAD_PATH", "SITK_AUTOLOAD_PATH"):
        variables.pop(name, None)
    home = str(Path(__file__).resolve().parents[2])
    others = [part for part in variables.get("PYTHONPATH", "").split(os.pathsep) if part and part != home]
    variables["PYTHONPATH"] = os.pathsep.join([home, *others])
    variables["PYTHONUNBUFFERED"] = "1"
    return variables


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(part) for part in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):  # a NumPy number or array, without importing NumPy here
        return _plain(value.tolist())
    raise TypeError(f"{value!r} cannot be written as JSON")
