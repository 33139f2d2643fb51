"""Training pairs of high and low quality: slices in, one NumPy archive out.

The archive holds `high` and `low` (N, H, W) uint16 in ten-thousandths of white, `level` (N,) float32, `kind` (N,) text,
`subject` (N,) whole numbers, `aligned` (N,) bool, and `source` (N,) text: where the pair comes from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..diffusion.noise import stream_seed
from ..errors import InputError
from ..physics.degradation import degrade
from ..physics.faults import rigid, smooth, together
from ..settings import KINDS
from .archive import read_archive, write_archive

UNIT = 10_000
"""Of the archive's grey levels: white."""
ACQUIRED = "acquired (simulated)"

SHIFT_PIXELS, ROTATION_DEGREES, WARP_PIXELS, WARP_WIDTH = 2.0, 2.0, 1.0, 24.0
"""Of a misaligned pair: standard deviations of the rigid motion, root mean square and width of the smooth one."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """An archive in memory; the module's docstring names the arrays."""

    high: NDArray[np.uint16]
    low: NDArray[np.uint16]
    level: NDArray[np.float32]
    kind: NDArray[np.str_]
    subject: NDArray[np.int64]
    aligned: NDArray[np.bool_]
    source: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.level)

    def chosen(self, which: NDArray[np.bool_]) -> Pairs:
        """Some of the pairs."""
        return Pairs(*(getattr(self, f.name)[which] for f in fields(self)))

    def of(self, subjects: tuple[int, int], kinds: Sequence[str] = KINDS) -> Pairs:
        """The pairs of the subjects first..last and of some kinds. Raises InputError where there is none."""
        which = (self.subject >= subjects[0]) & (self.subject <= subjects[1]) & np.isin(self.kind, list(kinds))
        if not which.any():
            first, last = self.subject.min(), self.subject.max()
            held = f"It holds subjects {first} to {last}, {', '.join(sorted(set(self.kind.tolist())))}"
            raise InputError(f"there is no pair of subjects {subjects[0]} to {subjects[1]}, {' or '.join(kinds)}", held)
        return self.chosen(which)


def joined(parts: Sequence[Pairs]) -> Pairs:
    """All pairs of several archives with slices of one size."""
    return Pairs(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Pairs)))


def simulate_pairs(
    images: NDArray[np.uint8],
    subject: NDArray[np.int64],
    kinds: Sequence[str] = KINDS,
    *,
    seed: int = 0,
    misaligned: float = 0.0,
) -> Pairs:
    """One low-quality acquisition of each slice and kind, at a random level, simulated.

    Args:
        images: (N, H, W), clean slices; 255 is white.
        subject: (N,).
        misaligned: probability that the patient has moved between the two scans; the low-quality image is the moved
            one.
    """
    parts = []
    for number, kind in enumerate(kinds):
        low, levels, aligned = [], [], []
        for i, image in enumerate(images):
            generator = torch.Generator().manual_seed(stream_seed(seed, number, i))
            clean = torch.from_numpy(image).float() / 255
            level, moves = torch.rand(2, generator=generator).tolist()
            aligned.append(moves >= misaligned)
            if not aligned[-1]:
                clean = moved(clean, generator)
            low.append(to_levels(degrade(clean, kind, level, generator)))
            levels.append(level)
        parts.append(
            Pairs(
                to_levels(torch.from_numpy(images).float() / 255),
                np.stack(low),
                np.array(levels, np.float32),
                np.full(len(images), kind),
                subject.astype(np.int64),
                np.array(aligned),
                np.full(len(images), ACQUIRED),
            )
        )
    return joined(parts)


def moved(image: Tensor, generator: torch.Generator) -> Tensor:
    """A slice (H, W) of a patient who has moved, rigidly and a little otherwise."""
    size = (image.shape[-2], image.shape[-1])
    shift = (SHIFT_PIXELS * torch.randn(2, generator=generator)).tolist()
    degrees = ROTATION_DEGREES * float(torch.randn((), generator=generator))
    warp = smooth(size, WARP_PIXELS, WARP_WIDTH, generator)
    return together(rigid(size, degrees, (shift[0], shift[1])), warp).move(image)


def to_levels(images: Tensor) -> NDArray[np.uint16]:
    """Images with white 1 to the archive's grey levels."""
    return np.asarray((images * UNIT).round().clamp(0, 65535).cpu().numpy(), np.uint16)


def from_levels(levels: NDArray[np.uint16]) -> Tensor:
    """The archive's grey levels to the networks' range: air -1, white 1; (..., H, W) float32."""
    return torch.from_numpy(levels.astype(np.float32)) * (2 / UNIT) - 1


def read_pairs(path: str | Path) -> Pairs:
    """Read an archive. Raises InputError for a file that is missing or none."""
    hint = "Make it with `python -m MRDiffusionLib prepare`"
    arrays = read_archive(path, [f.name for f in fields(Pairs)], hint)
    pairs = Pairs(**arrays)
    count = len(pairs.level)
    fits = pairs.high.ndim == 3 and all(len(array) == count for array in arrays.values())
    if not fits or pairs.high.shape != pairs.low.shape or {pairs.high.dtype, pairs.low.dtype} != {np.dtype(np.uint16)}:
        shapes = ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in arrays.items())
        raise InputError(f"{path} holds {shapes}", hint)
    if not count or not set(pairs.kind.tolist()) <= set(KINDS):
        raise InputError(f"{path} holds {count} pairs of {', '.join(sorted(set(pairs.kind.tolist())))}", hint)
    return replace(pairs, subject=pairs.subject.astype(np.int64), level=pairs.level.astype(np.float32))


def write_pairs(pairs: Pairs, path: str | Path) -> None:
    """Write an archive. Raises StorageError."""
    write_archive(path, **{f.name: getattr(pairs, f.name) for f in fields(pairs)})
