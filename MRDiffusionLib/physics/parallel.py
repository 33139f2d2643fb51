"""Parallel imaging: the sensitivities of a coil array, and how SENSE distributes the noise over the image."""

from __future__ import annotations

import math

import torch
from torch import Tensor

COILS = 8
DISTANCE = 0.75
"""Of the coils' centres from the middle, in fields of view."""
REACH = 0.4
"""Radius of a coil, in fields of view: how slowly its sensitivity falls off."""


def sensitivities(y: Tensor, x: Tensor, coils: int = COILS) -> Tensor:
    """What each coil of a ring around the head sees at some places, (coils, ...) complex64.

    The magnitude falls off as the field on the axis of a loop, `(1 + d^2 / r^2)^(-3/2)`; the phase turns with the
    direction of the coil, which is what tells neighbouring coils apart inside the head.

    Args:
        y, x: places in fields of view from the middle, (...).
        coils: evenly spread on a circle of radius `DISTANCE`.
    """
    angles = 2 * math.pi * torch.arange(coils, device=y.device).reshape(-1, *[1] * y.ndim) / coils
    dy, dx = y - DISTANCE * torch.sin(angles), x - DISTANCE * torch.cos(angles)
    magnitude = (1 + (dy**2 + dx**2) / REACH**2) ** -1.5
    return torch.polar(magnitude, torch.atan2(dy, dx) + angles)


def g_factor(matrix: tuple[int, int], factor: int, axis: int = 0, coils: int = COILS) -> Tensor:
    """The noise amplification of a SENSE reconstruction, (rows, columns), 1 or more.

    Pruessmann et al., Magn Reson Med 1999; 42:952, eq. 23, with uncorrelated noise of the coils: where `factor` places
    fold onto each other and S (coils x factor) holds the coils' sensitivities there,
    `g_i = sqrt([(S^H S)^-1]_ii [S^H S]_ii)`.

    Args:
        factor: how many times fewer lines are measured along `axis`, 1 to `coils`.
        axis: 0 rows, 1 columns.

    Raises:
        ValueError: a factor outside 1..coils.
    """
    if not 1 <= factor <= coils:
        raise ValueError(f"a factor of {factor} is outside 1 to {coils}, the number of coils")
    places = [(torch.arange(n, dtype=torch.float64) - n // 2) / n for n in matrix]
    folded = []
    for fold in range(factor):
        moved = list(places)
        # Places a field of view apart are one: k-space is sampled that finely.
        moved[axis] = (places[axis] + fold / factor + 0.5) % 1 - 0.5
        y, x = torch.meshgrid(*moved, indexing="ij")
        folded.append(sensitivities(y, x, coils))
    s = torch.stack(folded, dim=-1).permute(1, 2, 0, 3)
    gram = s.mH @ s
    return (torch.linalg.inv(gram)[..., 0, 0].real * gram[..., 0, 0].real).clamp(min=1).sqrt().float()
