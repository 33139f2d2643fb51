"""Training slices of several sequences on one grid: patients in, one NumPy archive out.

The archive holds `images` (N, sequences, H, W) uint8, `labels` (N, H, W) uint16, `patient` and `group` (N,) text,
`sequences` (sequences,) text and `pixel_size_mm`. Each volume is scaled on its own, as a pack scales a user's volume.
"""

from __future__ import annotations

import contextlib
import secrets
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from ..errors import InputError, StorageError
from ..imaging.alignment import to_image
from ..imaging.geometry import Geometry
from ..imaging.intensity import intensity_scale
from ..imaging.volume import Volume

NORMALISATION = {"percentile": 99.5, "value": 0.9}


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

    Raises:
        InputError: no case, or none of whose slices all sequences show something.
    """
    images, labels, patients, groups = [], [], [], []
    for case in cases:
        middle = _signal_centre(case.volumes[sequences[0]]) if centre == "signal" else _centre(case)
        thickness = case.volumes[sequences[0]].geometry.spacing[2]
        every = slice(None, None, max(1, round(slice_spacing_mm / thickness)))
        stacks = [_slices(case.volumes[name], middle, matrix, pixel_mm)[every] for name in sequences]
        drawn = np.zeros(stacks[0].shape, np.uint16)
        if case.labels is not None:
            drawn = _slices(case.labels, middle, matrix, pixel_mm, nearest=True)[every].astype(np.uint16)
        levels = np.stack([_levels(stack) for stack in stacks], axis=1)
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
    )


def read_paired(path: str | Path) -> Paired:
    """Read an archive. Raises InputError for a file that is missing or none."""
    hint = "Make it with `python -m MRDiffusionLib prepare`"
    try:
        with np.load(path, allow_pickle=False) as archive:
            paired = Paired(
                archive["images"],
                archive["labels"],
                archive["patient"],
                archive["group"],
                tuple(archive["sequences"].tolist()),
                float(archive["pixel_size_mm"]),
            )
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist", hint) from error
    except (OSError, ValueError, KeyError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} cannot be read ({error})", hint) from error
    count, sequences = len(paired.patient), len(paired.sequences)
    fits = paired.images.ndim == 4 and paired.images.shape[:2] == (count, sequences)
    if paired.images.dtype != np.uint8 or not fits or paired.labels.shape != (count, *paired.images.shape[2:]):
        shapes = f"images {paired.images.dtype} {paired.images.shape}, labels {paired.labels.shape}"
        raise InputError(f"{path} holds {shapes} for {count} slices of {sequences} sequences", hint)
    return paired


def write_paired(paired: Paired, path: str | Path) -> None:
    """Write an archive (`.npz`): beside its place, then moved there when it is complete. Raises StorageError."""
    path = Path(path)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with partial.open("wb") as stream:
            np.savez_compressed(
                stream,
                images=paired.images,
                labels=paired.labels,
                patient=paired.patient,
                group=paired.group,
                sequences=np.array(paired.sequences),
                pixel_size_mm=np.array(paired.pixel_size_mm),
            )
        partial.replace(path)
    except OSError as error:
        raise StorageError(f"{path} cannot be written ({error.strerror})", "Choose another place") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def _centre(case: Case) -> NDArray[np.float64]:
    """Position (LPS mm) around which slices are cut."""
    geometry = next(iter(case.volumes.values())).geometry
    index = (np.array(geometry.size) - 1) / 2
    if case.labels is not None and (case.labels.array > 0).any():
        index = np.array(ndimage.center_of_mass(case.labels.array > 0))[::-1]
    position: NDArray[np.float64] = geometry.affine()[:3, :3] @ index + np.array(geometry.origin)
    return position


def _signal_centre(volume: Volume) -> NDArray[np.float64]:
    """Position (LPS mm) halfway between the outer sides of what a volume shows; 1 % of it at each side may be noise."""
    shown = np.argwhere(volume.array > 0.1 * intensity_scale(volume.array, NORMALISATION))[:, ::-1]
    index = np.percentile(shown, (1, 99), axis=0).mean(0)
    position: NDArray[np.float64] = volume.geometry.affine()[:3, :3] @ index + np.array(volume.geometry.origin)
    return position


def _slices(
    volume: Volume, centre: NDArray[np.float64], matrix: int, pixel_mm: float, nearest: bool = False
) -> NDArray[np.float32]:
    """The volume's own slices with other pixels, (slices, matrix, matrix); zero outside of it."""
    target = grid_around(volume.geometry, centre, matrix, pixel_mm)
    image = to_image(volume)
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize(target.size)
    resampler.SetOutputSpacing(target.spacing)
    resampler.SetOutputOrigin(target.origin)
    resampler.SetOutputDirection(target.direction)
    resampler.SetInterpolator(sitk.sitkNearestNeighbor if nearest else sitk.sitkLinear)
    if not nearest:
        image = _smoothed(image, pixel_mm)
    return np.asarray(sitk.GetArrayFromImage(resampler.Execute(image)), np.float32)


def grid_around(geometry: Geometry, centre: NDArray[np.float64], matrix: int, pixel_mm: float) -> Geometry:
    """The same slices with `matrix` x `matrix` square pixels around a position (its place along the slices is kept)."""
    direction = geometry.direction_matrix
    along = direction.T @ (centre - np.array(geometry.origin))
    corner = np.array([along[0] - (matrix - 1) / 2 * pixel_mm, along[1] - (matrix - 1) / 2 * pixel_mm, 0.0])
    x, y, z = (float(value) for value in direction @ corner + np.array(geometry.origin))
    spacing = (pixel_mm, pixel_mm, geometry.spacing[2])
    return Geometry((matrix, matrix, geometry.size[2]), spacing, (x, y, z), geometry.direction)


def _smoothed(image: sitk.Image, pixel_mm: float) -> sitk.Image:
    """Blurred within slices before larger pixels are taken, so that nothing aliases."""
    for axis, spacing in enumerate(image.GetSpacing()[:2]):
        sigma = 0.5 * np.sqrt(max(0.0, pixel_mm**2 - spacing**2))
        if sigma > 0.2 * spacing and image.GetSize()[axis] >= 4:
            image = sitk.RecursiveGaussian(
                image, float(sigma), False, sitk.RecursiveGaussianImageFilter.ZeroOrder, axis
            )
    return image


def _levels(stack: NDArray[np.float32]) -> NDArray[np.uint8]:
    scale = intensity_scale(stack, NORMALISATION)
    return np.asarray(np.clip(stack / scale * 255, 0, 255).round(), np.uint8)
