"""Patients of several sequences: MyoPS's layout, and slices on one grid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from MRDiffusionLib.errors import InputError
from MRDiffusionLib.imaging.geometry import Geometry
from MRDiffusionLib.imaging.resample import grid_around
from MRDiffusionLib.imaging.volume import Volume, read_volume, write_volume
from MRDiffusionLib.packs.intensity import intensity_scale
from MRDiffusionLib.simulation.cohort import write_cohort
from MRDiffusionLib.training.myops import read_patients
from MRDiffusionLib.training.paired import Case, pair, write_paired

SEQUENCES = ("bSSFP", "T2", "LGE")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("myops") / "set", {}, modelled=(2, 1), seed=1, log=lambda _: None)


def blob(geometry: Geometry, position: tuple[float, float, float], sigma_mm: float = 8.0) -> Volume:
    """A Gaussian at a position (LPS mm)."""
    from MRDiffusionLib.imaging.geometry import voxel_positions

    distance = np.linalg.norm(voxel_positions(geometry) - np.array(position), axis=-1)
    return Volume((1000 * np.exp(-((distance / sigma_mm) ** 2) / 2)).astype(np.float32), geometry)


def oblique(left_handed: bool = False) -> Geometry:
    c, s = np.cos(0.4), np.sin(0.4)
    direction = np.array([[c, -s, 0], [s, c, 0], [0, 0, -1 if left_handed else 1]])
    return Geometry((61, 48, 5), (1.1, 0.9, 8.0), (-20.0, 35.0, 4.0), tuple(direction.ravel()))


def test_patients_are_read_with_labels_and_group(cohort: Path) -> None:
    cases = list(read_patients(cohort))
    assert [(c.patient, c.group) for c in cases] == [
        ("myops_test_201", "test"),
        ("myops_training_101", "training"),
        ("myops_training_102", "training"),
    ]
    for case in cases:
        assert tuple(case.volumes) == SEQUENCES and case.labels is not None


def test_a_patient_without_labels_is_read(cohort: Path, tmp_path: Path) -> None:
    for path in (cohort / "test20").glob("*201_*"):
        if "_gd" not in path.name:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    (case,) = read_patients(tmp_path)
    assert case.labels is None
    assert not pair([case], SEQUENCES, 64, 1.4).labels.any()


@pytest.mark.parametrize("ending", ["C0", "T2", "DE"])
def test_a_missing_sequence_names_the_patient(cohort: Path, tmp_path: Path, ending: str) -> None:
    for path in (cohort / "train25").glob("*101_*"):
        if ending not in path.name:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(InputError, match=rf"myops_training_101 has no .*myops_training_101_{ending}"):
        list(read_patients(tmp_path))


def test_volumes_on_other_grids_and_unknown_labels_are_refused(cohort: Path, tmp_path: Path) -> None:
    for path in (*(cohort / "train25").glob("*102*"), *(cohort / "train25_myops_gd").glob("*102*")):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    t2, labels = tmp_path / "myops_training_102_T2.nii.gz", tmp_path / "myops_training_102_gd.nii.gz"
    volume = read_volume(t2)
    write_volume(replace(volume, geometry=replace(volume.geometry, origin=(0.0, 3.0, 0.0))), t2)
    with pytest.raises(InputError, match="myops_training_102: T2 and bSSFP differ in origin"):
        list(read_patients(tmp_path))
    write_volume(volume, t2)
    drawn = read_volume(labels)
    drawn.array[0, 0, 0] = 77
    write_volume(drawn, labels)
    with pytest.raises(InputError, match="myops_training_102: label 77 is unknown"):
        list(read_patients(tmp_path))
    with pytest.raises(InputError, match="has no file such as"):
        list(read_patients(tmp_path / "nothing"))


def test_slices_show_heart_and_labels_together(cohort: Path, tmp_path: Path) -> None:
    paired = pair(read_patients(cohort), SEQUENCES, 96, 1.4)
    assert paired.images.shape == (24, 3, 96, 96) and paired.images.dtype == np.uint8
    assert paired.sequences == SEQUENCES and set(paired.group) == {"training", "test"}
    blood, wall = paired.labels == 500, paired.labels == 200
    bssfp = paired.images[:, 0]
    assert bssfp[blood].mean() > 1.5 * bssfp[wall].mean()
    # The labelled heart is in the middle.
    middle = ndimage.center_of_mass(paired.labels[paired.patient == "myops_test_201"].sum(0) > 0)
    np.testing.assert_allclose(middle, (47.5, 47.5), atol=6)
    one = paired.of(["myops_training_101"])
    assert len(one.images) == 8 and set(one.patient) == {"myops_training_101"}
    with pytest.raises(InputError, match="no patient nobody"):
        paired.of(["nobody"])
    write_paired(paired, tmp_path / "set.npz")
    with np.load(tmp_path / "set.npz") as archive:
        np.testing.assert_array_equal(archive["images"], paired.images)


@pytest.mark.parametrize("left_handed", [False, True])
@pytest.mark.parametrize("pixel_mm", [0.8, 1.4])
def test_resampled_slices_keep_their_place(left_handed: bool, pixel_mm: float) -> None:
    geometry = oblique(left_handed)
    position = geometry.affine() @ np.array([33.3, 20.6, 2, 1])
    volume = blob(geometry, tuple(position[:3]), 4.0)
    labels = Volume((volume.array > 500).astype(np.float32), geometry)
    paired = pair([Case("p", "g", {"a": volume}, labels)], ["a"], 40, pixel_mm)
    centre = np.array(ndimage.center_of_mass(labels.array))[::-1]
    grid = grid_around(geometry, geometry.affine()[:3] @ np.array([*centre, 1]), (40, 40), (pixel_mm, pixel_mm))
    expected = blob(grid, tuple(position[:3]), 4.0)
    scaled = np.clip(expected.array / intensity_scale(volume.array, {"percentile": 99.5, "value": 0.9}) * 255, 0, 255)
    measured, wanted = (ndimage.center_of_mass(a) for a in (paired.images[2, 0].astype(float), scaled[2]))
    np.testing.assert_allclose(measured, wanted, atol=0.05)


def test_only_slices_that_all_sequences_show_are_taken() -> None:
    geometry = Geometry((32, 32, 3), (1, 1, 5), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    full = np.random.default_rng(0).uniform(50, 100, (3, 32, 32)).astype(np.float32)
    part = full.copy()
    part[1] = 0
    case = Case("p", "g", {"a": Volume(full, geometry), "b": Volume(part, geometry)}, None)
    assert len(pair([case], ["a", "b"], 32, 1.0).images) == 2
    with pytest.raises(InputError, match="no slice that all sequences show"):
        pair([], ["a", "b"], 32, 1.0)


def test_the_middle_alone_decides_the_scale_where_a_pack_says_so() -> None:
    heart = np.full((2, 40, 40), 10.0, np.float32)
    heart[:, 15:25, 15:25] = 100  # blood
    with_fat = heart.copy()
    with_fat[:, :6] = 1000  # beside the coil
    middle = {"percentile": 95.0, "value": 0.65, "within": 0.5}
    assert intensity_scale(with_fat, middle) == intensity_scale(heart, middle) == pytest.approx(100 / 0.65)
    assert intensity_scale(with_fat, {"percentile": 95.0, "value": 0.65}) > 900
    with_fat[:, 10:30, 10:30] = 0
    with pytest.raises(InputError, match="largest intensity"):
        intensity_scale(with_fat, middle)
