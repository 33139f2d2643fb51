"""The degrader: diffusion of what a low-quality acquisition does to a clean image (seed 000)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..physics.low_pass import decayed, low_pass, measured_extent
from ..physics.transfer import BINS, lost, measured_losses, without_gaps
from ..settings import KINDS
from .unet import VDMUNet

NODES = 10
"""Levels at which a degrader knows the residual's deviation: the middles of as many parts of 0 to 1."""
EDGES = (1.0, 0.7, 0.4)
"""Of the bands, in the extent of k-space that a scan of the level measures whatever its shape."""
SMALLEST = 1e-4
"""Deviation, of white at 1 and air at -1: finer than any image."""


class Degrader(nn.Module):
    """`(z, gamma, condition) -> prediction` for residuals `r = (low - expected(clean, level)) / d(level)`.

    `expected` is the mean low-quality image of a clean one: for noise the clean image, for blur the magnitude of what
    is left of it after `losses`, which are measured on the training pairs. `d` is the root mean square of
    `low - expected` at that level, of those pairs. So the residual has deviation one at every level, and nothing of the
    clean image is lost. At level 0 the task gives the image itself: `d` is not 0 there. The network works on images
    folded into channels, `VDMUNet`: a latent space that is an exact one.

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
    losses: Tensor

    def __init__(self, kind: str, denoiser: Mapping[str, Any], gamma_min: float, gamma_max: float) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"kind = {kind} makes no network")
        self.kind = kind
        self.unet = VDMUNet(
            condition_channels=2 + (len(EDGES) + 1 if kind == "blur" else 0),
            fourier_exponents=(),
            gamma_min=gamma_min,
            gamma_max=gamma_max,
            **denoiser,
        )
        self.register_buffer("deviations", torch.ones(NODES))
        if kind == "blur":
            self.register_buffer("losses", torch.zeros(NODES, BINS, BINS))

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
        if self.kind == "blur":
            extent, outer, d = measured_extent(level), clean, self._deviation(level)
            for factor in EDGES:
                inner = low_pass(clean, factor * extent)
                planes.append((outer - inner) / d)
                outer = inner
            planes.append((clean - decayed(clean, extent, level)) / d)
        return torch.cat(planes, dim=1)

    def expected(self, clean: Tensor, level: Tensor) -> Tensor:
        """The mean low-quality image of whole slices (B, 1, H, W) and levels (B,)."""
        return clean if self.kind == "noise" else self._filtered(clean, level).abs() - 1

    def residual(self, low: Tensor, clean: Tensor, level: Tensor) -> Tensor:
        """What is diffused, (B, 1, H, W), of whole slices and levels (B,)."""
        return (low - self.expected(clean, level)) / self._deviation(level)

    def degraded(self, residual: Tensor, clean: Tensor, level: Tensor) -> Tensor:
        """The low-quality images, the inverse of `residual`."""
        return self.expected(clean, level) + self._deviation(level) * residual

    def set_deviations(self, levels: Tensor, squared: Tensor) -> None:
        """Take `d` from pairs: levels (N,) and mean squares of `low - expected` (N,).

        A part of the levels without a pair has what lies between its neighbours.
        """
        self.deviations.copy_(_by_part(levels, squared, torch.ones_like(squared)).sqrt().clamp(min=SMALLEST))

    def set_losses(self, pairs: Sequence[tuple[Tensor, Tensor, Tensor]]) -> None:
        """Take `losses` from pairs (clean, low, level), each one or more images (B, 1, H, W) and levels (B,).

        A magnitude has lost its sign, which the ringing beside the object has. So after a first fit the low-quality
        images get the sign of what it predicts, for a second.
        """
        levels = torch.cat([level for *_images, level in pairs])
        for fit in range(2):
            sums = []
            for clean, low, level in pairs:
                signed = (low + 1) * (self._filtered(clean, level).sign() if fit else 1)
                sums.append(measured_losses(clean + 1, signed, measured_extent(level)))
            self.losses.copy_(_by_part(levels, *without_gaps(*map(torch.cat, zip(*sums, strict=True)))))

    def _filtered(self, clean: Tensor, level: Tensor) -> Tensor:
        """What is left after the losses, air 0, with its sign."""
        return clean + 1 - lost(clean + 1, _at(self.losses, level), measured_extent(level))

    def _deviation(self, level: Tensor) -> Tensor:
        """`d`, (B, 1, 1, 1)."""
        return _at(self.deviations, level)[:, None, None, None]


def _at(nodes: Tensor, level: Tensor) -> Tensor:
    """Values (B, ...) at levels (B,): linear between the nodes (NODES, ...), constant beyond them."""
    place = (level.float() * NODES - 0.5).clamp(0, NODES - 1)
    below = place.floor().long().clamp(max=NODES - 2)
    values = nodes.float()
    between = (place - below).view(-1, *[1] * (nodes.ndim - 1))
    return torch.lerp(values[below], values[below + 1], between)


def _by_part(levels: Tensor, sums: Tensor, weights: Tensor) -> Tensor:
    """Sums over weights (N, ...) in each part of the levels (N,): (NODES, ...), interpolated where a part has none."""
    part = (levels * NODES).long().clamp(0, NODES - 1)
    known = part.unique()
    shape = (NODES, *sums.shape[1:])
    totals, powers = (values.new_zeros(shape).index_add_(0, part, values)[known] for values in (sums, weights))
    found = totals / powers.clamp(min=torch.finfo(powers.dtype).tiny)
    mixed = [np.interp(np.arange(NODES), known.numpy(), row) for row in np.eye(len(known))]
    return torch.einsum("kn,k...->n...", torch.from_numpy(np.stack(mixed)).to(found), found)
