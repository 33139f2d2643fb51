"""The denoising network: MONAI's `DiffusionModelUNet` with gamma as its time, Fourier features and coordinates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.nets import DiffusionModelUNet
from torch import Tensor, nn


def fourier_features(z: Tensor, exponents: Sequence[int]) -> Tensor:
    """`sin, cos(2 pi 2^n z)` for each n, (B, C, H, W) -> (B, 2 C len(exponents), H, W) (2107.00630, appendix C)."""
    angles = [2 * math.pi * 2**n * z for n in exponents]
    return torch.cat([f(angle) for angle in angles for f in (torch.sin, torch.cos)], dim=1)


def coordinates(matrix: tuple[int, int], device: torch.device | str = "cpu") -> Tensor:
    """Pixel-centre coordinates in [-1, 1] over the whole field of view, (2, H, W): row, then column."""
    axes = [(2 * torch.arange(n, device=device, dtype=torch.float32) + 1) / n - 1 for n in matrix]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


class GroupNorm(nn.GroupNorm):
    """Trains in float32, whatever it is given: on a CPU, torch's backward pass in bfloat16 takes four times as long.

    A step of the enhancer's training takes 0.36 s on one core instead of 0.52 s.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or x.dtype == torch.float32:
            return super().forward(x)
        weight, bias = self.weight.float(), self.bias.float()
        return F.group_norm(x.float(), self.num_groups, weight, bias, self.eps).to(x.dtype)


