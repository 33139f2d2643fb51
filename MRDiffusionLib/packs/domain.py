"""Whether what is given resembles what a pack was trained on: sentences for the person, before anything runs.

Plain numbers and arrays in, so that the panel can ask without loading what a computation needs.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .info import PackInfo
from .intensity import intensity_scale

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

LARGER_FIELD_OF_VIEW, LARGER_PIXELS = 1.25, 1.5
"""Factors to the pack's own above which a person is told."""


def plane_warnings(normal: tuple[float, float, float], info: PackInfo) -> list[str]:
    """A sentence where slices lie in another plane than the pack's; `normal` is theirs, of length 1, LPS."""
    plane = info.domain["plane"]
    if plane == "any":
        return []
    cosine = abs(sum(a * b for a, b in zip(normal, NORMALS[plane], strict=True)))
    angle = math.degrees(math.acos(min(1.0, cosine)))
    if angle <= TOLERANCE_DEGREES[plane]:
        return []
    return [f"The slices are turned by {angle:.0f} degrees against the {plane} ones that pack {info.name} has seen."]


def grid_warnings(matrix: tuple[int, int], pixel_mm: tuple[float, float], info: PackInfo) -> list[str]:
    """What the pack's own grid leaves out of slices, and pixels that it has not seen; rows, then columns."""
    own, sentences = info.field_of_view_mm, []
    rows, columns = (n * size for n, size in zip(matrix, pixel_mm, strict=True))
    if rows > LARGER_FIELD_OF_VIEW * own[0] or columns > LARGER_FIELD_OF_VIEW * own[1]:
        sentences.append(
            f"The slices show {columns:.0f} x {rows:.0f} mm; pack {info.name} was trained on {own[1]:.0f} x "
            f"{own[0]:.0f} mm, so only the middle is made. Crop the volume around the organ if it is not there."
        )
    if max(pixel_mm) > LARGER_PIXELS * max(info.pixel_size_mm):
        sentences.append(
            f"The pixels of {max(pixel_mm):.2f} mm are much larger than the {max(info.pixel_size_mm):.2f} mm that pack "
            f"{info.name} was trained on: detail may be invented."
        )
    return sentences


def intensity_warnings(role: str, array: NDArray[np.float32], info: PackInfo) -> list[str]:
    """A sentence where the median of what a volume shows is outside that of the training.

    Args:
        role: of the volume.
        array: (slices, rows, columns), of the pack's field of view.
    """
    limits = info.domain["median"].get(role)
    if limits is None:
        return []
    try:
        scale = intensity_scale(array, info.normalisation)
    except InputError:  # it shows nothing; the run says so
        return []
    level = np.minimum(array / scale, 1)
    median = float(np.median(level[level > SHOWN]))
    if limits[0] <= median <= limits[1]:
        return []
    return [
        f"{role} is not as bright as what pack {info.name} was trained on (median {median:.2f} of white; there "
        f"{limits[0]:.2f} to {limits[1]:.2f}): is it this sequence?"
    ]
