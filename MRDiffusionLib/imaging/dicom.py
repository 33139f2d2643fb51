"""A result as a DICOM series that says of itself, in the standard's own words, that it is synthetic.

Classic MR images, one file a slice (PS3.3 A.4), marked as the standard asks of synthetic data (C.12.1): Synthetic Data
YES, DERIVED and SECONDARY, the synthesising equipment, what was computed, and from which images. Patient and study are
those of the source images; of how those were acquired nothing is copied, contrast agent least of all: a virtual LGE has
none. Importing this loads no pydicom.
"""

from __future__ import annotations

import datetime
import json
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..errors import InputError, StorageError
from .geometry import Geometry

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
SYNTHETIC_DATA = 0x0008001C
"""Synthetic Data; pydicom 2 does not know its name."""
WORD = "SYNTHETIC"
NOTICE = f"{WORD}: computed by a generative model; not for diagnosis"
LEVELS = 65535
WHOLE = 1000
"""From this largest intensity on values are stored as they are, rounded: not every program scales MR images."""
NEW_SERIES, SERIES = 9_000_000, 1_000_000
"""Series numbers of results: from the one on, so that they are listed below what was acquired, and so many, of which
each series takes one by chance: another export of the same result is another series."""

REQUIRED = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"),
    *("AccessionNumber", "ReferringPhysicianName", "PatientPosition", "PositionReferenceIndicator"),
)
"""Of the patient and the study, copied from the source; empty where it has none."""
OPTIONAL = (
    *("PatientAge", "PatientSize", "PatientWeight", "IssuerOfPatientID", "StudyDescription"),
    *("BodyPartExamined", "Laterality"),
)
"""Copied where the source has them."""


def write_dicom(
    array: NDArray[np.float32],
    geometry: Geometry,
    folder: str | Path,
    *,
    name: str,
    provenance: Mapping[str, Any],
    sources: Sequence[str | Path] = (),
) -> list[Path]:
    """Write a volume as a new series into a new folder: all of its files, or none.

    Args:
        array: (slices, rows, columns), finite.
        geometry: LPS mm, of either handedness.
        folder: does not exist yet, or is empty.
        name: of the result; becomes the description of the series, with the word SYNTHETIC.
        provenance: of the result (`tasks.provenance`).
        sources: DICOM files of the images that it was computed from, of one patient, those first on whose slices it
            lies: how thick they are is taken over. Without them patient and study are new and have no name, and the
            slices count as thick as they are apart.

    Returns:
        The files, in the order of the slices.

    Raises:
        InputError: no pydicom, a source that is no DICOM image, or sources of two patients.
        StorageError: no room or no right to write, or a folder that holds something.
    """
    _require_pydicom()
    with warnings.catch_warnings():
        # Sources break rules, such as with a birth date of 00000000; what is copied is theirs.
        warnings.simplefilter("ignore", UserWarning)
        return _write_series(array, geometry, Path(folder), name, provenance, sources)


def _write_series(
    array: NDArray[np.float32],
    geometry: Geometry,
    folder: Path,
    name: str,
    provenance: Mapping[str, Any],
    sources: Sequence[str | Path],
) -> list[Path]:
    headers = [_header(Path(path)) for path in sources]
    patients = sorted({f"{header.get('PatientID', '')} ({header.get('PatientName', '')})" for header in headers})
    if len(patients) > 1:
        raise InputError(f"the sources are of {len(patients)} patients: {', '.join(patients)}", "Name those of one")
    common = _series(geometry, name, provenance, headers)
    levels, slope, intercept = quantised(array)
    _add_scale(common, slope, intercept, array)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StorageError(f"{folder} holds something", "Choose a new folder: a series needs one of its own")
    try:
        staged = Path(tempfile.mkdtemp(prefix=".MRDiffusion-partial-", dir=folder.parent))
        try:
            files = [
                _write(_slice(common, levels, geometry, number, headers), staged / f"{number + 1:04}.dcm")
                for number in range(len(levels))
            ]
            staged.chmod(0o755)
            staged.replace(folder)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    except OSError as error:
        raise StorageError(f"{folder} cannot be written ({error.strerror or error})", "Choose another place") from error
    return [folder / path.name for path in files]


