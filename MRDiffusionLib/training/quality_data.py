"""Pairs of high and low quality for training: crops drawn at random, levels by kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import SettingError
from ..networks.unet import coordinates
from .config import QualityConfig
from .pairs import Pairs, from_levels, read_pairs


class Batch:
    """Crops of some pairs; see `draw_pairs`."""

    def __init__(self, parts: list[tuple[Tensor, Tensor, Tensor, Tensor]], pairs: Pairs, index: list[int]) -> None:
        self.high, self.low, self.position, self.planes = (torch.stack(each) for each in zip(*parts, strict=True))
        self.level = torch.from_numpy(pairs.level[index])
        self.aligned = torch.from_numpy(pairs.aligned[index])
        self.kind = pairs.kind[index]


def draw_pairs(
    pairs: Pairs,
    batch: int,
    crop: int,
    generator: torch.Generator,
    gain: tuple[float, float] = (1.0, 1.0),
    planes: Tensor | None = None,
) -> Batch:
    """Random crops, half of them mirrored left to right: images (B, 1, crop, crop), positions (B, 2, crop, crop).

    Args:
        gain: range of the factor on the grey levels of a pair.
        planes: more of each pair, (N, C, H, W), of which the same crops are taken: (B, C, crop, crop).
    """
    height, width = pairs.low.shape[1:]
    position = coordinates((height, width))
    index = torch.randint(len(pairs), (batch,), generator=generator).tolist()
    parts = []
    for i in index:
        mirror, y, x = (
            int(torch.randint(n, (), generator=generator)) for n in (2, height - crop + 1, width - crop + 1)
        )
        window = (slice(y, y + crop), slice(x, x + crop))
        images = [from_levels(levels[i][window])[None] for levels in (pairs.high, pairs.low)]
        factor = gain[0] + (gain[1] - gain[0]) * float(torch.rand((), generator=generator))
        images = [(image + 1) * factor - 1 for image in images]
        images.append(torch.empty(0, crop, crop) if planes is None else planes[i][:, window[0], window[1]].float())
        where = position[:, window[0], window[1]]
        if mirror:
            images = [image.flip(-1) for image in images]
            where = torch.stack([where[0], -where[1].flip(-1)])
        parts.append((images[0], images[1], where, images[2]))
    return Batch(parts, pairs, index)


def levels_by_kind(level: Tensor, kind: np.ndarray[Any, Any], kinds: tuple[str, ...]) -> Tensor:
    """Levels (B, kinds): the one of its own kind for each pair, 0 for the others."""
    own = torch.from_numpy(np.stack([kind == name for name in kinds], axis=1))
    return level[:, None] * own


def load_pairs(config: QualityConfig) -> tuple[Pairs, Pairs]:
    """Training and validation pairs. Raises InputError."""
    pairs = read_pairs(config.data)
    held_out = pairs.of(config.validation_subjects, config.kinds)
    return pairs.of(config.train_subjects, config.kinds), spread(held_out, config.validation_slices)


def spread(pairs: Pairs, count: int) -> Pairs:
    """At most so many pairs, evenly spread."""
    chosen = np.zeros(len(pairs), bool)
    chosen[np.linspace(0, len(pairs) - 1, min(count, len(pairs))).round().astype(int)] = True
    return pairs.chosen(chosen)


def check_crops(config: QualityConfig, pairs: Pairs, multiple: int) -> None:
    """Raises SettingError where crops or slices do not go with the network."""
    size = pairs.low.shape[1:]
    if any(n % multiple for n in size):
        hint = "Crop or pad the images of the archive"
        raise SettingError(f"the slices have {size[0]}x{size[1]} pixels, not multiples of {multiple}", hint)
    for phase in config.phases:
        if phase.crop % multiple or phase.crop > min(size):
            hint = f"Use a multiple of {multiple}, at most {min(size)}"
            raise SettingError(f"crop = {phase.crop} does not go with the network and the images", hint)


def save_tiles(rows: list[Tensor], path: Path) -> None:
    """Rows of images (N, H, W) in [-1, 1] as a PNG."""
    tiles = torch.cat([torch.cat(list(row.cpu()), dim=1) for row in rows]).clamp(-1, 1)
    Image.fromarray(((tiles + 1) * 127.5).round().to(torch.uint8).numpy()).save(path)
