"""Brains of patients with multiple sclerosis (Lesjak et al.): T1, T2 and FLAIR of one patient on one grid.

    FOLDER/registered/patient07/{T1,T2,FLAIR,LESIONS}.nii.gz     MNI space, 1 mm, skull-stripped, lesion mask
    FOLDER/raw/patient01/study1_{T1W,T2W,FLAIR}.nii.gz           axial stacks of 3 to 4 mm as scanned, whole head,
    FOLDER/raw/patient01/study2_{T1W,T2W,FLAIR}.nii.gz           one or two examinations of the same patient

Lesjak et al., Neuroinformatics 2018; 16:51 (registered) and 2016; 14:403 (raw), CC BY. The two sets number their
patients separately, and do not say whether somebody is in both.

Registered patients come without skull, so raw ones lose theirs here (`brain`): with it, fat is the brightest of T1 and
the brain has half the level on a pack's scale that it has in registered patients (median of T1 75 to 99 of 255 against
154 to 171; without, 174 to 180).

`raw/*/gt.nii.gz` marks where lesions CHANGED between the two studies, not the lesions. In scanner coordinates it fits
neither of them (seen on patients 01 and 03: the lesions in FLAIR lie beside it or in other slices), and the motion to
its own space is not among the files. So it is not read, and raw patients have no labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..errors import InputError
from ..imaging.alignment import align_rigidly, normalised_mutual_information, reoriented
from ..imaging.geometry import Geometry
from ..imaging.resample import Rigid, resample
from ..imaging.volume import Volume, read_volume
from ..packs.intensity import intensity_scale
from .paired import Case

SEQUENCES = {"T1": "T1W", "T2": "T2W", "FLAIR": "FLAIR"}
"""Role to the ending of its file in `raw/`; in `registered/` the file is called as the role."""

REFERENCE = "FLAIR"
"""The grid of a raw patient: lesions show best on it, and its slices are the thickest or 0.3 mm short of T2's."""

LESION = 1
LAYOUT = "A folder of these data holds registered/patient07 or raw/patient01 and so on (docs/data.md)"
COVERED = 0.99
"""Share of the brain in a slice that the other sequences must cover, or the slice is left out."""


def read_patients(folder: str | Path, log: Callable[[str], None] = lambda _: None) -> Iterator[Case]:
    """The examinations, one after the other: `Case.group` is 'registered' or 'raw', rows run to the patient's back.

    Two studies of one patient are two cases with the same `patient` (`raw_patient01`), so that a split by patient
    keeps them together. A raw study that lacks a sequence is left out where the patient's other one is complete, and
    `log` is told.

    Raises:
        InputError: a folder without patients, a patient without one of the sequences; it names the patient.
    """
    patients = [path for kind in ("registered", "raw") for path in sorted(Path(folder).glob(f"{kind}/patient*/"))]
    if not patients:
        raise InputError(f"{folder} has no folder such as registered/patient07 or raw/patient01", LAYOUT)
    for path in patients:
        yield from _registered(path) if path.parent.name == "registered" else _raw(path, log)


def brain(flair: Volume) -> NDArray[np.bool_]:
    """The brain in FLAIR with suppressed fat, (slices, rows, columns): the largest bright thing that is no thin shell.

    Morphology in mm: what is left 5 mm below the surface of the bright voxels, its largest piece, 6 mm around that,
    ventricles and sulci of up to 20 mm closed. Muscle, eyes and vessels are bright too, but smaller and apart.
    """
    spacing = flair.geometry.spacing[::-1]
    bright = flair.array > 0.35 * intensity_scale(flair.array, {"percentile": 99.5, "value": 1.0})
    pieces, count = ndimage.label(ndimage.distance_transform_edt(bright, spacing) > 5)
    if not count:
        return np.zeros(bright.shape, bool)
    core = pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])
    # Room on all sides, so that the edge of the volume does not close anything.
    room = [int(10 / s) + 2 for s in spacing]
    mask = ndimage.distance_transform_edt(np.pad(~core, [(n, n) for n in room], constant_values=True), spacing) <= 16
    mask = ndimage.distance_transform_edt(mask, spacing) > 10
    mask = mask[tuple(slice(n, -n) for n in room)]
    return np.stack([ndimage.binary_fill_holes(one) for one in mask])