class VDMUNet(nn.Module):
    """`(z, gamma) -> prediction` for 2D images.

    The image is folded (`pixel_unshuffle`) so that the U-Net starts at half resolution with four times the channels:
    a quarter of the cost at the same capacity (Hoogeboom et al. 2301.11093, section 2.3). Coordinate channels tell
    the network where in the field of view it is, so that it can be trained on crops.

    Args:
        channels: features per level, coarsest last; attention only at the coarsest level.
        num_res_blocks: residual blocks per level.
        image_channels: channels of the prediction.
        condition_channels: channels of a condition image, concatenated to z (0: unconditional).
        fourier_exponents: n of the Fourier features; empty for none.
        fold: side of the folded pixel block.
        gamma_min, gamma_max: the schedule's ends; gamma is passed to the time embedding scaled to [0, 1000].

    Raises:
        ValueError: settings that make no network, MONAI's own among them (norm_groups that do not divide the channels).
    """

    def __init__(
        self,
        channels: Sequence[int] = (64, 128, 160),
        num_res_blocks: Sequence[int] = (1, 1, 1),
        image_channels: int = 1,
        condition_channels: int = 0,
        fourier_exponents: Sequence[int] = (6, 7),
        fold: int = 2,
        head_channels: int = 32,
        norm_groups: int = 16,
        gamma_min: float = -13.3,
        gamma_max: float = 5.0,
    ) -> None:
        super().__init__()
        if fold < 1 or image_channels < 1 or condition_channels < 0 or not channels:
            raise ValueError(
                f"channels = {list(channels)}, fold = {fold}, image_channels = {image_channels} and "
                f"condition_channels = {condition_channels} make no network"
            )
        if not gamma_min < gamma_max:
            raise ValueError(f"gamma_min = {gamma_min} is not below gamma_max = {gamma_max}")
        self.settings: dict[str, Any] = {
            "channels": list(channels),
            "num_res_blocks": list(num_res_blocks),
            "image_channels": image_channels,
            "condition_channels": condition_channels,
            "fourier_exponents": list(fourier_exponents),
            "fold": fold,
            "head_channels": head_channels,
            "norm_groups": norm_groups,
            "gamma_min": gamma_min,
            "gamma_max": gamma_max,
        }
        self.fourier_exponents, self.fold = tuple(fourier_exponents), fold
        self.gamma_min, self.gamma_max = gamma_min, gamma_max
        pixels = fold * fold
        features = image_channels * (1 + 2 * len(self.fourier_exponents)) + condition_channels
        self.unet = DiffusionModelUNet(
            spatial_dims=2,
            in_channels=features * pixels + 2,
            out_channels=image_channels * pixels,
            num_res_blocks=tuple(num_res_blocks),
            channels=tuple(channels),
            attention_levels=tuple(level == len(channels) - 1 for level in range(len(channels))),
            norm_num_groups=norm_groups,
            num_head_channels=head_channels,
        )
        for module in self.unet.modules():
            if type(module) is nn.GroupNorm:
                module.__class__ = GroupNorm

    @property
    def multiple(self) -> int:
        """Height and width must be multiples of this."""
        return self.fold * 2 ** (len(self.settings["channels"]) - 1)

    @property
    def inputs(self) -> list[str]:
        """A name for every input channel of the first convolution, in its order."""
        images, conditions = range(self.settings["image_channels"]), range(self.settings["condition_channels"])
        names = [f"z{c}" for c in images]
        names += [f"{f} 2^{n} z{c}" for n in self.fourier_exponents for f in ("sin", "cos") for c in images]
        names += [f"condition{c}" for c in conditions]
        return [f"{name} pixel {k}" for name in names for k in range(self.fold**2)] + ["row", "column"]

    def forward(
        self, z: Tensor, gamma: Tensor, condition: Tensor | None = None, position: Tensor | None = None
    ) -> Tensor:
        """Predict from noisy images.

        In evaluation mode on a CPU the images are computed one by one. That costs no time there, and a sample is then
        the same to the last bit alone and in a batch: convolutions round differently for another batch size, and over
        20 steps the Fourier features were measured to turn that 1e-7 into 1e-2.

        Args:
            z: (B, C, H, W), H and W multiples of `multiple`.
            gamma: (B,), or (1,) for all.
            condition: (B, condition_channels, H, W) where the network has condition channels.
            position: (B or 1, 2, H, W) coordinates of a crop; by default z is the whole field of view.

        Returns:
            (B, C, H, W), same type as z.

        Raises:
            ValueError: another number of channels or of noise levels, a size that is not a multiple, a condition that
                is missing or not wanted.
        """
        self._check(z, gamma, condition)
        if position is None:
            position = coordinates((z.shape[-2], z.shape[-1]), z.device)[None]
        if self.training or z.device.type != "cpu" or len(z) == 1:
            return self._predict(z, gamma, condition, position)
        levels, positions = gamma.expand(len(z)), position.expand(len(z), -1, -1, -1)
        conditions = [None] * len(z) if condition is None else condition.split(1)
        images = zip(z.split(1), levels.split(1), conditions, positions.split(1), strict=True)
        return torch.cat([self._predict(*image) for image in images])

    def _predict(self, z: Tensor, gamma: Tensor, condition: Tensor | None, position: Tensor) -> Tensor:
        inputs = [z, fourier_features(z, self.fourier_exponents)] if self.fourier_exponents else [z]
        if condition is not None:
            inputs.append(condition)
        folded = F.pixel_unshuffle(torch.cat(inputs, dim=1), self.fold)
        where = F.avg_pool2d(position.to(z.dtype), self.fold).expand(len(z), -1, -1, -1)
        time = 1000 * (gamma - self.gamma_min) / (self.gamma_max - self.gamma_min)
        weight = next(self.unet.parameters())
        hidden = torch.cat([folded, where], dim=1).to(dtype=weight.dtype, memory_format=torch.channels_last)
        prediction: Tensor = self.unet(hidden, time)
        return F.pixel_shuffle(prediction, self.fold).to(z.dtype).contiguous()

    def _check(self, z: Tensor, gamma: Tensor, condition: Tensor | None) -> None:
        shape = tuple(z.shape)
        if z.ndim != 4 or shape[1] != self.settings["image_channels"]:
            raise ValueError(f"images of shape {shape} are not (B, {self.settings['image_channels']}, H, W)")
        if shape[2] % self.multiple or shape[3] % self.multiple:
            raise ValueError(f"images of {shape[2]}x{shape[3]} pixels are not multiples of {self.multiple}")
        if gamma.ndim != 1 or len(gamma) not in (1, shape[0]):
            raise ValueError(f"gamma of shape {tuple(gamma.shape)} does not go with {shape[0]} images")
        wanted = self.settings["condition_channels"]
        given = 0 if condition is None else condition.shape[1]
        if given != wanted:
            raise ValueError(f"a condition of {given} channels was given; the network takes {wanted}")
