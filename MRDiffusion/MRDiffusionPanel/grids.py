"""Where a volume node's voxels lie, without SimpleITK: enough to tell a person what a run will have to do."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import slicer.util
import vtk
from numpy.typing import NDArray

TOLERANCE = 0.01
"""How far a voxel may lie from its counterpart, in units of the smallest spacing; the computation takes the same."""
FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])
"""RAS to LPS and back."""
SHEAR = 0.005
"""Cosine between two axes of a volume up to which they count as perpendicular."""


def size(volume: Any) -> tuple[int, int, int]:
    """Columns, rows, slices."""
    columns, rows, slices = volume.GetImageData().GetDimensions()
    return columns, rows, slices


def normal(volume: Any) -> tuple[float, float, float]:
    """Direction across the slices, of length 1, LPS."""
    across = affine(volume)[:3, 2]
    x, y, z = (float(part) for part in across / np.linalg.norm(across))
    return -x, -y, z


def same(one: Any, other: Any) -> bool:
    """Whether two volumes have the same voxels in the same places, as their transforms show them."""
    if size(one) != size(other):
        return False
    distance = np.linalg.norm(_corners(one, affine_beside(one, other)) - _corners(other), axis=1).max()
    return bool(distance <= TOLERANCE * min(*one.GetSpacing(), *other.GetSpacing()))


def covers(one: Any, other: Any) -> bool:
    """Whether nothing of a volume lies outside another one's voxels; False where a transform moves one of them."""
    if any(each.GetImageData() is None or each.GetParentTransformNode() is not None for each in (one, other)):
        return False
    limits = np.array(size(one)) - 1
    reach = 0.5 * np.abs(np.linalg.inv(affine(one))[:3, :3] @ affine(other)[:3, :3]).sum(1)  # half a voxel of it
    index = (np.c_[_corners(other), np.ones(8)] @ np.linalg.inv(affine(one)).T)[:, :3]
    return bool((index - reach >= -0.5 - TOLERANCE).all() and (index + reach <= limits + 0.5 + TOLERANCE).all())


def apart(one: Any, other: Any) -> bool:
    """Whether two volumes cannot show the same place: the boxes around them do not touch."""
    corners = _corners(one, affine_beside(one, other)), _corners(other)
    a, b = (np.stack([own.min(0), own.max(0)]) for own in corners)
    margin = max(*one.GetSpacing(), *other.GetSpacing())  # half a voxel at both sides
    return bool((np.maximum(a[0], b[0]) > np.minimum(a[1], b[1]) + margin).any())


def affine_to_world(volume: Any) -> NDArray[np.float64]:
    """Index (column, row, slice, 1) to where the volume is shown, (4, 4), RAS mm; a warp cannot be told and is none."""
    moved, matrix = volume.GetParentTransformNode(), vtk.vtkMatrix4x4()
    if moved is not None:
        moved.GetMatrixTransformToWorld(matrix)
    world: NDArray[np.float64] = slicer.util.arrayFromVTKMatrix(matrix) @ affine(volume)
    return world


def affine(volume: Any) -> NDArray[np.float64]:
    """Index (column, row, slice, 1) to RAS mm, (4, 4), without transforms."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    values: NDArray[np.float64] = slicer.util.arrayFromVTKMatrix(matrix)
    return values


def affine_beside(volume: Any, first: Any) -> NDArray[np.float64]:
    """Index (column, row, slice, 1) to where a volume is shown in the frame of another one, before that one's transform
    moves both, (4, 4), RAS mm. `transform_problem` says where there is none."""
    if volume.GetTransformNodeID() == first.GetTransformNodeID():
        return affine(volume)
    frame = affine_to_world(first) @ np.linalg.inv(affine(first))
    beside: NDArray[np.float64] = np.linalg.inv(frame) @ affine_to_world(volume)
    return beside


def transform_problem(volume: Any, first: Any) -> str:
    """What keeps a volume's transform from being followed in the frame of another one: 'warp', 'shear' or nothing."""
    if volume.GetTransformNodeID() == first.GetTransformNodeID():
        return ""
    for each in (volume.GetParentTransformNode(), first.GetParentTransformNode()):
        if each is not None and not each.IsTransformToWorldLinear():
            return "warp"
    axes = affine_beside(volume, first)[:3, :3]
    axes = axes / np.linalg.norm(axes, axis=0)
    return "shear" if np.abs(axes.T @ axes - np.eye(3)).max() > SHEAR else ""


def _corners(volume: Any, matrix: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Centres of the outermost voxels, (8, 3), RAS mm, with another matrix than the volume's own if there is one."""
    matrix = affine(volume) if matrix is None else matrix
    index = np.array([(x, y, z, 1) for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    index[:, :3] *= np.array(size(volume)) - 1
    corners: NDArray[np.float64] = (index @ matrix.T)[:, :3]
    return corners


def middle(volume: Any, field_of_view_mm: tuple[float, float], most: int) -> Any:
    """Voxels in the middle (rows, columns) mm of every slice, a float32 array (slices, rows, columns).

    Args:
        most: about how many voxels; of more, every second, third and so on of the rows and columns.
    """
    array = slicer.util.arrayFromVolume(volume)
    spacing = volume.GetSpacing()
    cuts = []
    for count, step, extent in zip(array.shape[1:], (spacing[1], spacing[0]), field_of_view_mm):
        margin = max(0, (count - round(extent / step)) // 2)
        cuts.append(slice(margin, count - margin))
    cut = array[:, cuts[0], cuts[1]]
    every = max(1, math.ceil(math.sqrt(cut.size / most)))
    return cut[:, ::every, ::every].astype("float32")
