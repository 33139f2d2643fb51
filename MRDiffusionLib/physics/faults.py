"""Faults of acquired pairs, simulated with known truth: a patient who moved between two scans, or during one.

Images are (H, W) float, 0 air, 1 white.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .fourier import fft2c, ifft2c


@dataclass(frozen=True)
class Misalignment:
    """Where each pixel of a moved image comes from.

    Attributes:
        displacement: (2, H, W) in pixels, along rows then columns: the moved image shows at p what was at
            p + displacement(p).
    """

    displacement: Tensor

    @property
    def mean_pixels(self) -> float:
        """Mean length of the displacement."""
        return float(self.displacement.square().sum(0).sqrt().mean())

    def move(self, image: Tensor) -> Tensor:
        """The moved image; beyond the edges is air. Cubic interpolation, which blurs little."""
        size = image.shape[-2:]
        places = torch.stack(torch.meshgrid(*(torch.arange(n).float() for n in size), indexing="ij"))
        sampled = places + self.displacement
        grid = torch.stack([2 * sampled[i] / max(1, size[i] - 1) - 1 for i in (1, 0)], dim=-1)
        moved = F.grid_sample(image[None, None], grid[None], mode="bicubic", align_corners=True)
        return moved[0, 0].clamp(min=0)


def rigid(matrix: tuple[int, int], degrees: float, shift: tuple[float, float]) -> Misalignment:
    """A rotation about the middle and a shift (rows, columns) in pixels."""
    y, x = (torch.arange(n).float() - (n - 1) / 2 for n in matrix)
    y, x = torch.meshgrid(y, x, indexing="ij")
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return Misalignment(torch.stack([c * y + s * x - y + shift[0], c * x - s * y - x + shift[1]]))


def smooth(matrix: tuple[int, int], amplitude: float, width: float, generator: torch.Generator) -> Misalignment:
    """A random displacement whose root mean square is `amplitude` pixels along each axis.

    Args:
        width: standard deviation of the Gaussian that a white field is smoothed with, in pixels.
    """
    k = [torch.fft.fftfreq(n, dtype=torch.float64) for n in matrix]
    blur = torch.exp(-2 * (math.pi * width) ** 2 * (k[0][:, None] ** 2 + k[1][None, :] ** 2))
    # The mean displacement would be a shift, which is rigid.
    blur[0, 0] = 0
    white = torch.randn((2, *matrix), generator=generator, dtype=torch.float64)
    field = torch.fft.ifft2(torch.fft.fft2(white) * blur).real
    rms = field.square().mean((-2, -1), keepdim=True).sqrt().clamp(min=1e-12)
    return Misalignment((field * (amplitude / rms)).float())


def together(first: Misalignment, second: Misalignment) -> Misalignment:
    """Both, added: exact for a shift, and close to it where the second changes slowly."""
    return Misalignment(first.displacement + second.displacement)


def motion_ghosts(image: Tensor, shift: float, share: float, generator: torch.Generator, axis: int = -2) -> Tensor:
    """The magnitude of an image whose object moved during the scan: ghosts along the phase-encoded axis.

    A share of the lines of k-space, at random places but the centre, was measured while the object lay `shift` pixels
    further along that axis; a shift is a phase ramp of k-space.

    Args:
        share: of the lines, 0 to 1.
        axis: -2 rows, -1 columns.
    """
    n = image.shape[axis]
    lines = torch.arange(n) - n // 2
    moved = (torch.rand(n, generator=generator) < share) & (lines.abs() > n // 32)
    ramp = torch.exp(-2j * math.pi * shift * lines / n)
    factor = torch.where(moved, ramp, torch.ones_like(ramp)).to(image.device)
    return ifft2c(fft2c(image) * (factor[:, None] if axis == -2 else factor[None, :])).abs()


def spikes(image: Tensor, count: int, strength: float, generator: torch.Generator) -> Tensor:
    """The magnitude of an image with wrong samples of k-space: stripes over the whole field of view.

    Args:
        count: samples, at random places at least an eighth of the matrix from the centre.
        strength: amplitude of each stripe, white being 1.
    """
    k_space = fft2c(image)
    h, w = k_space.shape[-2:]
    for _ in range(count):
        while True:
            y, x = (int(torch.randint(n, (), generator=generator)) for n in (h, w))
            if abs(y - h // 2) >= h // 8 or abs(x - w // 2) >= w // 8:
                break
        phase = 2 * math.pi * torch.rand((), generator=generator)
        k_space[..., y, x] += strength * math.sqrt(h * w) * torch.polar(torch.ones(()), phase)
    return ifft2c(k_space).abs()
