"""`pack.json`: the description of a pack, read strictly. No torch."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import PackError
from ..settings import ROLE, STARTS
from .checks import choice, inner, pair, pattern, real, short, text, texts, whole
from .networks import check_network, multiple_of

FORMAT = 1
INFO_FILE, WEIGHTS_FILE, CARD_FILE, LICENCE_FILE = "pack.json", "weights.safetensors", "README.md", "LICENSE"
TASKS = ("superresolution", "regression", "synthesis", "degradation", "enhancement")
PREDICTIONS = ("eps", "v", "x0")
PATCH = 16
"""Side of the patches of `networks.features.PatchEncoder`."""
PLANES = ("any", "axial", "coronal", "sagittal", "short axis")
LARGEST_INFO = 1_000_000

_SCHEDULES: dict[str, tuple[str, ...]] = {
    "linear": ("gamma_min", "gamma_max"),
    "cosine": ("gamma_min", "gamma_max"),
    "learned": ("gamma_min", "gamma_max", "width"),
    "ddpm": ("kind", "beta_min", "beta_max", "steps"),
}


PIXEL_SIZE_TOLERANCE = 0.15
"""Relative difference to a pack's pixel size above which a person is warned."""


@dataclass(frozen=True)
class PackInfo:
    """What a pack says about itself.

    Attributes:
        folder: where it lies.
        name: lower-case letters, digits, '.', '_' and '-'.
        version: of the pack, not of the program.
        title: one line for a person.
        task: 'superresolution' (an unconditional prior), 'regression' (its one-pass baseline) or 'synthesis' (some
            sequences from others).
        roles: input volumes that the task needs; of a synthesis pack its sequences, each of which can be wanted.
        matrix: (rows, columns) that it was trained on.
        pixel_size_mm: (row spacing, column spacing) that it was trained on.
        prediction: what the network gives: 'eps', 'v' or 'x0'. A regression pack says 'x0' and gives the clean image
            less the zero-filled one.
        network: settings of `networks.unet.VDMUNet` or `networks.cmrdiff.CMRDiff`, without the schedule's ends.
        schedule: for `diffusion.schedule_from_dict`.
        normalisation: {'percentile': p, 'value': v, 'within': w}: the p-th percentile of a volume's object (without
            air, within the middle w of rows and columns; `intensity.intensity_scale`) is scaled to v in [0, 1], u; the
            network sees 2 u - 1. Without 'within' all of the volume counts.
        domain: {'plane': of its slices, an entry of `PLANES`; 'median': {role: [lowest, highest]}, the median of what
            its training volumes show, on the scale of `normalisation`}.
        training_data: what it was trained on, in plain words.
        licence: name of the licence of the weights.
        quality: measured figures (JSON types), with what they were measured on.
        intended_use: what it is for.
        limits: what is known to go wrong, a sentence each.
        weights_sha256: of weights.safetensors, 64 hexadecimal digits.
    """

    folder: Path
    name: str
    version: str
    title: str
    task: str
    roles: tuple[str, ...]
    matrix: tuple[int, int]
    pixel_size_mm: tuple[float, float]
    prediction: str
    network: dict[str, Any]
    schedule: dict[str, Any]
    normalisation: dict[str, float]
    domain: dict[str, Any]
    training_data: str
    licence: str
    quality: dict[str, Any]
    intended_use: str
    limits: tuple[str, ...]
    weights_sha256: str

    @property
    def field_of_view_mm(self) -> tuple[float, float]:
        """Extent (rows, columns) in mm of the training images."""
        return self.matrix[0] * self.pixel_size_mm[0], self.matrix[1] * self.pixel_size_mm[1]

    @property
    def multiple(self) -> int:
        """Height and width of an image must be multiples of this."""
        return multiple_of(self.task, self.network)

    def unseen_pixel_sizes(self, pixel_mm: tuple[float, float]) -> list[int]:
        """The axes (0 rows, 1 columns) whose spacing is far from the training images' (`PIXEL_SIZE_TOLERANCE`)."""
        trained = self.pixel_size_mm
        return [a for a in (0, 1) if abs(pixel_mm[a] - trained[a]) > PIXEL_SIZE_TOLERANCE * trained[a]]

    def to_json(self) -> dict[str, Any]:
        """The content of pack.json."""
        values = {name: getattr(self, name) for name in _CHECKS}
        return {"format": FORMAT} | {n: list(v) if isinstance(v, tuple) else v for n, v in values.items()}


