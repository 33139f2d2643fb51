"""The degrader: latent diffusion of the low-quality acquisition of a clean image (seed 000)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .autoencoder import Autoencoder, one_by_one
from .unet import VDMUNet


class Degrader(nn.Module):
    """`(z, gamma, clean, level) -> prediction` for latents of low-quality images.

    The level is a plane beside the latents, as FFDNet has its noise level (Zhang et al. 1710.04026): at once a number
    and, where a part of the image is to be degraded more than another, a map.

    Args:
        autoencoder: arguments of `Autoencoder`.
        denoiser: arguments of `VDMUNet` but those that follow from the latents and the schedule.
        gamma_min, gamma_max: the schedule's ends.

    Raises:
        ValueError, TypeError: settings that make no network.
    """

    def __init__(
        self, autoencoder: Mapping[str, Any], denoiser: Mapping[str, Any], gamma_min: float, gamma_max: float
    ) -> None:
        super().__init__()
        self.autoencoder = Autoencoder(**autoencoder)
        latent = self.autoencoder.settings["latent_channels"]
        self.unet = VDMUNet(
            image_channels=latent,
            condition_channels=latent + 1,
            fourier_exponents=(),
            gamma_min=gamma_min,
            gamma_max=gamma_max,
            **denoiser,
        )

    @property
    def multiple(self) -> int:
        """Height and width of images must be multiples of this."""
        return self.autoencoder.factor * self.unet.multiple

    def forward(self, z: Tensor, gamma: Tensor, clean: Tensor, level: Tensor, position: Tensor | None = None) -> Tensor:
        """The denoiser's prediction, (B, C, h, w).

        Args:
            z: (B, C, h, w) noisy latents of the low-quality image.
            gamma: (B,).
            clean: (B, C, h, w) latents of the clean image.
            level: (B,) in [0, 1].
            position: as `VDMUNet` has it.
        """
        plane = (2 * level - 1).to(clean.dtype)[:, None, None, None].expand(-1, 1, *clean.shape[-2:])
        result: Tensor = self.unet(z, gamma, torch.cat([clean, plane], dim=1), position)
        return result

    def encode(self, images: Tensor) -> Tensor:
        """Latents (B, C, h, w) of images (B, 1, H, W), float32."""
        return one_by_one(self.autoencoder.encode, images, self.unet)

    def decode(self, latents: Tensor) -> Tensor:
        """Images (B, 1, H, W) of latents (B, C, h, w), float32."""
        return one_by_one(self.autoencoder.decode, latents, self.unet)
