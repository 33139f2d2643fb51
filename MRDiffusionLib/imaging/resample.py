"""Volumes on another grid."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from .geometry import Geometry, voxel_positions
from .intensity import intensity_scale
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
    return position(geometry, (np.array(geometry.size) - 1) / 2)


def position(geometry: Geometry, index: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of an index (x, y, z), LPS mm."""
    place: NDArray[np.float64] = geometry.affine()[:3, :3] @ index + np.array(geometry.origin)
    return place


def shown_box(volume: Volume) -> NDArray[np.float64]:
    """Indices (x, y, z) between which a volume shows something, (2, 3); 1 % of it at each side may be noise.

    Raises InputError if no voxel is positive.
    """
    level = intensity_scale(volume.array, {"percentile": 99.5, "value": 1.0})
    shown = np.argwhere(volume.array > 0.1 * level)[:, ::-1]
    return np.asarray(np.percentile(shown, (1, 99), axis=0))


def shown_middle(volume: Volume) -> NDArray[np.float64]:
    """Position (LPS mm) halfway between the outer sides of what a volume shows."""
    return position(volume.geometry, shown_box(volume).mean(0))


def window_middle(volume: Volume, field_of_view_mm: tuple[float, float]) -> NDArray[np.float64]:
    """Around which position (LPS mm) to cut a window of (rows, columns) mm.

    Along an axis on which the object fits into the window it is the object's middle, otherwise the volume's.
    """
    box, geometry = shown_box(volume), volume.geometry
    index = (np.array(geometry.size, dtype=np.float64) - 1) / 2
    for axis, window in ((0, field_of_view_mm[1]), (1, field_of_view_mm[0])):
        if (box[1, axis] - box[0, axis]) * geometry.spacing[axis] <= window:
            index[axis] = box[:, axis].mean()
    return position(geometry, index)


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
