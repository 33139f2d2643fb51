"""Slices of several sequences for training: chosen by patient, changed at random, all sequences of a slice alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError, SettingError
from .config import Augmentation, PairedConfig
from .paired import Paired, read_paired


@dataclass(frozen=True)
class Slices:
    """Images (N, S, H, W) uint8 and the region that matters (N, H, W) bool."""

    images: Tensor
    region: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def spread(self, count: int) -> Slices:
        """At most so many of them, evenly spread."""
        chosen = slice(0, None, max(1, len(self) // count))
        return Slices(self.images[chosen][:count], self.region[chosen][:count])


def load_split(config: PairedConfig) -> tuple[Slices, Slices, tuple[str, ...]]:
    """Training slices, validation slices, and the sequences of an archive.

    Raises:
        InputError: an archive that cannot be read; patterns that match no patient.
    """
    paired = read_paired(config.data)
    patients = sorted(set(paired.patient.tolist()))
    training, validation = split(patients, config)
    for name, found in (("train_patients", training), ("validation_patients", validation)):
        if not found:
            raise InputError(f"{name} matches no patient in {config.data}", f"It holds {', '.join(patients)}")
    train, held_out = (_slices(paired.of(chosen), config.labels) for chosen in (training, validation))
    return train, held_out.spread(config.validation_slices), paired.sequences


def split(patients: Sequence[str], config: PairedConfig) -> tuple[list[str], list[str]]:
    """The patients for training and those for validation; whom both patterns fit validates."""
    validation = matching(patients, config.validation_patients)
    return [patient for patient in matching(patients, config.train_patients) if patient not in validation], validation


def matching(patients: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """The patients that one of the patterns (* and ?) fits."""
    return [patient for patient in patients if any(fnmatchcase(patient, pattern) for pattern in patterns)]


def _slices(paired: Paired, labels: Sequence[int]) -> Slices:
    drawn = torch.from_numpy(paired.labels.astype("int32"))
    region = torch.isin(drawn, torch.tensor(labels, dtype=torch.int32)) if labels else drawn > 0
    return Slices(torch.from_numpy(paired.images), region)


def check_whole(config: PairedConfig, slices: Slices, multiple: int) -> None:
    """For a task that trains on whole slices. Raises SettingError where crops or slices do not go with the network."""
    height, width = slices.images.shape[-2:]
    if height % multiple or width % multiple:
        hint = "Prepare the archive with another --matrix"
        raise SettingError(f"the slices have {height}x{width} pixels, not multiples of {multiple}", hint)
    for phase in config.phases:
        if phase.crop != min(height, width):
            hint = f"Task {config.task} trains on whole slices: use {min(height, width)}"
            raise SettingError(f"crop = {phase.crop} is not the side of the slices", hint)


def from_grey(images: Tensor) -> Tensor:
    """uint8 grey levels to [-1, 1]."""
    return images.float() * (2 / 255) - 1


def augmented(slices: Slices, settings: Augmentation, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images (B, S, H, W) in [-1, 1] and regions (B, H, W) bool, each slice turned, scaled and moved at random."""
    batch, _, height, width = slices.images.shape
    u = torch.rand((5, batch), generator=generator) * 2 - 1
    angle, size = u[0] * math.radians(settings.rotate), 1 + settings.scale * u[1]
    mirror = torch.where(u[4] < 0, -1.0, 1.0) if settings.mirror else torch.ones(batch)
    # Rows of the map from new to old coordinates, which `affine_grid` wants in units of half the image.
    cos, sin = torch.cos(angle) / size, torch.sin(angle) / size
    theta = torch.stack(
        [
            torch.stack([mirror * cos, -sin * height / width, settings.shift * u[2] * 2 / width], dim=1),
            torch.stack([mirror * sin * width / height, cos, settings.shift * u[3] * 2 / height], dim=1),
        ],
        dim=1,
    )
    grid = F.affine_grid(theta, [batch, 1, height, width], align_corners=False)
    images = F.grid_sample(slices.images.float(), grid, mode="bicubic", padding_mode="border", align_corners=False)
    region = F.grid_sample(slices.region[:, None].float(), grid, mode="nearest", align_corners=False)
    return from_grey(images.clamp(0, 255)), region[:, 0] > 0.5


def drawn(slices: Slices, batch: int, settings: Augmentation, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A random batch, as `augmented` gives it."""
    index = torch.randint(len(slices), (batch,), generator=generator)
    return augmented(Slices(slices.images[index], slices.region[index]), settings, generator)


def recontrasted(images: Tensor, contrast: float, generator: torch.Generator) -> Tensor:
    """Images (B, S, H, W) in [-1, 1], each sequence of each slice by its own power law (`Augmentation.contrast`)."""
    if contrast == 0:
        return images
    u = torch.rand((*images.shape[:2], 1, 1), generator=generator) * 2 - 1
    return 2 * ((images + 1) / 2).clamp(min=0) ** torch.exp(u * math.log1p(contrast)) - 1


def drawn_roles(batch: int, sequences: int, drop: Sequence[float], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Which sequence is wanted (B,) and which of the others are given (B, S) bool.

    Args:
        drop: probability that each given one is left out on its own, and that all are.
    """
    target = torch.randint(sequences, (batch,), generator=generator)
    given = torch.rand((batch, sequences), generator=generator) >= drop[0]
    given &= (torch.rand(batch, generator=generator) >= drop[1])[:, None]
    given[torch.arange(batch), target] = False
    return target, given
