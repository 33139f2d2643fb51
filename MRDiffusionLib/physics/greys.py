"""What noisy scans do to each grey level on average, by level of white from 0 to 1.

A table (Q,) has white's square roots at even steps: fine towards air, where the bias of a magnitude changes fast.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

GREYS = 24
FEWEST = 200
"""Pixels that make a mean."""


def by_grey(table: Tensor, image: Tensor) -> Tensor:
    """The table's values at the greys of images, (B, 1, H, W): linear between its nodes, constant beyond white.

    Args:
        table: (B, Q), of the images' type.
        image: (B, 1, H, W), air 0 and white 1.
    """
    below, share = _places(image, GREYS)
    flat = below.flatten(1)
    values = [table.gather(1, index).view_as(image) for index in (flat, flat + 1)]
    return torch.lerp(values[0], values[1], share)


def sums_by_grey(values: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of values and of weights at each node, (B, Q) each: a pixel counts for both nodes beside its grey.

    Args:
        values: (B, 1, H, W), at the pixels of the image.
        image: as in `by_grey`.
    """
    below, share = _places(image.double(), GREYS)
    shape = (len(image), GREYS)
    sums, weights = values.new_zeros(shape, dtype=torch.double), values.new_zeros(shape, dtype=torch.double)
    for index, weight in ((below, 1 - share), (below + 1, share)):
        index, weight = index.flatten(1), weight.flatten(1)
        sums.scatter_add_(1, index, weight * values.flatten(1))
        weights.scatter_add_(1, index, weight)
    return sums, weights


def mean_by_grey(sums: Tensor, weights: Tensor) -> Tensor:
    """The table (..., Q) of `sums_by_grey`. A grey that hardly occurs has what lies between its neighbours."""
    tables = []
    for row, weight in zip(sums.reshape(-1, GREYS).numpy(), weights.reshape(-1, GREYS).numpy(), strict=True):
        known = weight >= min(FEWEST, weight.max())
        tables.append(np.interp(np.arange(GREYS), np.flatnonzero(known), row[known] / weight[known]))
    return torch.from_numpy(np.stack(tables)).view_as(sums).to(sums)


def _places(image: Tensor, nodes: int) -> tuple[Tensor, Tensor]:
    """The node below each pixel, and how far it lies towards the next."""
    place = image.clamp(0, 1).sqrt() * (nodes - 1)
    below = place.long().clamp(max=nodes - 2)
    return below, place - below
