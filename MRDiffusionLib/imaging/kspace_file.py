"""Complex k-space from NumPy files. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .geometry import Geometry

SUFFIXES = (".npy", ".npz")


@dataclass(frozen=True, eq=False)
class KSpace:
    """Cartesian k-space, zero where not measured, the zero frequency at index `n // 2` of each axis.

    Attributes:
        array: (slices, coils, rows, columns) complex64.
        geometry: of the image on the same matrix; 1 mm voxels at the origin where the file does not say.
    """

    array: NDArray[np.complex64]
    geometry: Geometry


def is_k_space(path: str | Path) -> bool:
    """Whether a file name is one of k-space rather than of an image."""
    return str(path).lower().endswith(SUFFIXES)


def read_k_space(path: str | Path) -> KSpace:
    """Read k-space: (rows, columns), (slices, rows, columns) or, as ISMRMRD orders it, (slices, coils, rows, columns).

    An `.npz` holds it as `k_space` and may give `field_of_view_mm` (rows, columns) and `slice_spacing_mm`.

    Raises:
        InputError: a file that is missing or no array, real or non-finite numbers, a wrong number of axes, no signal.
    """
    arrays = _load(Path(path))
    k_space = arrays["k_space"]
    if not np.iscomplexobj(k_space):
        raise InputError(
            f"{path} holds {k_space.dtype} numbers, k-space is complex", "Give an image as .nii.gz or .nrrd instead"
        )
    if k_space.ndim not in (2, 3, 4) or 0 in k_space.shape:
        raise InputError(
            f"k-space {path} has the shape {k_space.shape}",
            "Give (rows, columns), (slices, rows, columns) or (slices, coils, rows, columns)",
        )
    if not np.isfinite(k_space).all():
        raise InputError(f"k-space {path} has {int((~np.isfinite(k_space)).sum())} values that are not finite")
    if not k_space.any():
        raise InputError(f"k-space {path} is zero everywhere", "Check that it was saved after acquisition")
    if k_space.ndim == 2:
        k_space = k_space[None]
    if k_space.ndim == 3:
        k_space = k_space[:, None]
    slices, _, rows, columns = k_space.shape
    field = _numbers(path, arrays, "field_of_view_mm", (float(rows), float(columns)))
    (between,) = _numbers(path, arrays, "slice_spacing_mm", (1.0,))
    geometry = Geometry(
        size=(columns, rows, slices),
        spacing=(field[1] / columns, field[0] / rows, between),
        origin=(0.0, 0.0, 0.0),
        direction=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
    )
    return KSpace(k_space.astype(np.complex64), geometry)


def _load(path: Path) -> dict[str, NDArray[Any]]:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"k_space": loaded}
        with loaded:
            arrays = {name: loaded[name] for name in loaded.files}
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist", "Check the name and the folder") from error
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise InputError(f"{path} is not a NumPy file that can be read ({error})", "Save it with numpy.save") from error
    if "k_space" not in arrays:
        raise InputError(f"{path} holds {', '.join(arrays) or 'nothing'}, but no k_space", "Name the array k_space")
    return arrays


def _numbers(
    path: str | Path, arrays: dict[str, NDArray[Any]], name: str, default: tuple[float, ...]
) -> tuple[float, ...]:
    if name not in arrays:
        return default
    values = np.atleast_1d(arrays[name])
    if values.shape != (len(default),) or not np.issubdtype(values.dtype, np.number) or not (values > 0).all():
        raise InputError(f"{name} of {path} is {arrays[name]!r}", f"Give {len(default)} positive numbers in mm")
    return tuple(float(v) for v in values)
