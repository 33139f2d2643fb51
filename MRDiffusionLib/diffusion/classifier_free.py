"""Classifier-free guidance with a scale for each condition.

A network trained with conditions left out at random predicts under any set of them. With `e(S)` the prediction under
the set S of conditions, a guided prediction is a sum of such predictions whose weights add up to 1; so it is the same
whether the network predicts the noise, the clean image or v.

    nested      e() + s1 [e(1) - e()] + s2 [e(1,2) - e(1)]        Brooks et al., InstructPix2Pix (2211.09800), eq. 3
    averaged    the mean of `nested` over all orders of the conditions, so that none comes first
    composable  e() + s1 [e(1) - e()] + s2 [e(2) - e()]           Liu et al., Composable Diffusion (2206.01714), eq. 11

At scale 1 for all, `nested` and `averaged` are the prediction under all conditions; `composable` is not, it takes the
conditions for independent. At 0 for all, each is the unconditional one.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

MODES = ("nested", "averaged", "composable")

Presence = tuple[bool, ...]
"""Which conditions a prediction sees, in their order."""


class ConditionalNetwork(Protocol):
    """`(z, gamma, present) -> prediction`; present is (B, conditions) bool, and gamma (B,)."""

    def __call__(self, z: Tensor, gamma: Tensor, present: Tensor, /) -> Tensor: ...


def guidance_weights(mode: str, scales: Sequence[float]) -> dict[Presence, float]:
    """The weight of each prediction in the guided one; those of weight 0 are left out. They add up to 1.

    Args:
        mode: one of `MODES`.
        scales: of each condition, in the order of `nested`; may be empty.

    Raises:
        ValueError: an unknown mode.
    """
    count = len(scales)
    if mode == "nested":
        weights = _nested(scales, range(count))
    elif mode == "averaged":
        orders = list(itertools.permutations(range(count)))
        weights = {}
        for order in orders:
            for present, weight in _nested(scales, order).items():
                weights[present] = weights.get(present, 0.0) + weight / len(orders)
    elif mode == "composable":
        weights = {(False,) * count: 1.0 - sum(scales)}
        for i, scale in enumerate(scales):
            weights[tuple(j == i for j in range(count))] = float(scale)
    else:
        raise ValueError(f"guidance {mode!r} is unknown; known are {', '.join(MODES)}")
    return {present: weight for present, weight in weights.items() if abs(weight) > 1e-12}


def _nested(scales: Sequence[float], order: Sequence[int]) -> dict[Presence, float]:
    """One condition after the other: `e(before) - e(before)` cancels where two neighbouring scales are equal."""
    weights: dict[Presence, float] = {}
    seen: set[int] = set()
    before: Presence = (False,) * len(scales)
    weights[before] = 1.0
    for i in order:
        seen.add(i)
        after = tuple(j in seen for j in range(len(scales)))
        weights[after] = weights.get(after, 0.0) + scales[i]
        weights[before] -= scales[i]
        before = after
    return weights


class ClassifierFree:
    """A network with conditions as `(z, gamma) -> prediction`, guided; its branches are one call.

    Args:
        network: sees the conditions that `present` names.
        mode, scales: as `guidance_weights`.
    """

    def __init__(self, network: ConditionalNetwork, mode: str, scales: Sequence[float]) -> None:
        self.network, self.weights = network, guidance_weights(mode, scales)

    def __call__(self, z: Tensor, gamma: Tensor) -> Tensor:
        branches = len(self.weights)
        present = torch.tensor(list(self.weights), device=z.device).repeat_interleave(len(z), dim=0)
        repeated = z.repeat(branches, *[1] * (z.ndim - 1))
        predictions = self.network(repeated, gamma.repeat(branches), present)
        parts = predictions.reshape(branches, *z.shape)
        weights = torch.tensor(list(self.weights.values()), dtype=parts.dtype, device=z.device)
        return torch.einsum("b,b...->...", weights, parts)
