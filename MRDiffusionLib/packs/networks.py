"""What a pack says about its networks: their settings by task, read strictly. No torch."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..settings import KINDS
from .checks import choice, inner, short, text, whole

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
_FOLDED_UNET = {**_UNET, "fold": _ONE}
_AUTOENCODER = {"channels": _LIST, "latent_channels": _ONE, "num_res_blocks": _ONE, "norm_groups": _ONE}
_CMRDIFF = {
    "autoencoder": _AUTOENCODER,
    "denoiser": _FOLDED_UNET,
    "features": {"channels": _ONE, "matrix": _LIST},
    "regression": _FOLDED_UNET,
}
"""Parts of a synthesis pack and their settings; the last two may be null."""


def check_network(value: Any, task: str) -> dict[str, Any]:
    """The settings of a task's networks. Raises ValueError."""
    if task == "synthesis":
        return _synthesis(value)
    if task == "degradation":
        return _parts(value, _DEGRADER)
    if task == "enhancement":
        return _parts(value, _ENHANCER)
    return _unet(value, _VDM_UNET)


def multiple_of(task: str, network: dict[str, Any]) -> int:
    """Height and width of an image must be multiples of this."""
    unet = network.get("denoiser") or network.get("unet") or network
    latent: int = len(network["autoencoder"]["channels"]) - 1 if task == "synthesis" else 0
    return int(unet["fold"] << (len(unet["channels"]) - 1 + latent))


def _parts(value: Any, known: dict[str, Callable[[Any], Any]]) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != set(known):
        raise ValueError(f"is not an object of {', '.join(known)}")
    return {part: inner(part, value[part], check) for part, check in known.items()}


def _synthesis(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != set(_CMRDIFF):
        raise ValueError(f"is not an object of {', '.join(_CMRDIFF)}")
    checked: dict[str, Any] = {}
    for part, known in _CMRDIFF.items():
        if part == "features" and isinstance(value[part], dict) and "clip" in value[part]:
            checked[part] = inner(part, value[part], _clip)
            continue
        absent = value[part] is None and part in ("features", "regression")
        checked[part] = None if absent else inner(part, value[part], functools.partial(_unet, known=known))
    return checked


def _kinds(value: Any) -> list[str]:
    if not isinstance(value, list) or not value or len(set(map(str, value))) != len(value):
        raise ValueError("is not a list of different kinds")
    return [choice(KINDS)(kind) for kind in value]


def _clip(value: dict[str, Any]) -> dict[str, Any]:
    if set(value) != {"channels", "clip"}:
        raise ValueError("is not an object of channels and clip")
    return {"channels": whole(*_BOUNDS["channels"])(value["channels"]), "clip": text(4096)(value["clip"])}


def _unet(value: Any, known: dict[str, str]) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != set(known):
        raise ValueError(f"is not an object of {', '.join(known)}")
    checked = {key: _entry(value[key], key, kind) for key, kind in known.items()}
    if "head_channels" in known and len(checked["channels"]) != len(checked["num_res_blocks"]):
        raise ValueError("needs as many num_res_blocks as channels")
    return checked


def _entry(value: Any, key: str, kind: str) -> Any:
    """A number or a list of numbers within the bounds of `key`."""
    check = whole(*_BOUNDS[key])
    if kind == _ONE:
        return inner(key, value, check)
    if not isinstance(value, list) or len(value) > 8 or (kind == _LIST and not value):
        raise ValueError(f"has {key} = {short(value)}, which is not {kind}")
    return [inner(key, number, check) for number in value]


_DEGRADER: dict[str, Callable[[Any], Any]] = {
    "kind": choice(KINDS),
    "denoiser": functools.partial(_unet, known=_FOLDED_UNET),
}
_ENHANCER: dict[str, Callable[[Any], Any]] = {
    "kinds": _kinds,
    "iterations": whole(1, 32),
    "unet": functools.partial(_unet, known=_FOLDED_UNET),
    "estimator": functools.partial(_entry, key="channels", kind=_LIST),
}
