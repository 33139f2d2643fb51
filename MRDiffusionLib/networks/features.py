"""Features of the given images, which the denoiser attends to.

An encoder is `(images (B, S, H, W) in [-1, 1]) -> tokens (B, S, T, D)`, S slots of sequences.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class PatchEncoder(nn.Module):
    """A token for each patch of 16 x 16 pixels, by a small convolutional network trained with the denoiser.

    Args:
        sequences: number of slots.
        channels: D of the tokens.
        matrix: (H, W) of the images, multiples of 16.
    """

    def __init__(self, sequences: int = 3, channels: int = 128, matrix: tuple[int, int] = (128, 128)) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {"channels": channels, "matrix": list(matrix)}
        patches = (matrix[0] // 16) * (matrix[1] // 16)
        self.layers = nn.Sequential(
            nn.PixelUnshuffle(4),
            nn.Conv2d(16, channels // 2, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(channels // 2, channels, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, stride=2, padding=1),
        )
        self.sequence = nn.Parameter(0.02 * torch.randn(sequences, 1, channels))
        self.place = nn.Parameter(0.02 * torch.randn(patches, channels))

    def forward(self, images: Tensor) -> Tensor:
        """Tokens (B, S, T, D) of images (B, S, H, W)."""
        batch, slots = images.shape[:2]
        weight = next(self.parameters())
        each = self.layers(images.flatten(0, 1)[:, None].to(weight.dtype))
        tokens = each.flatten(2).transpose(1, 2).reshape(batch, slots, -1, each.shape[1])
        result: Tensor = tokens + self.sequence + self.place
        return result
