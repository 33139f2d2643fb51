"""Training images: a NumPy archive of slices in memory, split by subject, drawn by step number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError
from ..networks.unet import coordinates
from .archive import read_archive


def load_slices(path: str | Path, subjects: tuple[int, int]) -> Tensor:
    """Slices of the subjects first..last as (N, 1, H, W) uint8.

    Args:
        path: an `.npz` archive with `images` (N, H, W) uint8 and `subject` (N,) whole numbers.
        subjects: first and last number, inclusive.

    Raises:
        InputError: a file that is missing or no such archive, or has no slice of these subjects.
    """
    images, subject = read_slices(path)
    chosen = images[(subject >= subjects[0]) & (subject <= subjects[1])]
    if not len(chosen):
        hint = f"It holds subjects {subject.min()} to {subject.max()}" if len(subject) else "It is empty"
        raise InputError(f"{path} has no slice of subjects {subjects[0]} to {subjects[1]}", hint)
    return torch.from_numpy(np.ascontiguousarray(chosen))[:, None]


def read_slices(path: str | Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (N, H, W) and subjects (N,) of an archive. Raises InputError as `load_slices`."""
    arrays = read_archive(path, ("images", "subject"), "Give an .npz archive with the arrays images and subject")
    images, subject = arrays["images"], arrays["subject"]
    if images.dtype != np.uint8 or images.ndim != 3:
        raise InputError(f"images in {path} is {images.dtype} {images.shape}", "It must be uint8 (N, H, W)")
    if subject.shape != images.shape[:1] or subject.dtype.kind not in "iu":
        hint = f"It must be {len(images)} whole numbers"
        raise InputError(f"subject in {path} is {subject.dtype} {subject.shape}", hint)
    return images, subject


def draw_batch(
    slices: Tensor,
    batch: int,
    crop: int,
    generator: torch.Generator,
    shift: int = 6,
    gain: Sequence[float] = (0.8, 1.0),
) -> tuple[Tensor, Tensor]:
    """A random batch: images (B, 1, crop, crop) in [-1, 1] and their coordinates (B, 2, crop, crop).

    Each image is a random slice, mirrored left to right with probability 1/2, moved by up to `shift` pixels (the
    border is air) and multiplied by a gain; no interpolation, which would smooth what the prior has to learn.

    Args:
        slices: (N, 1, H, W) uint8.
        gain: range of the factor on the grey levels.

    Raises:
        ValueError: a crop that is larger than the images.
    """
    height, width = slices.shape[-2:]
    if crop > min(height, width):
        raise ValueError(f"crop {crop} is larger than the {height}x{width} images")
    position = coordinates((height, width))
    index = torch.randint(len(slices), (batch,), generator=generator)
    images, positions = [], []
    for i in index:
        ranges = (2, 2 * shift + 1, 2 * shift + 1, height - crop + 1, width - crop + 1)
        mirror, dy, dx, y, x = (int(torch.randint(n, (), generator=generator)) for n in ranges)
        factor = gain[0] + (gain[1] - gain[0]) * float(torch.rand((), generator=generator))
        image = torch.roll(slices[i].float(), (dy - shift, dx - shift), dims=(-2, -1))
        image = image.flip(-1) if mirror else image
        window = (..., slice(y, y + crop), slice(x, x + crop))
        images.append(image[window] * (factor * 2 / 255) - 1)
        positions.append(position[window])
    return torch.stack(images), torch.stack(positions)
