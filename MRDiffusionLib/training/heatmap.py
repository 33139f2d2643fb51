"""The heatmap loss of CMRDiff (Xie et al., Proc. ISMRM 2024, 0384), which its abstract names and does not define.

    L = sum W |error|^2 / sum W,    W = 1 + factor h (1 + poor clip(e / mean(e) - 1, 0, 1))

h is the labelled region, averaged over each latent pixel and blurred; e is |error|^2, averaged over channels and over
neighbourhoods, without gradient: where it is above its mean over the slice, the region performs poorly and counts more.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .config import Heatmap

NEIGHBOURHOOD = 5
"""Side of the square of latent pixels over which the error is averaged."""


def heat(region: Tensor, factor: int, smooth: float) -> Tensor:
    """h: regions (B, H, W) bool to (B, H / factor, W / factor) in [0, 1]."""
    pooled = F.avg_pool2d(region[:, None].float(), factor)
    if smooth > 0:
        reach = max(1, round(3 * smooth))
        taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=region.device) / smooth) ** 2)
        taps = taps / taps.sum()
        pooled = F.conv2d(F.pad(pooled, (reach, reach, 0, 0), mode="replicate"), taps.view(1, 1, 1, -1))
        pooled = F.conv2d(F.pad(pooled, (0, 0, reach, reach), mode="replicate"), taps.view(1, 1, -1, 1))
    return pooled[:, 0]


def weighted_error(error: Tensor, h: Tensor, settings: Heatmap | None) -> Tensor:
    """The loss of each latent, (B,).

    Args:
        error: squared error (B, C, h, w).
        h: as `heat` gives it, (B, h, w).
        settings: None for the plain mean.
    """
    if settings is None:
        return error.flatten(1).mean(1)
    each = error.mean(1)
    local = F.avg_pool2d(each.detach()[:, None], NEIGHBOURHOOD, 1, NEIGHBOURHOOD // 2, count_include_pad=False)[:, 0]
    worse = (local / local.mean((1, 2), keepdim=True).clamp(min=1e-12) - 1).clamp(0, 1)
    weight = 1 + settings.factor * h * (1 + settings.poor * worse)
    return (weight * each).flatten(1).sum(1) / weight.flatten(1).sum(1)
