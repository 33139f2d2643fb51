"""The one-pass baseline of synthesis: from the given sequences to the wanted one, in pixels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .unet import VDMUNet


class TranslationUNet(nn.Module):
    """`(images, present, target) -> image`: the U-Net of the prior without noise.

    Args:
        sequences: number of slots.
        network: further arguments of `VDMUNet`.

    Raises:
        ValueError: settings that make no network.
    """

    def __init__(self, sequences: int = 3, **network: Any) -> None:
        super().__init__()
        self.unet = VDMUNet(condition_channels=3 * sequences, fourier_exponents=(), **network)
        kept = ("channels", "num_res_blocks", "fold", "head_channels", "norm_groups")
        self.settings: dict[str, Any] = {"sequences": sequences, **{name: self.unet.settings[name] for name in kept}}

    @property
    def multiple(self) -> int:
        """Height and width must be multiples of this."""
        return self.unet.multiple

    def forward(self, images: Tensor, present: Tensor, target: Tensor) -> Tensor:
        """The wanted sequence, (B, 1, H, W) in [-1, 1].

        Args:
            images: (B, S, H, W) in [-1, 1]; those that are not present do not matter.
            present: (B, S) bool, the given sequences.
            target: (B,) whole numbers, the slot of the wanted one.
        """
        blank = images.new_zeros(len(images), 1, *images.shape[-2:])
        level = images.new_full((len(images),), self.unet.gamma_min)
        result: Tensor = self.unet(blank, level, slots(images, present, target))
        return result


def slots(images: Tensor, present: Tensor, target: Tensor) -> Tensor:
    """Images that are given, a plane for each that tells so, and a plane for each that tells whether it is wanted.

    Args:
        images, present, target: as `TranslationUNet.forward` takes them.

    Returns:
        (B, 3 S, H, W).
    """
    shown = torch.where(present[:, :, None, None], images, 0)
    wanted = nn.functional.one_hot(target, present.shape[1])
    planes = torch.cat([present, wanted], dim=1).to(images.dtype)[:, :, None, None]
    return torch.cat([shown, planes.expand(-1, -1, *images.shape[-2:])], dim=1)
