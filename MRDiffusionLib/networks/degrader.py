"""The degrader: diffusion of what a low-quality acquisition adds to a clean image (seed 000)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..physics.low_pass import decayed, low_pass, measured_extent
from ..settings import KINDS
from .unet import VDMUNet

NODES = 10
"""Levels at which a degrader knows the residual's deviation: the middles of as many parts of 0 to 1."""
EDGES = (1.0, 0.7, 0.4)
"""Of the bands, in the extent of k-space that a scan of the level measures whatever its shape."""
SMALLEST = 1e-4
"""Deviation, of white at 1 and air at -1: finer than any image."""


class Degrader(nn.Module):
    """`(z, gamma, condition) -> prediction` for residuals `r = (low - clean) / d(level)`.

    `d` is the deviation of `low - clean` at that level, of the training pairs. So the residual has deviation one at
    every level, nothing of the clean image is lost, and nothing is added where the level is 0. The network works on
    images folded into channels, `VDMUNet`: a latent space that is an exact one.

    The level is a plane beside the images, as FFDNet has its noise level (Zhang et al. 1710.04026). For blur the
    network also sees, over `d`, the clean image in bands of k-space around the edge of what such a scan measures, and
    what the strongest decay would take from it: the residual is a few thousandths of white, which the clean image
    itself would have to hold in its last digits.

    Args:
        kind: of degradation, one of `settings.KINDS`.
        denoiser: arguments of `VDMUNet` but those that follow from the images and the schedule.
        gamma_min, gamma_max: the schedule's ends.

    Raises:
        ValueError, TypeError: settings that make no network.
    """

    deviations: Tensor

    def __init__(self, kind: str, denoiser: Mapping[str, Any], gamma_min: float, gamma_max: float) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"kind = {kind} makes no network")
        self.edges = EDGES if kind == "blur" else ()
        self.unet = VDMUNet(
            condition_channels=2 + (len(self.edges) + 1 if self.edges else 0),
            fourier_exponents=(),
            gamma_min=gamma_min,
            gamma_max=gamma_max,
            **denoiser,
        )
        self.register_buffer("deviations", torch.ones(NODES))

    @property
    def multiple(self) -> int:
        """Height and width of images must be multiples of this."""
        return self.unet.multiple

    def forward(self, z: Tensor, gamma: Tensor, condition: Tensor, position: Tensor | None = None) -> Tensor:
        """The denoiser's prediction, (B, 1, H, W).

        Args:
            z: (B, 1, H, W) noisy residuals.
            gamma: (B,).
            condition: (B, C, H, W), what `condition` gives, or crops of it.
            position: as `VDMUNet` has it.
        """
        result: Tensor = self.unet(z, gamma, condition, position)
        return result

    def condition(self, clean: Tensor, level: Tensor) -> Tensor:
        """What the network sees beside the residual, (B, C, H, W).

        Args:
            clean: (B, 1, H, W) whole slices, air -1 and white 1.
            level: (B,) in [0, 1].
        """
        planes = [clean, (2 * level - 1).to(clean.dtype)[:, None, None, None].expand_as(clean)]
        extent, outer = measured_extent(level), clean
        for factor in self.edges:
            inner = low_pass(clean, factor * extent)
            planes.append((outer - inner) / self._deviation(level))
            outer = inner
        if self.edges:
            planes.append((clean - decayed(clean, extent, level)) / self._deviation(level))
        return torch.cat(planes, dim=1)

    def residual(self, low: Tensor, clean: Tensor, level: Tensor) -> Tensor:
        """What is diffused, (B, 1, H, W), of images and levels (B,)."""
        return (low - clean) / self._deviation(level)

    def degraded(self, residual: Tensor, clean: Tensor, level: Tensor) -> Tensor:
        """The low-quality images, the inverse of `residual`."""
        return clean + self._deviation(level) * residual

    def set_deviations(self, levels: Tensor, squared: Tensor) -> None:
        """Take `d` from pairs: levels (N,) and mean squares of `low - clean` (N,).

        A part of the levels without a pair has what lies between its neighbours.
        """
        part = (levels * NODES).long().clamp(0, NODES - 1).numpy()
        known = np.unique(part)
        found = [float(squared.numpy()[part == i].mean() ** 0.5) for i in known]
        self.deviations.copy_(torch.from_numpy(np.interp(np.arange(NODES), known, found)).clamp(min=SMALLEST))

    def _deviation(self, level: Tensor) -> Tensor:
        """`d`, (B, 1, 1, 1): linear between the nodes, constant beyond them."""
        place = (level.float() * NODES - 0.5).clamp(0, NODES - 1)
        below = place.floor().long().clamp(max=NODES - 2)
        d = self.deviations.float()
        return torch.lerp(d[below], d[below + 1], place - below)[:, None, None, None]
