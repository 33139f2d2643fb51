"""Training images: a NumPy archive of slices in memory, split by subject, drawn by step number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..networks.unet import coordinates


def load_slices(path: str | Path, subjects: tuple[int, int]) -> Tensor:
    """Slices of the subjects first..last as (N, 1, H, W) uint8.

    The archive holds `images` (N, H, W) uint8 and `subject` (N,). Raises ValueError where it does not.
    """
    with np.load(path, allow_pickle=False) as archive:
        missing = {"images", "subject"} - set(archive.files)
        if missing:
            raise ValueError(f"{path} has no array {' or '.join(sorted(missing))}; it needs images and subject")
        images, subject = archive["images"], archive["subject"]
    if images.dtype != np.uint8 or images.ndim != 3:
        raise ValueError(f"{path}: images is {images.dtype} {images.shape}; it must be uint8 (N, H, W)")
    chosen = images[(subject >= subjects[0]) & (subject <= subjects[1])]
    if not len(chosen):
        raise ValueError(f"{path} has no slice of subjects {subjects[0]} to {subjects[1]}")
    return torch.from_numpy(np.ascontiguousarray(chosen))[:, None]


def draw_batch(
    slices: Tensor, batch: int, crop: int, generator: torch.Generator, shift: int = 6, gain: Sequence[float] = (0.8, 1.0)
) -> tuple[Tensor, Tensor]:
    """A random batch: images (B, 1, crop, crop) in [-1, 1] and their coordinates (B, 2, crop, crop).

    Each image is a random slice, mirrored left to right with probability 1/2, moved by up to `shift` pixels (the
    border is air) and multiplied by a gain; no interpolation, which would smooth what the prior has to learn.
    """
    height, width = slices.shape[-2:]
    if crop > min(height, width):
        raise ValueError(f"crop {crop} is larger than the {height}x{width} images")
    position = coordinates((height, width))
    index = torch.randint(len(slices), (batch,), generator=generator)
    images, positions = [], []
    for i in index:
        mirror, dy, dx, y, x = (int(torch.randint(n, (), generator=generator)) for n in _ranges(shift, crop, height, width))
        factor = gain[0] + (gain[1] - gain[0]) * float(torch.rand((), generator=generator))
        image = torch.roll(slices[i].float(), (dy - shift, dx - shift), dims=(-2, -1))
        image = image.flip(-1) if mirror else image
        window = (..., slice(y, y + crop), slice(x, x + crop))
        images.append(image[window] * (factor * 2 / 255) - 1)
        positions.append(position[window])
    return torch.stack(images), torch.stack(positions)


def _ranges(shift: int, crop: int, height: int, width: int) -> tuple[int, int, int, int, int]:
    return 2, 2 * shift + 1, 2 * shift + 1, height - crop + 1, width - crop + 1
