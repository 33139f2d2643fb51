"""Training of the autoencoder of latent diffusion: mean absolute error, and a little of the KL term."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from ..diffusion.noise import stream_seed
from ..errors import SettingError
from ..networks.autoencoder import Autoencoder
from .building import building
from .config import PairedConfig
from .paired_slices import drawn, from_grey, load_split
from .share import Share


class AutoencoderJob:
    """A `job.Job`: one autoencoder for all sequences of an archive, each image on its own.

    Raises:
        InputError: an archive that cannot be used.
        SettingError: a network that cannot be built or does not go with the images.
    """

    def __init__(self, config: PairedConfig) -> None:
        self.config = config
        self.slices, self.held_out, self.sequences = load_split(config)
        torch.manual_seed(config.seed)
        with building("the autoencoder"):
            self.model = Autoencoder(**config.network)
        size, factor = self.slices.images.shape[-2:], self.model.factor
        if any(n % factor for n in size):
            raise SettingError(f"images of {size[0]}x{size[1]} are no multiples of {factor}", "Crop them")
        for phase in config.phases:
            if phase.crop % factor or phase.crop > min(size):
                hint = f"Use a multiple of {factor}, at most {min(size)}"
                raise SettingError(f"crop = {phase.crop} does not go with the network and the images", hint)
        self.description = {"task": config.task, "network": self.model.settings}

    def losses(self, model: nn.Module, step: int, share: Share, device: torch.device) -> Tensor:
        """As `job.Job`."""
        config = self.config
        generator = torch.Generator().manual_seed(stream_seed(config.seed, share.rank, step))
        phase = config.phase_at(step)
        batch = share.of(phase.batch)
        images, region = drawn(self.slices, batch, config.augmentation, generator)
        chosen = torch.randint(images.shape[1], (batch,), generator=generator)
        images, region = cropped(images[torch.arange(batch), chosen][:, None], region, phase.crop, generator)
        factor = self.model.factor
        shape = (batch, self.model.settings["latent_channels"], images.shape[-2] // factor, images.shape[-1] // factor)
        noise = torch.randn(shape, generator=generator)
        images, region, noise = images.to(device), region.to(device), noise.to(device)
        restored, mu, sigma = model(images, noise)
        mu, sigma = mu.float(), sigma.float()
        error = region_error(restored.float() - images, region, config.region_weight)
        return error + config.kl_weight * kl_term(mu, sigma)

    @torch.no_grad()
    def validate(self, average: nn.Module) -> dict[str, float]:
        """PSNR (dB, range 2) of the round trip, of each sequence, whole and within the region; `total` is the error."""
        average.eval()
        assert isinstance(average, Autoencoder)
        device = next(average.parameters()).device
        scores: dict[str, float] = {}
        total = 0.0
        for slot, name in enumerate(self.sequences):
            images = from_grey(self.held_out.images[:, slot : slot + 1]).to(device)
            region = self.held_out.region.to(device)
            restored = torch.cat([average.decode(average.encode(part)).float() for part in images.split(16)])
            error = (restored - images).clamp(-2, 2)
            scores[name] = psnr(error.square().mean())
            scores[f"{name} region"] = psnr(error.square()[:, 0][region].mean())
            total += region_error(error, region, self.config.region_weight).mean().item()
        return {**scores, "total": total / len(self.sequences)}

    @torch.no_grad()
    def picture(self, average: nn.Module, path: Path) -> None:
        """Three slices of each sequence above their round trip."""
        assert isinstance(average, Autoencoder)
        average.eval()
        images = from_grey(self.held_out.spread(3).images).flatten(0, 1)[:, None].to(next(average.parameters()).device)
        restored = average.decode(average.encode(images)).float()
        rows = torch.stack([images, restored])[:, :, 0].clamp(-1, 1)
        tiles = ((rows + 1) * 127.5).round().to(torch.uint8).cpu()
        Image.fromarray(torch.cat([torch.cat(list(row), dim=1) for row in tiles]).numpy()).save(path)


def cropped(images: Tensor, region: Tensor, crop: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A random square of `crop` pixels, the same of all images (B, C, H, W) and regions (B, H, W)."""
    y, x = (int(torch.randint(n - crop + 1, (), generator=generator)) for n in images.shape[-2:])
    window = (..., slice(y, y + crop), slice(x, x + crop))
    return images[window], region[window]


def region_error(error: Tensor, region: Tensor, weight: float) -> Tensor:
    """Mean absolute error (B,) of (B, 1, H, W), in which the region (B, H, W) counts `1 + weight` times."""
    weights = 1 + weight * region.to(error.dtype)
    return (error.abs()[:, 0] * weights).flatten(1).sum(1) / weights.flatten(1).sum(1)


def kl_term(mu: Tensor, sigma: Tensor) -> Tensor:
    """`KL( N(mu, sigma^2) || N(0, 1) )`, summed over each latent, (B,)."""
    return 0.5 * (mu**2 + sigma**2 - 1 - 2 * sigma.clamp(min=1e-12).log()).flatten(1).sum(1)


def psnr(mean_square: Tensor) -> float:
    """In dB, of images in [-1, 1]."""
    return 10 * math.log10(4 / max(mean_square.item(), 1e-12))
