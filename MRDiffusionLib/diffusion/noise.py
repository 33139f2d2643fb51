"""One random stream per sample, so that a sample does not depend on its neighbours in the batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def stream_seed(*key: int) -> int:
    """A 63-bit seed from non-negative integers (the user's seed, slice number, sample number, ...).

    NumPy's SeedSequence mixes them, so that neighbouring keys give unrelated streams. It reads a key as a row of 32-bit
    words that goes on in zeros, so (7,) and (7, 0) are one key: give all keys of one purpose the same length.

    Raises:
        ValueError: a negative part.
    """
    if any(k < 0 for k in key):
        raise ValueError(f"seed {key} has a negative part; seeds are non-negative integers")
    if all(k < 2**32 for k in key):
        sequence = np.random.SeedSequence(key)
    else:
        # A larger part takes two words and would be read as two parts: (2**32, 5) would be (0, 1, 5).
        words = [word for k in key for word in (k % 2**32, k // 2**32)]
        sequence = np.random.SeedSequence(words, spawn_key=(len(key),))
    return int(sequence.generate_state(1, np.uint64)[0] >> 1)


class SampleNoise:
    """Draws (B, *shape) standard normal noise in float32, one generator per sample.

    The numbers are drawn on the CPU and then moved, so a seed gives the same noise on every device, alone or in a
    batch.

    Args:
        seeds: one integer per sample (`stream_seed`).
        shape: shape of one sample, (C, ...).
        device: where the noise is wanted.
    """

    def __init__(self, seeds: Sequence[int], shape: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
        self.shape, self.device = tuple(shape), device

    def __call__(self) -> Tensor:
        draws = [torch.randn(self.shape, generator=generator) for generator in self.generators]
        return torch.stack(draws).to(self.device)
