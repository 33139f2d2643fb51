"""How good the averaged model is, as numbers and as a picture, always on the same slices and noise."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from ..diffusion.denoiser import Denoiser, static_clip
from ..diffusion.noise import SampleNoise, stream_seed
from ..diffusion.samplers import sample, step_gammas
from .config import TrainingConfig
from .regression import Regression, measured_fraction, zero_filled
from .vdm import VariationalDiffusion, from_levels

VALIDATION_NOISE, PICTURE_NOISE = 2**21, 2**22
"""In the seeds of the noise, beside which no rank lies."""


def validate(model: nn.Module, held_out: Tensor, config: TrainingConfig) -> dict[str, float]:
    """The bound in bits a pixel, or the mean absolute error per measured matrix; `total` is what a run is judged by.

    Args:
        model: a `VariationalDiffusion` or a `Regression`.
        held_out: (N, 1, H, W) uint8.
    """
    if isinstance(model, VariationalDiffusion):
        generator = torch.Generator().manual_seed(stream_seed(config.seed, VALIDATION_NOISE))
        with _autocast(model, config):
            return model.bits_per_dimension(held_out, generator)
    assert isinstance(model, Regression)
    model.eval()
    scores = {f"{m[0]}x{m[1]}": _mean_absolute_error(model, held_out, m) for m in config.measured}
    return {**scores, "total": sum(scores.values()) / len(scores)}


@torch.no_grad()
def _mean_absolute_error(model: Regression, held_out: Tensor, matrix: tuple[int, int]) -> float:
    device = next(model.parameters()).device
    x = from_levels(held_out).to(device)
    fraction = torch.full((1,), measured_fraction(matrix, (x.shape[-2], x.shape[-1])), device=device)
    errors = [(model(zero_filled(part, matrix), fraction) - part).abs().flatten(1).mean(1) for part in x.split(16)]
    return torch.cat(errors).mean().item()


def picture(model: nn.Module, held_out: Tensor, path: Path, config: TrainingConfig, steps: int = 30) -> None:
    """Eight samples of the averaged model (or zero-filled, restored and true slices) side by side as one PNG."""
    model.eval()
    with torch.no_grad(), _autocast(model, config):
        if isinstance(model, VariationalDiffusion):
            images = _samples(model, held_out, config, steps)
        else:
            assert isinstance(model, Regression)
            images = _restored(model, held_out, config)
    tiles = ((images.float().cpu().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)[:, 0]
    Image.fromarray(torch.cat(list(tiles), dim=1).numpy()).save(path)


def _samples(model: VariationalDiffusion, held_out: Tensor, config: TrainingConfig, steps: int) -> Tensor:
    device = next(model.parameters()).device
    seeds = [stream_seed(config.seed, PICTURE_NOISE, i) for i in range(8)]
    draw = SampleNoise(seeds, (1, *held_out.shape[-2:]), device)
    denoise = Denoiser(model.network, model.prediction, static_clip())
    return sample(denoise, draw(), step_gammas(model.schedule, steps), draw, "ddim", eta=0.5)


def _restored(model: Regression, held_out: Tensor, config: TrainingConfig) -> Tensor:
    device = next(model.parameters()).device
    truth = from_levels(held_out[:: max(1, len(held_out) // 3)][:3]).to(device)
    filled = zero_filled(truth, config.measured[0])
    fraction = measured_fraction(config.measured[0], (truth.shape[-2], truth.shape[-1]))
    return torch.cat([filled, model(filled, torch.full((1,), fraction, device=device)), truth])


def _autocast(model: nn.Module, config: TrainingConfig) -> torch.autocast:
    return torch.autocast(next(model.parameters()).device.type, torch.bfloat16, enabled="bf16" in config.precision)
