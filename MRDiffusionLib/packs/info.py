"""`pack.json`: the description of a pack, read strictly. No torch."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import PackError
from ..settings import ROLE, STARTS

FORMAT = 1
INFO_FILE, WEIGHTS_FILE, CARD_FILE, LICENCE_FILE = "pack.json", "weights.safetensors", "README.md", "LICENSE"
TASKS = ("superresolution", "regression", "synthesis")
PREDICTIONS = ("eps", "v", "x0")
PATCH = 16
"""Side of the patches of `networks.features.PatchEncoder`."""
PLANES = ("any", "axial", "coronal", "sagittal", "short axis")
LARGEST_INFO = 1_000_000

# Bounds that no sensible model reaches: they keep a hostile description from asking for all memory.
_BOUNDS: dict[str, tuple[int, int]] = {
    "channels": (1, 4096),
    "num_res_blocks": (1, 16),
    "image_channels": (1, 64),
    "latent_channels": (1, 64),
    "condition_channels": (0, 256),
    "fourier_exponents": (-16, 16),
    "fold": (1, 16),
    "head_channels": (1, 4096),
    "norm_groups": (1, 4096),
    "matrix": (8, 4096),
}
_ONE, _LIST = "a whole number", "a list of 1 to 8 whole numbers"
_UNET = {"channels": _LIST, "num_res_blocks": _LIST, "head_channels": _ONE, "norm_groups": _ONE}
_VDM_UNET = {
    **_UNET,
    "image_channels": _ONE,
    "condition_channels": _ONE,
    "fourier_exponents": "a list of up to 8 whole numbers",
    "fold": _ONE,
}
_CMRDIFF = {
    "autoencoder": {"channels": _LIST, "latent_channels": _ONE, "num_res_blocks": _ONE, "norm_groups": _ONE},
    "denoiser": {**_UNET, "fold": _ONE},
    "features": {"channels": _ONE, "matrix": _LIST},
    "regression": {**_UNET, "fold": _ONE},
}
"""Parts of a synthesis pack and their settings; the last two may be null."""

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
        if self.task == "synthesis":
            denoiser = self.network["denoiser"]
            levels = len(self.network["autoencoder"]["channels"]) + len(denoiser["channels"])
            return int(denoiser["fold"] * 2 ** (levels - 2))
        fold: int = self.network["fold"]
        return fold << (len(self.network["channels"]) - 1)

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
        raise PackError(f"pack {folder.name}: {INFO_FILE} holds no object but {_short(values)}", "Get the pack again")
    if values.get("format") != FORMAT:
        raise PackError(
            f"pack {folder.name}: format = {_short(values.get('format'))}, but this version reads format {FORMAT}",
            "Get the pack again, or update MRDiffusion",
        )
    _same_keys(folder.name, INFO_FILE, values, {"format", *_CHECKS})
    checked: dict[str, Any] = {}
    for key, check in _CHECKS.items():
        try:
            checked[key] = check(values[key]) if key != "network" else _network(values[key], checked["task"])
        except (ValueError, RecursionError) as error:
            raise PackError(
                f"pack {folder.name}: {key} = {_short(values[key])} {error}",
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
        problem = f"roles = {_short(list(roles))} are not two or more different names"
    elif set(roles) & set(STARTS):
        problem = f"roles = {_short(list(roles))} name what a sampling starts from ({', '.join(STARTS)})"
    elif any(not re.fullmatch(ROLE, role) for role in roles):
        problem = f"roles = {_short(list(roles))} hold more than letters, digits, spaces and . + - _"
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
        what = f"unknown {_short(', '.join(sorted(unknown)))}" if unknown else f"no {', '.join(sorted(missing))}"
        raise PackError(f"pack {pack}: {where} has {what}", f"Its entries are {', '.join(sorted(known))}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _whole(low: int, high: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"is not a whole number from {low} to {high}")
        return value

    return check


def _real(low: float, high: float) -> Callable[[Any], float]:
    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError("is not a finite number")
        if not low <= value <= high:
            raise ValueError(f"is outside {low:g} to {high:g}")
        return float(value)

    return check


def _inner(key: str, value: Any, check: Callable[[Any], Any]) -> Any:
    """Check one entry of an object; the error names it."""
    try:
        return check(value)
    except ValueError as error:
        raise ValueError(f"has {key} = {_short(value)}, which {error}") from error


def _text(longest: int) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not isinstance(value, str) or not value.strip() or len(value) > longest:
            raise ValueError(f"is not a text of 1 to {longest} characters")
        return value

    return check


def _pattern(pattern: str, words: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise ValueError(f"is not {words}")
        return value

    return check


def _choice(choices: tuple[str, ...]) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            raise ValueError(f"is unknown; known are {', '.join(choices)}")
        return value

    return check


def _texts(longest: int) -> Callable[[Any], tuple[str, ...]]:
    def check(value: Any) -> tuple[str, ...]:
        if not isinstance(value, list) or len(value) > 100:
            raise ValueError("is not a list of up to 100 texts")
        return tuple(_text(longest)(entry) for entry in value)

    return check


def _pair(value: Any) -> list[Any]:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError("is not a list of two numbers (rows, columns)")
    return value


def _matrix(value: Any) -> tuple[int, int]:
    rows, columns = map(_whole(8, 4096), _pair(value))
    return rows, columns


def _pixel_size(value: Any) -> tuple[float, float]:
    rows, columns = map(_real(1e-3, 1e3), _pair(value))
    return rows, columns


def _network(value: Any, task: str) -> dict[str, Any]:
    """The settings of `VDMUNet`, or for the task synthesis those of `CMRDiff`."""
    if task != "synthesis":
        return _unet(value, _VDM_UNET)
    if not isinstance(value, dict) or set(value) != set(_CMRDIFF):
        raise ValueError(f"is not an object of {', '.join(_CMRDIFF)}")
    checked: dict[str, Any] = {}
    for part, known in _CMRDIFF.items():
        if part == "features" and isinstance(value[part], dict) and "clip" in value[part]:
            checked[part] = _inner(part, value[part], _clip)
            continue
        absent = value[part] is None and part in ("features", "regression")
        checked[part] = None if absent else _inner(part, value[part], functools.partial(_unet, known=known))
    return checked


def _clip(value: dict[str, Any]) -> dict[str, Any]:
    if set(value) != {"channels", "clip"}:
        raise ValueError("is not an object of channels and clip")
    return {"channels": _whole(*_BOUNDS["channels"])(value["channels"]), "clip": _text(4096)(value["clip"])}


def _unet(value: Any, known: dict[str, str]) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != set(known):
        raise ValueError(f"is not an object of {', '.join(known)}")
    checked: dict[str, Any] = {}
    for key, kind in known.items():
        entry, check = value[key], _whole(*_BOUNDS[key])
        if kind == _ONE:
            checked[key] = _inner(key, entry, check)
        elif not isinstance(entry, list) or len(entry) > 8 or (kind == _LIST and not entry):
            raise ValueError(f"has {key} = {_short(entry)}, which is not {kind}")
        else:
            checked[key] = [_inner(key, number, check) for number in entry]
    if "head_channels" in known and len(checked["channels"]) != len(checked["num_res_blocks"]):
        raise ValueError("needs as many num_res_blocks as channels")
    return checked


def _schedule(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or value["name"] not in _SCHEDULES:
        raise ValueError(f"has no known name; known are {', '.join(_SCHEDULES)}")
    known = _SCHEDULES[value["name"]]
    if set(value) != {"name", *known}:
        raise ValueError(f"needs the entries name, {', '.join(known)}")
    limits: dict[str, Callable[[Any], Any]] = {
        "gamma_min": _real(-50, 50),
        "gamma_max": _real(-50, 50),
        "beta_min": _real(1e-8, 0.9),
        "beta_max": _real(1e-8, 0.9),
        "width": _whole(1, 65536),
        "steps": _whole(2, 100_000),
        "kind": _choice(("linear", "scaled_linear")),
    }
    checked = {"name": value["name"]} | {key: _inner(key, value[key], limits[key]) for key in known}
    if "gamma_min" in checked and checked["gamma_min"] >= checked["gamma_max"]:
        raise ValueError("needs gamma_min below gamma_max")
    return checked


def _normalisation(value: Any) -> dict[str, float]:
    if not isinstance(value, dict) or set(value) - {"within"} != {"percentile", "value"}:
        raise ValueError("is not an object of percentile, value and, if not 1, within")
    limits = {"percentile": _real(1, 100), "value": _real(0.01, 1), "within": _real(0.1, 1)}
    return {key: _inner(key, value[key], check) for key, check in limits.items() if key in value}


def _domain(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != {"plane", "median"} or not isinstance(value["median"], dict):
        raise ValueError("is not an object of plane and median")
    limits = {
        role: [_inner(role, limit, _real(0, 1)) for limit in _pair(pair)] for role, pair in value["median"].items()
    }
    return {"plane": _inner("plane", value["plane"], _choice(PLANES)), "median": limits}


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
    "name": _pattern(r"[a-z0-9][a-z0-9._-]{0,63}", "a name of up to 64 lower-case letters, digits, '.', '_' and '-'"),
    "version": _pattern(r"[0-9A-Za-z][0-9A-Za-z.+-]{0,31}", "a version such as 1.0"),
    "title": _text(200),
    "task": _choice(TASKS),
    "roles": _texts(64),
    "matrix": _matrix,
    "pixel_size_mm": _pixel_size,
    "prediction": _choice(PREDICTIONS),
    "network": _json_object,  # checked by `_network`, which needs the task
    "schedule": _schedule,
    "normalisation": _normalisation,
    "domain": _domain,
    "training_data": _text(4000),
    "licence": _text(200),
    "quality": _json_object,
    "intended_use": _text(4000),
    "limits": _texts(1000),
    "weights_sha256": _pattern(r"[0-9a-f]{64}", "64 hexadecimal digits in lower case"),
}
