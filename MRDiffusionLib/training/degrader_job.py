"""Training of the degrader: diffusion of low-quality images, given the clean one and the level (seed 000)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..diffusion.denoiser import Denoiser, per_sample
from ..diffusion.noise import SampleNoise, stream_seed
from ..diffusion.samplers import sample, step_gammas
from ..diffusion.schedule import Schedule, alpha, schedule_from_dict, sigma
from ..networks.degrader import Degrader
from ..settings import DegradationSettings
from .building import building
from .config import QualityConfig
from .pairs import Pairs, from_levels
from .quality_data import check_crops, draw_pairs, load_pairs, save_tiles, spread
from .share import Share
from .vdm import low_discrepancy

VALIDATION_NOISE, PICTURE_NOISE, MATCHING_NOISE = 2**21, 2**22, 2**23
"""In the seeds, beside which no rank lies."""
STEPS = DegradationSettings().steps
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
        with torch.no_grad():
            self.model.measure([images_and_levels(self.pairs, [i]) for i in range(len(self.pairs))])
        # Of whole slices, once: a crop does not have the slice's k-space.
        self.planes = torch.cat([self._planes(self.pairs, [i]).half() for i in range(len(self.pairs))])
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
        batch = draw_pairs(self.pairs, share.of(phase.batch), phase.crop, generator, planes=self.planes)
        times = low_discrepancy(len(batch.level), generator)
        gamma = config.noise_levels.gammas(times, self.schedule.gamma_min, self.schedule.gamma_max)
        noise = torch.randn(batch.low.shape, generator=generator)
        return self._errors(model, batch.planes, batch.position, gamma, noise, device)

    @torch.no_grad()
    def validate(self, average: nn.Module) -> dict[str, float]:
        """Squared error of v over whole held-out slices, mean over some noise levels."""
        average.eval()
        device = next(average.parameters()).device
        generator = torch.Generator().manual_seed(stream_seed(self.config.seed, VALIDATION_NOISE))
        assert isinstance(average, Degrader)
        errors = []
        for value in VALIDATION_GAMMAS:
            noise = torch.randn((len(self.held_out), 1, *self.held_out.low.shape[1:]), generator=generator)
            for part in torch.arange(len(noise)).split(4):
                gamma = torch.full((len(part),), value)
                planes = self._planes(self.held_out, part.tolist())
                with torch.autocast(device.type, torch.bfloat16, enabled="bf16" in self.config.precision):
                    errors.append(self._errors(average, planes, None, gamma, noise[part], device))
        return {"total": torch.cat(errors).mean().item()}

    @torch.no_grad()
    def picture(self, average: nn.Module, path: Path, steps: int = STEPS) -> None:
        """Four clean slices, their acquired low-quality images and the model's."""
        average.eval()
        assert isinstance(average, Degrader)
        device = next(average.parameters()).device
        shown = spread(self.held_out, 4)
        clean, _low, level = (value.to(device) for value in images_and_levels(shown, list(range(len(shown)))))
        seeds = [stream_seed(self.config.seed, PICTURE_NOISE, i) for i in range(len(level))]
        with torch.autocast(device.type, torch.bfloat16, enabled="bf16" in self.config.precision):
            residual = sampled(average, self.schedule, clean, level, seeds, steps)
        images = average.degraded(residual, clean, level)
        save_tiles([from_levels(shown.high), from_levels(shown.low), images[:, 0]], path)

    def _planes(self, pairs: Pairs, numbers: list[int]) -> Tensor:
        """Residuals and conditions of some pairs, (B, 1 + C, H, W), on the network's device."""
        device = self.model.deviations.device
        high, low, level = (value.to(device) for value in images_and_levels(pairs, numbers))
        return torch.cat([self.model.residual(low, high, level), self.model.condition(high, level)], dim=1)

    def _errors(
        self,
        model: nn.Module,
        planes: Tensor,
        position: Tensor | None,
        gamma: Tensor,
        noise: Tensor,
        device: torch.device,
    ) -> Tensor:
        planes, gamma, noise = (value.to(device) for value in (planes, gamma, noise))
        r, condition = planes[:, :1], planes[:, 1:]
        a, s = per_sample(alpha(gamma), r), per_sample(sigma(gamma), r)
        v = model(a * r + s * noise, gamma, condition, None if position is None else position.to(device)).float()
        return (a * noise - s * r - v).square().flatten(1).mean(1)


@torch.no_grad()
def sampled(
    model: Degrader, schedule: Schedule, clean: Tensor, level: Tensor, seeds: list[int], steps: int = STEPS
) -> Tensor:
    """Residuals (B, 1, H, W) of clean images, as the task samples them."""
    condition, draw = model.condition(clean, level), SampleNoise(seeds, clean.shape[1:], clean.device)

    def network(z: Tensor, gamma: Tensor) -> Tensor:
        v: Tensor = model(z, gamma.expand(len(z)), condition)
        return v.float()

    return sample(Denoiser(network, "v"), draw(), step_gammas(schedule, steps), draw, "dpmpp_2m", eta=0.0)


@torch.no_grad()
def match_moments(model: Degrader, schedule: Schedule, pairs: Pairs) -> None:
    """Make mean and deviation of every grey in sampled images those of acquired ones (`Degrader.match`).

    A network that is trained by squared error of v is a little wrong about both, and sampling adds to it: 4 % of the
    mean in air and 7 % of the deviation in the head were seen, far more than two acquisitions differ by.
    """
    acquired, residuals = [images_and_levels(pairs, [i]) for i in range(len(pairs))], []
    for i, (clean, _low, level) in enumerate(acquired):
        residuals.append(sampled(model, schedule, clean, level, [stream_seed(MATCHING_NOISE, i)]))
    model.match(acquired, residuals)


def images_and_levels(pairs: Pairs, numbers: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Clean and low-quality images (B, 1, H, W) and levels (B,) of some pairs."""
    high, low = (from_levels(levels[numbers])[:, None] for levels in (pairs.high, pairs.low))
    return high, low, torch.from_numpy(pairs.level[numbers])
