"""What is where in a short-axis slice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..physics.tissue import TISSUES

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

SAME_TISSUE = {"papillary": "myocardium", "vessel": "blood"}
"""Papillary muscle is myocardium that lies in the cavity, a vessel is blood outside the ventricles."""

LABELS: tuple[str, ...] = (*TISSUES, *SAME_TISSUE)
"""A tissue for each number in `Anatomy.labels`."""

NUMBER: dict[str, int] = {name: number for number, name in enumerate(LABELS)}


@dataclass(frozen=True)
class Anatomy:
    """A slice, seen as in the clinic: from the apex, the right ventricle on the left, anterior at the top.

    Attributes:
        labels: (rows, columns) uint8, `NUMBER` of the tissue.
        texture: (rows, columns), how bright a voxel is in comparison with its tissue, about 1: vessels, trabeculae.
        centre: (row, column) of the left ventricle.
        septum: direction from there to the middle of the septum, radians counter-clockwise from the image's right.
        shading: (rows, columns), the sensitivity of the examination's coil, 1 at the heart.
        bssfp: the real image that the slice was made from, (rows, columns), or None for a modelled slice.
        blur: partial volume, a standard deviation in voxels. Slices are some 8 mm thick: a wall that stands 20 degrees
            oblique to them is smeared over 3 mm, 0.6 voxels, and motion during the measurement does about the same.
    """

    labels: NDArray[np.uint8]
    texture: Floats
    centre: tuple[float, float]
    septum: float
    shading: Floats
    bssfp: Floats | None = None
    blur: float = 0.9

    def where(self, *names: str) -> Mask:
        """The voxels of some tissues, (rows, columns)."""
        return np.isin(self.labels, [NUMBER[name] for name in names])

    def fractions(self) -> Floats:
        """Share of each tissue in each voxel, (tissues, rows, columns), sum 1: the labels blurred by `blur`."""
        each = (self.labels == np.arange(len(LABELS))[:, None, None]).astype(np.float64)
        return np.stack([ndimage.gaussian_filter(one, self.blur) for one in each])


def polar(shape: tuple[int, ...], centre: tuple[float, float]) -> tuple[Floats, Floats]:
    """Distance (voxels) and direction (radians counter-clockwise from the right) from a point, (rows, columns) each."""
    row, column = np.mgrid[: shape[0], : shape[1]]
    dy, dx = row - centre[0], column - centre[1]
    return np.hypot(dy, dx), np.arctan2(-dy, dx)


def disk(radius: int) -> Mask:
    """A filled circle for morphology."""
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray(x**2 + y**2 <= radius**2)


def smooth_noise(shape: tuple[int, ...], scale: float, generator: np.random.Generator) -> Floats:
    """Gaussian noise of variance 1 that is smooth over `scale` voxels."""
    noise = ndimage.gaussian_filter(generator.standard_normal(shape), scale, mode="wrap")
    return np.asarray(noise / noise.std())


def window(image: NDArray[np.generic], centre: tuple[float, float], size: int) -> NDArray[np.generic]:
    """A square of `size` voxels around a point; zero where the image ends."""
    half = size // 2
    padded = np.pad(image, size)
    row, column = (round(c) + size - half for c in centre)
    return padded[row : row + size, column : column + size]
