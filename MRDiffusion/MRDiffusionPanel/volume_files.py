"""Volumes out to the worker and in from it, as NRRD files that are written and read outside of the main thread.

Another thread must not touch nodes: what it needs of one is `taken` before. A volume's IJK-to-RAS matrix may be
oblique, anisotropic and of either handedness.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import slicer.util
import vtk
from numpy.typing import NDArray
from vtk.util.numpy_support import vtk_to_numpy

from MRDiffusionLib.errors import StorageError
from MRDiffusionLib.imaging.nrrd import read_raw_nrrd, write_raw_nrrd

from . import grids
from .text import _

SAMPLED = 1_000_000
"""Voxels that are enough to find a window."""


@dataclass(frozen=True)
class Outgoing:
    """A volume's numbers and place, for a file.

    Attributes:
        name: of the node.
        voxels: (slices, rows, columns).
        affine: (4, 4), from (column, row, slice, 1) to LPS mm.
    """

    name: str
    voxels: NDArray[Any]
    affine: NDArray[np.float64]

    def write(self, path: Path) -> None:
        """Write it, in any thread. Raises OSError (`not_written` says it to a person)."""
        write_raw_nrrd(path, self.voxels, self.affine)


@dataclass(frozen=True)
class Incoming:
    """A volume from a file, for a node.

    Attributes:
        image: vtkImageData.
        affine: (4, 4), from (column, row, slice, 1) to LPS mm.
        window, level: within which nearly all intensities lie.
    """

    image: Any
    affine: NDArray[np.float64]
    window: float
    level: float

    @staticmethod
    def read(path: Path) -> Incoming:
        """Read it, in any thread. Raises InputError."""
        voxels, affine = read_raw_nrrd(path)
        return Incoming(image_of(voxels), affine, *_window_of(voxels))


def taken(node: Any, beside: Any = None) -> Outgoing:
    """A volume node as numbers, which go on being the node's own.

    Args:
        beside: the volume in whose frame it is written, where the two are moved by different transforms.
    """
    affine = grids.affine(node) if beside is None else grids.affine_beside(node, beside)
    return Outgoing(node.GetName(), slicer.util.arrayFromVolume(node), grids.FLIP @ affine)


def not_written(volumes: Iterable[Outgoing], folder: Path, error: OSError) -> StorageError:
    """That volumes could not be written, for a person."""
    names = ", ".join(volume.name for volume in volumes)
    text = _("{name} cannot be written to {folder} ({error})")
    return StorageError(text.format(name=names, folder=folder, error=error), _("Free some space there"))


def image_of(voxels: NDArray[Any]) -> Any:
    """A vtkImageData of voxels (slices, rows, columns), float32, made in any thread."""
    image = vtk.vtkImageData()
    image.SetDimensions(voxels.shape[::-1])
    image.AllocateScalars(vtk.VTK_FLOAT, 1)
    vtk_to_numpy(image.GetPointData().GetScalars())[:] = voxels.ravel()
    return image


def _window_of(voxels: NDArray[np.float32]) -> tuple[float, float]:
    """Window and level between the 0.1st and the 99.9th percentile, as Slicer chooses them."""
    some = voxels.ravel()[:: max(1, voxels.size // SAMPLED)]
    some = some[np.isfinite(some)]
    if not some.size:
        return 1.0, 0.0
    low, high = (float(value) for value in np.percentile(some, (0.1, 99.9)))
    if low == high:
        low, high = float(some.min()), float(some.max())
    return max(high - low, 1e-6), (low + high) / 2
