"""Rigid alignment of two contrasts, and volumes on other grids."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from MRDiffusionLib.errors import InputError
from MRDiffusionLib.imaging.alignment import align_rigidly, normalised_mutual_information, reoriented
from MRDiffusionLib.imaging.geometry import Geometry, voxel_positions
from MRDiffusionLib.imaging.resample import Rigid, resample, shown_box
from MRDiffusionLib.imaging.volume import Volume

STILL = Rigid(np.eye(3), np.zeros(3), np.zeros(3))


def stack(spacing: tuple[float, float, float], extent_mm: float = 110.0) -> Geometry:
    """An oblique stack around the origin."""
    direction = Rotation.from_euler("xyz", (5, -3, 4), degrees=True).as_matrix()
    size = tuple(round(extent_mm / s) for s in spacing)
    corner = -direction @ ((np.array(size) - 1) / 2 * spacing)
    return Geometry(size, spacing, tuple(corner.tolist()), tuple(direction.ravel().tolist()))


def tissue(position: NDArray[np.float64]) -> NDArray[np.float64]:
    """A made-up brain, 0 outside and 0.3 to 1 inside, at positions (..., 3) in mm."""
    rng = np.random.default_rng(3)
    inside = 1 / (1 + np.exp((np.linalg.norm(position / (35, 42, 32), axis=-1) - 1) * 40))
    folds = np.zeros(position.shape[:-1])
    for centre, width in zip(rng.uniform(-32, 32, (40, 3)), rng.uniform(4, 8, 40)):
        folds += np.exp(-((position - centre) ** 2).sum(-1) / (2 * width**2))
    return inside * (0.3 + 0.7 * np.clip(folds, 0, 1))


def scan(geometry: Geometry, motion: Rigid = STILL, inverted: bool = False) -> Volume:
    """The brain after it moved: what was at p lies at `motion(p)`."""
    back = (voxel_positions(geometry) - motion.centre - motion.shift) @ motion.rotation + motion.centre
    values = tissue(back)
    if inverted:
        values = np.where(values > 0.05, 1.3 - values, values)
    return Volume((500 * values).astype(np.float32), geometry)


@pytest.mark.parametrize("angles, shift", [((4.0, -3.0, 6.0), (5.0, -4.0, 6.0)), ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))])
def test_a_known_motion_is_recovered(angles: tuple[float, ...], shift: tuple[float, ...]) -> None:
    motion = Rigid(Rotation.from_euler("xyz", angles, degrees=True).as_matrix(), np.zeros(3), np.array(shift))
    fixed, moving = scan(stack((2.0, 2.0, 3.0), 84.0)), scan(stack((1.8, 1.8, 3.5)), motion, inverted=True)
    found = align_rigidly(fixed, moving)
    left = Rigid(found.rotation @ motion.rotation.T, found.centre, found.shift)
    assert left.angle_degrees < 0.5
    for point in np.random.default_rng(0).uniform(-40, 40, (20, 3)):
        mine = found.rotation @ (point - found.centre) + found.centre + found.shift
        assert np.linalg.norm(mine - motion.rotation @ point - motion.shift) < 0.5
    if any(shift):
        np.testing.assert_allclose(align_rigidly(fixed, moving).shift, found.shift, atol=1e-5)
        before, after = (resample(moving, fixed.geometry, m).array for m in (None, found))
        likeness = [normalised_mutual_information(fixed.array, other) for other in (before, after)]
        assert likeness[1] > likeness[0] + 0.02


def test_volumes_apart_are_refused() -> None:
    fixed = scan(stack((3.0, 3.0, 3.0), 60.0))
    away = Volume(fixed.array, Geometry(fixed.geometry.size, (3.0, 3.0, 3.0), (900.0, 0.0, 0.0), np.eye(3).ravel()))
    with pytest.raises(InputError, match="cannot be aligned"):
        align_rigidly(fixed, away)


def test_likeness_of_equal_and_of_unrelated_volumes() -> None:
    a, b = np.random.default_rng(0).uniform(1, 2, (2, 20, 64, 64)).astype(np.float32)
    assert normalised_mutual_information(a, a) == pytest.approx(2)
    assert normalised_mutual_information(a, b) == pytest.approx(1, abs=0.02)
    assert normalised_mutual_information(a, np.zeros_like(a)) == 1


def test_reoriented_voxels_keep_their_positions() -> None:
    volume = scan(Geometry((20, 24, 9), (5.0, 4.0, 9.0), (-50.0, 48.0, -30.0), (1, 0, 0, 0, -1, 0, 0, 0, 1)))
    turned = reoriented(volume)
    assert turned.geometry.direction == tuple(np.eye(3).ravel())
    np.testing.assert_array_equal(turned.array, volume.array[:, ::-1])
    np.testing.assert_allclose(voxel_positions(turned.geometry), voxel_positions(volume.geometry)[:, ::-1])
    np.testing.assert_allclose(resample(volume, turned.geometry).array, turned.array, rtol=1e-5)


def test_the_box_around_what_is_shown_leaves_out_one_percent_at_each_side() -> None:
    array = np.random.default_rng(4).gamma(0.3, 20.0, (7, 30, 41)).astype(np.float32)
    level = np.percentile(array[array > 0.05 * array.max()], 99.5)
    places = np.argwhere(array > 0.1 * level)[:, ::-1]
    geometry = Geometry((41, 30, 7), (1.0, 1.0, 5.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    np.testing.assert_allclose(shown_box(Volume(array, geometry)), np.percentile(places, (1, 99), axis=0))


def test_every_nth_voxel_lies_where_it_lies_among_all() -> None:
    geometry = Geometry((9, 8, 3), (1.0, 2.0, 5.0), (3.0, -4.0, 5.0), (0.6, 0, 0.8, 0, 1.0, 0, -0.8, 0, 0.6))
    assert np.array_equal(voxel_positions(geometry, 3), voxel_positions(geometry)[:, ::3, ::3])
