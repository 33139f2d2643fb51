"""One interface to a network that predicts the noise, the clean image or v.

With `z = alpha x0 + sigma eps` the three are linear in each other (Salimans, Ho 2202.00512, appendix D):

    eps  ->  x0 = (z - sigma eps) / alpha
    v    ->  x0 = alpha z - sigma v          (v = alpha eps - sigma x0)
    x0   ->  eps = (z - alpha x0) / sigma
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from .schedule import alpha, sigma

Clip = Callable[[Tensor], Tensor]


class Network(Protocol):
    """What the core needs of a network: `(z, gamma) -> prediction`, z of shape (B, C, ...), gamma of shape (B,)."""

    def __call__(self, z: Tensor, gamma: Tensor, /) -> Tensor: ...


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """Shape (B,) -> (B, 1, 1, ...), to multiply a batch `like`; a scalar stays one (and so keeps like's type)."""
    return values if values.ndim == 0 else values.reshape(-1, *[1] * (like.ndim - 1))


def to_x0(prediction: Tensor, kind: str, z: Tensor, gamma: Tensor) -> Tensor:
    """The clean image that a prediction of `kind` ('eps', 'v' or 'x0') stands for; gamma of shape (B,)."""
    a, s = per_sample(alpha(gamma), z), per_sample(sigma(gamma), z)
    if kind == "eps":
        return (z - s * prediction) / a
    if kind == "v":
        return a * z - s * prediction
    if kind == "x0":
        return prediction
    raise ValueError(f"prediction {kind!r} is unknown; use 'eps', 'v' or 'x0'")


def to_eps(x0: Tensor, z: Tensor, gamma: Tensor) -> Tensor:
    """The noise that goes with a clean image: `(z - alpha x0) / sigma`; gamma of shape (B,) or ()."""
    a, s = per_sample(alpha(gamma), z), per_sample(sigma(gamma), z)
    return (z - a * x0) / s


class Denoiser:
    """`(z, gamma) -> x0`: the network's prediction as a clean image, clipped if `clip` is given.

    Args:
        network: `(z, gamma) -> prediction`, gamma of shape (B,).
        prediction: what the network predicts: 'eps', 'v' or 'x0'.
        clip: applied to the predicted clean image (`static_clip`, `dynamic_clip`), or None.

    Raises:
        ValueError: an unknown prediction.
    """

    def __init__(self, network: Network, prediction: str, clip: Clip | None = None) -> None:
        if prediction not in ("eps", "v", "x0"):
            raise ValueError(f"prediction {prediction!r} is unknown; use 'eps', 'v' or 'x0'")
        self.network, self.prediction, self.clip = network, prediction, clip

    def __call__(self, z: Tensor, gamma: Tensor) -> Tensor:
        x0 = to_x0(self.network(z, gamma).to(z.dtype), self.prediction, z, gamma)
        return x0 if self.clip is None else self.clip(x0)


def static_clip(low: float = -1.0, high: float = 1.0) -> Clip:
    """Clip the predicted clean image to a fixed range (pixel space only: latents have no bounds).

    Raises:
        ValueError: an empty range.
    """
    if not low < high:
        raise ValueError(f"the range {low} to {high} is empty")
    return lambda x0: x0.clamp(low, high)


def dynamic_clip(quantile: float = 0.995, floor: float = 1.0) -> Clip:
    """Dynamic thresholding (Saharia et al. 2205.11487, section 2.3), per sample.

    `s = max(floor, quantile of |x0|)`, then `x0 <- clip(x0, -s, s) / s * floor`: the result lies in [-floor, floor].

    Raises:
        ValueError: a quantile outside (0, 1], a floor that is not above 0.
    """

    if not 0 < quantile <= 1:
        raise ValueError(f"quantile = {quantile} is outside (0, 1]")
    if not floor > 0:
        raise ValueError(f"floor = {floor} is not above 0")

    def clip(x0: Tensor) -> Tensor:
        # One sample at a time: torch.quantile refuses more than 2^24 numbers at once.
        limits = [torch.quantile(sample.detach().abs().flatten().float(), quantile) for sample in x0]
        s = per_sample(torch.stack(limits).clamp(min=floor).to(x0.dtype), x0)
        return torch.maximum(torch.minimum(x0, s), -s) / s * floor

    return clip
