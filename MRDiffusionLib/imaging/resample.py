"""Volumes on another grid."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from .geometry import Geometry, voxel_positions
from .volume import Volume, to_image


def grid_around(
    geometry: Geometry, centre: NDArray[np.float64], matrix: tuple[int, int], pixel_mm: tuple[float, float]
) -> Geometry:
    """The same slices with other pixels around a position; its place along the slices is kept.

    Args:
        geometry: whose slices are kept.
        centre: LPS mm.
        matrix: rows and columns.
        pixel_mm: row spacing and column spacing.
    """
    (rows, columns), (dy, dx) = matrix, pixel_mm
    direction = geometry.direction_matrix
    along = direction.T @ (np.asarray(centre) - np.array(geometry.origin))
    corner = np.array([along[0] - (columns - 1) / 2 * dx, along[1] - (rows - 1) / 2 * dy, 0.0])
    x, y, z = (float(value) for value in direction @ corner + np.array(geometry.origin))
    return Geometry((columns, rows, geometry.size[2]), (dx, dy, geometry.spacing[2]), (x, y, z), geometry.direction)


def middle(geometry: Geometry) -> NDArray[np.float64]:
    """The middle of the field of view, LPS mm."""
    index = (np.array(geometry.size) - 1) / 2
    position: NDArray[np.float64] = geometry.affine()[:3, :3] @ index + np.array(geometry.origin)
    return position


def resample(volume: Volume, target: Geometry, nearest: bool = False) -> NDArray[np.float32]:
    """A volume's values on another grid, (slices, rows, columns); 0 outside of it.

    Linear between voxels, after a blur within slices where the new pixels are larger, so that nothing aliases; or the
    nearest voxel's value, for labels.
    """
    image = to_image(volume)
    if not nearest:
        image = _smoothed(image, target.spacing)
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize(target.size)
    resampler.SetOutputSpacing(target.spacing)
    resampler.SetOutputOrigin(target.origin)
    resampler.SetOutputDirection(target.direction)
    resampler.SetInterpolator(sitk.sitkNearestNeighbor if nearest else sitk.sitkLinear)
    return np.asarray(sitk.GetArrayFromImage(resampler.Execute(image)), np.float32)


def covered(geometry: Geometry, by: Geometry, share: float = 0.5) -> NDArray[np.bool_]:
    """Which slices of a grid lie in the field of view of another with at least this share of their area."""
    step = max(1, min(geometry.size[:2]) // 16)
    positions = voxel_positions(geometry)[:, ::step, ::step]
    index = (positions - np.array(by.origin)) @ by.direction_matrix / np.array(by.spacing)
    inside = ((index > -0.5) & (index < np.array(by.size) - 0.5)).all(-1)
    return np.asarray(inside.reshape(len(inside), -1).mean(1) >= share)


def _smoothed(image: sitk.Image, spacing: tuple[float, ...]) -> sitk.Image:
    """Blurred along rows and columns to the resolution of larger pixels."""
    for axis in (0, 1):
        old, new = image.GetSpacing()[axis], spacing[axis]
        sigma = 0.5 * float(np.sqrt(max(0.0, new**2 - old**2)))
        if sigma > 0.2 * old and image.GetSize()[axis] >= 4:
            order = sitk.RecursiveGaussianImageFilter.ZeroOrder
            image = sitk.RecursiveGaussian(image, sigma, False, order, axis)
    return image
