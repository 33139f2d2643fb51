"""The scale between a volume's intensities and a network's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError


def intensity_scale(array: NDArray[np.float32], normalisation: dict[str, float]) -> float:
    """The intensity that a pack calls 1: `percentile` of the voxels of the object is `value` on the pack's scale.

    The object is what exceeds 5 % of the maximum: zero filling leaves ripples in air, which must not count.

    Raises InputError if no voxel is positive.
    """
    largest = float(array.max())
    if largest <= 0:
        raise InputError(f"the largest intensity of the volume is {largest:g}", "Load a magnitude image")
    inside = array[array > 0.05 * largest]
    return float(np.percentile(inside, normalisation["percentile"]) / normalisation["value"])
