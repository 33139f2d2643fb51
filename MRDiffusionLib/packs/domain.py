"""Whether what is given resembles what a pack was trained on: sentences for the person, before anything runs.

Plain numbers and arrays in, so that the panel can ask without loading what a computation needs. `_` translates a
sentence, whose numbers come in afterwards; texts are collected by that name.
"""

from __future__ import annotations

import math
from collections.abc import Callable

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

Translate = Callable[[str], str]

LARGER_FIELD_OF_VIEW, LARGER_PIXELS = 1.25, 1.5
"""Factors to the pack's own above which a person is told."""


def plane_warnings(normal: tuple[float, float, float], info: PackInfo, _: Translate = str) -> list[str]:
    """A sentence where slices lie in another plane than the pack's; `normal` is theirs, of length 1, LPS."""
    plane = info.domain["plane"]
    if plane == "any":
        return []
    cosine = abs(sum(a * b for a, b in zip(normal, NORMALS[plane], strict=True)))
    angle = math.degrees(math.acos(min(1.0, cosine)))
    if angle <= TOLERANCE_DEGREES[plane]:
        return []
    text = _("The slices are turned by {angle:.0f} degrees against the {plane} ones that pack {pack} has seen.")
    return [text.format(angle=angle, plane=plane, pack=info.name)]


def grid_warnings(
    matrix: tuple[int, int], pixel_mm: tuple[float, float], info: PackInfo, _: Translate = str
) -> list[str]:
    """What the pack's own grid leaves out of slices, and pixels that it has not seen; rows, then columns."""
    own, sentences = info.field_of_view_mm, []
    rows, columns = (n * size for n, size in zip(matrix, pixel_mm, strict=True))
    if rows > LARGER_FIELD_OF_VIEW * own[0] or columns > LARGER_FIELD_OF_VIEW * own[1]:
        text = _(
            "The slices show {columns:.0f} x {rows:.0f} mm; pack {pack} was trained on {width:.0f} x {height:.0f} mm, "
            "so only the middle is made. Crop the volume around the organ if it is not there."
        )
        sentences.append(text.format(columns=columns, rows=rows, pack=info.name, width=own[1], height=own[0]))
    if max(pixel_mm) > LARGER_PIXELS * max(info.pixel_size_mm):
        text = _(
            "The pixels of {pixel:.2f} mm are much larger than the {known:.2f} mm that pack {pack} was trained on: "
            "detail may be invented."
        )
        sentences.append(text.format(pixel=max(pixel_mm), known=max(info.pixel_size_mm), pack=info.name))
    return sentences


def intensity_warnings(role: str, array: NDArray[np.float32], info: PackInfo, _: Translate = str) -> list[str]:
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
    text = _(
        "{role} is not as bright as what pack {pack} was trained on (median {median:.2f} of white; there {low:.2f} to "
        "{high:.2f}): is it this sequence?"
    )
    return [text.format(role=role, pack=info.name, median=median, low=limits[0], high=limits[1])]
