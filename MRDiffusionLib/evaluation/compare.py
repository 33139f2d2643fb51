"""Two volumes on one grid to a dictionary of figures (JSON types)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, UserError
from ..imaging import Geometry, Volume, read_volume, require_contrast
from ..imaging.resample import resample
from . import metrics

LEAST_SEEN = 0.6
"""Share of a volume that a resampled reference must show."""
PERCENTILES = (0.1, 99.9)
"""Of the reference's voxels; their distance is the data range, so that a few bright voxels do not flatter a result."""


def robust_range(reference: NDArray[np.float32]) -> tuple[float, str]:
    """A volume's intensity range without its extremes, and how it was found, in words.

    Where the percentiles coincide (an image that is almost all air), it is the full range.
    """
    low, high = (float(value) for value in np.percentile(reference, PERCENTILES))
    if high > low:
        return high - low, f"percentiles {PERCENTILES[0]:g} to {PERCENTILES[1]:g} of the reference"
    return float(reference.max()) - float(reference.min()), "minimum to maximum of the reference"


def evaluate_volumes(
    reference: Volume,
    test: Volume,
    mask: Volume | None = None,
    data_range: float | None = None,
    seen: NDArray[np.bool_] | None = None,
) -> dict[str, Any]:
    """Compare a volume with a reference.

    Args:
        reference, test: on the same grid.
        mask: on the same grid; voxels other than 0 are inside.
        data_range: intensity range for PSNR, SSIM, MS-SSIM and HaarPSI; `robust_range` of the reference by default.
        seen: voxels that the reference shows, where that is not all; only these are compared.

    Returns:
        'data_range' and how it was found; 'whole' and, with a mask, 'mask': voxels, psnr_db, ssim, haarpsi, mae and
        nrmse ('whole' also ms_ssim). A figure that does not exist is None, and 'notes' says why.

    Raises:
        InputError: another grid (with the numbers), a reference that is constant, an empty mask.
        SettingError: a data range that is not above 0.
    """
    _require_same_grid(reference, test, "the volume")
    require_contrast(reference, "the reference")
    if data_range is None:
        data_range, origin = robust_range(reference.array if seen is None else reference.array[seen])
    else:
        origin = "given"
    notes: list[str] = []
    result: dict[str, Any] = {
        "geometry": reference.geometry.to_json(),
        "data_range": float(data_range),
        "data_range_from": origin,
        "whole": _figures(reference.array, test.array, data_range, seen, notes, "whole"),
    }
    if mask is not None:
        _require_same_grid(reference, mask, "the mask")
        inside = (mask.array != 0) if seen is None else (mask.array != 0) & seen
        result["mask"] = _figures(reference.array, test.array, data_range, inside, notes, "mask")
    return {**result, "notes": notes}


def evaluate_files(
    reference: str | Path,
    test: str | Path,
    mask: str | Path | None = None,
    data_range: float | None = None,
    resampled: bool = False,
    factor: float = 1.0,
) -> dict[str, Any]:
    """`evaluate_volumes` of files; the result also names them.

    Args:
        factor: the test volume is multiplied by it first, as units of MR images are arbitrary.
        resampled: put a reference, and a mask, that lie on another grid onto that of the test volume first.

    Raises:
        InputError, SettingError: as `evaluate_volumes` and `read_volume`; a reference that shows too little.
    """
    truth, made, inside = read_volume(reference), read_volume(test), None if mask is None else read_volume(mask)
    seen: NDArray[np.bool_] | None = None
    notes: list[str] = []
    if factor != 1.0:
        made = Volume(made.array * np.float32(factor), made.geometry)
        notes.append(f"the volume was multiplied by {factor:.4g} to be as bright as the reference")
    if resampled and not truth.geometry.agrees_with(made.geometry):
        truth, seen = on_grid(truth, made.geometry)
        notes.append(f"the reference was resampled onto the volume's grid; it shows {seen.mean():.0%} of it")
        seen = None if seen.all() else seen
    if resampled and inside is not None and not inside.geometry.agrees_with(made.geometry):
        inside = resample(inside, made.geometry, nearest=True)
    figures = evaluate_volumes(truth, made, inside, data_range, seen)
    figures["notes"] = [*notes, *figures["notes"]]
    return {"reference": str(reference), "test": str(test), "mask_file": None if mask is None else str(mask), **figures}


def on_grid(reference: Volume, grid: Geometry) -> tuple[Volume, NDArray[np.bool_]]:
    """A reference on the grid of a volume, and which of the grid's voxels it shows. Raises InputError if too few."""
    everywhere = Volume(np.ones_like(reference.array), reference.geometry)
    seen = resample(everywhere, grid, nearest=True).array > 0
    if seen.mean() < LEAST_SEEN:
        text = f"the reference shows {seen.mean():.0%} of the volume, and at least {LEAST_SEEN:.0%} are needed"
        raise InputError(text, "Choose an image of the same place")
    return resample(reference, grid), seen


def _figures(
    reference: NDArray[np.float32],
    test: NDArray[np.float32],
    data_range: float,
    mask: NDArray[np.bool_] | None,
    notes: list[str],
    where: str,
) -> dict[str, Any]:
    psnr = metrics.psnr(reference, test, data_range, mask)
    if math.isinf(psnr):
        notes.append(f"{where}: the voxels are equal, so PSNR is infinite")
    figures: dict[str, Any] = {
        "voxels": int(reference.size if mask is None else np.count_nonzero(mask)),
        "psnr_db": None if math.isinf(psnr) else psnr,
        "mae": metrics.mae(reference, test, mask),
    }
    others: dict[str, Any] = {
        "nrmse": lambda: metrics.nrmse(reference, test, mask),
        "ssim": lambda: metrics.ssim(reference, test, data_range, mask),
        "haarpsi": lambda: metrics.haarpsi(reference, test, data_range, mask),
    }
    if mask is None:
        others["ms_ssim"] = lambda: metrics.ms_ssim(reference, test, data_range)
    for name, compute in others.items():
        try:
            figures[name] = compute()
        except UserError as error:
            figures[name] = None
            notes.append(f"{where}: no {name}: {error.message}")
    scales = metrics.ms_ssim_scales((reference.shape[1], reference.shape[2]))
    if mask is None and figures["ms_ssim"] is not None and scales < len(metrics.SCALE_WEIGHTS):
        notes.append(f"whole: ms_ssim over {scales} scales, as the slices are too small for 5")
    return figures


def _require_same_grid(reference: Volume, other: Volume, name: str) -> None:
    differences = reference.geometry.differences(other.geometry)
    if differences:
        raise InputError(
            f"{name} lies on another grid than the reference: {'; '.join(differences)}",
            "Resample it to the reference first",
        )
