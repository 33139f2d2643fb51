"""Guides: what may correct the sampling between the denoiser and the step.

A guide sees the predicted clean image and the noise level and may correct either the prediction or the noisy state.
It is the only place where a task's knowledge (a measurement, a second image) enters the loop.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


class Guide:
    """A guide that changes nothing; subclasses override what they need.

    `needs_gradient`: the loop then records the gradient of `x0` with respect to `z` for `correct_prediction`
    (one backward pass through the network per step).
    """

    needs_gradient = False

    def correct_prediction(self, x0: Tensor, z: Tensor, gamma: Tensor) -> Tensor:
        """Correct the predicted clean image `x0` (B, C, ...) made from `z` at noise level `gamma` (scalar tensor)."""
        return x0

    def correct_state(self, z: Tensor, gamma: Tensor) -> Tensor:
        """Correct the noisy state at noise level `gamma` (scalar tensor): the first and after each step; last -inf."""
        return z


class Guides(Guide):
    """Several guides applied one after the other, in the order given."""

    def __init__(self, guides: Sequence[Guide]) -> None:
        self.guides = tuple(guides)
        self.needs_gradient = any(guide.needs_gradient for guide in self.guides)

    def correct_prediction(self, x0: Tensor, z: Tensor, gamma: Tensor) -> Tensor:
        for guide in self.guides:
            x0 = guide.correct_prediction(x0, z, gamma)
        return x0

    def correct_state(self, z: Tensor, gamma: Tensor) -> Tensor:
        for guide in self.guides:
            z = guide.correct_state(z, gamma)
        return z
