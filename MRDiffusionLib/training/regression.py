"""The one-pass baseline: a network that maps the zero-filled image to the full one, trained on the prior's data."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..physics.fourier import fft2c, ifft2c, measured_mask


def zero_filled(images: Tensor, matrix: tuple[int, int]) -> Tensor:
    """Images (..., H, W), real, with only the measured centre of their k-space kept; real, same amplitude."""
    mask = measured_mask(matrix, (images.shape[-2], images.shape[-1])).to(images.device)
    return ifft2c(fft2c(images) * mask).real


class Regression(nn.Module):
    """`zero-filled image + network(zero-filled image, measured fraction)`, trained by the mean absolute error.

    The network's time input carries the measured fraction of k-space lines, so that one network serves all factors.
    """

    def __init__(self, network: nn.Module, gamma_min: float, gamma_max: float) -> None:
        super().__init__()
        self.network, self.gamma_min, self.gamma_max = network, gamma_min, gamma_max

    def forward(self, zero_filled: Tensor, fraction: Tensor, position: Tensor | None = None) -> Tensor:
        """Args: zero_filled (B, 1, H, W) in [-1, 1]; fraction (B,), measured lines over full lines, 0 to 1."""
        gamma = self.gamma_min + (self.gamma_max - self.gamma_min) * fraction
        residual: Tensor = self.network(zero_filled, gamma, None, position)
        return zero_filled + residual


def regression_batch(
    images: Tensor, positions: Tensor, crop: int, matrices: Sequence[tuple[int, int]], generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Whole images to a training batch of crops: zero-filled, full (B, 1, crop, crop), positions, fractions (B,)."""
    size = (images.shape[-2], images.shape[-1])
    # An image's zero filling needs the whole image; the crop comes after it.
    choice = torch.randint(len(matrices), (len(images),), generator=generator)
    filled = torch.stack([zero_filled(image, matrices[int(i)]) for image, i in zip(images, choice)])
    fraction = torch.tensor([(matrices[int(i)][0] * matrices[int(i)][1]) ** 0.5 for i in choice]) / (size[0] * size[1]) ** 0.5
    y = int(torch.randint(size[0] - crop + 1, (), generator=generator))
    x = int(torch.randint(size[1] - crop + 1, (), generator=generator))
    window = (..., slice(y, y + crop), slice(x, x + crop))
    return filled[window], images[window], positions[window], fraction
