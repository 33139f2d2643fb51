"""What a level of degradation means, a number in [0, 1]. Level 0 is the full scan. No torch.

noise   the signal-to-noise ratio is that of the full scan times `8^-level`: at 1/3 half of it, as with a quarter of
        the averages
blur    the scan takes `4^-level` of the full scan's time: at 1/2 half of it
"""

from __future__ import annotations

import math

FULL_SNR = 50.0
"""Of white in the full scan."""


def snr_ratio(level: float) -> float:
    """The noisy scan's signal-to-noise ratio over the full scan's."""
    return 8.0 ** -_checked(level)


def acceleration(level: float) -> float:
    """The full scan's time over the fast one's."""
    return 4.0 ** _checked(level)


def added_noise(level: float) -> float:
    """Standard deviation, white being 1, that takes the full scan's noise to `snr_ratio(level)`."""
    return math.sqrt(snr_ratio(level) ** -2 - 1) / FULL_SNR


def level_of_noise(added: float) -> float:
    """The level whose `added_noise` this is, at most 1."""
    return min(1.0, math.log1p((added * FULL_SNR) ** 2) / (2 * math.log(8)))


def _checked(level: float) -> float:
    if not 0 <= level <= 1:
        raise ValueError(f"level {level:g} is outside 0 to 1")
    return level
