"""Training slices of several sequences on one grid: patients in, one NumPy archive out.

The archive holds `images` (N, sequences, H, W) uint8, `labels` (N, H, W) uint16, `patient` and `group` (N,) text,
`sequences` (sequences,) text, `pixel_size_mm`, and `normalisation` as JSON. Each volume is scaled on its own, as a pack
scales a user's volume.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..errors import InputError
from ..imaging.resample import grid_around, middle, position, resample, shown_middle
from ..imaging.volume import Volume
from ..packs.intensity import intensity_scale
from .archive import read_archive, write_archive

WHOLE = {"percentile": 99.5, "value": 0.9}
"""Scale of what fits into the field of view."""
HEART = {"percentile": 95.0, "value": 0.65, "within": 0.5}
"""Scale of what lies in the middle, from blood, with room for scar: fat beside the coil would leave the heart dark."""

_DESCRIPTION = ("sequences", "pixel_size_mm", "normalisation")


@dataclass(frozen=True)
class Case:
    """A patient: volumes on one grid by sequence, labels on it or None, and the group that a data set puts them in."""

    patient: str
    group: str
    volumes: dict[str, Volume]
    labels: Volume | None


@dataclass(frozen=True)
class Paired:
    """An archive in memory; the module's docstring names the arrays."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint16]
    patient: NDArray[np.str_]
    group: NDArray[np.str_]
    sequences: tuple[str, ...]
    pixel_size_mm: float
    normalisation: dict[str, float]

    def of(self, patients: Sequence[str]) -> Paired:
        """The slices of some patients. Raises InputError for an unknown one."""
        unknown = set(patients) - set(self.patient.tolist())
        if unknown:
            known = ", ".join(sorted(set(self.patient.tolist())))
            raise InputError(f"the archive has no patient {min(unknown)}", f"It holds {known}")
        chosen = np.isin(self.patient, list(patients))
        return Paired(
            self.images[chosen],
            self.labels[chosen],
            self.patient[chosen],
            self.group[chosen],
            self.sequences,
            self.pixel_size_mm,
            self.normalisation,
        )


def pair(
    cases: Iterable[Case],
    sequences: Sequence[str],
    matrix: int,
    pixel_mm: float,
    *,
    centre: Literal["labels", "signal"] = "labels",
    slice_spacing_mm: float = 0.0,
    least_shown: float = 0.0,
    normalisation: Mapping[str, float] = WHOLE,
) -> Paired:
    """Slices of all cases, `matrix` x `matrix` pixels of `pixel_mm`.

    Args:
        cases: the patients.
        sequences: which volumes, in the archive's order.
        matrix: rows and columns.
        pixel_mm: their spacing.
        centre: what lies in the middle: "labels", the labelled object (the field of view where there are none), or
            "signal", whatever the first sequence shows.
        slice_spacing_mm: of thinner slices every n-th is taken, so that neighbours are about this far apart. Slices
            are not averaged.
        least_shown: share of a slice's pixels that must show the object (above 5 % of the scale) in every sequence;
            other slices, and those without any signal, are left out.
        normalisation: of each volume, as `intensity_scale` has it.

    Raises:
        InputError: no case, or none of whose slices all sequences show something.
    """
    images, labels, patients, groups = [], [], [], []
    for case in cases:
        first = case.volumes[sequences[0]]
        around = shown_middle(first) if centre == "signal" else _centre(case)
        grid = grid_around(first.geometry, around, (matrix, matrix), (pixel_mm, pixel_mm))
        thickness = first.geometry.spacing[2]
        every = slice(None, None, max(1, round(slice_spacing_mm / thickness)))
        stacks = [resample(case.volumes[name], grid).array[every] for name in sequences]
        drawn = np.zeros(stacks[0].shape, np.uint16)
        if case.labels is not None:
            drawn = resample(case.labels, grid, nearest=True).array[every].astype(np.uint16)
        levels = np.stack([_levels(stack, normalisation) for stack in stacks], axis=1)
        shown = (levels.reshape(*levels.shape[:2], -1).max(-1) > 0).all(1)
        shown &= ((levels > 0.05 * 255).mean((2, 3)) >= least_shown).all(1)
        images.append(levels[shown])
        labels.append(drawn[shown])
        patients += [case.patient] * int(shown.sum())
        groups += [case.group] * int(shown.sum())
    if not patients:
        raise InputError("there is no slice that all sequences show", f"Give patients with {', '.join(sequences)}")
    return Paired(
        np.concatenate(images),
        np.concatenate(labels),
        np.array(patients),
        np.array(groups),
        tuple(sequences),
        pixel_mm,
        dict(normalisation),
    )


def read_paired(path: str | Path) -> Paired:
    """Read an archive. Raises InputError for a file that is missing or none."""
    hint = "Make it with `python -m MRDiffusionLib prepare`"
    arrays = read_archive(path, ("images", "labels", "patient", "group", *_DESCRIPTION), hint)
    sequences, pixel, scale = (arrays.pop(name) for name in _DESCRIPTION)
    try:
        paired = Paired(
            **arrays,
            sequences=tuple(sequences.tolist()),
            pixel_size_mm=float(pixel),
            normalisation=json.loads(str(scale)),
        )
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({error})", hint) from error
    count, slots = len(paired.patient), len(paired.sequences)
    fits = paired.images.ndim == 4 and paired.images.shape[:2] == (count, slots)
    if paired.images.dtype != np.uint8 or not fits or paired.labels.shape != (count, *paired.images.shape[2:]):
        shapes = f"images {paired.images.dtype} {paired.images.shape}, labels {paired.labels.shape}"
        raise InputError(f"{path} holds {shapes} for {count} slices of {slots} sequences", hint)
    return paired


def write_paired(paired: Paired, path: str | Path) -> None:
    """Write an archive (`.npz`): beside its place, then moved there when it is complete. Raises StorageError."""
    write_archive(
        path,
        images=paired.images,
        labels=paired.labels,
        patient=paired.patient,
        group=paired.group,
        sequences=np.array(paired.sequences),
        pixel_size_mm=np.array(paired.pixel_size_mm),
        normalisation=np.array(json.dumps(paired.normalisation)),
    )


def _centre(case: Case) -> NDArray[np.float64]:
    """Position (LPS mm) of the labelled object's middle, or of the field of view's."""
    geometry = next(iter(case.volumes.values())).geometry
    if case.labels is None or not (case.labels.array > 0).any():
        return middle(geometry)
    return position(geometry, np.array(ndimage.center_of_mass(case.labels.array > 0))[::-1])


def _levels(stack: NDArray[np.float32], normalisation: Mapping[str, float]) -> NDArray[np.uint8]:
    scale = intensity_scale(stack, normalisation)
    return np.asarray(np.clip(stack / scale * 255, 0, 255).round(), np.uint8)