def quantised(array: NDArray[np.float32]) -> tuple[NDArray[np.uint16], float, float]:
    """16-bit levels with the slope and intercept that give intensities back: `slope * level + intercept`.

    Intensities as scanners store them, from 0 to a thousand or more, are kept and only rounded.
    """
    low, high = float(array.min()), float(array.max())
    if low >= 0 and WHOLE <= high <= LEVELS:
        slope, intercept = 1.0, 0.0
    else:
        intercept = min(low, 0.0)
        # As the file's text has it: a decimal string of 16 characters.
        slope = float(f"{max(high - intercept, np.finfo(np.float32).tiny) / LEVELS:.9e}")
        intercept = float(f"{intercept:.9e}")
    levels = np.rint((array.astype(np.float64) - intercept) / slope)
    return levels.clip(0, LEVELS).astype(np.uint16), slope, intercept


def description(provenance: Mapping[str, Any]) -> str:
    """What was computed, in the 1024 characters of a Derivation Description."""
    request, pack = provenance["request"], provenance["pack"]
    versions = ", ".join(f"{key} {value}" for key, value in provenance.get("versions", {}).items())
    parts = [
        NOTICE,
        f"task {request['task']}, model {pack['name']} {pack['version']}, weights SHA-256 {pack['weights_sha256']}",
        f"seed {request['seed']}, settings {json.dumps(request['settings'], separators=(',', ':'))}",
        f"trained on: {pack['training_data']}",
        versions,
    ]
    return "; ".join(part for part in parts if part)[:1024]


def _series(geometry: Geometry, name: str, provenance: Mapping[str, Any], headers: Sequence[Dataset]) -> Dataset:
    """What all files of the series have in common."""
    from pydicom.dataset import Dataset
    from pydicom.uid import generate_uid

    first, now, made = (headers or [Dataset()])[0], datetime.datetime.now(), Dataset()
    made.SpecificCharacterSet = "ISO_IR 192"
    made.SOPClassUID, made.Modality = MR_IMAGE, "MR"
    made.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    made.add_new(SYNTHETIC_DATA, "CS", "YES")
    for key in REQUIRED:
        setattr(made, key, first.get(key, ""))
    for key in OPTIONAL:
        if key in first:
            setattr(made, key, first[key].value)
    if "BodyPartExamined" not in made and "Laterality" not in made:
        made.Laterality = ""  # unknown; of the heart or the head it must be absent
    made.StudyInstanceUID = first.get("StudyInstanceUID") or generate_uid(None)
    made.FrameOfReferenceUID = first.get("FrameOfReferenceUID") or generate_uid(None)
    made.SeriesInstanceUID = generate_uid(None)
    made.SeriesNumber = NEW_SERIES + int(made.SeriesInstanceUID.rsplit(".")[-1]) % SERIES
    made.SeriesDescription = _described(name)
    made.SeriesDate = made.ContentDate = made.InstanceCreationDate = now.strftime("%Y%m%d")
    made.SeriesTime = made.ContentTime = made.InstanceCreationTime = now.strftime("%H%M%S")
    pack = provenance["pack"]
    made.Manufacturer, made.ManufacturerModelName = "MRDiffusion", f"{pack['name']} {pack['version']}"[:64]
    made.SoftwareVersions = __version__
    made.ScanningSequence, made.SequenceVariant, made.ScanOptions = "RM", "NONE", ""
    made.MRAcquisitionType, made.RepetitionTime, made.EchoTime, made.EchoTrainLength = "2D", None, None, None
    made.DerivationDescription, made.ImageComments = description(provenance), NOTICE
    made.ContributingEquipmentSequence = [_equipment(provenance)]
    column, row = (geometry.direction_matrix[:, axis] for axis in (0, 1))
    made.ImageOrientationPatient = [_decimal(value) for value in (*column, *row)]
    made.PixelSpacing = [_decimal(geometry.spacing[1]), _decimal(geometry.spacing[0])]
    made.SpacingBetweenSlices = _decimal(geometry.spacing[2])
    made.SliceThickness = _thickness(headers) or made.SpacingBetweenSlices
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.Columns, made.Rows = geometry.size[:2]
    made.BitsAllocated = made.BitsStored = 16
    made.HighBit, made.PixelRepresentation = 15, 0
    return made


def _thickness(headers: Sequence[Dataset]) -> str:
    """Of the slices of the first source series, which are those of the result; empty where it is unknown."""
    series = [each for each in headers if each.get("SeriesInstanceUID") == headers[0].get("SeriesInstanceUID")]
    found = {float(each.get("SliceThickness") or 0.0) for each in series}
    known = found.pop() if len(found) == 1 else 0.0
    return _decimal(known) if known > 0 else ""