def _registered(folder: Path) -> Iterator[Case]:
    patient = f"registered_{folder.name}"
    files = {role: folder / f"{role}.nii.gz" for role in SEQUENCES}
    _require(patient, files)
    volumes = {role: reoriented(read_volume(path)) for role, path in files.items()}
    if (folder / "LESIONS.nii.gz").exists():
        volumes["lesions"] = reoriented(read_volume(folder / "LESIONS.nii.gz"))
    for role, volume in volumes.items():
        differences = volume.geometry.differences(volumes[REFERENCE].geometry)
        if differences:
            raise InputError(
                f"patient {patient}: {role} and {REFERENCE} differ in {'; '.join(differences)}",
                "Resample them to one grid",
            )
    drawn = volumes.pop("lesions", None)
    labels = None if drawn is None else replace(drawn, array=np.float32(LESION) * (drawn.array > 0))
    yield Case(patient, "registered", volumes, labels)


def _raw(folder: Path, log: Callable[[str], None]) -> Iterator[Case]:
    patient = f"raw_{folder.name}"
    names = sorted({path.name.split("_")[0] for path in folder.glob("study*_*.nii.gz")}) or ["study1"]
    studies = {name: {role: folder / f"{name}_{end}.nii.gz" for role, end in SEQUENCES.items()} for name in names}
    complete = [name for name, files in studies.items() if not _missing(files)]
    if not complete:
        _require(patient, studies[names[0]])
    for name, files in studies.items():
        if name not in complete:
            log(f"{patient}: {name} has no {' and no '.join(_missing(files))} and is left out")
            continue
        volumes = {role: reoriented(read_volume(path)) for role, path in files.items()}
        try:
            together, told = _on_one_grid(volumes)
        except InputError as error:
            raise InputError(f"patient {patient}, {name}: {error.message}", error.hint) from error
        for text in told:
            log(f"{patient}: {name} {text}")
        yield Case(patient, "raw", together, None)


def _missing(files: dict[str, Path]) -> list[str]:
    return [f"{role} ({path.name})" for role, path in files.items() if not path.exists()]


def _require(patient: str, files: dict[str, Path]) -> None:
    missing = _missing(files)
    if missing:
        raise InputError(f"patient {patient} has no {' and no '.join(missing)}", LAYOUT)


def _on_one_grid(volumes: dict[str, Volume]) -> tuple[dict[str, Volume], list[str]]:
    """On FLAIR's grid, without skull, cut to the slices with brain that all sequences cover; and what was moved."""
    reference = volumes[REFERENCE]
    shown = brain(reference)
    moved, covered, told = {}, shown.any((1, 2)), []
    for role, volume in volumes.items():
        moved[role], motion = (volume, None) if role == REFERENCE else _aligned(reference, volume)
        there = Volume(np.ones_like(volume.array), volume.geometry)
        inside = resample(there, reference.geometry, motion, nearest=True).array > 0
        covered &= (inside & shown).sum((1, 2)) >= COVERED * shown.sum((1, 2))
        if motion is not None:
            told.append(f"{role} moved by {np.linalg.norm(motion.shift):.1f} mm and {motion.angle_degrees:.1f} degrees")
    kept = np.flatnonzero(covered)
    if not len(kept):
        raise InputError("T1, T2 and FLAIR have no slice with brain in common", "Leave this study out")
    stripped = {role: replace(volume, array=volume.array * shown) for role, volume in moved.items()}
    return {role: _cut(volume, int(kept[0]), int(kept[-1]) + 1) for role, volume in stripped.items()}, told


def _aligned(reference: Volume, volume: Volume) -> tuple[Volume, Rigid | None]:
    """Where it was scanned, or moved where that makes the two more alike.

    Most patients lay still, and then a motion of a fraction of a millimetre would blur thick slices for nothing.
    """
    still = resample(volume, reference.geometry)
    motion = align_rigidly(reference, volume)
    moved = resample(volume, reference.geometry, motion)
    likeness = [normalised_mutual_information(reference.array, other.array) for other in (still, moved)]
    return (moved, motion) if likeness[1] > likeness[0] else (still, None)


def _cut(volume: Volume, first: int, last: int) -> Volume:
    grid = volume.geometry
    origin = grid.affine()[:3] @ np.array([0, 0, first, 1])
    x, y, z = (float(value) for value in origin)
    size = (grid.size[0], grid.size[1], last - first)
    return Volume(volume.array[first:last], Geometry(size, grid.spacing, (x, y, z), grid.direction))
