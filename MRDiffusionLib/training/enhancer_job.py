"""Training of the enhancer, with soft targets of teachers where there are some (seed 000)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..diffusion.noise import stream_seed
from ..errors import SettingError
from ..networks.enhancer import Enhancer
from .autoencoder_job import psnr
from .building import building
from .config import QualityConfig
from .pairs import from_levels
from .quality_data import Batch, check_crops, draw_pairs, levels_by_kind, load_pairs, save_tiles, spread
from .share import Share
from .start import trained

GAIN = (0.75, 1.1)
"""Range of the factor on grey levels: what is white in a noisy volume is known only roughly. A level is a ratio."""
ESTIMATOR_WEIGHT = 0.05
"""Of the level's error beside the images' in the loss; the two networks share no weight."""


class EnhancerJob:
    """A `job.Job`: mean absolute error of the restored crop, and of the level that is read off it.

    With teachers: `(1 - k) |x - high| + k |x - teacher(low)|`, k = 1 for misaligned pairs (seed 000's distillation).

    Raises:
        InputError: an archive or a teacher's checkpoint that cannot be used.
        SettingError: a network that cannot be built or does not go with the images.
    """

    def __init__(self, config: QualityConfig) -> None:
        self.config = config
        self.pairs, self.held_out = load_pairs(config)
        torch.manual_seed(config.seed)
        with building("the network"):
            self.model = Enhancer(kinds=config.kinds, **config.network)
        check_crops(config, self.pairs, self.model.multiple)
        self.teachers = {kind: trained_enhancer(source) for kind, source in config.teachers.items()}
        for teacher in self.teachers.values():
            teacher.train()  # in evaluation a CPU computes images one by one, to the last bit the same, but slowly
        for kind, teacher in self.teachers.items():
            if kind not in teacher.kinds:
                raise SettingError(f"the teacher for {kind} restores {', '.join(teacher.kinds)}", "Name another")
        self.description: dict[str, Any] = {"task": config.task, "network": self.model.settings}

    def losses(self, model: nn.Module, step: int, share: Share, device: torch.device) -> Tensor:
        """As `job.Job`."""
        config = self.config
        generator = torch.Generator().manual_seed(stream_seed(config.seed, share.rank, step))
        phase = config.phase_at(step)
        batch = draw_pairs(self.pairs, share.of(phase.batch), phase.crop, generator, GAIN)
        levels = levels_by_kind(batch.level, batch.kind, config.kinds)
        soft, weight = self._soft_targets(batch, device)
        low, high, levels, position = (v.to(device) for v in (batch.low, batch.high, levels, batch.position))
        restored, estimated = model(low, levels, position)
        hard = (restored.float() - high).abs().flatten(1).mean(1)
        error = (1 - weight) * hard + weight * (restored.float() - soft).abs().flatten(1).mean(1)
        # A crop of air tells no level.
        shows = (high > -0.9).float().flatten(1).mean(1)
        return error + ESTIMATOR_WEIGHT * shows * (estimated.float() - levels).abs().mean(1)

    def _soft_targets(self, batch: Batch, device: torch.device) -> tuple[Tensor, Tensor]:
        """The teachers' images (B, 1, H, W), and their weights (B,)."""
        soft, weight = batch.low.clone(), torch.zeros(len(batch.level))
        for kind, teacher in self.teachers.items():
            own = batch.kind == kind
            if own.any():
                rows = torch.from_numpy(own)
                levels = levels_by_kind(batch.level[rows], batch.kind[own], teacher.kinds)
                with torch.no_grad():
                    made = teacher.restore(batch.low[rows], levels, batch.position[rows])
                soft[rows] = made.float()
                aligned = batch.aligned[rows]
                weight[rows] = torch.where(aligned, self.config.distillation, 1.0)
        return soft.to(device), weight.to(device)

    @torch.no_grad()
    def validate(self, average: nn.Module) -> dict[str, float]:
        """PSNR (dB, range 2) of whole held-out slices, of each kind, and the mean error of the estimated level."""
        average.eval()
        assert isinstance(average, Enhancer)
        device = next(average.parameters()).device
        scores: dict[str, float] = {}
        total = 0.0
        for kind in self.config.kinds:
            own = self.held_out.chosen(self.held_out.kind == kind)
            low, high = (from_levels(levels)[:, None] for levels in (own.low, own.high))
            levels = levels_by_kind(torch.from_numpy(own.level), own.kind, self.config.kinds)
            made, estimated = [], []
            for part in torch.arange(len(low)).split(4):
                with torch.autocast(device.type, torch.bfloat16, enabled="bf16" in self.config.precision):
                    x, guess = average(low[part].to(device), levels[part].to(device))
                made.append(x.float().cpu())
                estimated.append(guess.float().cpu())
            error = torch.cat(made) - high
            scores[kind] = psnr(error.square().mean())
            scores[f"{kind} level"] = (torch.cat(estimated) - levels).abs().mean().item()
            total += error.abs().mean().item() / len(self.config.kinds)
        return {**scores, "total": total}

    @torch.no_grad()
    def picture(self, average: nn.Module, path: Path) -> None:
        """Four low-quality slices, restored, and the high-quality ones."""
        average.eval()
        assert isinstance(average, Enhancer)
        device = next(average.parameters()).device
        shown = spread(self.held_out, 4)
        levels = levels_by_kind(torch.from_numpy(shown.level), shown.kind, self.config.kinds)
        low = from_levels(shown.low)[:, None].to(device)
        made = average.restore(low, levels.to(device))
        save_tiles([low[:, 0], made.float()[:, 0], from_levels(shown.high)], path)


def trained_enhancer(checkpoint: str) -> Enhancer:
    """The averaged enhancer of a run, without gradients. Raises InputError."""
    network = trained(checkpoint, "enhancer", Enhancer)
    assert isinstance(network, Enhancer)
    return network