def read_info(folder: str | Path) -> PackInfo:
    """Read and check the `pack.json` of a folder; the weights are not looked at (`verify_pack`).

    Raises:
        PackError: no such folder or file, text that is not JSON, an unknown or missing entry, a wrong type or value.
    """
    folder = Path(folder)
    if folder.is_file():
        raise PackError(f"{folder} is a file, not a pack", "A pack is a folder: unpack an archive and give the folder")
    if not folder.is_dir():
        raise PackError(f"the pack folder {folder} does not exist", "Check the name, or see `packs list`")
    path = folder / INFO_FILE
    if not path.is_file():
        raise PackError(f"{folder} has no {INFO_FILE}", "Give the folder that holds it")
    try:
        size = path.stat().st_size
        if size > LARGEST_INFO:
            raise PackError(f"pack {folder.name}: {INFO_FILE} has {size} bytes", "That is no description of a pack")
        values = json.loads(
            path.read_text(encoding="utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_no_duplicates
        )
    except PackError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise PackError(f"pack {folder.name}: {INFO_FILE} cannot be read ({error})", "Get the pack again") from error
    return info_from(values, folder)


def info_from(values: Any, folder: Path) -> PackInfo:
    """A description from the content of pack.json. Raises PackError as `read_info`."""
    if not isinstance(values, dict):
        raise PackError(f"pack {folder.name}: {INFO_FILE} holds no object but {short(values)}", "Get the pack again")
    if values.get("format") != FORMAT:
        raise PackError(
            f"pack {folder.name}: format = {short(values.get('format'))}, but this version reads format {FORMAT}",
            "Get the pack again, or update MRDiffusion",
        )
    _same_keys(folder.name, INFO_FILE, values, {"format", *_CHECKS})
    checked: dict[str, Any] = {}
    for key, check in _CHECKS.items():
        try:
            checked[key] = check(values[key]) if key != "network" else check_network(values[key], checked["task"])
        except (ValueError, RecursionError) as error:
            raise PackError(
                f"pack {folder.name}: {key} = {short(values[key])} {error}",
                f"Correct {INFO_FILE} or get the pack again",
            ) from error
    info = PackInfo(folder=folder, **checked)
    if info.task == "synthesis":
        _check_synthesis(info)
    if any(n % info.multiple for n in info.matrix):
        raise PackError(
            f"pack {folder.name}: matrix = {info.matrix[0]}x{info.matrix[1]} is no multiple of {info.multiple}, "
            "which its network needs",
            f"Correct {INFO_FILE} or get the pack again",
        )
    return info


def _check_synthesis(info: PackInfo) -> None:
    """Entries that are in order alone and do not go together. Raises PackError."""
    roles, features = info.roles, info.network["features"] or {}
    problem = ""
    if len(set(roles)) != len(roles) or len(roles) < 2:
        problem = f"roles = {short(list(roles))} are not two or more different names"
    elif set(roles) & set(STARTS):
        problem = f"roles = {short(list(roles))} name what a sampling starts from ({', '.join(STARTS)})"
    elif any(not re.fullmatch(ROLE, role) for role in roles):
        problem = f"roles = {short(list(roles))} hold more than letters, digits, spaces and . + - _"
    elif "matrix" in features and (features["matrix"] != list(info.matrix) or any(n % PATCH for n in info.matrix)):
        problem = (
            f"the features are of a matrix {features['matrix']}, not of {list(info.matrix)} in multiples of {PATCH}"
        )
    if problem:
        raise PackError(f"pack {info.name}: {problem}", f"Correct {INFO_FILE} or get the pack again")


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not a number of JSON")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("an entry stands there twice")
    return values


def _same_keys(pack: str, where: str, values: dict[str, Any], known: set[str]) -> None:
    unknown, missing = set(values) - known, known - set(values)
    if unknown or missing:
        what = f"unknown {short(', '.join(sorted(unknown)))}" if unknown else f"no {', '.join(sorted(missing))}"
        raise PackError(f"pack {pack}: {where} has {what}", f"Its entries are {', '.join(sorted(known))}")


def _matrix(value: Any) -> tuple[int, int]:
    rows, columns = map(whole(8, 4096), pair(value))
    return rows, columns


def _pixel_size(value: Any) -> tuple[float, float]:
    rows, columns = map(real(1e-3, 1e3), pair(value))
    return rows, columns


def _schedule(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or value["name"] not in _SCHEDULES:
        raise ValueError(f"has no known name; known are {', '.join(_SCHEDULES)}")
    known = _SCHEDULES[value["name"]]
    if set(value) != {"name", *known}:
        raise ValueError(f"needs the entries name, {', '.join(known)}")
    limits: dict[str, Callable[[Any], Any]] = {
        "gamma_min": real(-50, 50),
        "gamma_max": real(-50, 50),
        "beta_min": real(1e-8, 0.9),
        "beta_max": real(1e-8, 0.9),
        "width": whole(1, 65536),
        "steps": whole(2, 100_000),
        "kind": choice(("linear", "scaled_linear")),
    }
    checked = {"name": value["name"]} | {key: inner(key, value[key], limits[key]) for key in known}
    if "gamma_min" in checked and checked["gamma_min"] >= checked["gamma_max"]:
        raise ValueError("needs gamma_min below gamma_max")
    return checked


def _normalisation(value: Any) -> dict[str, float]:
    if not isinstance(value, dict) or set(value) - {"within"} != {"percentile", "value"}:
        raise ValueError("is not an object of percentile, value and, if not 1, within")
    limits = {"percentile": real(1, 100), "value": real(0.01, 1), "within": real(0.1, 1)}
    return {key: inner(key, value[key], check) for key, check in limits.items() if key in value}


def _domain(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != {"plane", "median"} or not isinstance(value["median"], dict):
        raise ValueError("is not an object of plane and median")
    limits = {role: [inner(role, limit, real(0, 1)) for limit in pair(ends)] for role, ends in value["median"].items()}
    return {"plane": inner("plane", value["plane"], choice(PLANES)), "median": limits}


def _json_object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("is not an object")
    _finite(value)
    return value


def _finite(value: Any) -> None:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for entry in value:
            _finite(entry)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("holds a number that is not finite")


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "name": pattern(r"[a-z0-9][a-z0-9._-]{0,63}", "a name of up to 64 lower-case letters, digits, '.', '_' and '-'"),
    "version": pattern(r"[0-9A-Za-z][0-9A-Za-z.+-]{0,31}", "a version such as 1.0"),
    "title": text(200),
    "task": choice(TASKS),
    "roles": texts(64),
    "matrix": _matrix,
    "pixel_size_mm": _pixel_size,
    "prediction": choice(PREDICTIONS),
    "network": _json_object,  # checked by `check_network`, which needs the task
    "schedule": _schedule,
    "normalisation": _normalisation,
    "domain": _domain,
    "training_data": text(4000),
    "licence": text(200),
    "quality": _json_object,
    "intended_use": text(4000),
    "limits": texts(1000),
    "weights_sha256": pattern(r"[0-9a-f]{64}", "64 hexadecimal digits in lower case"),
}
