"""The one way in: panel, command line and worker all build a `Request` and get a `Result`. No torch."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import Any

from .errors import SettingError
from .settings import ROLE, ROLES, TASKS, Settings, SuperResolutionSettings, settings_from, settings_to, shown

DEVICES = ("auto", "cpu", "cuda", "mps")
FORMATS = (".nii.gz", ".nii", ".nrrd", ".mha")
"""Suffixes of volumes that are written: formats that keep geometry and fit into one file."""
PRECISIONS = ("auto", "fp32", "bf16")


@dataclass(frozen=True)
class Request:
    """One run, complete: the same request on the same machine gives a bit-identical result.

    Attributes:
        task: 'superresolution' or 'synthesis'.
        pack: a pack's name, or its folder.
        inputs: role to file path: 'low_resolution' for super-resolution; for synthesis the given sequences, one or
            more of the pack's, the first of which decides the result's slices.
        settings: the task's settings.
        seed: non-negative; every slice and sample gets its own stream from it.
        device: 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'.
        precision: 'auto' (measured at run time), 'fp32' or 'bf16'.
        batch: slices computed together; 0 chooses.
        slices: only these slice numbers (a preview), increasing from 0, or None for all.

    Raises:
        SettingError: an entry of the wrong type or outside its range.
    """

    task: str
    pack: str
    inputs: dict[str, str]
    settings: Settings = field(default_factory=SuperResolutionSettings)
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    batch: int = 0
    slices: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.task, str) or self.task not in ROLES:
            raise SettingError(f"task {shown(self.task)} is unknown", f"Known tasks are {', '.join(ROLES)}")
        if not isinstance(self.pack, str) or not self.pack.strip():
            raise SettingError(f"pack = {shown(self.pack)} is not a name", "Give the name of a pack or its folder")
        _check_inputs(self.task, self.inputs)
        if not isinstance(self.settings, TASKS[self.task]):
            raise SettingError(f"the settings {shown(self.settings)} are not those of task {self.task}")
        # Settings may have been built without `settings_from`; here they are checked at the latest.
        object.__setattr__(self, "settings", settings_from(self.task, settings_to(self.settings)))
        _check_whole("seed", self.seed, 2**63 - 1, "2^63 - 1")
        check_device(self.device)
        if self.precision not in PRECISIONS:
            raise SettingError(f"precision = {shown(self.precision)} is unknown", f"Use {', '.join(PRECISIONS)}")
        _check_whole("batch", self.batch, 1024, "1024")
        _check_slices(self.slices)

    def to_json(self) -> dict[str, Any]:
        """As JSON types; `from_json` reads it back to an equal request."""
        return {
            "task": self.task,
            "pack": self.pack,
            "inputs": dict(self.inputs),
            "settings": settings_to(self.settings),
            "seed": self.seed,
            "device": self.device,
            "precision": self.precision,
            "batch": self.batch,
            "slices": None if self.slices is None else list(self.slices),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Request:
        """Raises SettingError for an unknown or missing entry, or a value outside its range."""
        if not isinstance(values, dict):
            raise SettingError(f"a request is a JSON object, not {shown(values)}")
        known = set(cls.__dataclass_fields__)
        unknown, missing = set(values) - known, {"task", "pack", "inputs"} - set(values)
        if unknown or missing:
            wrong = ", ".join(sorted(map(shown, unknown)) or sorted(missing))
            what = "unknown" if unknown else "no"
            raise SettingError(f"the request has {what} {wrong}", f"Its entries are {', '.join(sorted(known))}")
        values = dict(values)
        values["settings"] = settings_from(values["task"], values.get("settings", {}))
        if values.get("slices") is not None:
            if not isinstance(values["slices"], (list, tuple)):
                raise SettingError(f"slices = {shown(values['slices'])} is not a list of slice numbers")
            values["slices"] = tuple(values["slices"])
        return cls(**values)

    def resolved(self, **values: Any) -> Request:
        """The same request with 'auto' choices replaced by what was chosen."""
        return replace(self, **values)


def _check_inputs(task: str, inputs: object) -> None:
    roles = ROLES[task]
    hint = f"Task {task} takes {', '.join(roles) or 'sequences of its pack'}"
    if not isinstance(inputs, dict):
        raise SettingError(f"the inputs are {shown(inputs)}, not roles with files", hint)
    if not inputs or (roles and set(inputs) != set(roles)):
        raise SettingError(f"the inputs are {', '.join(sorted(map(str, inputs))) or 'empty'}", hint)
    for role, path in inputs.items():
        if not isinstance(role, str) or not re.fullmatch(ROLE, role):
            raise SettingError(f"the input {shown(role)} is not a name", hint)
        if not isinstance(path, str) or not path:
            raise SettingError(f"the input {role} is {shown(path)}, not a file's path")


def _check_whole(name: str, value: object, highest: int, highest_text: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= highest:
        hint = f"Give a whole number from 0 to {highest_text}"
        raise SettingError(f"{name} = {shown(value)} is not a whole number from 0 to {highest_text}", hint)


def check_device(device: object) -> None:
    """Raises SettingError for what is no entry of `DEVICES` and not 'cuda:N'."""
    number = device.removeprefix("cuda:") if isinstance(device, str) and device.startswith("cuda:") else ""
    if device not in DEVICES and not (number.isascii() and number.isdecimal()):
        raise SettingError(f"device = {shown(device)} is unknown", f"Use {', '.join(DEVICES)} or cuda:N")


def _check_slices(slices: object) -> None:
    if slices is None:
        return
    numbers = list(slices) if isinstance(slices, tuple) else []
    whole = all(isinstance(s, int) and not isinstance(s, bool) for s in numbers)
    if not numbers or not whole or numbers[0] < 0 or numbers != sorted(set(numbers)):
        hint = "Count from 0 and name each slice once"
        raise SettingError(f"slices = {shown(slices)} are not increasing slice numbers", hint)


@dataclass(frozen=True)
class Progress:
    """How far a run is. `seconds_left` is None until it can be told."""

    slice: int
    slices: int
    step: int
    steps: int
    seconds_left: float | None


@dataclass(frozen=True)
class Result:
    """What a run gives.

    Attributes:
        volumes: role to file path or in-memory volume: 'result', and 'standard_deviation' for 2 samples or more.
        measurements: numbers about the result (the k-space report, the noise estimate, seconds).
        provenance: the resolved request, the pack's checksum, the inputs' hash and geometry, library versions.
        warnings: sentences for the person (a field of view that the pack has not seen, ...).
    """

    volumes: dict[str, Any]
    measurements: dict[str, Any]
    provenance: dict[str, Any]
    warnings: tuple[str, ...] = ()


def request_from_provenance(text: str) -> Request:
    """The request in a provenance (JSON text), to run again exactly. Raises SettingError if there is none."""
    try:
        provenance = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SettingError(f"the provenance is not valid JSON ({error})") from error
    if not isinstance(provenance, dict) or "request" not in provenance:
        raise SettingError("the provenance holds no request", "Give the JSON file that lies beside a result")
    return Request.from_json(provenance["request"])