def _add_scale(made: Dataset, slope: float, intercept: float, array: NDArray[np.float32]) -> None:
    """Window, and how levels become intensities: for readers of either of the two ways in which files say that."""
    from pydicom.dataset import Dataset

    low, high = (float(value) for value in np.percentile(array, (1, 99.5)))
    made.WindowCenter, made.WindowWidth = _decimal((low + high) / 2), _decimal(max(high - low, slope))
    made.VOILUTFunction = "LINEAR_EXACT"  # LINEAR has no window below 1
    if (slope, intercept) == (1.0, 0.0):
        return
    made.RescaleSlope, made.RescaleIntercept, made.RescaleType = _decimal(slope), _decimal(intercept), "US"
    mapping = Dataset()
    mapping.LUTExplanation, mapping.LUTLabel = "intensity", "INTENSITY"
    mapping.add_new("RealWorldValueFirstValueMapped", "US", 0)
    mapping.add_new("RealWorldValueLastValueMapped", "US", LEVELS)
    mapping.RealWorldValueIntercept, mapping.RealWorldValueSlope = intercept, slope
    mapping.MeasurementUnitsCodeSequence = [_code("1", "UCUM", "no units")]
    made.RealWorldValueMappingSequence = [mapping]


def _slice(
    common: Dataset, levels: NDArray[np.uint16], geometry: Geometry, number: int, headers: Sequence[Dataset]
) -> Dataset:
    from pydicom.dataset import Dataset
    from pydicom.uid import generate_uid

    made = Dataset()
    made.update(common)
    position = (geometry.affine() @ (0, 0, number, 1))[:3]
    made.SOPInstanceUID, made.InstanceNumber = generate_uid(None), number + 1
    made.ImagePositionPatient = [_decimal(value) for value in position]
    made.SliceLocation = _decimal(float(position @ np.array(geometry.normal)))
    references = list(_references(headers, position, np.array(geometry.normal)))
    if references:
        made.SourceImageSequence = references
    made.PixelData = levels[number].astype("<u2").tobytes()
    return made


def _references(headers: Sequence[Dataset], position: Any, normal: Any) -> Iterator[Dataset]:
    """Of each source series the image, or the images of a cine, that lies nearest to the slice."""
    from pydicom.dataset import Dataset

    by_series: dict[str, list[Dataset]] = {}
    for header in headers:
        by_series.setdefault(str(header.get("SeriesInstanceUID")), []).append(header)
    for series in by_series.values():
        distances = [
            abs(float((np.array(each.ImagePositionPatient, float) - position) @ normal))
            if "ImagePositionPatient" in each
            else 0.0
            for each in series
        ]
        for header, distance in zip(series, distances):
            if distance <= min(distances) + 0.01:
                item = Dataset()
                item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
                item.PurposeOfReferenceCodeSequence = [
                    _code("121322", "DCM", "Source image for image processing operation")
                ]
                yield item


def _equipment(provenance: Mapping[str, Any]) -> Dataset:
    from pydicom.dataset import Dataset

    item, pack = Dataset(), provenance["pack"]
    item.PurposeOfReferenceCodeSequence = [_code("109100", "DCM", "Synthesizing Equipment")]
    item.Manufacturer, item.ManufacturerModelName = "MRDiffusion", f"{pack['name']} {pack['version']}"[:64]
    item.SoftwareVersions = __version__
    item.ContributionDescription = NOTICE
    return item


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _described(name: str) -> str:
    """At most 64 characters, without what the standard forbids in them, the word first."""
    rest = " ".join(name.replace("\\", " ").replace(WORD, " ").split()).strip(" |,")
    return f"{WORD} {rest}".strip()[:64].rstrip()


def _decimal(value: float) -> str:
    """A decimal string of at most 16 characters."""
    number = float(value) or 0.0  # no -0
    for digits in range(15, 0, -1):
        text = f"{number:.{digits}g}"
        if len(text) <= 16:
            return text
    raise AssertionError(number)


def _header(path: Path) -> Dataset:
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        header = dcmread(path, stop_before_pixels=True)
    except (OSError, InvalidDicomError) as error:
        raise InputError(f"{path} is not a DICOM file that can be read ({error})") from error
    if "SOPInstanceUID" not in header or "SOPClassUID" not in header:
        raise InputError(f"{path} is a DICOM file without an image")
    return header


def _write(made: Dataset, path: Path) -> Path:
    import pydicom
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    if int(pydicom.__version__.split(".")[0]) >= 3:
        made.save_as(path, enforce_file_format=True)
    else:
        made.is_little_endian, made.is_implicit_VR = True, False
        made.save_as(path, write_like_original=False)
    return path


def _require_pydicom() -> None:
    try:
        import pydicom  # noqa: F401
    except ImportError as error:
        raise InputError("DICOM needs the package pydicom", "Install it: pip install pydicom") from error
