"""Image quality against a reference.

Images are (..., rows, columns): one slice or a stack of them. Where a metric needs to know how large an intensity
difference is, `data_range` must be given: PSNR, SSIM and HaarPSI have no meaning without it, and a guess from the
image's own extremes changes with every outlier. A mask (same shape, true inside) restricts a score to its pixels.

All functions raise InputError for shapes that differ, for values that are not finite and for an empty mask, and
SettingError for a data range that is not above 0. Sums are kept in float64.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.signal import correlate2d

from ..errors import InputError, SettingError
from ..lean import import_monai

WINDOW, WINDOW_SIGMA = 11, 1.5
"""Side and standard deviation (pixels) of the Gaussian window of SSIM, Wang et al. 2004, section III.B."""

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of MS-SSIM from the finest scale, Wang et al. 2003, section 4."""

HAARPSI_C, HAARPSI_ALPHA, HAARPSI_SCALES = 30.0, 4.2, 3
"""Constants of HaarPSI for grey values 0 to 255, Reisenhofer et al. 2018."""

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


class PowerSpectrum(NamedTuple):
    """Power by distance from the centre of k-space.

    Attributes:
        frequency: centre of each ring, cycles per unit of the spacing.
        power: mean of |F|^2 over ring and slices, F orthonormal; so sum(power * points) is the energy of a slice.
        points: of k-space in each ring.
    """

    frequency: Floats
    power: Floats
    points: NDArray[np.int64]


def psnr(reference: ArrayLike, test: ArrayLike, data_range: float, mask: ArrayLike | None = None) -> float:
    """Peak signal-to-noise ratio in dB, `10 log10(data_range^2 / mean squared error)`; infinite for equal images."""
    peak = _range(data_range)
    error = _sums(reference, test, mask).mean_squared
    return math.inf if error == 0 else 10 * math.log10(peak**2 / error)


def mae(reference: ArrayLike, test: ArrayLike, mask: ArrayLike | None = None) -> float:
    """Mean absolute error, in the images' intensity units."""
    return _sums(reference, test, mask).mean_absolute


def nrmse(reference: ArrayLike, test: ArrayLike, mask: ArrayLike | None = None) -> float:
    """Root of the mean squared error over that of the reference's mean square: `|r - t| / |r|`.

    Raises:
        InputError: also for a reference that is zero everywhere.
    """
    sums = _sums(reference, test, mask)
    if sums.mean_reference_squared == 0:
        raise InputError("the reference is zero everywhere, so a relative error has no meaning", "Use mae instead")
    return math.sqrt(sums.mean_squared / sums.mean_reference_squared)


def ssim(reference: ArrayLike, test: ArrayLike, data_range: float, mask: ArrayLike | None = None) -> float:
    """Structural similarity per slice (2D), -1 to 1, mean over slices (MONAI; Wang et al. 2004, eq. 13).

    Gaussian window of 11 x 11 pixels, sigma 1.5, K1 = 0.01, K2 = 0.03; only windows that lie inside the image count,
    and with a mask those whose centre is inside it.

    Raises:
        InputError: also for slices smaller than the window, and for a mask with no such centre.
    """
    peak = _range(data_range)
    first, second, inside = _stacks(reference, test, mask)
    _require_side(first, WINDOW, "SSIM")
    margin = WINDOW // 2
    total, count = 0.0, 0
    for number, (r, t) in enumerate(zip(first, second)):
        values = _ssim_map(_scaled(r, peak), _scaled(t, peak))
        if inside is not None:
            values = values[inside[number, margin:-margin, margin:-margin]]
        total, count = total + float(values.sum()), count + values.size
    if count == 0:
        raise InputError(f"the mask lies within {margin} pixels of the border, where SSIM has no value", "Use PSNR")
    return total / count


def ms_ssim(reference: ArrayLike, test: ArrayLike, data_range: float) -> float:
    """Multi-scale structural similarity per slice (2D), 0 to 1, mean over slices (MONAI; Wang et al. 2003).

    Over `ms_ssim_scales` scales; where the image is too small for all five, the exponents of those that fit are
    scaled to sum 1, so figures of images with different numbers of scales do not compare.

    Raises:
        InputError: also for slices smaller than 11 pixels.
    """
    import_monai()
    from monai.metrics.regression import compute_ms_ssim

    peak = _range(data_range)
    first, second, _ = _stacks(reference, test, None)
    _require_side(first, WINDOW, "MS-SSIM")
    weights = np.array(SCALE_WEIGHTS[: ms_ssim_scales((first.shape[-2], first.shape[-1]))])
    weights /= weights.sum()
    values = [
        compute_ms_ssim(
            _tensor(_scaled(t, peak)),
            _tensor(_scaled(r, peak)),
            spatial_dims=2,
            kernel_size=WINDOW,
            kernel_sigma=WINDOW_SIGMA,
            weights=[float(w) for w in weights],
        ).item()
        for r, t in zip(first, second)
    ]
    return float(np.mean(values))


