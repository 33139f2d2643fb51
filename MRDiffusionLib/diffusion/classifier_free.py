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

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from ..workload import guidance_weights


class ConditionalNetwork(Protocol):
    """`(z, gamma, present) -> prediction`; present is (B, conditions) bool, and gamma (B,)."""

    def __call__(self, z: Tensor, gamma: Tensor, present: Tensor, /) -> Tensor: ...


class ClassifierFree:
    """A network with conditions as `(z, gamma) -> prediction`, guided; its branches are one call.

    Args:
        network: sees the conditions that `present` names.
        mode, scales: as of `workload.guidance_weights`.
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
