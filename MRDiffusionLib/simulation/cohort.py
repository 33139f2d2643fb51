"""Simulated patients as files in the layout of MyoPS 2020, so that whoever has the real ones changes one path.

OUT/train25/myops_training_101_C0.nii.gz   bSSFP         OUT/train25_myops_gd/myops_training_101_gd.nii.gz  labels
OUT/train25/myops_training_101_T2.nii.gz   T2            OUT/test20/myops_test_201_C0.nii.gz ...
OUT/train25/myops_training_101_DE.nii.gz   LGE           OUT/simulated.json   what each patient is made of
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import StorageError
from ..imaging.geometry import Geometry
from ..imaging.volume import Volume, write_volume
from .anatomy import NUMBER, Anatomy, Floats, window
from .cine import anatomy_of
from .infarct import draw_infarct, with_infarct
from .sequences import SEQUENCES, Protocol, draw_protocol, draw_scanner, ideal_image, to_levels
from .sunnybrook import CineSlice
from .ventricles import draw_heart, modelled_stack

FILE_NAMES = {"bSSFP": "C0", "T2": "T2", "LGE": "DE"}
MYOPS_LABELS = {
    "myocardium": 200,
    "blood": 500,
    "venous blood": 600,
    "oedema": 1220,
    "acute scar": 2221,
    "chronic scar": 2221,
    "obstruction": 2221,
}
"""Labels of MyoPS 2020. Blood outside the ventricles has none."""

SHORT_AXIS = (
    0.712208322,
    -0.307564949,
    -0.631001671,
    0.701132471,
    0.267830689,
    0.660817661,
    -0.034242738,
    -0.913055597,
    0.406395018,
)
"""Direction of a short-axis stack from apex to base (that of SCD0000301), LPS: nominal, as the contoured slices of most
patients come without theirs."""

MATRIX = 160
"""Rows and columns of the files: 22 cm around the heart."""


@dataclass(frozen=True)
class Options:
    """How patients are made.

    Attributes:
        infarct: share of patients with an infarct, and `acute` of those with oedema.
        stir: T2 as STIR instead of T2-prepared bSSFP.
        phase_sensitive: LGE as PSIR.
    """

    infarct: float = 0.85
    acute: float = 0.7
    stir: bool = False
    phase_sensitive: bool = False


@dataclass(frozen=True)
class Patient:
    """Volumes (slices, MATRIX, MATRIX) by sequence, labels likewise, and how they came about (JSON types)."""

    images: dict[str, NDArray[np.uint16]]
    labels: NDArray[np.uint16]
    spacing_mm: tuple[float, float]
    origin: dict[str, Any]


def real_anatomy(stack: Sequence[CineSlice]) -> list[Anatomy]:
    """The tissues of a patient's real slices (seconds each: the coil's shading is estimated)."""
    return [anatomy_of(s.image, s.endo, s.epi, s.papillary) for s in stack]


def simulate(
    stack: Sequence[Anatomy], seed: int, options: Options, spacing_mm: tuple[float, float], source: str
) -> Patient:
    """One patient from anatomies (base first): an infarct, an examination, three series.

    Args:
        seed: of everything random.
        spacing_mm: within and between slices.
        source: where the anatomy comes from, for `Patient.origin`.
    """
    generator = np.random.default_rng(seed)
    ill = generator.random() < options.infarct
    infarct = draw_infarct(generator, acute=bool(generator.random() < options.acute)) if ill else None
    protocol = draw_protocol(generator, options.stir, options.phase_sensitive)
    diseased = with_infarct(stack, infarct, generator) if infarct else list(stack)
    images = {name: _series(diseased, protocol, name, generator) for name in SEQUENCES}
    origin = {"anatomy": source, "seed": seed, "infarct": asdict(infarct) if infarct else None, **protocol.describe()}
    return Patient(images, np.stack([_myops_labels(a) for a in diseased]), spacing_mm, origin)


def _series(stack: Sequence[Anatomy], protocol: Protocol, sequence: str, generator: np.random.Generator) -> Any:
    """One sequence through the stack, (slices, MATRIX, MATRIX) uint16. A real bSSFP image is taken as it is."""
    signed = sequence == "LGE" and protocol.phase_sensitive
    ideal = [ideal_image(anatomy, protocol, sequence) for anatomy in stack]
    tissue = "blood" if sequence == "LGE" else "myocardium"
    signal = [np.abs(image[anatomy.where(tissue)]) for image, anatomy in zip(ideal, stack, strict=True)]
    scanner = draw_scanner(generator, float(np.median(np.concatenate(signal))))
    slices: list[Floats] = []
    for image, anatomy in zip(ideal, stack, strict=True):
        if sequence == "bSSFP" and anatomy.bssfp is not None:
            measured = anatomy.bssfp
        else:
            measured = scanner.acquire(image, anatomy.shading, generator, magnitude=not signed)
        slices.append(np.asarray(window(measured, anatomy.centre, MATRIX), float))
    volume = np.stack(slices)
    return to_levels(volume, lowest=float(np.percentile(volume, 0.5)) if signed else None)


def _myops_labels(anatomy: Anatomy) -> NDArray[np.uint16]:
    values = np.zeros(len(NUMBER), np.uint16)
    for name, label in MYOPS_LABELS.items():
        values[NUMBER[name]] = label
    # In the clinic papillary muscles count as cavity.
    values[NUMBER["papillary"]] = MYOPS_LABELS["blood"]
    return np.asarray(window(values[anatomy.labels], anatomy.centre, MATRIX), np.uint16)


def write_cohort(
    out: str | Path,
    cine: dict[str, list[CineSlice]],
    *,
    test: Sequence[str] = (),
    repeats: int = 4,
    modelled: tuple[int, int] = (24, 8),
    seed: int = 0,
    options: Options | None = None,
    log: Callable[[str], None] = print,
) -> Path:
    """Write a training and a test set.

    Args:
        out: a new or empty folder.
        cine: real patients (`read_slices`); may be empty.
        test: those of them that go into the test set.
        repeats: simulated patients for each real anatomy of the training set; the test set has two for each.
        modelled: patients from the model of `ventricles`, for training and for the test.
        seed: of the whole set.

    Raises:
        StorageError: a folder with files in it, or that cannot be written.
    """
    out, options = Path(out), options or Options()
    if out.exists() and any(out.iterdir()):
        raise StorageError(f"{out} is not empty", "Give a new folder")
    most = max(10_000, len(cine) * max(repeats, 2) + sum(modelled))
    streams = iter(np.random.SeedSequence(seed).generate_state(most))
    manifest: dict[str, Any] = {"simulated": True, "seed": seed, "options": asdict(options), "patients": {}}
    for part, first, names, count, models in (
        ("training", 101, [n for n in cine if n not in test], repeats, modelled[0]),
        ("test", 201, [n for n in cine if n in test], 2, modelled[1]),
    ):
        number = first
        for name in names:
            stack = real_anatomy(cine[name])
            spacing = (cine[name][0].spacing_mm, 10.0)
            for _ in range(count):
                patient = simulate(stack, int(next(streams)), options, spacing, f"real bSSFP and contours of {name}")
                manifest["patients"][_write(out, part, number, patient)] = patient.origin
                log(f"{part} {number}: {name}")
                number += 1
        for _ in range(models):
            own = int(next(streams))
            generator = np.random.default_rng(own)
            stack = modelled_stack(draw_heart(generator), generator, matrix=MATRIX)
            patient = simulate(stack, own + 1, options, (1.4, 10.0), "model of two ventricles")
            manifest["patients"][_write(out, part, number, patient)] = patient.origin
            log(f"{part} {number}: modelled")
            number += 1
    try:
        (out / "simulated.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise StorageError(
            f"{out / 'simulated.json'} cannot be written ({error.strerror})", "Free some space"
        ) from error
    return out


def _write(out: Path, part: str, number: int, patient: Patient) -> str:
    """The files of one patient; returns its name."""
    name = f"myops_{part}_{number}"
    images, labels = (out / "train25", out / "train25_myops_gd") if part == "training" else (out / "test20",) * 2
    try:
        for folder in (images, labels):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{error.filename} cannot be made ({error.strerror})", "Choose another folder") from error
    volumes = patient_volumes(patient)
    for sequence, ending in FILE_NAMES.items():
        write_volume(volumes[sequence], images / f"{name}_{ending}.nii.gz")
    write_volume(volumes["labels"], labels / f"{name}_gd.nii.gz")
    return name


def patient_volumes(patient: Patient) -> dict[str, Volume]:
    """The series and 'labels' of a patient in space: a short-axis stack from apex to base around the origin."""
    within, between = patient.spacing_mm
    size, spacing = (MATRIX, MATRIX, len(patient.labels)), (within, within, between)
    direction = np.array(SHORT_AXIS).reshape(3, 3)
    corner = -direction @ ((np.array(size) - 1) / 2 * spacing)
    x, y, z = (float(value) for value in corner)
    geometry = Geometry(size, spacing, (x, y, z), SHORT_AXIS)
    stacks = {**patient.images, "labels": patient.labels}
    return {name: Volume(stack[::-1].astype(np.float32), geometry) for name, stack in stacks.items()}
