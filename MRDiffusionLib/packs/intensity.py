"""The scale between a volume's intensities and a network's."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError


def intensity_scale(array: NDArray[np.float32], normalisation: Mapping[str, float]) -> float:
    """The intensity that a pack calls 1: `percentile` of the voxels of the object is `value` on the pack's scale.

    The object is what exceeds 5 % of the maximum: zero filling leaves ripples in air, which must not count.

    Args:
        array: (slices, rows, columns).
        normalisation: 'percentile', 'value' and, where it is not 1, 'within': the share of the rows and of the columns,
            around the middle, that count. Fat beside the coil may be many times brighter than the heart.

    Raises:
        InputError: no voxel that counts is positive.
    """
    margins = [round((1 - normalisation.get("within", 1.0)) / 2 * n) for n in array.shape[-2:]]
    middle = array[..., margins[0] : array.shape[-2] - margins[0], margins[1] : array.shape[-1] - margins[1]]
    largest = float(middle.max())
    if largest <= 0:
        raise InputError(f"the largest intensity of the volume is {largest:g}", "Load a magnitude image")
    inside = middle[middle > 0.05 * largest]
    return float(np.percentile(inside, normalisation["percentile"]) / normalisation["value"])
