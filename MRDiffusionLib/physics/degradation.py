"""Low-quality acquisitions of a high-quality image, simulated: a noisy scan and a fast one, each at a level (`levels`).

Images are (..., H, W) float, 0 air, 1 white; results are magnitudes.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..settings import KINDS
from .fourier import fft2c, ifft2c
from .levels import acceleration, added_noise
from .parallel import g_factor

SENSE_FACTOR, SENSE_AXIS = 3, 0


@functools.lru_cache(maxsize=4)
def noise_map(matrix: tuple[int, int]) -> Tensor:
    """How the noise of the parallel acquisition is spread, (H, W): the g-factor over its root mean square."""
    g = g_factor(matrix, SENSE_FACTOR, SENSE_AXIS)
    return g / g.square().mean().sqrt()


def noisy_scan(image: Tensor, level: float, generator: torch.Generator) -> Tensor:
    """Fewer averages and parallel imaging: Gaussian noise in both channels, stronger where coils fold badly.

    The magnitude of it has a Rician distribution (Gudbjartsson, Patz, Magn Reson Med 1995; 34:910).

    Raises:
        ValueError: a level outside [0, 1].
    """
    spread = noise_map((image.shape[-2], image.shape[-1])).to(image) * added_noise(level)
    if level == 0:
        return image
    drawn = torch.randn((2, *image.shape), generator=generator).to(image)
    return torch.complex(image + spread * drawn[0], spread * drawn[1]).abs()


@dataclass(frozen=True)
class FastScan:
    """Which samples of k-space a fast scan measures, and how they decay. Both axes are phase-encoded, as in 3D scans.

    Attributes:
        side: measured part of each axis, 0 to 1.
        partial: measured part of the lines along the rows' axis, from one edge on; above 0.5 to 1 (partial Fourier).
        elliptical: the corners are left out.
        decay: how far the signal has decayed at the last lines, in time constants: T2 blur of a centre-out echo train.
    """

    side: float
    partial: float = 1.0
    elliptical: bool = False
    decay: float = 0.0

    def weights(self, matrix: tuple[int, int]) -> Tensor:
        """What centred k-space is multiplied by, (H, W), 0 to 1."""
        # In units of the measured extent: -1 and 1 are its edges. Half a line keeps the extent right for small sides.
        axes = [(torch.arange(n, dtype=torch.float64) - n // 2) / (self.side * n / 2) for n in matrix]
        ky, kx = torch.meshgrid(*axes, indexing="ij")
        measured = (ky.abs() <= 1) & (kx.abs() <= 1)
        if self.elliptical:
            measured &= ky**2 + kx**2 <= 1
        measured &= ky <= 2 * self.partial - 1
        return measured * torch.exp(-self.decay * ky.abs()).float()

    @property
    def acceleration(self) -> float:
        """Samples of the full k-space over those that are measured."""
        return 1 / (self.side**2 * _area(self.partial, self.elliptical))


def draw_fast_scan(level: float, generator: torch.Generator) -> FastScan:
    """A random fast scan of `acceleration(level)`: elliptical or not, partial Fourier, decay, the rest resolution.

    Raises:
        ValueError: a level outside [0, 1].
    """
    wanted = acceleration(level)
    partial, decay, corners = torch.rand(3, generator=generator).tolist()
    # The higher the level, the more each means may save; what they do not save the resolution has to.
    partial = 1 - 0.35 * level * partial
    elliptical = corners < 0.5 and wanted * _area(partial, True) >= 1
    return FastScan(1 / math.sqrt(wanted * _area(partial, elliptical)), partial, elliptical, decay * level)


def fast_scan(image: Tensor, scan: FastScan) -> Tensor:
    """The magnitude of an image of which a fast scan measured k-space; the rest is filled with zeros."""
    weights = scan.weights((image.shape[-2], image.shape[-1])).to(image.device)
    return ifft2c(fft2c(image) * weights).abs()


def degrade(image: Tensor, kind: str, level: float, generator: torch.Generator) -> Tensor:
    """A low-quality acquisition of an image, of `kind` "noise" or "blur". Raises ValueError for others."""
    if kind == "noise":
        return noisy_scan(image, level, generator)
    if kind == "blur":
        return fast_scan(image, draw_fast_scan(level, generator))
    raise ValueError(f"kind {kind!r} is unknown; known are {', '.join(KINDS)}")


def _area(partial: float, elliptical: bool) -> float:
    """The measured part of a square of which partial Fourier leaves out an edge, and an ellipse the corners."""
    if not elliptical:
        return partial
    edge = 2 * partial - 1
    return (math.pi / 2 + math.asin(edge) + edge * math.sqrt(1 - edge**2)) / 4
