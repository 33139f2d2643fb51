"""Results as DICOM: read back where they lay, marked as the standard asks, of the right patient; dciodvfy agrees."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import generate_uid
from scipy.spatial.transform import Rotation

from MRDiffusionLib.cli import main
from MRDiffusionLib.errors import InputError, StorageError
from MRDiffusionLib.imaging import Geometry, Volume, sha256_of, voxel_positions, write_volume
from MRDiffusionLib.imaging.dicom import SYNTHETIC_DATA, quantised, write_dicom

PROVENANCE: dict[str, Any] = {
    "synthetic": True,
    "request": {"task": "synthesis", "seed": 7, "settings": {"target": "LGE", "scales": {"bSSFP": 1.5}, "steps": 20}},
    "pack": {"name": "cardiac", "version": "0.1", "weights_sha256": "ab" * 32, "training_data": "simulated hearts"},
    "versions": {"torch": "2.13.0"},
}
OBLIQUE = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix()
MIRRORED = OBLIQUE * (1, 1, -1)


def grid(direction: NDArray[np.float64] = OBLIQUE, size: tuple[int, int, int] = (31, 20, 5)) -> Geometry:
    return Geometry(size, (1.3, 0.9, 8.0), (-40.25, 12.5, 99.125), tuple(direction.ravel().tolist()))


def image(geometry: Geometry, top: float = 1500.0) -> NDArray[np.float32]:
    return np.random.default_rng(0).uniform(0, top, geometry.size[::-1]).astype(np.float32)


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """An acquired series: five slices of somebody, after contrast agent."""
    folder, geometry = tmp_path_factory.mktemp("source"), grid()
    study, series, frame = (generate_uid(None) for _ in range(3))
    files = []
    for number in range(5):
        made = Dataset()
        made.SpecificCharacterSet, made.Modality = "ISO_IR 192", "MR"
        made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", generate_uid(None)
        made.StudyInstanceUID, made.SeriesInstanceUID, made.FrameOfReferenceUID = study, series, frame
        made.PatientName, made.PatientID, made.PatientSex, made.PatientBirthDate = "Šmíd^Ján", "P-17", "M", "19700102"
        made.StudyDate, made.StudyTime, made.StudyID, made.AccessionNumber = "20240301", "101500", "4", "A1"
        made.ReferringPhysicianName, made.SeriesNumber, made.InstanceNumber = "", 12, number + 1
        made.ImageType, made.ScanningSequence, made.SequenceVariant = ["ORIGINAL", "PRIMARY", "OTHER"], "GR", "SS"
        made.ScanOptions, made.MRAcquisitionType, made.EchoTrainLength = "", "2D", 1
        made.RepetitionTime, made.EchoTime, made.BodyPartExamined = 3.0, 1.5, "HEART"
        made.PatientPosition, made.PositionReferenceIndicator = "HFS", ""
        made.ContrastBolusAgent, made.Manufacturer, made.SliceThickness = "Gadolinium", "Scanner", 6.0
        made.ImageOrientationPatient = [f"{v:.8f}" for v in OBLIQUE[:, :2].T.ravel()]
        made.ImagePositionPatient = [f"{v:.6f}" for v in (geometry.affine() @ (0, 0, number, 1))[:3]]
        made.PixelSpacing, made.Rows, made.Columns = [0.9, 1.3], 20, 31
        made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
        made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 16, 15, 0
        made.PixelData = bytes(20 * 31 * 2)
        made.file_meta = FileMetaDataset()
        made.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
        files.append(folder / f"{number}.dcm")
        made.save_as(files[-1], enforce_file_format=True)
    return files


def read_back(folder: Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Intensities and positions of all voxels as ITK reads the series, sorted by position."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    read = reader.Execute()
    geometry = Geometry(read.GetSize(), read.GetSpacing(), read.GetOrigin(), read.GetDirection())
    return in_order(sitk.GetArrayFromImage(read), geometry)


def in_order(array: NDArray[Any], geometry: Geometry) -> tuple[NDArray[Any], NDArray[np.float64]]:
    positions = voxel_positions(geometry).reshape(-1, 3)
    order = np.lexsort(positions.round(3).T)
    return array.ravel()[order], positions[order]


@pytest.mark.parametrize("direction", [OBLIQUE, MIRRORED, np.eye(3)], ids=["oblique", "left-handed", "straight"])
@pytest.mark.parametrize("top", [1500.0, 0.37, 2e5])
def test_voxels_are_read_back_where_they_were(direction, top: float, source, tmp_path: Path) -> None:
    geometry = grid(direction)
    array = image(geometry, top)
    write_dicom(array, geometry, tmp_path / "out", name="LGE", provenance=PROVENANCE, sources=source)
    values, positions = read_back(tmp_path / "out")
    wanted, places = in_order(array, geometry)
    assert np.abs(positions - places).max() < 1e-4
    assert np.abs(values - wanted).max() <= max(0.5, top / 65535) if top >= 1000 else top / 65535


def test_gaps_between_slices_are_kept(source: list[Path], tmp_path: Path) -> None:
    """Slices of 6 mm that are 8 mm apart: whoever measures a volume with the thickness must not count the gap."""
    geometry, uneven = grid(), tmp_path / "uneven.dcm"
    other = pydicom.dcmread(source[1])
    other.SliceThickness = 5.0
    other.save_as(uneven)
    for number, (sources, thickness) in enumerate(((source, 6.0), ([], 8.0), ([source[0], uneven], 8.0))):
        files = write_dicom(
            image(geometry), geometry, tmp_path / str(number), name="LGE", provenance=PROVENANCE, sources=sources
        )
        for made in map(pydicom.dcmread, files):
            assert (made.SliceThickness, made.SpacingBetweenSlices) == (thickness, 8.0)


def test_every_export_is_a_series_of_its_own(source: list[Path], tmp_path: Path) -> None:
    numbers = set()
    for number in range(4):
        place = tmp_path / str(number)
        files = write_dicom(image(grid()), grid(), place, name="LGE", provenance=PROVENANCE, sources=source)
        (found,) = {pydicom.dcmread(file).SeriesNumber for file in files}
        numbers.add(int(found))
    assert len(numbers) == 4 and min(numbers) >= 9_000_000 and max(numbers) < 2**31


def test_intensities_of_a_scanner_are_kept_and_others_scaled():
    levels, slope, intercept = quantised(np.array([0, 999.6, 4095], np.float32))
    assert (levels.tolist(), slope, intercept) == ([0, 1000, 4095], 1.0, 0.0)
    for values in ([0, 1e-6, 3e-5], [-4.0, 0.0, 5.0], [0.0, 0.0, 0.0], [0.0, 1e7, 2e7]):
        levels, slope, intercept = quantised(np.array(values, np.float32))
        assert np.abs(slope * levels + intercept - np.array(values, np.float32)).max() <= 0.51 * slope


def test_a_slice_can_be_read_with_either_kind_of_scale(tmp_path: Path) -> None:
    geometry = grid()
    array = image(geometry, 0.37)
    made = pydicom.dcmread(write_dicom(array, geometry, tmp_path / "out", name="LGE", provenance=PROVENANCE)[2])
    mapping = made.RealWorldValueMappingSequence[0]
    for slope, intercept in (
        (made.RescaleSlope, made.RescaleIntercept),
        (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept),
    ):
        assert np.abs(made.pixel_array * float(slope) + float(intercept) - array[2]).max() < 1e-5


def test_each_file_says_that_it_is_synthetic(source, tmp_path: Path) -> None:
    name = "LGE SYNTHETIC of heart; bSSFP 1.5, T2 1.0; seed 7"
    files = write_dicom(image(grid()), grid(), tmp_path / "out", name=name, provenance=PROVENANCE, sources=source)
    assert [path.name for path in files] == [f"000{n}.dcm" for n in range(1, 6)]
    acquired = pydicom.dcmread(source[0])
    for number, path in enumerate(files):
        made = pydicom.dcmread(path)
        assert made[SYNTHETIC_DATA].value == "YES" and list(made.ImageType)[:2] == ["DERIVED", "SECONDARY"]
        assert made.SeriesDescription == "SYNTHETIC LGE of heart; bSSFP 1.5, T2 1.0; seed 7"
        assert made.ImageComments.startswith("SYNTHETIC") and "not for diagnosis" in made.ImageComments
        equipment = made.ContributingEquipmentSequence[0]
        assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109100"
        for part in ("cardiac 0.1", "ab" * 32, "seed 7", '"bSSFP":1.5', "simulated hearts"):
            assert part in made.DerivationDescription
        assert len(made.DerivationDescription) <= 1024
        # Of the same patient, study and frame, but new; nothing of the acquisition.
        for key in ("PatientName", "PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "AccessionNumber"):
            assert made[key].value == acquired[key].value
        assert made.SeriesInstanceUID != acquired.SeriesInstanceUID and made.SeriesNumber >= 9_000_000
        assert "ContrastBolusAgent" not in made and not made.EchoTime and made.Manufacturer == "MRDiffusion"
        # The slice that it lies on is named as its source.
        (reference,) = made.SourceImageSequence
        assert reference.ReferencedSOPInstanceUID == pydicom.dcmread(source[number]).SOPInstanceUID
    assert len({pydicom.dcmread(path).SOPInstanceUID for path in files}) == 5


def test_without_sources_the_patient_has_no_name(tmp_path: Path) -> None:
    made = [
        pydicom.dcmread(write_dicom(image(grid()), grid(), tmp_path / name, name="x" * 99, provenance=PROVENANCE)[0])
        for name in ("one", "two")
    ]
    assert str(made[0].PatientName) == made[0].PatientID == "" and "SourceImageSequence" not in made[0]
    assert made[0].StudyInstanceUID != made[1].StudyInstanceUID and len(made[0].SeriesDescription) == 64


def errors(path: Path) -> set[str]:
    """What dciodvfy has to say against a file, but that older ones do not know Synthetic Data (0008,001c)."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy (Debian: dicom3tools) is not installed")
    told = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True).stderr
    assert "MRImage" in told
    return {line for line in told.splitlines() if line.startswith("Error") and "(0008,001c)" not in line}


