"""Training of the degrader: diffusion of low-quality images, given the clean one and the level (seed 000)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..diffusion.denoiser import Denoiser, per_sample
from ..diffusion.noise import SampleNoise, stream_seed
from ..diffusion.samplers import sample, step_gammas
from ..diffusion.schedule import alpha, schedule_from_dict, sigma
from ..networks.degrader import Degrader
from .building import building
from .config import QualityConfig
from .pairs import UNIT, Pairs, from_levels
from .quality_data import check_crops, draw_pairs, load_pairs, save_tiles, spread
from .share import Share
from .vdm import low_discrepancy

VALIDATION_NOISE, PICTURE_NOISE = 2**21, 2**22
"""In the seeds, beside which no rank lies."""
VALIDATION_GAMMAS = (-6.0, -4.0, -2.0, 0.0, 2.0, 4.0)


class DegraderJob:
    """A `job.Job`: squared error of v of the residual, on crops.

    Raises:
        InputError: an archive that cannot be used.
        SettingError: a network or schedule that cannot be built.
    """

    def __init__(self, config: QualityConfig) -> None:
        self.config = config
        self.pairs, self.held_out = load_pairs(config)
        torch.manual_seed(config.seed)
        with building("the network or the schedule"):
            self.schedule = schedule_from_dict(config.schedule)
            self.model = Degrader(config.kinds[0], config.network, self.schedule.gamma_min, self.schedule.gamma_max)
        check_crops(config, self.pairs, self.model.multiple)
        self.model.set_deviations(torch.from_numpy(self.pairs.level), mean_squares(self.pairs))
        # Of whole slices, once: a crop does not have the slice's k-space.
        self.conditions = torch.cat([self._condition(self.pairs, [i]).half() for i in range(len(self.pairs))])
        unet = self.model.unet.settings
        kept = ("channels", "num_res_blocks", "fold", "head_channels", "norm_groups")
        self.description: dict[str, Any] = {
            "task": config.task,
            "kind": config.kinds[0],
            "network": {name: unet[name] for name in kept},
            "schedule": self.schedule.to_dict(),
        }

    def losses(self, model: nn.Module, step: int, share: Share, device: torch.device) -> Tensor:
        """As `job.Job`."""
        config = self.config
        generator = torch.Generator().manual_seed(stream_seed(config.seed, share.rank, step))
        phase = config.phase_at(step)
        batch = draw_pairs(self.pairs, share.of(phase.batch), phase.crop, generator, planes=self.conditions)
        times = low_discrepancy(len(batch.level), generator)
        gamma = config.noise_levels.gammas(times, self.schedule.gamma_min, self.schedule.gamma_max)
        noise = torch.randn(batch.low.shape, generator=generator)
        residual = self.model.residual(*(value.to(device) for value in (batch.low, batch.high, batch.level)))
        return self._errors(model, residual, batch.planes, batch.position, gamma, noise, device)

    @torch.no_grad()
    def validate(self, average: nn.Module) -> dict[str, float]:
        """Squared error of v over whole held-out slices, mean over some noise levels."""
        average.eval()
        device = next(average.parameters()).device
        generator = torch.Generator().manual_seed(stream_seed(self.config.seed, VALIDATION_NOISE))
        assert isinstance(average, Degrader)
        high, low = (from_levels(levels)[:, None] for levels in (self.held_out.high, self.held_out.low))
        residual = average.residual(*(value.to(device) for value in (low, high, torch.from_numpy(self.held_out.level))))
        errors = []
        for value in VALIDATION_GAMMAS:
            noise = torch.randn(low.shape, generator=generator)
            for part in torch.arange(len(low)).split(4):
                gamma = torch.full((len(part),), value)
                condition = self._condition(self.held_out, part.tolist())
                inputs = (residual[part], condition, None, gamma, noise[part])
                with torch.autocast(device.type, torch.bfloat16, enabled="bf16" in self.config.precision):
                    errors.append(self._errors(average, *inputs, device))
        return {"total": torch.cat(errors).mean().item()}

    @torch.no_grad()
    def picture(self, average: nn.Module, path: Path, steps: int = 20) -> None:
        """Four clean slices, their acquired low-quality images and the model's."""
        average.eval()
        assert isinstance(average, Degrader)
        device = next(average.parameters()).device
        shown = spread(self.held_out, 4)
        clean = from_levels(shown.high)[:, None].to(device)
        level = torch.from_numpy(shown.level).to(device)
        condition = average.condition(clean, level)
        draw = SampleNoise(
            [stream_seed(self.config.seed, PICTURE_NOISE, i) for i in range(len(level))], clean.shape[1:], device
        )

        def network(z: Tensor, gamma: Tensor) -> Tensor:
            v: Tensor = average(z, gamma.expand(len(z)), condition)
            return v.float()

        with torch.autocast(device.type, torch.bfloat16, enabled="bf16" in self.config.precision):
            made = sample(Denoiser(network, "v"), draw(), step_gammas(self.schedule, steps), draw, "dpmpp_2m", eta=0.0)
        images = average.degraded(made, clean, level)
        save_tiles([from_levels(shown.high), from_levels(shown.low), images[:, 0]], path)

    def _condition(self, pairs: Pairs, numbers: list[int]) -> Tensor:
        """Of some pairs, on the network's device."""
        device = self.model.deviations.device
        clean, level = from_levels(pairs.high[numbers])[:, None], torch.from_numpy(pairs.level[numbers])
        return self.model.condition(clean.to(device), level.to(device))

    def _errors(
        self,
        model: nn.Module,
        residual: Tensor,
        condition: Tensor,
        position: Tensor | None,
        gamma: Tensor,
        noise: Tensor,
        device: torch.device,
    ) -> Tensor:
        r, condition, gamma, noise = (value.to(device) for value in (residual, condition, gamma, noise))
        a, s = per_sample(alpha(gamma), r), per_sample(sigma(gamma), r)
        v = model(a * r + s * noise, gamma, condition, None if position is None else position.to(device)).float()
        return (a * noise - s * r - v).square().flatten(1).mean(1)


def mean_squares(pairs: Pairs) -> Tensor:
    """Of `low - high`, white 1 and air -1, (N,)."""
    errors = (low.astype(np.float32) - high for low, high in zip(pairs.low, pairs.high, strict=True))
    return torch.tensor([float(np.square(error * (2 / UNIT)).mean()) for error in errors])
