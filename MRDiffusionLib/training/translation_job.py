"""The baselines of synthesis: a one-pass U-Net, and the same with an adversarial loss (pix2pix).

pix2pix: Isola et al. 1611.07004, eq. 4: mean absolute error plus the loss of a discriminator that sees the given images
and the made or the true one, patch by patch. Here the discriminator's loss is the hinge (Lim, Ye 1705.02894).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from monai.networks.nets import PatchDiscriminator
from PIL import Image
from torch import Tensor, nn

from ..diffusion.noise import stream_seed
from ..networks.translation import TranslationUNet, slots
from .autoencoder_job import region_error
from .building import building
from .config import PairedConfig
from .paired_slices import check_whole, drawn, drawn_roles, from_grey, load_split, recontrasted
from .share import Share


class Translation(nn.Module):
    """A U-Net and, for an adversarial loss, its discriminator; `forward` gives the losses of both, added.

    One optimiser trains both: the U-Net's adversarial loss sees the discriminator's weights as constants, and the
    discriminator's loss sees the made image as one.
    """

    def __init__(self, unet: TranslationUNet, adversarial: float, region_weight: float) -> None:
        super().__init__()
        self.unet, self.adversarial, self.region_weight = unet, adversarial, region_weight
        self.discriminator: nn.Module | None = None
        if adversarial:
            self.discriminator = PatchDiscriminator(
                spatial_dims=2,
                channels=32,
                in_channels=3 * unet.settings["sequences"] + 1,
                num_layers_d=3,
                norm="INSTANCE",
            )

    def forward(self, images: Tensor, shown: Tensor, present: Tensor, target: Tensor, region: Tensor) -> Tensor:
        """Losses (B,); shapes as `TranslationUNet.forward` has them, region (B, H, W).

        Args:
            shown: the images as the network sees them.
        """
        truth = images[torch.arange(len(images)), target][:, None]
        made = self.unet(shown, present, target).float()
        loss = region_error(made - truth, region, self.region_weight)
        if self.discriminator is None:
            return loss
        given = slots(shown, present, target)
        constants = {name: value.detach() for name, value in self.discriminator.named_parameters()}
        fooled = torch.func.functional_call(self.discriminator, constants, (torch.cat([given, made], dim=1),))[-1]
        real = self.discriminator(torch.cat([given, truth], dim=1))[-1].float()
        fake = self.discriminator(torch.cat([given, made.detach()], dim=1))[-1].float()
        hinge = (1 - real).clamp(min=0).flatten(1).mean(1) + (1 + fake).clamp(min=0).flatten(1).mean(1)
        return loss - self.adversarial * fooled.float().flatten(1).mean(1) + hinge


class TranslationJob:
    """A `job.Job`.

    Raises:
        InputError: an archive that cannot be used.
        SettingError: a network that cannot be built.
    """

    def __init__(self, config: PairedConfig) -> None:
        self.config = config
        self.slices, self.held_out, self.sequences = load_split(config)
        torch.manual_seed(config.seed)
        with building("the network"):
            unet = TranslationUNet(sequences=len(self.sequences), **config.network)
        check_whole(config, self.slices, unet.multiple)
        self.model = Translation(unet, config.adversarial, config.region_weight)
        self.description: dict[str, Any] = {
            "task": config.task,
            "network": unet.settings,
            "adversarial": bool(config.adversarial),
        }

    def losses(self, model: nn.Module, step: int, share: Share, device: torch.device) -> Tensor:
        """As `job.Job`."""
        config = self.config
        generator = torch.Generator().manual_seed(stream_seed(config.seed, share.rank, step))
        batch = share.of(config.phase_at(step).batch)
        images, region = drawn(self.slices, batch, config.augmentation, generator)
        target, present = drawn_roles(batch, len(self.sequences), config.drop, generator)
        shown = recontrasted(images, config.augmentation.contrast, generator)
        values = (images, shown, present, target, region)
        losses: Tensor = model(*(value.to(device) for value in values))
        return losses

    @torch.no_grad()
    def validate(self, average: nn.Module) -> dict[str, float]:
        """Mean absolute error of each direction, all others given; the adversarial loss does not count."""
        average.eval()
        assert isinstance(average, Translation)
        device = next(average.parameters()).device
        scores: dict[str, float] = {}
        for slot, name in enumerate(self.sequences):
            errors = []
            for images, region in zip(self.held_out.images.split(16), self.held_out.region.split(16), strict=True):
                truth = from_grey(images).to(device)
                error = self._made(average, truth, slot) - truth[:, slot : slot + 1]
                errors.append(region_error(error, region.to(device), self.config.region_weight))
            scores[name] = torch.cat(errors).mean().item()
        return {**scores, "total": sum(scores.values()) / len(scores)}

    @torch.no_grad()
    def picture(self, average: nn.Module, path: Path) -> None:
        """For each sequence as the wanted one, a row of slices: all of the archive's sequences, then the made one."""
        average.eval()
        assert isinstance(average, Translation)
        images = from_grey(self.held_out.spread(3).images)
        device = next(average.parameters()).device
        rows = []
        for slot in range(len(self.sequences)):
            made = self._made(average, images.to(device), slot).cpu()
            rows.append(torch.cat([torch.cat([*image, own[0]], dim=-1) for image, own in zip(images, made)], dim=-1))
        tiles = ((torch.cat(rows).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        Image.fromarray(tiles.numpy()).save(path)

    def _made(self, average: Translation, images: Tensor, slot: int) -> Tensor:
        present = torch.ones(images.shape[:2], dtype=torch.bool, device=images.device)
        present[:, slot] = False
        target = torch.full((len(images),), slot, device=images.device)
        with torch.autocast(images.device.type, torch.bfloat16, enabled="bf16" in self.config.precision):
            made: Tensor = average.unet(images, present, target)
        return made.float()
