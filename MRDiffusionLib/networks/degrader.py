"""The degrader: diffusion of what a low-quality acquisition does to a clean image (seed 000)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..physics.greys import GREYS, by_grey, mean_by_grey, sums_by_grey
from ..physics.low_pass import decayed, low_pass, measured_extent
from ..physics.transfer import BINS, lost, measured_losses, without_gaps
from ..settings import KINDS
from .unet import VDMUNet

NODES = {"noise": 20, "blur": 10}
"""Levels at which a degrader knows the residual's deviation: the middles of as many parts of 0 to 1."""
EDGES = (1.0, 0.7, 0.4)
"""Of the bands, in the extent of k-space that a scan of the level measures whatever its shape."""
ROUNDS = 4
SMALLEST = 1e-4
"""Deviation, of white at 1 and air at -1: finer than any image."""

Pairs = Sequence[tuple[Tensor, Tensor, Tensor]]
"""Clean images, low-quality ones (B, 1, H, W) and levels (B,)."""


class Degrader(nn.Module):
    """`(z, gamma, condition) -> prediction` for residuals `r = (low - expected(clean, level)) / d(level)`.

    `expected` is the mean low-quality image of a clean one: for noise the clean image and the bias of its greys, for
    blur the magnitude of what is left of it after `losses`. `d` is the root mean square of `low - expected` at that
    level, for noise of each grey. All are measured on the training pairs. So the residual has deviation one at every
    level, and nothing of the clean image is lost. At level 0 the task gives the image itself: `d` is not 0 there. The
    network works on images folded into channels, `VDMUNet`: a latent space that is an exact one.

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
    biases: Tensor
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
        if kind == "noise":
            self.register_buffer("deviations", torch.ones(NODES[kind], GREYS))
            self.register_buffer("biases", torch.zeros(NODES[kind], GREYS))
        else:
            self.register_buffer("deviations", torch.ones(NODES[kind]))
            self.register_buffer("losses", torch.zeros(NODES[kind], BINS, BINS))

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
            extent, outer, d = measured_extent(level), clean, self._deviation(clean, level)
            for factor in EDGES:
                inner = low_pass(clean, factor * extent)
                planes.append((outer - inner) / d)
                outer = inner
            planes.append((clean - decayed(clean, extent, level)) / d)
        return torch.cat(planes, dim=1)

    def expected(self, clean: Tensor, level: Tensor) -> Tensor:
        """The mean low-quality image of whole slices (B, 1, H, W) and levels (B,)."""
        if self.kind == "noise":
            return clean + by_grey(_at(self.biases, level, on=True), _white(clean)).to(clean.dtype)
        return self._filtered(clean, level).abs() - 1

    def residual(self, low: Tensor, clean: Tensor, level: Tensor) -> Tensor:
        """What is diffused, (B, 1, H, W), of whole slices and levels (B,)."""
        return (low - self.expected(clean, level)) / self._deviation(clean, level)

    def degraded(self, residual: Tensor, clean: Tensor, level: Tensor) -> Tensor:
        """The low-quality images, the inverse of `residual`."""
        return self.expected(clean, level) + self._deviation(clean, level) * residual

    def measure(self, pairs: Pairs) -> None:
        """Take `expected` and `d` from pairs.

        A part of the levels without a pair has what lies between its neighbours.
        """
        if self.kind == "noise":
            sums = [sums_by_grey(low - clean, _white(clean)) for clean, low, _level in pairs]
            self.biases.copy_(_by_part(pairs, sums, mean_by_grey, len(self.biases)))
        else:
            self._measure_losses(pairs)
        sums = [self._squares(*pair) for pair in pairs]
        mean = mean_by_grey if self.kind == "noise" else _ratio
        mean_squares = _by_part(pairs, sums, mean, len(self.deviations))
        self.deviations.copy_(mean_squares.sqrt().clamp(min=SMALLEST))

    def match(self, acquired: Pairs, residuals: Sequence[Tensor]) -> None:
        """Correct `expected` and `d` of noise until what is made of some residuals has, grey by grey, the mean and the
        deviation of acquired images. A few rounds, as images end at air.

        Args:
            residuals: as sampled for the clean images and levels of the acquired ones.
        """
        bias, deviation = self.biases.clone(), self.deviations.clone()
        self.measure(acquired)
        wanted = self.biases.clone(), self.deviations.clone()
        for _round in range(ROUNDS):
            self.biases.copy_(bias)
            self.deviations.copy_(deviation)
            made = []
            for (clean, _low, level), residual in zip(acquired, residuals, strict=True):
                made.append((clean, self.degraded(residual, clean, level).clamp(min=-1), level))
            self.measure(made)
            bias, deviation = bias + wanted[0] - self.biases, deviation * wanted[1] / self.deviations
        self.biases.copy_(bias)
        self.deviations.copy_(deviation)

    def _measure_losses(self, pairs: Pairs) -> None:
        """Take `losses` from pairs.

        A magnitude has lost its sign, which the ringing beside the object has. So after a first fit the low-quality
        images get the sign of what it predicts, for a second.
        """
        for fit in range(2):
            sums = []
            for clean, low, level in pairs:
                signed = (low + 1) * (self._filtered(clean, level).sign() if fit else 1)
                sums.append(without_gaps(*measured_losses(clean + 1, signed, measured_extent(level))))
            self.losses.copy_(_by_part(pairs, sums, _ratio, len(self.losses)))

    def _squares(self, clean: Tensor, low: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """Sums of squares of what is left and their weights, of each pair: (B, GREYS) for noise, (B,) for blur."""
        left = (low - self.expected(clean, level)).square()
        if self.kind == "noise":
            return sums_by_grey(left, _white(clean))
        means = left.mean((1, 2, 3))
        return means, torch.ones_like(means)

    def _filtered(self, clean: Tensor, level: Tensor) -> Tensor:
        """What is left after the losses, air 0, with its sign."""
        return clean + 1 - lost(clean + 1, _at(self.losses, level), measured_extent(level))

    def _deviation(self, clean: Tensor, level: Tensor) -> Tensor:
        """`d`, (B, 1, H, W) for noise and (B, 1, 1, 1) for blur."""
        if self.kind == "blur":
            return _at(self.deviations, level)[:, None, None, None]
        return by_grey(_at(self.deviations, level, on=True), _white(clean)).to(clean.dtype)


def _white(clean: Tensor) -> Tensor:
    """Air 0 and white 1."""
    return ((clean + 1) / 2).float()


def _at(nodes: Tensor, level: Tensor, on: bool = False) -> Tensor:
    """Values (B, ...) at levels (B,): linear between the nodes (N, ...), constant beyond them.

    Args:
        on: beyond the last node the line goes on: noise grows fast there.
    """
    place = (level.float() * len(nodes) - 0.5).clamp(0, len(nodes) - (0.5 if on else 1))
    below = place.floor().long().clamp(max=len(nodes) - 2)
    values = nodes.float()
    between = (place - below).view(-1, *[1] * (nodes.ndim - 1))
    return torch.lerp(values[below], values[below + 1], between)


def _ratio(sums: Tensor, weights: Tensor) -> Tensor:
    """Means, 0 of nothing."""
    return sums / weights.clamp(min=torch.finfo(weights.dtype).tiny)


def _by_part(
    pairs: Pairs,
    sums: Sequence[tuple[Tensor, Tensor]],
    mean: Callable[[Tensor, Tensor], Tensor],
    nodes: int,
) -> Tensor:
    """The mean of each part of the levels, (nodes, ...), from sums and weights (B, ...) of all pairs."""
    part = torch.cat([(level * nodes).long().clamp(0, nodes - 1) for *_images, level in pairs])
    known = part.unique()
    totals = []
    for values in map(torch.cat, zip(*sums, strict=True)):
        totals.append(values.new_zeros((nodes, *values.shape[1:])).index_add_(0, part, values)[known])
    found = mean(totals[0], totals[1])
    mixed = [np.interp(np.arange(nodes), known.numpy(), row) for row in np.eye(len(known))]
    return torch.einsum("kn,k...->n...", torch.from_numpy(np.stack(mixed)).to(found), found)
