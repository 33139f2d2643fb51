"""The low-resolution input of super-resolution: a magnitude volume or complex k-space, behind one face."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..imaging.checksum import sha256_of
from ..imaging.geometry import Geometry
from ..imaging.kspace_file import is_k_space, read_k_space
from ..imaging.volume import read_volume
from ..physics.fourier import ifft2c
from ..physics.kspace import Measurement, measure_image, measure_k_space
from ..physics.noise import estimate_noise


@dataclass(frozen=True, eq=False)
class Acquisition:
    """What was measured, slice by slice.

    Attributes:
        magnitude: (slices, rows, columns) float32, the low-resolution images.
        geometry: of `magnitude`.
        sha256: of the array that was read.
        k_space: (slices, rows, columns) complex64 of a single-channel acquisition, or None where only magnitude is
            known (an image, or several coils joined by their root sum of squares).
    """

    magnitude: NDArray[np.float32]
    geometry: Geometry
    sha256: str
    k_space: NDArray[np.complex64] | None = None

    def noise(self) -> float:
        """Estimated standard deviation of the noise of `magnitude`, in its units."""
        return estimate_noise(self.magnitude)

    def measure(self, slices: list[int], matrix: tuple[int, int], noise: float, device: torch.device) -> Measurement:
        """Some slices as a measurement of the finer image, in units of intensity; noise as that of `magnitude`."""
        if self.k_space is None:
            low = torch.from_numpy(self.magnitude[slices]).to(device)[:, None]
            return measure_image(low, matrix, noise)
        # A magnitude image's sigma is that of the real or the imaginary channel; a complex sample has both.
        k_space = torch.from_numpy(self.k_space[slices]).to(device)[:, None]
        return measure_k_space(k_space, matrix, noise=noise * math.sqrt(2))


def read_acquisition(path: str | Path) -> Acquisition:
    """Read a volume, or k-space from `.npy` or `.npz`. Raises InputError."""
    if not is_k_space(path):
        volume = read_volume(path)
        return Acquisition(volume.array, volume.geometry, sha256_of(volume.array))
    k_space = read_k_space(path)
    images = [ifft2c(torch.from_numpy(part)).abs().square().sum(0).sqrt().numpy() for part in k_space.array]
    single = k_space.array[:, 0] if k_space.array.shape[1] == 1 else None
    return Acquisition(np.stack(images), k_space.geometry, sha256_of(k_space.array), single)