def ms_ssim_scales(matrix: tuple[int, int]) -> int:
    """Scales, 1 to 5, at which an image of this many rows and columns still holds a window."""
    # The second condition is MONAI's own, stricter one.
    fits = (n for n in range(5, 1, -1) if min(matrix) >> (n - 1) >= WINDOW and min(matrix) // (n - 1) ** 2 >= WINDOW)
    return next(fits, 1)


def haarpsi(reference: ArrayLike, test: ArrayLike, data_range: float, mask: ArrayLike | None = None) -> float:
    """Haar wavelet-based perceptual similarity of grey-value slices, 0 to 1, mean over slices.

    Reisenhofer, Bosse, Kutyniok, Wiegand, "A Haar wavelet-based perceptual similarity index for image quality
    assessment", Signal Processing: Image Communication 61 (2018) 33-43, with the authors' prior averaging of 2 x 2
    pixels. Intensities are scaled so that `data_range` becomes 255. Slices in which neither image has any
    structure (inside the mask) are left out.

    Raises:
        InputError: also where neither image has any structure at all.
    """
    scale = 255 / _range(data_range)
    first, second, inside = _stacks(reference, test, mask)
    values = []
    for number, (r, t) in enumerate(zip(first, second)):
        weight_mask = None if inside is None else _halved(inside[number].astype(np.float64)) >= 0.5
        value = _haarpsi_slice(r.astype(np.float64) * scale, t.astype(np.float64) * scale, weight_mask)
        if value is not None:
            values.append(value)
    if not values:
        raise InputError("neither image has any structure, so HaarPSI has no value", "Check the images and the mask")
    return float(np.mean(values))


def radial_power_spectrum(image: ArrayLike, spacing: tuple[float, float] = (1.0, 1.0)) -> PowerSpectrum:
    """Power of a slice, or the mean over a stack, in rings around the centre of k-space.

    Args:
        image: (..., rows, columns).
        spacing: of rows and columns; 1 gives cycles per pixel, mm gives cycles per mm.

    Raises:
        InputError: values that are not finite, fewer than two dimensions.
        SettingError: a spacing that is not above 0.
    """
    stack = _stack(image, "the image")
    for value in spacing:
        if not (math.isfinite(value) and value > 0):
            raise SettingError(f"spacing = {value} is not above 0")
    rows, columns = stack.shape[1:]
    fy, fx = np.fft.fftfreq(rows, spacing[0]), np.fft.fftfreq(columns, spacing[1])
    width = max(1 / (rows * spacing[0]), 1 / (columns * spacing[1]))
    ring = np.rint(np.hypot(fy[:, None], fx[None, :]) / width).astype(np.int64).ravel()
    power = np.zeros(rows * columns)
    for part in stack:
        power += np.abs(np.fft.fft2(part.astype(np.float64), norm="ortho")).ravel() ** 2 / len(stack)
    count = np.bincount(ring)
    used = count > 0
    mean = np.bincount(ring, weights=power)[used] / count[used]
    return PowerSpectrum(np.flatnonzero(used) * width, mean, count[used])


class _Sums(NamedTuple):
    mean_absolute: float
    mean_squared: float
    mean_reference_squared: float


def _sums(reference: ArrayLike, test: ArrayLike, mask: ArrayLike | None) -> _Sums:
    first, second, inside = _stacks(reference, test, mask)
    totals, count = np.zeros(3), 0
    for number, (r, t) in enumerate(zip(first, second)):
        of_reference, difference = r.astype(np.float64), r.astype(np.float64) - t.astype(np.float64)
        if inside is not None:
            of_reference, difference = of_reference[inside[number]], difference[inside[number]]
        totals += np.abs(difference).sum(), np.square(difference).sum(), np.square(of_reference).sum()
        count += difference.size
    return _Sums(*(float(total) / count for total in totals))


def _stacks(
    reference: ArrayLike, test: ArrayLike, mask: ArrayLike | None
) -> tuple[NDArray[Any], NDArray[Any], Mask | None]:
    """Both images as (slices, rows, columns) and the mask, checked; their own number type, no copy."""
    first, second = np.asarray(reference), np.asarray(test)
    if first.shape != second.shape:
        raise InputError(
            f"the reference has the shape {first.shape}, the other image {second.shape}", "Compare images on one grid"
        )
    inside = None
    if mask is not None:
        inside = np.asarray(mask) != 0
        if inside.shape != first.shape:
            raise InputError(
                f"the mask has the shape {inside.shape}, the images {first.shape}", "Give a mask that fits"
            )
        if not inside.any():
            raise InputError("the mask is empty", "Give one with at least one pixel inside")
        inside = inside.reshape(-1, *inside.shape[-2:])
    return _stack(first, "the reference"), _stack(second, "the other image"), inside


def _stack(image: ArrayLike, name: str) -> NDArray[Any]:
    array = np.asarray(image)
    if array.dtype.kind not in "biuf" or array.ndim < 2 or array.size == 0:
        raise InputError(f"{name} is {array.dtype} of shape {array.shape}", "Give real numbers (..., rows, columns)")
    stack = array.reshape(-1, *array.shape[-2:])
    bad = sum(int(np.count_nonzero(~np.isfinite(part))) for part in stack)
    if bad:
        raise InputError(f"{name} has {bad} pixels that are NaN or infinite", "Replace them first")
    return stack


def _range(data_range: float) -> float:
    if not (math.isfinite(data_range) and data_range > 0):
        raise SettingError(f"data_range = {data_range} is not above 0", "Give the reference's intensity range")
    return float(data_range)


def _require_side(stack: NDArray[Any], side: int, name: str) -> None:
    rows, columns = stack.shape[1:]
    if min(rows, columns) < side:
        raise InputError(f"{name} needs slices of at least {side}x{side} pixels, not {rows}x{columns}", "Use PSNR")


def _scaled(part: NDArray[Any], data_range: float) -> NDArray[np.float32]:
    # MONAI computes in float32; with the data range scaled to 1 in float64 first, that is good to about 1e-5.
    return np.asarray(part.astype(np.float64) / data_range, dtype=np.float32)


def _tensor(part: NDArray[np.float32]) -> Any:
    import torch

    return torch.from_numpy(part)[None, None]


def _ssim_map(reference: NDArray[np.float32], test: NDArray[np.float32]) -> Floats:
    import_monai()
    from monai.metrics.regression import compute_ssim_and_cs

    values, _ = compute_ssim_and_cs(
        _tensor(test),
        _tensor(reference),
        spatial_dims=2,
        kernel_size=(WINDOW, WINDOW),
        kernel_sigma=(WINDOW_SIGMA, WINDOW_SIGMA),
    )
    return np.asarray(values[0, 0].numpy(), dtype=np.float64)


def _haarpsi_slice(reference: Floats, test: Floats, mask: Mask | None) -> float | None:
    """Score of one slice with grey values 0 to 255; None where no coefficient differs from zero."""
    first, second = _halved(reference), _halved(test)
    total, total_weight = 0.0, 0.0
    for axis in (0, 1):
        a, b = (
            np.abs([_haar(image, scale, axis) for scale in range(1, HAARPSI_SCALES + 1)]) for image in (first, second)
        )
        # The two finer scales are compared, the coarsest one weighs.
        similarity = ((2 * a[:2] * b[:2] + HAARPSI_C) / (a[:2] ** 2 + b[:2] ** 2 + HAARPSI_C)).mean(0)
        weight = np.maximum(a[2], b[2])
        if mask is not None:
            weight = weight * mask
        total += float((weight / (1 + np.exp(-HAARPSI_ALPHA * similarity))).sum())
        total_weight += float(weight.sum())
    if total_weight == 0:
        return None
    mean = total / total_weight
    return float((math.log(mean / (1 - mean)) / HAARPSI_ALPHA) ** 2)


def _halved(image: Floats) -> Floats:
    """Means of 2 x 2 pixels; a last odd row or column meets zeros, as in the authors' code."""
    rows, columns = image.shape
    even = np.pad(image, ((0, rows % 2), (0, columns % 2)))
    halved: Floats = even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2).mean((1, 3))
    return halved


def _haar(image: Floats, scale: int, axis: int) -> Floats:
    """Haar coefficients at every pixel, window of 2^scale pixels, zeros outside the image."""
    side = 2**scale
    window = np.full((side, side), 1.0 / side)
    window[: side // 2] *= -1
    padded = np.pad(image, ((side // 2 - 1, side // 2),) * 2)
    return np.asarray(correlate2d(padded, window if axis == 0 else window.T, mode="valid"))
