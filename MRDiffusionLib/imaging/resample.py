"""Volumes on another grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ..errors import InputError
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
    return position(geometry, (np.array(geometry.size) - 1) / 2)


def position(geometry: Geometry, index: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of an index (x, y, z), LPS mm."""
    place: NDArray[np.float64] = geometry.affine()[:3, :3] @ index + np.array(geometry.origin)
    return place


def shown_box(volume: Volume) -> NDArray[np.float64]:
    """Indices (x, y, z) between which a volume shows something, (2, 3); 1 % of it at each side may be noise.

    Raises InputError if no voxel is positive.
    """
    largest = float(volume.array.max())
    if largest <= 0:
        raise InputError(f"the largest intensity of the volume is {largest:g}", "Load a magnitude image")
    # Few voxels may be far brighter than the rest.
    level = np.percentile(volume.array[volume.array > 0.05 * largest], 99.5)
    shown = volume.array > 0.1 * level
    counts = [shown.sum(tuple(other for other in range(3) if other != axis)) for axis in (2, 1, 0)]
    return np.stack([_percentiles(count, (0.01, 0.99)) for count in counts], axis=1)


def _percentiles(counts: NDArray[np.int64], shares: tuple[float, ...]) -> NDArray[np.float64]:
    """Of whole numbers from 0, each of which is there so many times; as `np.percentile` without a list of them."""
    ends = np.cumsum(counts)
    place = np.array(shares) * (ends[-1] - 1)
    low, high = (np.searchsorted(ends, rank(place), side="right") for rank in (np.floor, np.ceil))
    return np.asarray(low + (place - np.floor(place)) * (high - low))


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


@dataclass(frozen=True, eq=False)
class Rigid:
    """A rotation about a point and a shift: `moving position = rotation @ (fixed - centre) + centre + shift`, LPS mm.

    Attributes:
        rotation: (3, 3).
        centre: the fixed point of the rotation.
        shift: mm along x, y and z.
    """

    rotation: NDArray[np.float64]
    centre: NDArray[np.float64]
    shift: NDArray[np.float64]

    @property
    def angle_degrees(self) -> float:
        """How far it turns about its own axis."""
        return float(np.degrees(np.arccos(np.clip((np.trace(self.rotation) - 1) / 2, -1, 1))))

    def transform(self) -> sitk.AffineTransform:
        """For SimpleITK."""
        transform = sitk.AffineTransform(3)
        transform.SetMatrix(self.rotation.ravel().tolist())
        transform.SetCenter(self.centre.tolist())
        transform.SetTranslation(self.shift.tolist())
        return transform


def resample(volume: Volume, grid: Geometry, motion: Rigid | None = None, nearest: bool = False) -> Volume:
    """The volume on another grid; 0 where it shows nothing.

    Linear between voxels, after a blur within slices where the new pixels are larger, so that nothing aliases; or the
    nearest voxel's value, for labels.

    Args:
        grid: of the result.
        motion: takes positions on the grid to those in the volume.
        nearest: for labels.
    """
    image = to_image(volume)
    if not nearest:
        image = blurred(image, grid.spacing[:2])
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize(grid.size)
    resampler.SetOutputSpacing(grid.spacing)
    resampler.SetOutputOrigin(grid.origin)
    resampler.SetOutputDirection(grid.direction)
    resampler.SetInterpolator(sitk.sitkNearestNeighbor if nearest else sitk.sitkLinear)
    if motion is not None:
        resampler.SetTransform(motion.transform())
    return Volume(np.asarray(sitk.GetArrayFromImage(resampler.Execute(image)), np.float32), grid)


def covered(geometry: Geometry, by: Geometry, share: float = 0.5) -> NDArray[np.bool_]:
    """Which slices of a grid lie in the field of view of another with at least this share of their area."""
    step = max(1, min(geometry.size[:2]) // 16)
    positions = voxel_positions(geometry, step)
    index = (positions - np.array(by.origin)) @ by.direction_matrix / np.array(by.spacing)
    inside = ((index > -0.5) & (index < np.array(by.size) - 0.5)).all(-1)
    return np.asarray(inside.reshape(len(inside), -1).mean(1) >= share)


def blurred(image: sitk.Image, spacing: tuple[float, ...]) -> sitk.Image:
    """Blurred to the resolution of larger voxels, along as many axes as spacings (mm) are given."""
    for axis, new in enumerate(spacing):
        old = image.GetSpacing()[axis]
        sigma = 0.5 * float(np.sqrt(max(0.0, new**2 - old**2)))
        if sigma > 0.2 * old and image.GetSize()[axis] >= 4:
            order = sitk.RecursiveGaussianImageFilter.ZeroOrder
            image = sitk.RecursiveGaussian(image, sigma, False, order, axis)
    return image
