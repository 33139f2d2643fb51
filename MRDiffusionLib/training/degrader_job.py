"""Training of the degrader: latent diffusion of low-quality images, given the clean one and the level (seed 000)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..diffusion.denoiser import Denoiser, per_sample
from ..diffusion.noise import SampleNoise, stream_seed
from ..diffusion.samplers import sample, step_gammas
from ..diffusion.schedule import alpha, schedule_from_dict, sigma
from ..networks.degrader import Degrader
from ..networks.unet import coordinates
from .building import building
from .config import QualityConfig
from .pairs import from_levels
from .quality_autoencoder_job import quality_autoencoder
from .quality_data import check_crops, load_pairs, save_tiles, spread
from .share import Share
from .vdm import low_discrepancy

VALIDATION_NOISE, PICTURE_NOISE = 2**21, 2**22
"""In the seeds, beside which no rank lies."""
VALIDATION_GAMMAS = (-6.0, -4.0, -2.0, 0.0, 2.0, 4.0)


class DegraderJob:
    """A `job.Job`: the latents of all pairs are computed once; training sees crops of them.

    Raises:
        InputError: an archive or an autoencoder's checkpoint that cannot be used.
        SettingError: a network or schedule that cannot be built.
    """

    def __init__(self, config: QualityConfig) -> None:
        self.config = config
        pairs, held_out = load_pairs(config)
        trained = quality_autoencoder(config.autoencoder)
        torch.manual_seed(config.seed)
        with building("the network or the schedule"):
            self.schedule = schedule_from_dict(config.schedule)
            ends = (self.schedule.gamma_min, self.schedule.gamma_max)
            self.model = Degrader(trained.settings, config.network, *ends)
        check_crops(config, pairs, self.model.multiple)
        self.autoencoder = self.model.autoencoder
        self.autoencoder.load_state_dict(trained.state_dict())
        self.autoencoder.requires_grad_(False)
        high, low = (self._latents(levels) for levels in (pairs.high, pairs.low))
        self.autoencoder.set_scale(torch.cat([high, low]).float())
        self.high, self.low = self._scaled(high), self._scaled(low)
        self.level = torch.from_numpy(pairs.level)
        self.held_out = held_out
        unet = self.model.unet.settings
        kept = ("channels", "num_res_blocks", "fold", "head_channels", "norm_groups")
        self.description: dict[str, Any] = {
            "task": config.task,
            "kind": config.kinds[0],
            "network": {name: unet[name] for name in kept},
            "schedule": self.schedule.to_dict(),
            "autoencoder": self.autoencoder.settings,
        }

    def losses(self, model: nn.Module, step: int, share: Share, device: torch.device) -> Tensor:
        """As `job.Job`: squared error of v."""
        config = self.config
        generator = torch.Generator().manual_seed(stream_seed(config.seed, share.rank, step))
        phase = config.phase_at(step)
        batch, side = share.of(phase.batch), phase.crop // self.autoencoder.factor
        index = torch.randint(len(self.level), (batch,), generator=generator)
        height, width = self.low.shape[-2:]
        position = coordinates((height, width))
        drawn = []
        for i in index:
            y, x = (int(torch.randint(n - side + 1, (), generator=generator)) for n in (height, width))
            window = (..., slice(y, y + side), slice(x, x + side))
            drawn.append((self.low[i][window], self.high[i][window], position[window]))
        # Autocast on a CPU cannot stack float16, as which the latents are kept.
        low, high, positions = (torch.stack([p.float() for p in parts]) for parts in zip(*drawn, strict=True))
        times = low_discrepancy(batch, generator)
        gamma = config.noise_levels.gammas(times, self.schedule.gamma_min, self.schedule.gamma_max)
        noise = torch.randn(low.shape, generator=generator)
        return self._errors(model, low, high, self.level[index], positions, gamma, noise, device)

    @torch.no_grad()
    def validate(self, average: nn.Module) -> dict[str, float]:
        """Squared error of v over whole held-out slices, mean over some noise levels."""
        average.eval()
        device = next(average.parameters()).device
        generator = torch.Generator().manual_seed(stream_seed(self.config.seed, VALIDATION_NOISE))
        high, low = (self._scaled(self._latents(part)) for part in (self.held_out.high, self.held_out.low))
        level, position = torch.from_numpy(self.held_out.level), coordinates((low.shape[-2], low.shape[-1]))[None]
        errors = []
        for value in VALIDATION_GAMMAS:
            noise = torch.randn(low.shape, generator=generator)
            for part in torch.arange(len(low)).split(4):
                gamma = torch.full((len(part),), value)
                inputs = (low[part].float(), high[part].float(), level[part], position, gamma, noise[part])
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
        clean = self._scaled(self._latents(shown.high)).float().to(device)
        level = torch.from_numpy(shown.level).to(device)
        draw = SampleNoise(
            [stream_seed(self.config.seed, PICTURE_NOISE, i) for i in range(len(level))], clean.shape[1:], device
        )

        def network(z: Tensor, gamma: Tensor) -> Tensor:
            v: Tensor = average(z, gamma.expand(len(z)), clean, level)
            return v.float()

        with torch.autocast(device.type, torch.bfloat16, enabled="bf16" in self.config.precision):
            made = sample(Denoiser(network, "v"), draw(), step_gammas(self.schedule, steps), draw, "ddim", eta=0.0)
            images = average.decode(made)
        save_tiles([from_levels(shown.high), from_levels(shown.low), images[:, 0]], path)

    def _errors(
        self,
        model: nn.Module,
        low: Tensor,
        high: Tensor,
        level: Tensor,
        position: Tensor,
        gamma: Tensor,
        noise: Tensor,
        device: torch.device,
    ) -> Tensor:
        values = (low, high, level, position, gamma, noise)
        low, high, level, position, gamma, noise = (value.to(device) for value in values)
        a, s = per_sample(alpha(gamma), low), per_sample(sigma(gamma), low)
        v = model(a * low + s * noise, gamma, high, level, position).float()
        return (a * noise - s * low - v).square().flatten(1).mean(1)

    @torch.no_grad()
    def _latents(self, levels: NDArray[np.uint16]) -> Tensor:
        """Unscaled latents (N, C, h, w) float16 of grey levels (N, H, W), the posterior's mean."""
        device, parts = self.autoencoder.mean.device, []
        for part in np.array_split(levels, max(1, len(levels) // 8)):
            with torch.autocast(device.type, torch.bfloat16, enabled="bf16" in self.config.precision):
                parts.append(self.autoencoder.kl.encode(from_levels(part)[:, None].to(device))[0].half().cpu())
        return torch.cat(parts)

    def _scaled(self, latents: Tensor) -> Tensor:
        mean, std = (value.cpu().view(1, -1, 1, 1) for value in (self.autoencoder.mean, self.autoencoder.std))
        return ((latents.float() - mean) / std).half()
