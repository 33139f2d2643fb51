"""Lesjak's patients, and `prepare`: a data set in, a paired archive out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from MRDiffusionLib.cli.main import main
from MRDiffusionLib.errors import InputError
from MRDiffusionLib.imaging.alignment import normalised_mutual_information
from MRDiffusionLib.imaging.geometry import Geometry, voxel_positions
from MRDiffusionLib.imaging.resample import Rigid
from MRDiffusionLib.imaging.volume import Volume, read_volume, write_volume
from MRDiffusionLib.training import lesjak
from MRDiffusionLib.training import paired as paired_module
from MRDiffusionLib.training.lesjak import read_patients
from MRDiffusionLib.training.paired import Case, pair, write_paired

SEQUENCES = ("T1", "T2", "FLAIR")
LEVELS = {"T1": (600, 400, 150, 1500), "T2": (300, 450, 1200, 400), "FLAIR": (500, 650, 100, 60)}
"""White matter, grey matter, cerebrospinal fluid, scalp."""

RAW = Geometry((36, 40, 20), (3.0, 3.0, 4.0), (-52.5, -58.5, -38.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
# Rows to the front, as the distributed files have them.
MNI = Geometry((54, 60, 40), (2.0, 2.0, 2.0), (-53.0, 59.0, -39.0), (1, 0, 0, 0, -1, 0, 0, 0, 1))


def head(geometry: Geometry, sequence: str, scalp: bool, shift_mm: tuple[float, ...] = (0, 0, 0)) -> Volume:
    """A made-up head, 10 x 11 x 8 cm: white matter with folds, a drop of fluid at the back, skull, scalp."""
    position = voxel_positions(geometry) - np.array(shift_mm)
    radius = np.linalg.norm(position / (40, 46, 33), axis=-1)
    white, grey, fluid, fat = LEVELS[sequence]
    folds = sum(np.sin(position[..., axis] / width) for axis, width in ((0, 7.0), (1, 9.0), (2, 8.0)))
    array = np.where(folds > 0, white, grey) * (radius < 1)
    array = np.where(np.linalg.norm(position - (0, 26, 0), axis=-1) < 11, fluid, array)
    if scalp:
        array = np.where((radius > 1.1) & (radius < 1.2), fat, array)
    return Volume(array.astype(np.float32), geometry)


@pytest.fixture(scope="module")
def brains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registered patient, and a raw one with a complete study whose T1 moved, and one without T1."""
    folder = tmp_path_factory.mktemp("lesjak")
    registered, raw = folder / "registered" / "patient07", folder / "raw" / "patient01"
    registered.mkdir(parents=True)
    raw.mkdir(parents=True)
    for sequence in SEQUENCES:
        write_volume(head(MNI, sequence, scalp=False), registered / f"{sequence}.nii.gz")
    lesion = np.linalg.norm(voxel_positions(MNI) - (14, -20, 0), axis=-1) < 6
    write_volume(Volume(lesion.astype(np.float32), MNI), registered / "LESIONS.nii.gz")
    for sequence, shift in zip(SEQUENCES, ((4, 6, 0), (0, 0, 0), (0, 0, 0))):
        name = sequence if sequence == "FLAIR" else f"{sequence}W"
        volume = head(RAW, sequence, scalp=True, shift_mm=shift)
        write_volume(volume, raw / f"study2_{name}.nii.gz")
        if sequence != "T1":
            write_volume(volume, raw / f"study1_{name}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def read(brains: Path) -> tuple[list[Case], list[str]]:
    told: list[str] = []
    return list(read_patients(brains, told.append)), told


def test_patients_and_studies(read: tuple[list[Case], list[str]]) -> None:
    cases, told = read
    assert [(c.patient, c.group) for c in cases] == [("registered_patient07", "registered"), ("raw_patient01", "raw")]
    assert told[0] == "raw_patient01: study1 has no T1 (study1_T1W.nii.gz) and is left out"
    assert told[1].startswith("raw_patient01: study2 T1 moved by 7.") and len(told) == 2
    assert cases[0].labels is not None and cases[1].labels is None
    for case in cases:
        assert tuple(case.volumes) == SEQUENCES
        assert all(v.geometry == case.volumes["FLAIR"].geometry for v in case.volumes.values())


def test_rows_run_to_the_back_and_labels_keep_their_place(read: tuple[list[Case], list[str]]) -> None:
    case = read[0][0]
    assert case.labels is not None and case.labels.geometry.direction == tuple(np.eye(3).ravel())
    assert set(np.unique(case.labels.array)) == {0, 1}
    where = voxel_positions(case.labels.geometry)[case.labels.array > 0].mean(0)
    np.testing.assert_allclose(where, (14, -20, 0), atol=1)


def test_raw_sequences_are_aligned_and_lose_the_skull(read: tuple[list[Case], list[str]]) -> None:
    volumes = read[0][1].volumes
    grid = volumes["FLAIR"].geometry
    position = voxel_positions(grid)
    radius = np.linalg.norm(position / (40, 46, 33), axis=-1)
    for volume in volumes.values():
        assert not volume.array[radius > 1.18].any()
        assert (volume.array[radius < 0.9] > 0).all()
    there, unmoved = (head(grid, "T1", False, shift).array for shift in ((0, 0, 0), (4, 6, 0)))
    likeness = [normalised_mutual_information(volumes["T1"].array, a) for a in (there, unmoved)]
    assert likeness[0] > likeness[1] + 0.05


@pytest.mark.parametrize("kind, lost", [("registered", "T2.nii.gz"), ("raw", "study2_T2W.nii.gz")])
def test_a_missing_sequence_names_the_patient(brains: Path, tmp_path: Path, kind: str, lost: str) -> None:
    (source,) = (brains / kind).iterdir()
    target = tmp_path / kind / source.name
    target.mkdir(parents=True)
    for path in source.iterdir():
        if path.name != lost and not path.name.startswith("study1"):
            (target / path.name).write_bytes(path.read_bytes())
    with pytest.raises(InputError, match=f"patient {kind}_{source.name} has no T2 .{lost}"):
        list(read_patients(tmp_path))


def test_other_grids_and_folders_without_patients_are_refused(brains: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no folder such as registered/patient07"):
        list(read_patients(tmp_path))
    target = tmp_path / "registered" / "patient07"
    target.mkdir(parents=True)
    for path in (brains / "registered" / "patient07").iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    volume = read_volume(target / "T2.nii.gz")
    write_volume(replace(volume, geometry=replace(volume.geometry, origin=(0.0, 3.0, 0.0))), target / "T2.nii.gz")
    with pytest.raises(InputError, match="registered_patient07: T2 and FLAIR differ in origin"):
        list(read_patients(tmp_path))


def test_sequences_apart_name_the_patient(brains: Path, tmp_path: Path) -> None:
    target = tmp_path / "raw" / "patient01"
    target.mkdir(parents=True)
    for path in (brains / "raw" / "patient01").glob("study2*"):
        (target / path.name).write_bytes(path.read_bytes())
    volume = read_volume(target / "study2_T1W.nii.gz")
    far = replace(volume, geometry=replace(volume.geometry, origin=(0.0, 0.0, 900.0)))
    write_volume(far, target / "study2_T1W.nii.gz")
    with pytest.raises(InputError, match="patient raw_patient01, study2: two volumes cannot be aligned"):
        list(read_patients(tmp_path))


def test_thin_slices_empty_slices_and_the_middle() -> None:
    geometry = Geometry((60, 60, 30), (2.0, 2.0, 1.0), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    rows, columns = np.mgrid[:60, :60]
    disc = 100.0 * ((rows - 40) ** 2 + (columns - 25) ** 2 < 10**2)
    array = np.tile(disc, (30, 1, 1)).astype(np.float32)
    array[:12] = 0
    array[0, 5, 5] = 100
    case = Case("p", "g", {"a": Volume(array, geometry)}, None)
    paired = pair([case], ["a"], 40, 2.0, centre="signal", slice_spacing_mm=3.0, least_shown=0.03)
    assert len(paired.images) == 6
    shown = np.argwhere(paired.images[0, 0] > 100)
    np.testing.assert_allclose((shown.min(0) + shown.max(0)) / 2, (19.5, 19.5), atol=0.6)
    assert len(pair([case], ["a"], 60, 2.0).images) == 19


def test_prepare_brains(
    brains: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    still = Rigid(np.eye(3), np.zeros(3), np.zeros(3))
    monkeypatch.setattr(lesjak, "align_rigidly", lambda *_: still)  # takes seconds; tested above
    assert main(["prepare", "lesjak", str(brains), str(tmp_path / "brain.npz")]) == 0
    with np.load(tmp_path / "brain.npz") as archive:
        assert archive["images"].shape[1:] == (3, 128, 128) and archive["pixel_size_mm"] == 1.7
        assert archive["sequences"].tolist() == [*SEQUENCES]
        assert set(archive["patient"].tolist()) == {"raw_patient01", "registered_patient07"}
        assert set(np.unique(archive["labels"])) == {0, 1}
        # The fluid at the back: in the lower half of the rows of both, bright on T2.
        for patient in ("raw_patient01", "registered_patient07"):
            chosen = archive["images"][archive["patient"] == patient]
            middle = chosen[len(chosen) // 2, 1]
            assert 64 < np.argwhere(middle > 200)[:, 0].mean() < 100
    output = capsys.readouterr().out
    assert "raw_patient01 (raw): " in output and "slices of 2 patients, T1, T2, FLAIR" in output
    assert [path.name for path in tmp_path.iterdir()] == ["brain.npz"]


def test_prepare_hearts(tmp_path: Path) -> None:
    folder, out = tmp_path / "train25", tmp_path / "heart.npz"
    folder.mkdir()
    heart = np.random.default_rng(0).uniform(1, 100, (3, 40, 40)).astype(np.float32)
    geometry = Geometry((40, 40, 3), (3.0, 3.0, 10.0), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    for ending, array in (("C0", heart), ("T2", heart), ("DE", heart), ("gd", np.float32(500) * (heart > 50))):
        write_volume(Volume(array, geometry), folder / f"myops_training_101_{ending}.nii.gz")
    assert main(["prepare", "myops", str(tmp_path), str(out), "--matrix", "64", "--pixel", "2.5"]) == 0
    with np.load(out) as archive:
        assert archive["images"].shape[1:] == (3, 64, 64) and archive["pixel_size_mm"] == 2.5
        assert archive["sequences"].tolist() == ["bSSFP", "T2", "LGE"] and archive["labels"].max() == 500


@pytest.mark.parametrize("dataset", ["myops", "lesjak"])
@pytest.mark.parametrize(
    "out, reason", [("set.npz", "has no f"), ("none/set.npz", "set.npz cannot be written"), ("set.zip", "an .npz")]
)
def test_prepare_says_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], dataset: str, out: str, reason: str
) -> None:
    assert main(["prepare", dataset, str(tmp_path), str(tmp_path / out)]) == 2
    assert reason in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", ["0", "-1", "nan", "1mm"])
def test_prepare_refuses_a_pixel_of_no_size(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["prepare", "lesjak", "in", "out.npz", f"--pixel={value}"])
    assert "is not a length in mm above 0" in capsys.readouterr().err


def test_a_write_that_fails_leaves_the_older_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    geometry = Geometry((16, 16, 2), (1.0, 1.0, 5.0), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    paired = pair([Case("p", "g", {"a": Volume(np.ones((2, 16, 16), np.float32), geometry)}, None)], ["a"], 8, 1.0)
    out = tmp_path / "set.npz"
    out.write_text("older")

    def stop(stream: object, **_: object) -> None:
        stream.write(b"half")  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    monkeypatch.setattr(paired_module.np, "savez_compressed", stop)
    with pytest.raises(KeyboardInterrupt):
        write_paired(paired, out)
    assert out.read_text() == "older" and [path.name for path in tmp_path.iterdir()] == ["set.npz"]
