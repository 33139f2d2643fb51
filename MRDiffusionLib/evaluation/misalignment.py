"""How far two acquisitions of one object lie apart: first as a rigid motion, then as what is left of it, smooth.

The low-quality image is noisy or blurred, and both may differ in contrast. Neither may count as motion:

noise floor  the high-quality image is given the floor that the other's noise makes (`physics.noise.rician_mean`)
contrast     what a brightness of the one becomes in the other is read off the two images themselves, as the
             correlation ratio does (Roche et al., MICCAI 1998)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..errors import InputError
from ..imaging.alignment import WORKING_SPACING_MM, align_rigidly
from ..imaging.resample import Rigid, resample
from ..imaging.volume import Volume
from ..physics.noise import rician_mean

FLAT = 5
"""Slices below which a stack tells nothing of motion across them."""
LOOKED_AT = 9
"""Slices that the smooth part is measured in, evenly spread."""
WINDOW = 16.0
"""Standard deviation of the neighbourhood with one displacement, in pixels: smaller ones follow noise."""
BLUR = 1.0
"""Of both images before gradients are taken, in pixels."""
COARSE = 1 / 128
"""Of both images before they are asked whether they show the same thing, as a part of their side, but a pixel or more:
noise is gone, anatomy is not."""
ITERATIONS = 4
BINS = 32
"""Of brightness."""

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class MeasuredMisalignment:
    """The displacement of the object, as its mean length.

    Attributes:
        mean_mm, mean_pixels: of the whole displacement.
        rigid_mm, smooth_mm: of its two parts.
        rotation_degrees: of the rigid part.
        shift_mm: of the rigid part, along columns, rows and slices.
        explained: share of the low-quality image's variance that the other, so displaced, explains (squared correlation
            ratio), up to 1. Where it is small the displacement means nothing: they show different things.
    """

    mean_mm: float
    mean_pixels: float
    rigid_mm: float
    smooth_mm: float
    rotation_degrees: float
    shift_mm: tuple[float, float, float]
    explained: float


def measure_misalignment(high: Volume, low: Volume) -> MeasuredMisalignment:
    """Measure the displacement between two volumes on one grid.

    Rigid motion has six degrees of freedom, or three within the slices where there are fewer than `FLAT`. It is found
    by mutual information; if it does not explain the low-quality image better, there is none. What is left is found
    within slices by weighted least squares of the optical flow equation (Lucas, Kanade, IJCAI 1981).

    Args:
        high, low: of high and of low quality; air is dark.

    Raises:
        InputError: one shows nothing, or they cannot be aligned.
    """
    # In the frame of the slices, so that "within slices" is x and y however they lie in the patient.
    grid = replace(high.geometry, origin=(0.0, 0.0, 0.0), direction=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    shown = object_of(high.array)
    fixed = Volume(low.array, grid)
    moving = Volume(with_floor(high.array, low.array, shown), grid)
    near = ndimage.binary_dilation(shown, np.ones((1, 3, 3)), iterations=4)
    compared = [fixed, moving, Volume(near.astype(np.float32), grid)]
    flat = len(near) < FLAT
    if flat:
        compared = [_thickened(volume) for volume in compared]
    found = align_rigidly(compared[0], compared[1], within=compared[2], in_plane=flat)
    moved = resample(moving, grid, found).array
    if unexplained(low.array, moved, near) >= unexplained(low.array, moving.array, near):
        found, moved = Rigid(np.eye(3), found.centre, np.zeros(3)), moving.array

    numbers = [n for n in range(len(shown)) if shown[n].any()]
    chosen = [numbers[i] for i in np.linspace(0, len(numbers) - 1, min(LOOKED_AT, len(numbers))).round().astype(int)]
    spacing = np.array(grid.spacing)
    smooth, rigid, total = [], [], []
    rest, variance = 0.0, 0.0
    coarse = max(1.0, COARSE * max(shown.shape[1:]))
    for n in chosen:
        flow = np.zeros((3, *shown.shape[1:]))
        wanted, given = low.array[n].astype(np.float64), moved[n].astype(np.float64)
        flow[1], flow[0] = smooth_flow(wanted, given, near[n])
        one, other = (ndimage.gaussian_filter(image, coarse) for image in (wanted, _warped(given, flow[1::-1])))
        rest += unexplained(one, other, near[n]) * near[n].sum()
        variance += one[near[n]].var() * near[n].sum()
        y, x = np.nonzero(shown[n])
        places = np.stack([x, y, np.full(len(x), n)], axis=1) * spacing
        left = flow[:, y, x].T * spacing
        smooth.append(left)
        rigid.append(_displaced(found, places) - places)
        total.append(_displaced(found, places + left) - places)
    mean_mm = _mean_length(total)
    return MeasuredMisalignment(
        mean_mm,
        mean_mm / float(np.sqrt(spacing[0] * spacing[1])),
        _mean_length(rigid),
        _mean_length(smooth),
        found.angle_degrees,
        (float(found.shift[0]), float(found.shift[1]), float(found.shift[2])),
        float(1 - rest / variance) if variance > 0 else 0.0,
    )


def object_of(array: NDArray[np.float32], share: float = 0.1) -> Mask:
    """Where a volume (slices, rows, columns) shows more than a share of white. Raises InputError if that is nowhere."""
    blurred = ndimage.gaussian_filter(array.astype(np.float64), (0, 1.5, 1.5))
    largest = float(blurred.max())
    if largest <= 0:
        raise InputError(f"the largest intensity of the volume is {largest:g}", "Load a magnitude image")
    level = np.percentile(blurred[blurred > 0.05 * largest], 99)
    return np.asarray(blurred > share * level)


def with_floor(high: NDArray[np.float32], low: NDArray[np.float32], shown: Mask) -> NDArray[np.float32]:
    """The high-quality image in the other's units and with its noise floor, which differs from place to place.

    Left out, the floor moved six slices with the strongest noise by 0.5 mm that were aligned, and by 0.2 mm with it.
    """
    sigma = local_noise(low, shown)
    bright = shown & (high >= np.median(high[shown]))
    signal = np.sqrt(np.maximum(low[bright].astype(np.float64) ** 2 - sigma[bright] ** 2, 0))
    gain = np.median(signal) / np.median(high[bright])
    return np.asarray(rician_mean(gain * np.maximum(high, 0), sigma), np.float32)


def local_noise(array: NDArray[np.float32], shown: Mask) -> Floats:
    """Standard deviation of the noise at each pixel of a slice, from all slices' objects (slices, rows, columns).

    Of what remains after two second differences (Immerkaer, Computer Vision and Image Understanding 1996; 64:300).
    """
    differences = ndimage.convolve(array.astype(np.float64), np.array([[[1, -2, 1], [-2, 4, -2], [1, -2, 1]]]) / 6)
    inside = ndimage.binary_erosion(shown, np.ones((1, 3, 3))).astype(np.float64).sum(0)
    energy = np.where(ndimage.binary_erosion(shown, np.ones((1, 3, 3))), differences**2, 0).sum(0)
    smallest = 1e-6 * float(array.max())
    weight = ndimage.gaussian_filter(inside, WINDOW)
    local = np.sqrt(ndimage.gaussian_filter(energy, WINDOW) / np.maximum(weight, 1e-6))
    return np.broadcast_to(np.maximum(local, smallest), array.shape)


def smooth_flow(low: Floats, high: Floats, near: Mask) -> Floats:
    """The displacement (2, rows, columns) in pixels, along rows then columns, with `low(p) ~ high(p + displacement)`.

    Args:
        low, high: one slice each (rows, columns).
        near: where to compare them.
    """
    window = min(WINDOW, max(low.shape) / 8)
    weight = ndimage.gaussian_filter(near.astype(np.float64), BLUR)
    wanted = ndimage.gaussian_filter(low, BLUR)
    flow = np.zeros((2, *low.shape))
    for _ in range(ITERATIONS):
        warped = _warped(high, flow)
        # Brightness first, the blur after it: the floor is not linear.
        expected = ndimage.gaussian_filter(_expected(low, warped, near), BLUR)
        slope = np.stack(np.gradient(expected))
        rest = wanted - expected

        def mean(values: Floats) -> Floats:
            return np.asarray(ndimage.gaussian_filter(weight * values, window))

        yy, yx, xx = mean(slope[0] ** 2), mean(slope[0] * slope[1]), mean(slope[1] ** 2)
        ry, rx = mean(slope[0] * rest), mean(slope[1] * rest)
        # Where nothing has a slope nothing moves.
        least = 0.01 * float(np.median((yy + xx)[near])) + 1e-12 * float(np.abs(low).max()) ** 2
        yy, xx = yy + least, xx + least
        flow += np.stack([xx * ry - yx * rx, yy * rx - yx * ry]) / (yy * xx - yx**2)
    return flow


def unexplained(low: NDArray[np.floating], high: NDArray[np.floating], near: Mask) -> float:
    """Mean square of what is left of one image when the other has told what it can."""
    rest = low.astype(np.float64) - _expected(low, high, near)
    return float((rest[near] ** 2).mean())


def _warped(image: Floats, flow: Floats) -> Floats:
    places = np.stack(np.meshgrid(*(np.arange(n, dtype=np.float64) for n in image.shape), indexing="ij"))
    return np.asarray(ndimage.map_coordinates(image, places + flow, order=1, mode="nearest"))


def _expected(low: NDArray[np.floating], high: NDArray[np.floating], near: Mask) -> Floats:
    """The mean of one image where the other is as bright as here; between the bins linear."""
    top = float(np.percentile(high[near], 99.5)) or 1.0
    place = np.clip(high / top * BINS - 0.5, 0, BINS - 1 - 1e-6)
    below = place.astype(int)
    share = place - below
    bins, part = below[near], share[near]
    sums = np.bincount(bins, (1 - part) * low[near], BINS) + np.bincount(bins + 1, part * low[near], BINS)
    counts = np.bincount(bins, 1 - part, BINS) + np.bincount(bins + 1, part, BINS)
    known = counts > 1
    curve = np.interp(np.arange(BINS), np.flatnonzero(known), sums[known] / counts[known])
    expected: Floats = (1 - share) * curve[below] + share * curve[below + 1]
    return expected


def _thickened(volume: Volume) -> Volume:
    """Each slice four times, as SimpleITK blurs no fewer; motion within slices is the same."""
    array = np.repeat(volume.array, 4, axis=0)
    size = (*volume.geometry.size[:2], len(array))
    spacing = (*volume.geometry.spacing[:2], WORKING_SPACING_MM)
    return Volume(array, replace(volume.geometry, size=size, spacing=spacing))


def _displaced(motion: Rigid, places: Floats) -> Floats:
    """Places (n, 3) in mm after a motion."""
    moved: Floats = (places - motion.centre) @ motion.rotation.T + motion.centre + motion.shift
    return moved


def _mean_length(displacements: list[Floats]) -> float:
    return float(np.linalg.norm(np.concatenate(displacements), axis=1).mean())
