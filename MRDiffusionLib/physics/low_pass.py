"""What an image shows of a fast scan: the centre of k-space that it measures whatever its shape, and its decay."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .fourier import fft2c, ifft2c
from .levels import acceleration


def measured_extent(level: Tensor) -> Tensor:
    """Side of the centre of k-space that a scan of these levels of blur measures, as a share: `2^-level`."""
    return torch.exp(-0.5 * math.log(acceleration(1.0)) * level)


def low_pass(images: Tensor, extent: Tensor) -> Tensor:
    """Images (B, 1, H, W) with only the centre of their k-space, a share `extent` (B,) of each axis; real."""
    axes = [(torch.arange(n, device=images.device) - n // 2).abs() / (n / 2) for n in images.shape[-2:]]
    furthest = torch.maximum(axes[0][:, None], axes[1][None, :])
    mask = furthest <= extent[:, None, None, None]
    return ifft2c(fft2c(images.float()) * mask).real.to(images.dtype)


def decayed(images: Tensor, extent: Tensor, decay: Tensor) -> Tensor:
    """Images (B, 1, H, W) whose signal decays over k-space, along the rows' axis (`degradation.FastScan`); real.

    Args:
        extent: (B,) where the last lines are, as a share of the axis.
        decay: (B,) time constants until then.
    """
    rows = images.shape[-2]
    ky = (torch.arange(rows, device=images.device) - rows // 2).abs()[:, None] / (rows / 2)
    weights = torch.exp(-(decay / extent)[:, None, None, None] * ky)
    return ifft2c(fft2c(images.float()) * weights).real.to(images.dtype)
