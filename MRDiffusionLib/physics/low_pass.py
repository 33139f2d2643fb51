"""The centre of k-space that a fast scan measures whatever its shape, and what an image shows of it."""

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
