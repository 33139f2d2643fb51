"""MyoPS 2020 as it is distributed: bSSFP (C0), T2 and LGE (DE) of one patient on one grid, with labels.

    FOLDER/train25/myops_training_101_{C0,T2,DE}.nii.gz    FOLDER/train25_myops_gd/myops_training_101_gd.nii.gz
    FOLDER/test20/myops_test_201_{C0,T2,DE}.nii.gz         (labels only where somebody drew them)

Zhuang, IEEE TPAMI 2019; 41:2933, and Li et al., Med Image Anal 2023; 87:102808. The data are not in this project;
`python -m MRDiffusionLib simulate` writes simulated patients in the same layout.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..imaging.volume import Volume, read_volume
from .paired import Case

SEQUENCES = {"bSSFP": "C0", "T2": "T2", "LGE": "DE"}
"""Role to the ending of its file."""

LABELS = {"myocardium": 200, "left ventricle": 500, "right ventricle": 600, "oedema": 1220, "scar": 2221}
WALL = (LABELS["myocardium"], LABELS["oedema"], LABELS["scar"])

_IMAGE = re.compile(r"myops_(training|test)_(\d+)_(\w+?)\.nii(?:\.gz)?")
LAYOUT = "A folder of MyoPS 2020 holds train25, train25_myops_gd and test20 (docs/data.md)"


def read_patients(folder: str | Path) -> Iterator[Case]:
    """The patients of a MyoPS folder, one after the other; `Case.group` is 'training' or 'test'.

    Raises:
        InputError: a folder without patients, a patient without one of the sequences or with volumes on different
            grids; it names the patient.
    """
    files = _files(Path(folder))
    if not files:
        raise InputError(f"{folder} has no file such as train25/myops_training_101_C0.nii.gz", LAYOUT)
    for (group, number), found in sorted(files.items()):
        patient = f"myops_{group}_{number}"
        missing = [f"{role} ({patient}_{ending}.nii.gz)" for role, ending in SEQUENCES.items() if ending not in found]
        if missing:
            raise InputError(f"patient {patient} has no {' and no '.join(missing)}", LAYOUT)
        volumes = {role: read_volume(found[ending]) for role, ending in SEQUENCES.items()}
        labels = read_volume(found["gd"]) if "gd" in found else None
        yield Case(patient, group, _on_one_grid(patient, volumes), None if labels is None else _labels(patient, labels))


def _files(folder: Path) -> dict[tuple[str, int], dict[str, Path]]:
    """(group, number) to the patient's files by their ending."""
    patients: dict[tuple[str, int], dict[str, Path]] = {}
    for path in sorted(folder.rglob("myops_*.nii*")):
        parts = _IMAGE.fullmatch(path.name)
        if parts:
            patients.setdefault((parts[1], int(parts[2])), {})[parts[3]] = path
    # Labels alone are no patient.
    return {key: found for key, found in patients.items() if set(found) - {"gd"}}


def _on_one_grid(patient: str, volumes: dict[str, Volume]) -> dict[str, Volume]:
    first = next(iter(volumes))
    for role, volume in volumes.items():
        differences = volume.geometry.differences(volumes[first].geometry)
        if differences:
            hint = "Resample them to one grid"
            raise InputError(f"patient {patient}: {role} and {first} differ in {'; '.join(differences)}", hint)
    return volumes


def _labels(patient: str, volume: Volume) -> Volume:
    unknown = set(np.unique(volume.array).tolist()) - {0.0, *map(float, LABELS.values())}
    if unknown:
        known = ", ".join(f"{value} {name}" for name, value in LABELS.items())
        raise InputError(f"patient {patient}: label {min(unknown):g} is unknown", f"Known are {known}")
    return volume
