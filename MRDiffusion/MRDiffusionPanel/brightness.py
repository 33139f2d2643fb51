"""Whether a volume is as bright as what a pack has seen, looked at once."""

from __future__ import annotations

from typing import Any

from MRDiffusionLib.packs import PackInfo
from MRDiffusionLib.packs.domain import intensity_warnings

from . import grids
from .text import of_domain


def brightness_warnings(role: str, volume: Any, pack: PackInfo) -> tuple[str, ...]:
    """A sentence where a volume is not as bright as what the pack has seen; computed once while its voxels stay."""
    key = (volume.GetID(), volume.GetImageData().GetMTime(), volume.GetSpacing(), role, pack.name, pack.weights_sha256)
    if key not in _brightness:
        while len(_brightness) >= REMEMBERED:
            _brightness.pop(next(iter(_brightness)))
        looked_at = grids.middle(volume, pack.field_of_view_mm, LOOKED_AT)
        _brightness[key] = tuple(intensity_warnings(role, looked_at, pack, of_domain))
    return _brightness[key]


_brightness: dict[tuple[Any, ...], tuple[str, ...]] = {}
REMEMBERED = 32
LOOKED_AT = 200_000
"""Voxels: their percentiles take 4 ms, those of a large volume half a second, and say the same."""
