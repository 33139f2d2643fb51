"""Noise of magnitude images: its level, from the air around the object, and the floor that it makes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import i0e, i1e

RAYLEIGH_MEDIAN = 1.1774100225154747  # sqrt(2 ln 2): the median of a Rayleigh distribution of sigma 1


def estimate_noise(volume: NDArray[np.float32], frame: float = 0.08, blocks: int = 4) -> float:
    """Standard deviation of the noise of a magnitude volume (slices, rows, columns), in its units; 0 for masked air.

    Air in a magnitude image follows a Rayleigh distribution of the same sigma as the Gaussian noise of each channel
    (Gudbjartsson, Patz, MRM 1995), so sigma is its median over 1.177. The frame of the field of view is cut into
    blocks; the lower quartile over the blocks leaves out those that hold anatomy or ghosts.

    Args:
        frame: width of the frame as a share of the matrix.
        blocks: blocks per side.
    """
    rows, columns = volume.shape[1:]
    high, wide = max(1, round(frame * rows)), max(1, round(frame * columns))
    sides = [
        (volume[:, :high], 2),
        (volume[:, -high:], 2),
        (volume[:, :, :wide], 1),
        (volume[:, :, -wide:], 1),
    ]
    medians = [
        np.median(np.abs(block))
        for side, axis in sides
        for block in np.array_split(side, min(blocks, side.shape[axis]), axis=axis)
    ]
    return float(np.quantile(medians, 0.25) / RAYLEIGH_MEDIAN)


def rician_mean(signal: NDArray[np.float64], sigma: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean magnitude of a signal with Gaussian noise in both channels (Gudbjartsson, Patz, MRM 1995, eq. 2).

    `sigma sqrt(pi/2) exp(-x/2) [(1 + x) I0(x/2) + x I1(x/2)]` with `x = signal^2 / (2 sigma^2)`: the noise floor where
    there is no signal, the signal where it is strong.

    Args:
        signal: 0 or more.
        sigma: of one channel, above 0.
    """
    x = signal**2 / (2 * sigma**2)
    mean: NDArray[np.float64] = sigma * np.sqrt(np.pi / 2) * ((1 + x) * i0e(x / 2) + x * i1e(x / 2))
    return mean
