"""What one optimiser step is computed on: a function of (seed, rank, step) alone, hence the same after a resume."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..diffusion.noise import stream_seed
from ..diffusion.schedule import Schedule
from ..physics.fourier import fft2c, ifft2c
from .config import TrainingConfig
from .data import draw_batch
from .regression import regression_batch
from .share import Share
from .vdm import low_discrepancy

SHARED_TIMES = 2**20
"""In place of a rank, in the seed of what all processes draw alike."""


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
        times, ends = levels, (schedule.gamma_min, schedule.gamma_max)
        levels = phase.noise_levels.gammas(times, *ends)
        if phase.measured is not None:
            chosen = torch.rand(batch, generator=generator) < phase.measured.share
            noise[chosen] = spare_centre(noise[chosen], generator)
            levels = torch.where(chosen, phase.measured.noise_levels.gammas(times, *ends), levels)
    images, noise, levels, positions = (value.to(device) for value in (images, noise, levels, positions))
    losses: Tensor = model(images, noise, levels, config.loss, positions)
    return losses


def spare_centre(
    noise: Tensor, generator: torch.Generator, extent: tuple[float, float] = (0.15, 0.9), silent: float = 0.75
) -> Tensor:
    """Noise whose centre of k-space is scaled by a factor c in [0, 1), each image's by its own.

    Guided by a measurement, a sampler knows the centre far better than the rest. A prior that has only seen white noise
    cannot use that: it must be shown the centre as noisy as the rest. Trained on both, one network predicts from the
    clean centre what lies beyond it, for any matrix, and is the prior as before where all frequencies are noisy.

    Args:
        noise: (B, 1, H, W), white.
        extent: smallest and largest side of the centre, as a share of the matrix; half of the centres have the same
            share along both axes.
        silent: probability of c = 0; otherwise c is uniform.
    """
    batch = len(noise)
    both, silenced = (torch.rand(batch, generator=generator) < p for p in (0.5, silent))
    sides = extent[0] + (extent[1] - extent[0]) * torch.rand((2, batch), generator=generator)
    sides[1] = torch.where(both, sides[0], sides[1])
    factor = torch.rand(batch, generator=generator) * ~silenced
    # Lines at +-k are both inside or both outside, so that real noise stays real.
    rows, columns = (
        (torch.arange(n) - n // 2).abs() <= side[:, None] * n / 2
        for n, side in zip(noise.shape[-2:], sides, strict=True)
    )
    inside = rows[:, None, :, None] & columns[:, None, None, :]
    return ifft2c(fft2c(noise) * torch.where(inside, factor[:, None, None, None], 1.0)).real


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
