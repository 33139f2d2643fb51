"""Image quality without a reference: how far an image's statistics are from those of good ones (NIQE).

Mittal, Soundararajan, Bovik, "Making a 'completely blind' image quality analyzer", IEEE Signal Process Lett 2013;
20:209. The statistics of good images are fitted to MR images of high quality (`fit`), not to photographs; patches are
smaller and overlap, as an organ fills part of a slice.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import ndimage, special

from ..errors import InputError

Floats = NDArray[np.float64]

SIDE, STRIDE = 48, 16
"""Of a patch and between patches, in pixels; half of it at the second scale."""
BLUR = 7 / 6
"""Standard deviation of the Gaussian window of local mean and deviation, 7x7 pixels."""
CONSTANT = 1 / 255
"""Beside the local deviation, of white."""
AIR = 0.05
"""Share of white below which a pixel is air; patches with more than a quarter of air are left out."""
NOTHING = 1e-4
"""Smaller values have no sign: masked air is exactly 0, and a Fourier transform makes 1e-8 of it."""
NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))

_SHAPES = np.linspace(0.1, 10.0, 9901)
_RATIOS = np.exp(2 * special.gammaln(2 / _SHAPES) - special.gammaln(1 / _SHAPES) - special.gammaln(3 / _SHAPES))


@dataclass(frozen=True, eq=False)
class Naturalness:
    """A Gaussian of the features of good patches.

    Attributes:
        mean: (36,).
        covariance: (36, 36).
        source: what it was fitted to, in words.
    """

    mean: Floats
    covariance: Floats
    source: str

    def distance(self, image: NDArray[np.floating[Any]]) -> float:
        """NIQE of a slice (rows, columns), white at 1: 0 or more, less is better.

        Raises:
            InputError: a slice in which no patch shows enough.
        """
        own = features(image)
        if len(own) < 2:
            raise InputError("too little of the image is not air", f"NIQE needs two patches of {SIDE}x{SIDE} pixels")
        gap = self.mean - own.mean(0)
        pooled = (self.covariance + np.cov(own, rowvar=False)) / 2
        return float(np.sqrt(max(0.0, gap @ np.linalg.pinv(pooled) @ gap)))

    def save(self, path: Path) -> None:
        """As JSON."""
        values = {
            "source": self.source,
            "mean": [float(f"{v:.7g}") for v in self.mean],
            "covariance": [[float(f"{v:.7g}") for v in row] for row in self.covariance],
        }
        path.write_text(json.dumps(values) + "\n", encoding="utf-8")


def fit(images: Iterable[NDArray[np.floating[Any]]], source: str) -> Naturalness:
    """From good slices (rows, columns), white at 1; of each the sharper half of the patches, as the paper selects."""
    chosen = []
    for image in images:
        own, sharp = _features_and_sharpness(image)
        if len(own):
            chosen.append(own[sharp >= np.median(sharp)])
    if not chosen:
        raise InputError("no image shows enough", f"NIQE needs patches of {SIDE}x{SIDE} pixels")
    rows = np.concatenate(chosen)
    return Naturalness(rows.mean(0), np.cov(rows, rowvar=False), source)


def load(path: Path) -> Naturalness:
    """What `Naturalness.save` has written. Raises InputError."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        mean, covariance = np.array(values["mean"], float), np.array(values["covariance"], float)
        source = str(values["source"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({error})", "Fit it again") from error
    if mean.shape != (36,) or covariance.shape != (36, 36):
        raise InputError(f"{path} holds {mean.shape} and {covariance.shape}", "Fit it again")
    return Naturalness(mean, covariance, source)


def features(image: NDArray[np.floating[Any]]) -> Floats:
    """(patches, 36): 18 numbers at each of two scales, of the patches that show enough."""
    return _features_and_sharpness(image)[0]


def _features_and_sharpness(image: NDArray[np.floating[Any]]) -> tuple[Floats, Floats]:
    full = np.asarray(image, np.float64)
    if full.ndim != 2 or min(full.shape) < SIDE:
        raise InputError(f"an image of shape {full.shape} has no patch of {SIDE}x{SIDE} pixels", "Give a larger slice")
    half = ndimage.zoom(full, 0.5, order=1, grid_mode=True, mode="nearest")
    shows = _patches(full > AIR, 1).mean((1, 2)) >= 0.75
    normal, deviation = _normalised(full)
    sharp = _patches(deviation, 1).mean((1, 2))
    both = [_of_patches(normal, 1), _of_patches(_normalised(half)[0], 2)]
    count = min(map(len, both))
    return np.concatenate([part[:count] for part in both], axis=1)[shows[:count]], sharp[:count][shows[:count]]


def _normalised(image: Floats) -> tuple[Floats, Floats]:
    """`(I - mu) / (sigma + C)` with local mean and deviation (eq. 1), and the deviation."""
    mean = ndimage.gaussian_filter(image, BLUR, radius=3)
    deviation = np.sqrt(np.abs(ndimage.gaussian_filter(image**2, BLUR, radius=3) - mean**2))
    return (image - mean) / (deviation + CONSTANT), deviation


def _of_patches(normal: Floats, scale: int) -> Floats:
    """(patches, 18): shape and variance of the values, and four numbers of their products with each neighbour."""
    columns = [_patches(normal, scale)]
    columns += [_patches(normal * np.roll(normal, shift, axis=(0, 1)), scale) for shift in NEIGHBOURS]
    parts = []
    for number, patches in enumerate(columns):
        shape, left, right = asymmetric_gaussian(patches.reshape(len(patches), -1))
        if number == 0:
            parts += [shape, (left + right) / 2]
            continue
        mean = (right - left) * np.exp(
            special.gammaln(2 / shape) - 0.5 * (special.gammaln(1 / shape) + special.gammaln(3 / shape))
        )
        parts += [shape, mean, left, right]
    return np.stack(parts, axis=1)


def asymmetric_gaussian(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Shape, and deviation to the left and to the right, of generalised Gaussians, each (n,), by their moments.

    Lasmar, Stitou, Berthoumieu, "Multiscale skewed heavy tailed model for texture analysis", ICIP 2009.

    Args:
        values: (n, samples).
    """
    square = values**2
    left, right = (np.sqrt(_mean_where(square, where)) for where in (values < -NOTHING, values > NOTHING))
    ratio = left / np.maximum(right, 1e-12)
    spread = np.abs(values).mean(1) ** 2 / np.maximum(square.mean(1), 1e-12)
    wanted = spread * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    return np.interp(wanted, _RATIOS, _SHAPES), left, right


def _mean_where(values: Floats, where: NDArray[np.bool_]) -> Floats:
    return (values * where).sum(1) / np.maximum(where.sum(1), 1)


def _patches(image: NDArray[Any], scale: int) -> Floats:
    """(patches, side, side), row by row."""
    side, stride = SIDE // scale, STRIDE // scale
    windows = sliding_window_view(image, (side, side))[::stride, ::stride]
    return np.asarray(windows.reshape(-1, side, side), np.float64)