@pytest.mark.parametrize("top", [1500.0, 0.37])
@pytest.mark.parametrize("with_source", [True, False])
def test_dciodvfy_finds_no_error(top: float, with_source: bool, source, tmp_path: Path) -> None:
    sources = source if with_source else []
    files = write_dicom(
        image(grid(), top), grid(), tmp_path / "out", name="LGE", provenance=PROVENANCE, sources=sources
    )
    assert errors(source[0]) == set()
    assert errors(files[0]) == set()


def test_dciodvfy_finds_what_is_wrong(source, tmp_path: Path) -> None:
    made = pydicom.dcmread(write_dicom(image(grid()), grid(), tmp_path / "out", name="x", provenance=PROVENANCE)[0])
    del made.PixelSpacing
    made.save_as(tmp_path / "broken.dcm")
    assert any("PixelSpacing" in line for line in errors(tmp_path / "broken.dcm"))


def test_sources_of_two_patients_are_refused(source, tmp_path: Path) -> None:
    other = pydicom.dcmread(source[0])
    other.PatientID = "P-18"
    other.save_as(tmp_path / "other.dcm")
    with pytest.raises(InputError, match=r"of 2 patients: P-17 .*P-18"):
        write_dicom(
            image(grid()),
            grid(),
            tmp_path / "out",
            name="x",
            provenance=PROVENANCE,
            sources=[source[0], tmp_path / "other.dcm"],
        )
    (tmp_path / "text.dcm").write_text("no image")
    with pytest.raises(InputError, match=r"text\.dcm is not a DICOM file"):
        write_dicom(
            image(grid()), grid(), tmp_path / "out", name="x", provenance=PROVENANCE, sources=[tmp_path / "text.dcm"]
        )
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_left_alone_and_failures_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(StorageError, match="holds something"):
        write_dicom(image(grid()), grid(), tmp_path / "out", name="x", provenance=PROVENANCE)
    with pytest.raises(StorageError, match="cannot be written"):
        write_dicom(image(grid()), grid(), tmp_path / "missing" / "out", name="x", provenance=PROVENANCE)

    def full(*_arguments: Any, **_options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Dataset, "save_as", full)
    with pytest.raises(StorageError, match="No space left"):
        write_dicom(image(grid()), grid(), tmp_path / "new", name="x", provenance=PROVENANCE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


@pytest.fixture
def result(tmp_path: Path) -> Path:
    """A result with its provenance beside it, as a run writes them."""
    path, array = tmp_path / "lge.nii.gz", image(grid())
    write_volume(Volume(array, grid()), path)
    outputs = {"result": {"file": path.name, "sha256": sha256_of(array)}}
    (tmp_path / "lge.json").write_text(json.dumps({**PROVENANCE, "outputs": outputs}))
    (tmp_path / "a.json").write_text("[1, 2]")
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def run(*arguments: object) -> tuple[int, str]:
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out + err

    return run


def test_command_line(result: Path, source, run, tmp_path: Path) -> None:
    code, told = run("dicom", result, tmp_path / "series", "--source", source[0].parent)
    assert (code, told) == (0, f"{tmp_path / 'series'}: 5 images\n")
    made = pydicom.dcmread(tmp_path / "series" / "0001.dcm")
    assert made.SeriesDescription == "SYNTHETIC lge" and made.PatientID == "P-17"
    code, told = run("dicom", result, tmp_path / "series")
    assert code == 2 and "holds something" in told


def test_only_results_with_their_own_values_are_exported(result: Path, run, tmp_path: Path) -> None:
    other = tmp_path / "other.nii.gz"
    shutil.copy(result, other)
    code, told = run("dicom", other, tmp_path / "series")
    assert code == 2 and "no provenance of" in told
    write_volume(Volume(image(grid(), 900.0), grid()), result)
    code, told = run("dicom", result, tmp_path / "series")
    assert code == 2 and "does not hold the values" in told
    (tmp_path / "empty").mkdir()
    code, told = run("dicom", result, tmp_path / "series", "--source", tmp_path / "empty")
    assert code == 2 and ("no DICOM file" in told or "does not hold" in told)
    assert not (tmp_path / "series").exists()
