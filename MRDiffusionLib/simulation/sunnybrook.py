"""Real end-diastolic bSSFP slices with contours: Sunnybrook Cardiac Data (Radau et al., MIDAS Journal 2009; CC0)."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ..errors import InputError
from .anatomy import Floats, Mask

UNKNOWN_SPACING = 1.37
"""mm; the 8-bit images tell no pixel size, most Sunnybrook studies have this one."""


@dataclass(frozen=True)
class CineSlice:
    """One image with the outlines of the left ventricle; arrays are (rows, columns).

    Attributes:
        number: of the frame; slices of a patient are sorted by it, from base to apex or the other way round.
        papillary: None where nobody drew the papillary muscles.
        spacing_mm: of rows and columns.
    """

    patient: str
    number: int
    image: Floats
    endo: Mask
    epi: Mask
    papillary: Mask | None
    spacing_mm: float


def read_slices(folder: str | Path) -> dict[str, list[CineSlice]]:
    """All slices with both contours, by patient, base first.

    Args:
        folder: holds `contoured_u16.npz` (`images`, `endo`, `epi`, `patient`, `frame`, `spacing_mm`), or
            `ed_es_8bit/PATIENT/d-NUMBER.jpg` with `ed_es_8bit/manual_contour`, or both.

    Raises:
        InputError: a folder with neither, or a file that cannot be read.
    """
    folder = Path(folder)
    try:
        slices = [*_from_archive(folder / "contoured_u16.npz"), *_from_pictures(folder / "ed_es_8bit")]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{folder} cannot be read as Sunnybrook data ({error})", "docs/data.md names its files"
        ) from error
    if not slices:
        raise InputError(f"{folder} has no slice with both contours", "docs/data.md names the files that are read")
    patients: dict[str, list[CineSlice]] = {}
    for one in sorted(slices, key=lambda s: (s.patient, s.number)):
        patients.setdefault(one.patient, []).append(one)
    return {name: _base_first(stack) for name, stack in patients.items()}


def _base_first(stack: list[CineSlice]) -> list[CineSlice]:
    """The cavity is larger towards the base."""
    half = len(stack) // 2
    first, last = (
        np.mean([s.endo.sum() for s in part] or [0]) for part in (stack[:half], stack[-half:] if half else [])
    )
    return stack if first >= last else stack[::-1]


def _from_archive(path: Path) -> Iterable[CineSlice]:
    if not path.is_file():
        return
    with np.load(path) as archive:
        columns = [archive[name] for name in ("images", "endo", "epi", "patient", "frame", "spacing_mm")]
    for image, endo, epi, patient, frame, spacing in zip(*columns, strict=True):
        if endo.any() and epi.any():
            yield CineSlice(str(patient), int(frame), image.astype(float), endo, epi, None, float(spacing))


def _from_pictures(folder: Path) -> Iterable[CineSlice]:
    for path in sorted(folder.glob("*/d-*.jpg")):
        number, patient = int(path.stem.removeprefix("d-")), path.parent.name
        contours = folder / "manual_contour" / f"SC-{patient}" / "contours-manual" / "IRCCI-expert"
        with Image.open(path) as picture:
            image = np.asarray(picture.convert("L"), float)
        drawn = {}
        for file in sorted(contours.glob(f"IM-*-{number:04d}-*contour-manual.txt")):
            kind = re.fullmatch(r".*-(\w+?)contour-manual\.txt", file.name)
            if kind:
                drawn[kind[1]] = filled(np.loadtxt(file), (image.shape[0], image.shape[1]))
        if "i" in drawn and "o" in drawn:
            muscles = [drawn[kind] for kind in ("p1", "p2") if kind in drawn]
            papillary = np.logical_or.reduce(muscles) if muscles else None
            yield CineSlice(patient, number, image, drawn["i"], drawn["o"], papillary, UNKNOWN_SPACING)


def filled(contour: Floats, shape: tuple[int, int]) -> Mask:
    """The inside of a closed contour of points (column, row), (rows, columns)."""
    mask = Image.new("1", shape[::-1])
    ImageDraw.Draw(mask).polygon([(float(x), float(y)) for x, y in contour], fill=1)
    return np.asarray(mask, bool)
