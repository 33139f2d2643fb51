"""The given sequences of a synthesis: read, brought to one grid and to the pack's intensities, and looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..imaging.checksum import sha256_of
from ..imaging.geometry import Geometry
from ..imaging.resample import covered, grid_around, resample, window_middle
from ..imaging.volume import Volume, read_volume, require_contrast
from ..packs import PackInfo
from ..packs.domain import grid_warnings, intensity_warnings, plane_warnings
from ..packs.intensity import intensity_scale

LEAST_OVERLAP = 0.6
"""Share of the first volume's slices that every other one must cover."""


@dataclass(frozen=True, eq=False)
class Conditions:
    """What is given, on the pack's grid.

    Attributes:
        roles: of the given sequences, in the order of the request.
        images: (slices, S, H, W) float32 in [-1, 1], S the pack's sequences; what is not given is -1.
        present: (slices, S) bool.
        geometry: of the slices: those of the first volume, with the pack's pixels (`window_middle`).
        digests: of each input: checksum and geometry, as read.
        warnings: sentences for the person.
    """

    roles: tuple[str, ...]
    images: NDArray[np.float32]
    present: NDArray[np.bool_]
    geometry: Geometry
    digests: dict[str, tuple[str, Geometry]]
    warnings: tuple[str, ...]

    @property
    def count(self) -> int:
        """Number of slices."""
        return len(self.images)


def read_conditions(inputs: Mapping[str, str], info: PackInfo) -> Conditions:
    """Read the given sequences.

    Args:
        inputs: role to file; the first decides the slices.
        info: the pack: roles, matrix, pixel size and intensities.

    Raises:
        InputError: a file that cannot be used, a volume without contrast, volumes that hardly overlap.
    """
    volumes = {role: read_volume(path) for role, path in inputs.items()}
    for role, volume in volumes.items():
        require_contrast(volume, role)
    return conditions_of(volumes, info)


def conditions_of(volumes: Mapping[str, Volume], info: PackInfo) -> Conditions:
    """As `read_conditions`, of volumes in memory."""
    roles = tuple(volumes)
    first = volumes[roles[0]].geometry
    around = window_middle(volumes[roles[0]], info.field_of_view_mm)
    target = grid_around(first, around, info.matrix, info.pixel_size_mm)
    images = np.full((first.size[2], len(info.roles), *info.matrix), -1, np.float32)
    present = np.zeros(images.shape[:2], np.bool_)
    columns, rows, _ = first.size
    warnings = plane_warnings(first.normal, info)
    warnings += grid_warnings((rows, columns), (first.spacing[1], first.spacing[0]), info)
    for role, volume in volumes.items():
        slot = info.roles.index(role)
        there = covered(target, volume.geometry)
        if role != roles[0]:
            warnings += _resampled(role, roles[0], volume.geometry, first, there)
        stack = resample(volume, target).array
        try:
            scale = intensity_scale(stack, info.normalisation)
        except InputError as error:
            hint = f"Choose an image that shows the same region as {roles[0]}, in the middle of its slices"
            raise InputError(f"{role} shows nothing in the {info.name} pack's field of view", hint) from error
        level = np.clip(stack / scale, 0, 1)
        warnings += intensity_warnings(role, stack, info)
        images[there, slot] = 2 * level[there] - 1
        present[there, slot] = True
    return Conditions(
        roles,
        images,
        present,
        target,
        {role: (sha256_of(volume.array), volume.geometry) for role, volume in volumes.items()},
        tuple(warnings),
    )


def _resampled(role: str, first: str, own: Geometry, reference: Geometry, there: NDArray[np.bool_]) -> list[str]:
    """What a person should know of a volume on another grid. Raises InputError where too few slices overlap."""
    if own.agrees_with(reference):
        return []
    count, total = int(there.sum()), len(there)
    if count < LEAST_OVERLAP * total:
        raise InputError(
            f"{role} covers {count} of the {total} slices of {first}",
            "Choose images of one patient and one examination that show the same region",
        )
    sentence = f"{role} has another geometry than {first} and was resampled onto it."
    return [
        sentence
        if count == total
        else f"{sentence} It covers {count} of {total} slices; the others are made without it."
    ]
