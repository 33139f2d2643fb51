"""The autoencoder of latent diffusion: MONAI's `AutoencoderKL` with latents scaled to mean 0 and deviation 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.networks.nets import AutoencoderKL
from torch import Tensor, nn


class Autoencoder(nn.Module):
    """Images (B, 1, H, W) to latents (B, latent_channels, H / f, W / f) and back; f is `factor`.

    No attention: with it the largest image would decide the memory. One autoencoder serves all sequences.

    Args:
        channels: features per level, finest first; each level but the last halves the image.
        latent_channels: channels of a latent.
        num_res_blocks: residual blocks per level.
        norm_groups: of the group normalisation.

    Raises:
        ValueError: settings that make no network.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        channels: Sequence[int] = (32, 64, 96),
        latent_channels: int = 4,
        num_res_blocks: int = 1,
        norm_groups: int = 16,
    ) -> None:
        super().__init__()
        if not channels or latent_channels < 1:
            raise ValueError(f"channels = {list(channels)}, latent_channels = {latent_channels} make no autoencoder")
        self.settings: dict[str, Any] = {
            "channels": list(channels),
            "latent_channels": latent_channels,
            "num_res_blocks": num_res_blocks,
            "norm_groups": norm_groups,
        }
        self.kl = AutoencoderKL(
            spatial_dims=2,
            channels=tuple(channels),
            latent_channels=latent_channels,
            num_res_blocks=num_res_blocks,
            norm_num_groups=norm_groups,
            attention_levels=(False,) * len(channels),
            with_encoder_nonlocal_attn=False,
            with_decoder_nonlocal_attn=False,
        )
        self.register_buffer("mean", torch.zeros(latent_channels))
        self.register_buffer("std", torch.ones(latent_channels))

    @property
    def factor(self) -> int:
        """Pixels of an image along a side of a latent's pixel."""
        return int(2 ** (len(self.settings["channels"]) - 1))

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The reconstruction from `mu + sigma noise`, with mu and sigma (unscaled latents), for training."""
        mu, sigma = self.kl.encode(images)
        return self.kl.decode(mu + sigma * noise), mu, sigma

    def encode(self, images: Tensor) -> Tensor:
        """Scaled latents: the posterior's mean, less `mean`, over `std`, channel by channel."""
        mu, _ = self.kl.encode(images)
        return (mu - self.mean.to(mu).view(1, -1, 1, 1)) / self.std.to(mu).view(1, -1, 1, 1)

    def decode(self, latents: Tensor) -> Tensor:
        """Images of scaled latents."""
        mu = latents * self.std.to(latents).view(1, -1, 1, 1) + self.mean.to(latents).view(1, -1, 1, 1)
        images: Tensor = self.kl.decode(mu)
        return images

    def set_scale(self, mu: Tensor) -> None:
        """Take mean and deviation of unscaled latents (N, latent_channels, h, w) as the scale."""
        self.mean.copy_(mu.mean((0, 2, 3)))
        self.std.copy_(mu.std((0, 2, 3)).clamp(min=1e-6))


def one_by_one(network: Callable[[Tensor], Tensor], batch: Tensor, like: nn.Module) -> Tensor:
    """A network on a batch, float32; on a CPU one by one, as `VDMUNet` does: the same alone and in a batch.

    Args:
        like: whose first weight has the type of the computation.
    """
    weight = next(like.parameters())
    batch = batch.to(dtype=weight.dtype, memory_format=torch.channels_last)
    parts = batch.split(1) if batch.device.type == "cpu" else [batch]
    return torch.cat([network(part) for part in parts]).float()
