"""The denoiser of CMRDiff: noisy latent of the wanted sequence, latents of the given ones, their features.

Any of the sequences can be wanted and any of the others given: each has a slot among the input channels, and planes of
ones and zeros say which are given and which is wanted (air and "not given" are both dark otherwise).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.nets import DiffusionModelUNet
from torch import Tensor, nn


class ConditionalUNet(nn.Module):
    """`(z, gamma, conditions, present, target, tokens) -> prediction` for latents.

    Args:
        sequences: number of slots.
        latent_channels: of each latent.
        channels: features per level, coarsest last; attention only at the coarsest level.
        num_res_blocks: residual blocks per level.
        fold: side of the block of latent pixels that is folded into channels, as in `VDMUNet`: a latent of half the
            image's side costs as little as one of a quarter.
        feature_channels: of the tokens that the coarsest level attends to; 0 for a network without them.
        head_channels, norm_groups: of attention and normalisation.
        gamma_min, gamma_max: the schedule's ends; gamma is passed to the time embedding scaled to [0, 1000].

    Raises:
        ValueError: settings that make no network.
    """

    def __init__(
        self,
        sequences: int = 3,
        latent_channels: int = 4,
        channels: Sequence[int] = (64, 128, 192),
        num_res_blocks: Sequence[int] = (1, 1, 1),
        fold: int = 1,
        feature_channels: int = 128,
        head_channels: int = 32,
        norm_groups: int = 16,
        gamma_min: float = -12.0,
        gamma_max: float = 6.0,
    ) -> None:
        super().__init__()
        if sequences < 2 or latent_channels < 1 or feature_channels < 0 or fold < 1 or not channels:
            raise ValueError(
                f"sequences = {sequences}, latent_channels = {latent_channels}, channels = {list(channels)}, "
                f"fold = {fold} and feature_channels = {feature_channels} make no network"
            )
        if not gamma_min < gamma_max:
            raise ValueError(f"gamma_min = {gamma_min} is not below gamma_max = {gamma_max}")
        self.settings: dict[str, Any] = {
            "sequences": sequences,
            "latent_channels": latent_channels,
            "channels": list(channels),
            "num_res_blocks": list(num_res_blocks),
            "fold": fold,
            "feature_channels": feature_channels,
            "head_channels": head_channels,
            "norm_groups": norm_groups,
        }
        self.gamma_min, self.gamma_max, self.fold = gamma_min, gamma_max, fold
        attends = feature_channels > 0
        self.missing = nn.Parameter(torch.zeros(feature_channels)) if attends else None
        self.unet = DiffusionModelUNet(
            spatial_dims=2,
            in_channels=latent_channels * (1 + sequences) * fold**2 + 2 * sequences,
            out_channels=latent_channels * fold**2,
            num_res_blocks=tuple(num_res_blocks),
            channels=tuple(channels),
            attention_levels=tuple(level == len(channels) - 1 for level in range(len(channels))),
            norm_num_groups=norm_groups,
            num_head_channels=head_channels,
            with_conditioning=attends,
            cross_attention_dim=feature_channels if attends else None,
        )

    @property
    def multiple(self) -> int:
        """Height and width of a latent must be multiples of this."""
        return int(self.fold * 2 ** (len(self.settings["channels"]) - 1))

    def forward(
        self,
        z: Tensor,
        gamma: Tensor,
        conditions: Tensor,
        present: Tensor,
        target: Tensor,
        tokens: Tensor | None = None,
    ) -> Tensor:
        """Predict from noisy latents.

        Args:
            z: (B, C, h, w), h and w multiples of `multiple`.
            gamma: (B,).
            conditions: (B, S, C, h, w) latents; those that are not present do not matter.
            present: (B, S) bool, the given sequences.
            target: (B,) whole numbers, the slot of the wanted one.
            tokens: (B, S, T, feature_channels), features of the given images, where the network takes them.

        Returns:
            (B, C, h, w), same type as z.
        """
        given = present.to(z.dtype)
        wanted = F.one_hot(target, present.shape[1]).to(z.dtype)
        # `where`, not a product: what is not given may hold anything, NaN included.
        shown = torch.where(present[:, :, None, None, None], conditions.to(z.dtype), 0).flatten(1, 2)
        folded = F.pixel_unshuffle(torch.cat([z, shown], dim=1), self.fold)
        planes = torch.cat([given, wanted], dim=1)[:, :, None, None].expand(-1, -1, *folded.shape[-2:])
        hidden = torch.cat([folded, planes], dim=1)
        weight = self.unet.conv_in.conv.weight
        hidden = hidden.to(dtype=weight.dtype, memory_format=torch.channels_last)
        time = 1000 * (gamma - self.gamma_min) / (self.gamma_max - self.gamma_min)
        context = None if tokens is None else self._context(tokens, present).to(weight.dtype)
        prediction: Tensor = self.unet(hidden, time, context=context)
        return F.pixel_shuffle(prediction, self.fold).to(z.dtype).contiguous()

    def _context(self, tokens: Tensor, present: Tensor) -> Tensor:
        """Tokens with those of missing sequences replaced by one learned token, (B, S T, D)."""
        assert self.missing is not None
        return torch.where(present[:, :, None, None], tokens, self.missing.to(tokens.dtype)).flatten(1, 2)
