"""Training of the degrader's autoencoder: mean absolute error, and a little of the KL term."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..diffusion.noise import stream_seed
from ..networks.autoencoder import Autoencoder
from .autoencoder_job import kl_term, psnr
from .building import building
from .config import QualityConfig
from .pairs import from_levels
from .quality_data import check_crops, draw_pairs, load_pairs, save_tiles, spread
from .share import Share
from .start import trained


class QualityAutoencoderJob:
    """A `job.Job`: one autoencoder for high- and low-quality images.

    Raises:
        InputError: an archive that cannot be used.
        SettingError: a network that cannot be built or does not go with the images.
    """

    def __init__(self, config: QualityConfig) -> None:
        self.config = config
        self.pairs, self.held_out = load_pairs(config)
        torch.manual_seed(config.seed)
        with building("the autoencoder"):
            self.model = Autoencoder(**config.network)
        check_crops(config, self.pairs, self.model.factor)
        self.description: dict[str, Any] = {"task": config.task, "network": self.model.settings}

    def losses(self, model: nn.Module, step: int, share: Share, device: torch.device) -> Tensor:
        """As `job.Job`: mean absolute error, and a little of the KL term."""
        config = self.config
        generator = torch.Generator().manual_seed(stream_seed(config.seed, share.rank, step))
        phase = config.phase_at(step)
        batch = draw_pairs(self.pairs, share.of(phase.batch), phase.crop, generator)
        either = torch.rand(len(batch.level), generator=generator) < 0.5
        images = torch.where(either[:, None, None, None], batch.high, batch.low)
        side = phase.crop // self.model.factor
        noise = torch.randn((len(images), self.model.settings["latent_channels"], side, side), generator=generator)
        images = images.to(device)
        restored, mu, std = model(images, noise.to(device))
        error = (restored.float() - images).abs().flatten(1).mean(1)
        return error + config.kl_weight * kl_term(mu.float(), std.float())

    @torch.no_grad()
    def validate(self, average: nn.Module) -> dict[str, float]:
        """PSNR (dB, range 2) of the round trip of both images; `total` is the mean absolute error."""
        average.eval()
        assert isinstance(average, Autoencoder)
        device = next(average.parameters()).device
        scores: dict[str, float] = {}
        total = 0.0
        for name, levels in (("high", self.held_out.high), ("low", self.held_out.low)):
            images = from_levels(levels)[:, None]
            with torch.autocast(device.type, torch.bfloat16, enabled="bf16" in self.config.precision):
                parts = [average.decode(average.encode(part.to(device))).float().cpu() for part in images.split(4)]
            error = torch.cat(parts) - images
            scores[name] = psnr(error.square().mean())
            total += error.abs().mean().item() / 2
        return {**scores, "total": total}

    @torch.no_grad()
    def picture(self, average: nn.Module, path: Path) -> None:
        """Four low-quality slices above their round trip."""
        average.eval()
        assert isinstance(average, Autoencoder)
        images = from_levels(spread(self.held_out, 4).low)[:, None].to(next(average.parameters()).device)
        save_tiles([images[:, 0], average.decode(average.encode(images)).float()[:, 0]], path)


def quality_autoencoder(checkpoint: str) -> Autoencoder:
    """The averaged autoencoder of a run, without gradients. Raises InputError."""
    network = trained(checkpoint, "quality-autoencoder", Autoencoder)
    assert isinstance(network, Autoencoder)
    return network
