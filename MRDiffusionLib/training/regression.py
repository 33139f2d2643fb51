"""The one-pass baseline: a network that maps the zero-filled image to the full one, trained on the prior's data."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..physics.fourier import fft2c, ifft2c, measured_mask


def zero_filled(images: Tensor, matrix: tuple[int, int]) -> Tensor:
    """Images (..., H, W), real, with only the measured centre of their k-space kept; real, same amplitude."""
    mask = measured_mask(matrix, (images.shape[-2], images.shape[-1])).to(images.device)
    return ifft2c(fft2c(images) * mask).real


def measured_fraction(matrix: tuple[int, int], full: tuple[int, int]) -> float:
    """Measured lines over full lines, 0 to 1: the geometric mean of the two axes."""
    return math.sqrt(matrix[0] * matrix[1] / (full[0] * full[1]))


class Regression(nn.Module):
    """`zero-filled image + network(zero-filled image, measured fraction)`, trained by the mean absolute error.

    The network's time input carries the measured fraction of k-space lines, so that one network serves all factors.
    """

    def __init__(self, network: nn.Module, gamma_min: float, gamma_max: float) -> None:
        super().__init__()
        self.network, self.gamma_min, self.gamma_max = network, gamma_min, gamma_max

    def forward(self, zero_filled: Tensor, fraction: Tensor, position: Tensor | None = None) -> Tensor:
        """The restored images, (B, 1, H, W).

        Args:
            zero_filled: (B, 1, H, W) in [-1, 1].
            fraction: (B,) or (1,), `measured_fraction`.
            position: (B or 1, 2, H, W) coordinates of crops; by default the whole field of view.
        """
        gamma = self.gamma_min + (self.gamma_max - self.gamma_min) * fraction
        residual: Tensor = self.network(zero_filled, gamma, None, position)
        return zero_filled + residual


def regression_batch(
    images: Tensor, positions: Tensor, crop: int, matrices: Sequence[tuple[int, int]], generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Whole images to a training batch of crops.

    Args:
        images: (B, 1, H, W) in [-1, 1], with their coordinates `positions` (B, 2, H, W).
        crop: pixels of the square that is cut out, the same for all.
        matrices: measured matrices to choose from, at random for each image.

    Returns:
        Zero-filled images and full ones (B, 1, crop, crop), positions (B, 2, crop, crop), fractions (B,).
    """
    size = (images.shape[-2], images.shape[-1])
    # An image's zero filling needs the whole image; the crop comes after it.
    choice = torch.randint(len(matrices), (len(images),), generator=generator)
    chosen = [matrices[int(i)] for i in choice]
    filled = torch.stack([zero_filled(image, matrix) for image, matrix in zip(images, chosen, strict=True)])
    fraction = torch.tensor([measured_fraction(matrix, size) for matrix in chosen])
    y = int(torch.randint(size[0] - crop + 1, (), generator=generator))
    x = int(torch.randint(size[1] - crop + 1, (), generator=generator))
    window = (..., slice(y, y + crop), slice(x, x + crop))
    return filled[window], images[window], positions[window], fraction
