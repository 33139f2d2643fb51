"""What one optimiser step is computed on: a function of (seed, rank, step) alone, hence the same after a resume."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..diffusion.noise import stream_seed
from ..diffusion.schedule import Schedule
from .config import TrainingConfig
from .data import draw_batch
from .regression import regression_batch
from .vdm import low_discrepancy

SHARED_TIMES = 2**20
"""In place of a rank, in the seed of what all processes draw alike."""


@dataclass(frozen=True)
class Share:
    """Which part of each batch a process computes: that of `rank` among `processes`."""

    rank: int = 0
    processes: int = 1

    def of(self, batch: int) -> int:
        """Images of a batch for one process."""
        return batch // self.processes


def prior_losses(
    model: nn.Module,
    schedule: Schedule,
    slices: Tensor,
    config: TrainingConfig,
    step: int,
    share: Share,
    device: torch.device,
) -> Tensor:
    """The losses of this process's images, (B,), of a `VariationalDiffusion` (`model`, as Fabric wrapped it)."""
    phase = config.phase_at(step)
    batch = share.of(phase.batch)
    generator = torch.Generator().manual_seed(stream_seed(config.seed, share.rank, step))
    images, positions = draw_batch(slices, batch, phase.crop, generator)
    noise = torch.randn(images.shape, generator=generator)
    levels = batch_times(config, step, share)
    if config.loss == "v":
        levels = phase.noise_levels.gammas(levels, schedule.gamma_min, schedule.gamma_max)
    images, noise, levels, positions = (value.to(device) for value in (images, noise, levels, positions))
    losses: Tensor = model(images, noise, levels, config.loss, positions)
    return losses


def batch_times(config: TrainingConfig, step: int, share: Share) -> Tensor:
    """This process's times, (B,): all processes together cover [0, 1] evenly."""
    batch = share.of(config.phase_at(step).batch)
    generator = torch.Generator().manual_seed(stream_seed(config.seed, SHARED_TIMES, step))
    return low_discrepancy(batch * share.processes, generator)[share.rank * batch : (share.rank + 1) * batch]


def regression_losses(
    model: nn.Module, slices: Tensor, config: TrainingConfig, step: int, share: Share, device: torch.device
) -> Tensor:
    """Mean absolute errors of this process's images, (B,), of a `Regression` (`model`, as Fabric wrapped it)."""
    phase = config.phase_at(step)
    generator = torch.Generator().manual_seed(stream_seed(config.seed, share.rank, step))
    images, positions = draw_batch(slices, share.of(phase.batch), min(slices.shape[-2:]), generator)
    batch = regression_batch(images, positions, phase.crop, config.measured, generator)
    filled, images, positions, fraction = (value.to(device) for value in batch)
    restored: Tensor = model(filled, fraction, positions)
    return (restored - images).abs().flatten(1).mean(1)
