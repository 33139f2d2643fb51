"""How the weights move: learning rate, averaged weights, the learned schedule's own gradient."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .config import RunConfig


def learning_rate(config: RunConfig, step: int) -> float:
    """Linear warm-up, then a cosine to zero over the whole run."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def moving_average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Exponential moving average of the weights whose memory grows with the run.

    `average += (1 - d) (weight - average)`, `d = min(decay, (1 + n) / (10 + n))` after n updates: with a constant decay
    the untrained weights would stay in a short run's average.
    """

    def update(average: Tensor, weight: Tensor, updates: Tensor | int) -> Tensor:
        n = float(updates)
        return torch.lerp(average, weight, 1 - min(decay, (1 + n) / (10 + n)))

    return update


def schedule_gradients(model: nn.Module, losses: Tensor) -> list[tuple[nn.Parameter, Tensor]]:
    """The learned schedule's own gradient: of the loss's variance, not of its mean (2107.00630, section 4.2).

    With pinned ends the mean does not depend on the interior in continuous time; `E[loss^2]` does, and minimising it
    makes the estimate of the bound, and so the training, less noisy.

    Args:
        model: may have a `schedule`; without one, or with a fixed one, there is nothing to do.
        losses: (B,), with their graph, which is kept.
    """
    schedule = getattr(model, "schedule", None)
    parameters = [] if schedule is None else list(schedule.parameters())
    if not parameters:
        return []
    gradients = torch.autograd.grad(losses.square().mean(), parameters, retain_graph=True, allow_unused=True)
    return [(p, g) for p, g in zip(parameters, gradients, strict=True) if g is not None]
