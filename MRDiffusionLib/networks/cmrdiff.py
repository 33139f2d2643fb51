"""All networks of a synthesis pack: autoencoder, denoiser, feature encoder and the one-pass baseline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from .autoencoder import Autoencoder, one_by_one
from .conditional import ConditionalUNet
from .features import feature_encoder
from .translation import TranslationUNet


class CMRDiff(nn.Module):
    """Latent diffusion from some sequences to another (Xie et al., Proc. ISMRM 2024, 0384).

    Args:
        sequences: number of slots.
        autoencoder: arguments of `Autoencoder`.
        denoiser: arguments of `ConditionalUNet` but `sequences`, `latent_channels` and `feature_channels`.
        features: settings for `features.feature_encoder`; None for a denoiser without cross-attention.
        regression: arguments of `TranslationUNet` but `sequences`; None for a pack without the baseline.
        gamma_min, gamma_max: the schedule's ends.

    Raises:
        ValueError, TypeError: settings that make no network.
    """

    def __init__(
        self,
        sequences: int,
        autoencoder: Mapping[str, Any],
        denoiser: Mapping[str, Any],
        features: Mapping[str, Any] | None,
        regression: Mapping[str, Any] | None,
        gamma_min: float,
        gamma_max: float,
    ) -> None:
        super().__init__()
        self.sequences = sequences
        self.autoencoder = Autoencoder(**autoencoder)
        self.features = None if features is None else feature_encoder(sequences, features)
        self.unet = ConditionalUNet(
            sequences=sequences,
            latent_channels=self.autoencoder.settings["latent_channels"],
            feature_channels=0 if features is None else int(features["channels"]),
            gamma_min=gamma_min,
            gamma_max=gamma_max,
            **denoiser,
        )
        self.regression = None if regression is None else TranslationUNet(sequences=sequences, **regression)

    @property
    def multiple(self) -> int:
        """Height and width of images must be multiples of this."""
        return self.autoencoder.factor * self.unet.multiple

    def encode(self, images: Tensor) -> Tensor:
        """Latents (B, S, C, h, w) of images (B, S, H, W) in [-1, 1], float32."""
        latents = one_by_one(self.autoencoder.encode, images.flatten(0, 1)[:, None], self.unet.unet)
        return latents.unflatten(0, images.shape[:2])

    def decode(self, latents: Tensor) -> Tensor:
        """Images (B, H, W) of latents (B, C, h, w), float32."""
        return one_by_one(self.autoencoder.decode, latents, self.unet.unet)[:, 0]
