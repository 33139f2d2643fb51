"""How much of each spatial frequency fast scans lose on average, by frequency over the extent that they measure.

A table of losses (Q, Q) has the frequencies `|k| / (extent * N / 2)` of both axes from 0 to `FURTHEST`, in so many
bins; what lies beyond is in the last one. Loss 0 is a frequency as it was, 1 is one that is gone.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from .fourier import fft2c, ifft2c

BINS = 32
FURTHEST = 1.5
"""Beyond the side of the fastest scan, elliptical with partial Fourier: 1.4."""


def lost(images: Tensor, losses: Tensor, extent: Tensor) -> Tensor:
    """What is lost of images (B, 1, H, W), air 0: real, of the same type.

    Args:
        losses: (B, Q, Q), or (1, Q, Q) for all.
        extent: (B,) side of the measured centre of k-space, as a share (`low_pass.measured_extent`).
    """
    ky, kx = (2 * places / FURTHEST - 1 for places in _frequencies(images, extent))
    grid = torch.stack(torch.broadcast_tensors(kx[:, None, :], ky[:, :, None]), dim=-1)
    tables = losses.float().expand(len(images), -1, -1)[:, None]
    weights = F.grid_sample(tables, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return ifft2c(fft2c(images.float()) * weights).real.to(images.dtype)


def measured_losses(clean: Tensor, low: Tensor, extent: Tensor) -> tuple[Tensor, Tensor]:
    """The least-squares table that takes clean images (B, 1, H, W) to their fast scans, as sums (B, Q, Q) each.

    `Re <C, C - L>` and `<C, C>` over the samples of a bin, with C and L the k-space of both: the first over the second,
    or over several pairs the ratio of their sums, is the table.
    """
    bins = [(places * (BINS / FURTHEST)).long().clamp(max=BINS - 1) for places in _frequencies(clean, extent)]
    index = (bins[0][:, :, None] * BINS + bins[1][:, None, :]).flatten(1)
    c, difference = fft2c(clean.double()), fft2c((clean - low).double())
    sums = []
    for values in ((c.conj() * difference).real, c.abs().square()):
        sums.append(values.new_zeros(len(clean), BINS * BINS).scatter_add_(1, index, values.flatten(1)))
    return sums[0].view(-1, BINS, BINS), sums[1].view(-1, BINS, BINS)


def without_gaps(sums: Tensor, powers: Tensor) -> tuple[Tensor, Tensor]:
    """What `measured_losses` gives, with the mean of the neighbours in bins between the samples of small images."""
    mean = functools.partial(F.avg_pool2d, kernel_size=9, stride=1, padding=4)
    filled = [torch.where(powers > 0, values, mean(values[:, None])[:, 0]) for values in (sums, powers)]
    return filled[0], filled[1]


def _frequencies(images: Tensor, extent: Tensor) -> list[Tensor]:
    """Of the rows (B, H) and columns (B, W) of k-space, 1 at the edge of what is measured."""
    axes = [(torch.arange(n, device=images.device) - n // 2).abs() / (n / 2) for n in images.shape[-2:]]
    return [axis / extent[:, None].to(axis) for axis in axes]
