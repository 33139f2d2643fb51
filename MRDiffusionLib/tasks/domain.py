"""Whether what is given resembles what a pack was trained on: sentences for the person, before anything runs."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..imaging.geometry import Geometry
from ..packs import PackInfo

# Directions are LPS: left, posterior, superior.
NORMALS = {
    "axial": (0.0, 0.0, 1.0),
    "coronal": (0.0, 1.0, 0.0),
    "sagittal": (1.0, 0.0, 0.0),
    # That of an adult (SCD0000301 of the Sunnybrook data); hearts lie differently.
    "short axis": (-0.631, 0.661, 0.406),
}
TOLERANCE_DEGREES = {"axial": 30.0, "coronal": 30.0, "sagittal": 30.0, "short axis": 45.0}

SHOWN = 0.05
"""Share of white above which a voxel shows something; `training.export.medians` takes the same."""


def plane_warnings(geometry: Geometry, info: PackInfo) -> list[str]:
    """A sentence where slices lie in another plane than the pack's."""
    plane = info.domain["plane"]
    if plane == "any":
        return []
    cosine = abs(float(geometry.direction_matrix[:, 2] @ np.array(NORMALS[plane])))
    angle = math.degrees(math.acos(min(1.0, cosine)))
    if angle <= TOLERANCE_DEGREES[plane]:
        return []
    return [f"The slices are turned by {angle:.0f} degrees against the {plane} ones that pack {info.name} has seen."]


def intensity_warnings(role: str, level: NDArray[np.float32], info: PackInfo) -> list[str]:
    """A sentence where the median of what a volume shows, on the pack's scale, is outside that of its training."""
    limits = info.domain["median"].get(role)
    shown = level[level > SHOWN]
    if limits is None or not shown.size or limits[0] <= float(np.median(shown)) <= limits[1]:
        return []
    return [
        f"{role} is not as bright as what pack {info.name} was trained on (median {np.median(shown):.2f} of white; "
        f"there {limits[0]:.2f} to {limits[1]:.2f}): is it this sequence?"
    ]
