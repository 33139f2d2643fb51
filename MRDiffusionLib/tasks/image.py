"""The one input of degrading and enhancing: read, brought to the pack's intensities, and looked at.

The networks take slices of any size: they are padded to the next multiple, and told where each pixel lies in the field
of view of the slice as it was.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError
from ..imaging.checksum import sha256_of
from ..imaging.geometry import Geometry
from ..imaging.volume import read_volume, require_contrast
from ..packs import PackInfo
from ..packs.domain import intensity_warnings, plane_warnings
from ..packs.intensity import intensity_scale

ROLE = "image"
SMALLEST = 16
"""Rows and columns of a slice."""


@dataclass(frozen=True, eq=False)
class Image:
    """A volume for a pack.

    Attributes:
        array: (slices, rows, columns) float32, as read.
        geometry: of `array`.
        sha256: of the array that was read.
        scale: intensity of white.
        multiple: rows and columns of a network's images are multiples of it.
        warnings: sentences for the person.
    """

    array: NDArray[np.float32]
    geometry: Geometry
    sha256: str
    scale: float
    multiple: int
    warnings: tuple[str, ...]

    def slices(self, numbers: list[int], device: torch.device) -> Tensor:
        """Padded slices (B, 1, H, W), air -1 and white 1."""
        levels = torch.from_numpy(self.array[numbers]).to(device) * (2 / self.scale) - 1
        rows, columns = self.array.shape[1:]
        return F.pad(levels[:, None], (0, -columns % self.multiple, 0, -rows % self.multiple), mode="replicate")

    def position(self, device: torch.device) -> Tensor:
        """Coordinates (1, 2, H, W) of the padded slices' pixels in the field of view as it was."""
        rows, columns = self.array.shape[1:]
        axes = [
            (2 * torch.arange(-(-n // self.multiple) * self.multiple, device=device, dtype=torch.float32) + 1) / n - 1
            for n in (rows, columns)
        ]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]

    def intensities(self, images: Tensor) -> NDArray[np.float32]:
        """Slices (B, rows, columns) in the input's units, of padded ones; a magnitude has nothing below 0."""
        rows, columns = self.array.shape[1:]
        shown = images[:, 0, :rows, :columns].float().clamp(min=-1)
        return ((shown + 1) * (self.scale / 2)).cpu().numpy().astype(np.float32)


def read_image(path: str, info: PackInfo) -> Image:
    """Read the image of a request.

    Raises:
        InputError: a file that cannot be used, a volume without contrast or with slices that are too small.
    """
    volume = read_volume(path)
    require_contrast(volume, ROLE)
    rows, columns = volume.array.shape[1:]
    if min(rows, columns) < SMALLEST:
        hint = f"Slices need at least {SMALLEST}x{SMALLEST} pixels"
        raise InputError(f"slices of {rows}x{columns} pixels are too small", hint)
    geometry = volume.geometry
    pixel = (geometry.spacing[1], geometry.spacing[0])
    warnings = plane_warnings(geometry.normal, info)
    warnings += [
        f"The {('row', 'column')[axis]} spacing of {pixel[axis]:.2f} mm differs from the "
        f"{info.pixel_size_mm[axis]:.2f} mm that pack {info.name} was trained on."
        for axis in info.unseen_pixel_sizes(pixel)
    ]
    warnings += intensity_warnings(ROLE, volume.array, info)
    scale = intensity_scale(volume.array, info.normalisation)
    return Image(volume.array, geometry, sha256_of(volume.array), scale, info.multiple, tuple(warnings))
