"""Where the voxels of a volume lie in the patient: `position = origin + direction @ (spacing * index)`, LPS, mm."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Geometry:
    """The grid of a volume, in SimpleITK's convention; the origin is the centre of the first voxel.

    Attributes:
        size: voxels along x (columns), y (rows) and z (slices), each 1 or more.
        spacing: mm along the same axes, above 0.
        origin: position of voxel (0, 0, 0), LPS mm.
        direction: 3x3 matrix, row major; its columns are the directions of x, y and z. Either handedness.

    Raises:
        InputError: a size below 1, a spacing that is not above 0, a number that is not finite, a singular direction.
    """

    size: tuple[int, int, int]
    spacing: Triple
    origin: Triple
    direction: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.size) != 3 or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in self.size):
            raise InputError(f"the size {self.size} is not three whole numbers above 0")
        if len(self.spacing) != 3 or not all(math.isfinite(s) and s > 0 for s in self.spacing):
            raise InputError(f"the spacing {self.spacing} mm is not three numbers above 0", "Correct the file's header")
        if len(self.origin) != 3 or not all(math.isfinite(o) for o in self.origin):
            raise InputError(f"the origin {self.origin} mm is not three finite numbers", "Correct the file's header")
        if len(self.direction) != 9 or not all(math.isfinite(d) for d in self.direction):
            raise InputError(f"the direction {self.direction} is not nine finite numbers", "Correct the file's header")
        columns = self.direction_matrix
        if np.abs(columns.T @ columns - np.eye(3)).max() > 0.01:
            raise InputError(
                f"the axes of the direction {_text(self.direction)} are not perpendicular and of length 1",
                "Resample the volume without shear",
            )

    @property
    def direction_matrix(self) -> NDArray[np.float64]:
        """The direction as (3, 3)."""
        return np.array(self.direction, dtype=np.float64).reshape(3, 3)

    @property
    def normal(self) -> Triple:
        """Direction across the slices, of length 1, LPS."""
        x, y, z = (float(n) for n in self.direction_matrix[:, 2])
        return x, y, z

    @property
    def field_of_view(self) -> Triple:
        """Extent along x, y and z in mm, from the outer side of the first voxel to that of the last."""
        x, y, z = (n * s for n, s in zip(self.size, self.spacing))
        return x, y, z

    def affine(self) -> NDArray[np.float64]:
        """Index (x, y, z, 1) to position (LPS mm, 1), (4, 4)."""
        matrix = np.eye(4)
        matrix[:3, :3] = self.direction_matrix * np.array(self.spacing)
        matrix[:3, 3] = self.origin
        return matrix

    def refined(self, matrix: tuple[int, int]) -> Geometry:
        """The same field of view with another number of rows and columns; slices stay.

        The outer sides of the voxels coincide, not their centres, so the first centre moves by half the difference
        of the spacings: `origin' = origin + direction @ ((spacing' - spacing) / 2)`.
        """
        rows, columns = matrix
        size = (columns, rows, self.size[2])
        x, y, z = (s if n == m else n * s / m for n, m, s in zip(self.size, size, self.spacing))
        shift = self.direction_matrix @ ((np.array((x, y, z)) - self.spacing) / 2)
        ox, oy, oz = (float(o + d) for o, d in zip(self.origin, shift))
        return Geometry(size, (x, y, z), (ox, oy, oz), self.direction)

    def part(self, slices: tuple[int, ...]) -> Geometry:
        """The grid of some slices that follow one another, counted from 0."""
        x, y, z = (float(n) for n in (self.affine() @ (0, 0, slices[0], 1))[:3])
        return replace(self, size=(self.size[0], self.size[1], len(slices)), origin=(x, y, z))

    def differences(self, other: Geometry, tolerance: float = 0.01) -> list[str]:
        """What differs, in words with both numbers; empty where the two grids are the same.

        Args:
            other: the grid to compare with.
            tolerance: how far a voxel may lie from its counterpart, in units of the smallest spacing. NIfTI keeps
                geometry in single precision, so equality to the last digit is too much to ask.
        """
        if self.size != other.size:
            return [f"size {_text(self.size)} against {_text(other.size)} voxels"]
        distance = float(np.linalg.norm(self._corners() - other._corners(), axis=1).max())
        if distance <= tolerance * min(*self.spacing, *other.spacing):
            return []
        found = [
            f"{name} {_text(mine)} against {_text(its)}{unit}"
            for name, mine, its, unit in (
                ("spacing", self.spacing, other.spacing, " mm"),
                ("origin", self.origin, other.origin, " mm"),
                ("direction", self.direction, other.direction, ""),
            )
            if not np.allclose(mine, its, rtol=1e-4, atol=1e-4)
        ]
        return [*found, f"voxels up to {distance:.4g} mm apart"]

    def agrees_with(self, other: Geometry, tolerance: float = 0.01) -> bool:
        """Whether the two grids are the same; see `differences`."""
        return not self.differences(other, tolerance)

    def to_json(self) -> dict[str, Any]:
        """As JSON types; `from_json` gives the same numbers to the last bit."""
        return {
            "size": list(self.size),
            "spacing": list(self.spacing),
            "origin": list(self.origin),
            "direction": list(self.direction),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Geometry:
        """Raises InputError for an unknown or missing entry, or one that is not a list of numbers."""
        names = {"size", "spacing", "origin", "direction"}
        if not isinstance(values, dict) or set(values) != names:
            raise InputError(f"{values!r} is not a geometry", f"Its entries are {', '.join(sorted(names))}")
        for name in names:
            entry = values[name]
            if not isinstance(entry, (list, tuple)) or any(
                isinstance(n, bool) or not isinstance(n, (int, float)) for n in entry
            ):
                raise InputError(f"{name} = {entry!r} of a geometry is not a list of numbers")
        return cls(*(tuple(values[name]) for name in ("size", "spacing", "origin", "direction")))

    def _corners(self) -> NDArray[np.float64]:
        last = np.array(self.size) - 1
        index = np.array([(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * last
        return _positions(self, index)


def voxel_positions(geometry: Geometry, step: int = 1) -> NDArray[np.float64]:
    """Position of every voxel centre, or of every n-th along rows and columns, (slices, rows, columns, 3), LPS mm."""
    x, y, z = geometry.size
    k, j, i = np.meshgrid(np.arange(z), np.arange(0, y, step), np.arange(0, x, step), indexing="ij")
    index = np.stack([i, j, k], axis=-1).astype(np.float64)
    return _positions(geometry, index)


def _positions(geometry: Geometry, index: NDArray[np.float64]) -> NDArray[np.float64]:
    positions: NDArray[np.float64] = index @ geometry.affine()[:3, :3].T + np.array(geometry.origin)
    return positions


def _text(numbers: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{n:.6g}" for n in numbers) + ")"
