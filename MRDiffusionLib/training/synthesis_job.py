"""Training of CMRDiff: latent diffusion of one sequence given others (Xie et al., Proc. ISMRM 2024, 0384)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from ..diffusion.denoiser import Denoiser, per_sample
from ..diffusion.noise import SampleNoise, stream_seed
from ..diffusion.samplers import sample, step_gammas
from ..diffusion.schedule import alpha, schedule_from_dict, sigma
from ..networks.autoencoder import Autoencoder
from ..networks.conditional import ConditionalUNet
from ..networks.features import feature_encoder
from ..packs import find_pack
from ..packs.weights import load_cmrdiff
from .building import building
from .config import Heatmap, PairedConfig, is_checkpoint
from .heatmap import heat, weighted_error
from .paired_slices import Slices, augmented, check_whole, drawn_roles, from_grey, load_split
from .share import Share
from .start import trained
from .vdm import low_discrepancy

POOL_NOISE, VALIDATION_NOISE, PICTURE_NOISE = 2**23, 2**21, 2**22
"""In the seeds, beside which no rank lies."""

VALIDATION_GAMMAS = (-6.0, -4.0, -2.0, 0.0, 2.0, 4.0)
"""Noise levels at which the held-out slices are predicted, each at all of them."""


class SynthesisModel(nn.Module):
    """Denoiser and feature encoder, which are trained together.

    Args:
        unet: of the latents; predicts v.
        features: of the images; None for a network without cross-attention.

    Attributes:
        latent_mean, latent_std: (C,), the scale of the latents that it is trained on (`Autoencoder.set_scale`).
    """

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, unet: ConditionalUNet, features: nn.Module | None, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.unet, self.features = unet, features
        self.register_buffer("latent_mean", autoencoder.mean.clone())
        self.register_buffer("latent_std", autoencoder.std.clone())

    def forward(
        self,
        z: Tensor,
        gamma: Tensor,
        conditions: Tensor,
        images: Tensor,
        present: Tensor,
        target: Tensor,
    ) -> Tensor:
        """v, (B, C, h, w); conditions are the latents (B, S, C, h, w) of the images (B, S, H, W)."""
        tokens = None if self.features is None else self.features(images)
        result: Tensor = self.unet(z, gamma, conditions, present, target, tokens)
        return result


class SynthesisJob:
    """A `job.Job`: the latents of all slices, and of augmented copies of them, are computed once, before the training.

    Raises:
        InputError: an archive or an autoencoder's checkpoint that cannot be used.
        SettingError: a network or schedule that cannot be built.
    """

    def __init__(self, config: PairedConfig) -> None:
        self.config = config
        slices, held_out, self.sequences = load_split(config)
        self.autoencoder = trained_autoencoder(config.autoencoder)
        torch.manual_seed(config.seed)
        with building("the network or the schedule"):
            self.schedule = schedule_from_dict(config.schedule)
            latent = int(self.autoencoder.settings["latent_channels"])
            features = None
            if config.features is not None:
                size = (slices.images.shape[-2], slices.images.shape[-1])
                own = config.features if "clip" in config.features else {"matrix": size, **config.features}
                features = feature_encoder(len(self.sequences), own)
            unet = ConditionalUNet(
                sequences=len(self.sequences),
                latent_channels=latent,
                feature_channels=0 if features is None else features.sequence.shape[-1],
                **config.network,
                gamma_min=self.schedule.gamma_min,
                gamma_max=self.schedule.gamma_max,
            )
        check_whole(config, slices, self.autoencoder.factor * unet.multiple)
        smooth = (config.heatmap or Heatmap()).smooth
        self.pool = Pool(augmented_copies(slices, config), self.autoencoder, smooth)
        # The held-out slices are scaled as the training ones, and judged alike in all runs.
        self.held_out = Pool(held_out, self.autoencoder, Heatmap().smooth, scale=False)
        self.model = SynthesisModel(unet, features, self.autoencoder)
        self.description = {
            "task": config.task,
            "network": unet.settings,
            "features": None if features is None else features.settings,
            "schedule": self.schedule.to_dict(),
            "autoencoder": self.autoencoder.settings,
        }

    def losses(self, model: nn.Module, step: int, share: Share, device: torch.device) -> Tensor:
        """As `job.Job`."""
        config = self.config
        generator = torch.Generator().manual_seed(stream_seed(config.seed, share.rank, step))
        batch = share.of(config.phase_at(step).batch)
        index = torch.randint(len(self.pool.images), (batch,), generator=generator)
        target, present = drawn_roles(batch, len(self.sequences), config.drop, generator)
        times = low_discrepancy(batch, generator)
        gamma = config.noise_levels.gammas(times, self.schedule.gamma_min, self.schedule.gamma_max)
        noise = torch.randn((batch, *self.pool.latents.shape[2:]), generator=generator)
        return self._errors(model, self.pool, index, target, present, gamma, noise, config.heatmap, device)

    @torch.no_grad()
    def validate(self, average: nn.Module) -> dict[str, float]:
        """Squared error of v within the labelled region's heat and outside, for each direction, all others given."""
        average.eval()
        device = next(average.parameters()).device
        generator = torch.Generator().manual_seed(stream_seed(self.config.seed, VALIDATION_NOISE))
        count, slots = self.held_out.images.shape[:2]
        index = torch.arange(count)
        scores: dict[str, float] = {}
        for slot, name in enumerate(self.sequences):
            target = torch.full((count,), slot)
            present = torch.ones(count, slots, dtype=torch.bool)
            present[:, slot] = False
            errors = []
            for level in VALIDATION_GAMMAS:
                noise = torch.randn((count, *self.held_out.latents.shape[2:]), generator=generator)
                gamma = torch.full((count,), level)
                for part in index.split(32):
                    inputs = (part, target[part], present[part], gamma[part], noise[part])
                    with torch.autocast(device.type, torch.bfloat16, enabled="bf16" in self.config.precision):
                        # Judged alike with and without a heatmap loss in training.
                        errors.append(self._errors(average, self.held_out, *inputs, Heatmap(), device))
            scores[name] = torch.cat(errors).mean().item()
        return {**scores, "total": sum(scores.values()) / slots}

    def _errors(
        self,
        model: nn.Module,
        pool: Pool,
        index: Tensor,
        target: Tensor,
        present: Tensor,
        gamma: Tensor,
        noise: Tensor,
        heatmap: Heatmap | None,
        device: torch.device,
    ) -> Tensor:
        latents, images, h = pool.latents[index].float(), from_grey(pool.images[index]), pool.heat[index].float()
        x = latents[torch.arange(len(index)), target]
        values = (x, noise, gamma, latents, images, present, target, h)
        x, noise, gamma, latents, images, present, target, h = (value.to(device) for value in values)
        a, s = per_sample(alpha(gamma), x), per_sample(sigma(gamma), x)
        v = model(a * x + s * noise, gamma, latents, images, present, target).float()
        return weighted_error((a * noise - s * x - v).square(), h, heatmap)

    @torch.no_grad()
    def picture(self, average: nn.Module, path: Path, steps: int = 20) -> None:
        """For each sequence as the wanted one, a row of slices: all of the archive's sequences, then the sample."""
        average.eval()
        assert isinstance(average, SynthesisModel)
        device = next(average.parameters()).device
        count, slots = min(3, len(self.held_out.images)), len(self.sequences)
        chosen = torch.linspace(0, len(self.held_out.images) - 1, count).round().long()
        images, latents = from_grey(self.held_out.images[chosen]), self.held_out.latents[chosen].float()
        rows = []
        for slot in range(slots):
            present = torch.ones(count, slots, dtype=torch.bool, device=device)
            present[:, slot] = False
            target = torch.full((count,), slot, device=device)
            inputs = (latents.to(device), images.to(device), present, target)
            network = _Bound(average, inputs)
            seeds = [stream_seed(self.config.seed, PICTURE_NOISE, i) for i in range(count)]
            draw = SampleNoise(seeds, latents.shape[2:], device)
            gammas = step_gammas(self.schedule, steps)
            with torch.autocast(device.type, torch.bfloat16, enabled="bf16" in self.config.precision):
                sampled = sample(Denoiser(network, "v"), draw(), gammas, draw, "ddim", eta=0.0)
                made = self.autoencoder.decode(sampled.float().cpu()).float()  # it stays on the CPU
            shown = torch.cat([torch.cat([*images[i], made[i, 0]], dim=-1) for i in range(count)], dim=-1)
            rows.append(shown)
        tiles = ((torch.cat(rows).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        Image.fromarray(tiles.numpy()).save(path)


class Pool:
    """Slices with their latents and heat.

    Attributes:
        images: (N, S, H, W) uint8.
        latents: (N, S, C, h, w) float16, scaled.
        heat: (N, h, w) float16.
    """

    def __init__(self, slices: Slices, autoencoder: Autoencoder, smooth: float, scale: bool = True) -> None:
        self.images = slices.images
        unscaled = torch.cat([_encoded(autoencoder, from_grey(part)) for part in self.images.split(16)])
        if scale:
            autoencoder.set_scale(unscaled.flatten(0, 1))
        mean, std = autoencoder.mean.view(1, 1, -1, 1, 1), autoencoder.std.view(1, 1, -1, 1, 1)
        self.latents = ((unscaled - mean) / std).half()
        parts = slices.region.split(256)
        self.heat = torch.cat([heat(part, autoencoder.factor, smooth).half() for part in parts])


@torch.no_grad()
def _encoded(autoencoder: Autoencoder, images: Tensor) -> Tensor:
    """Unscaled latents (B, S, C, h, w) of images (B, S, H, W), the posterior's mean."""
    device = next(autoencoder.parameters()).device
    with torch.autocast(device.type, torch.bfloat16):
        mu, _ = autoencoder.kl.encode(images.flatten(0, 1)[:, None].to(device))
    return mu.float().cpu().unflatten(0, images.shape[:2])


def augmented_copies(slices: Slices, config: PairedConfig) -> Slices:
    """The slices as they are, then `copies - 1` changed ones of each."""
    images, regions = [slices.images], [slices.region]
    for copy in range(1, config.copies):
        generator = torch.Generator().manual_seed(stream_seed(config.seed, POOL_NOISE, copy))
        for part in torch.arange(len(slices)).split(64):
            changed, region = augmented(
                Slices(slices.images[part], slices.region[part]), config.augmentation, generator
            )
            images.append(((changed + 1) * 127.5).round().to(torch.uint8))
            regions.append(region)
    return Slices(torch.cat(images), torch.cat(regions))


def trained_autoencoder(source: str) -> Autoencoder:
    """The autoencoder of a checkpoint (averaged) or of a synthesis pack, without gradients.

    Raises:
        InputError: a checkpoint that is missing or another one's.
        PackError: a pack that is missing or damaged.
    """
    if is_checkpoint(source):
        network = trained(source, "autoencoder", Autoencoder)
        assert isinstance(network, Autoencoder)
        return network
    autoencoder = load_cmrdiff(find_pack(source))[0].autoencoder
    autoencoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return autoencoder.eval().requires_grad_(False)


class _Bound:
    """A `SynthesisModel` with its inputs, as `(z, gamma) -> v`."""

    def __init__(self, model: SynthesisModel, inputs: tuple[Any, ...]) -> None:
        self.model, self.inputs = model, inputs

    def __call__(self, z: Tensor, gamma: Tensor) -> Tensor:
        latents, images, present, target = self.inputs
        v: Tensor = self.model(z, gamma.expand(len(z)), latents, images, present, target)
        return v.float()
