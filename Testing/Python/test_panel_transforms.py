"""Inputs that transforms move: the files of a run lie to each other as the volumes do on the screen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import slicer.util
import vtk
from MRDiffusionPanel import grids
from MRDiffusionPanel.volume_files import _window_of, taken
from panel_support import add_volume
from scipy.spatial.transform import Rotation
from test_panel_run import oblique, set_affine

pytest_plugins = ["panel_fixtures"]
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def rigid(seed: int, shift: tuple[float, float, float] = (3.0, -8.0, 5.0)) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.random(random_state=seed).as_matrix()
    matrix[:3, 3] = shift
    return matrix


def moved_by(scene: Any, volume: Any, *matrices: np.ndarray) -> None:
    """Put a volume under a chain of transforms, the innermost first."""
    node = volume
    for matrix in matrices:
        transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
        node.SetAndObserveTransformNodeID(transform.GetID())
        node = transform


def affine_of(path: Path) -> np.ndarray:
    """Index to RAS of a file."""
    image = sitk.ReadImage(str(path))
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    matrix[:3, 3] = image.GetOrigin()
    return LPS @ matrix


@pytest.mark.parametrize("left_handed", [False, True])
@pytest.mark.parametrize("chain", [(), (4,), (4, 5)])
def test_files_lie_to_each_other_as_the_volumes_do(scene: Any, tmp_path: Path, left_handed: bool, chain) -> None:
    first, other = add_volume("first"), add_volume("other", (4, 6, 5))
    set_affine(first, oblique(left_handed))
    set_affine(other, oblique(not left_handed))
    moved_by(scene, first, rigid(1))
    moved_by(scene, other, *(rigid(seed) for seed in chain))
    before = slicer.util.arrayFromVTKMatrix(grids_matrix(other)).copy()
    taken(first, first).write(tmp_path / "first.nrrd")
    taken(other, first).write(tmp_path / "other.nrrd")
    # What the first one's transform does to both files puts them where they are shown.
    frame = grids.affine_to_world(first) @ np.linalg.inv(affine_of(tmp_path / "first.nrrd"))
    np.testing.assert_allclose(frame @ affine_of(tmp_path / "other.nrrd"), grids.affine_to_world(other), atol=1e-6)
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "other.nrrd"))), slicer.util.arrayFromVolume(other)
    )
    np.testing.assert_array_equal(slicer.util.arrayFromVTKMatrix(grids_matrix(other)), before)


def grids_matrix(volume: Any) -> Any:
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return matrix


def test_grids_are_the_same_where_they_are_shown(scene: Any) -> None:
    one, other, matrix = add_volume("one"), add_volume("other"), rigid(1)
    assert grids.same(one, other) and not grids.apart(one, other)
    moved_by(scene, one, matrix)
    assert not grids.same(one, other)
    moved_by(scene, other, matrix)  # another transform that does the same
    assert grids.same(one, other)
    moved_by(scene, other, rigid(1, (500.0, 0.0, 0.0)))
    assert grids.apart(one, other) and not grids.transform_problem(one, other)


def test_a_warp_and_a_shear_are_no_frame(scene: Any) -> None:
    one, other = add_volume("one"), add_volume("other")
    sheared = np.eye(4)
    sheared[0, 1] = 0.2
    moved_by(scene, other, sheared)
    assert grids.transform_problem(other, one) == "shear" and not grids.transform_problem(other, other)
    points = vtk.vtkThinPlateSplineTransform()
    for each in (points.SetSourceLandmarks, points.SetTargetLandmarks):
        landmarks = vtk.vtkPoints()
        for place in np.random.default_rng(0).normal(size=(6, 3)) * 20:
            landmarks.InsertNextPoint(*place)
        each(landmarks)
    points.SetBasisToR()
    warp = scene.AddNewNodeByClass("vtkMRMLTransformNode")
    warp.SetAndObserveTransformToParent(points)
    other.SetAndObserveTransformNodeID(warp.GetID())
    assert grids.transform_problem(other, one) == "warp"


def test_a_window_is_found_whatever_a_result_holds(module: Any) -> None:
    """As VTK's own for an ordinary image; something that can be shown for a constant, and where no number is."""
    values = np.random.default_rng(0).normal(100, 10, (200, 90, 80)).astype(np.float32)
    low, high = np.percentile(values, (0.1, 99.9))
    window, level = _window_of(values)
    assert window == pytest.approx(high - low, rel=0.02) and level == pytest.approx((low + high) / 2, rel=0.02)
    values[0] = np.nan
    values[1] = np.inf
    assert _window_of(values) == pytest.approx((window, level), rel=0.02)
    assert _window_of(np.full((2, 3, 4), 7.0, np.float32)) == (1e-6, 7.0)
    assert _window_of(np.full((2, 3, 4), np.nan, np.float32)) == (1.0, 0.0)
