"""How much a run computes, told from its settings: what its time and its memory grow with. No torch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from .settings import DEFAULT_SCALE, Settings, SuperResolutionSettings, SynthesisSettings

MODES = ("nested", "averaged", "composable")
"""Of guidance with a scale for each condition (`diffusion.classifier_free`)."""

Presence = tuple[bool, ...]
"""Which conditions a prediction sees, in their order."""

BACKWARD = 3
"""A step through which a gradient goes costs as much as so many others: the way back is about twice the way there."""


def work(settings: Settings, roles: Sequence[str], slices: int, matrix: tuple[int, int]) -> float:
    """Megapixels that the network sees in a run.

    Args:
        roles: of what is given.
        slices: of the result.
        matrix: (rows, columns) of the result.
    """
    return settings.steps * settings.samples * slices * _image(settings, roles, matrix)


def at_once(settings: Settings, roles: Sequence[str], slices: int, matrix: tuple[int, int], batch: int) -> float:
    """Megapixels that the network sees in one call; `batch` as it is computed, not 0."""
    return min(batch, settings.samples * slices) * _image(settings, roles, matrix)


def branches(settings: Settings, roles: Sequence[str]) -> int:
    """Predictions that are added up to a guided one."""
    if isinstance(settings, SynthesisSettings):
        chosen = dict(settings.scales)
        return len(guidance_weights(settings.guidance, [chosen.get(role, DEFAULT_SCALE) for role in roles]))
    if isinstance(settings, SuperResolutionSettings) and settings.method == "gradient":
        return BACKWARD
    return 1


def _image(settings: Settings, roles: Sequence[str], matrix: tuple[int, int]) -> float:
    """Megapixels that the network sees for an image and a step."""
    return branches(settings, roles) * matrix[0] * matrix[1] / 1e6


def guidance_weights(mode: str, scales: Sequence[float]) -> dict[Presence, float]:
    """The weight of each prediction in the guided one; those of weight 0 are left out. They add up to 1.

    Args:
        mode: one of `MODES`.
        scales: of each condition, in the order of `nested`; may be empty.

    Raises:
        ValueError: an unknown mode.
    """
    count = len(scales)
    if mode == "nested":
        weights = _nested(scales, range(count))
    elif mode == "averaged":
        orders = list(itertools.permutations(range(count)))
        weights = {}
        for order in orders:
            for present, weight in _nested(scales, order).items():
                weights[present] = weights.get(present, 0.0) + weight / len(orders)
    elif mode == "composable":
        weights = {(False,) * count: 1.0 - sum(scales)}
        for i, scale in enumerate(scales):
            weights[tuple(j == i for j in range(count))] = float(scale)
    else:
        raise ValueError(f"guidance {mode!r} is unknown; known are {', '.join(MODES)}")
    return {present: weight for present, weight in weights.items() if abs(weight) > 1e-12}


def _nested(scales: Sequence[float], order: Sequence[int]) -> dict[Presence, float]:
    """One condition after the other: `e(before) - e(before)` cancels where two neighbouring scales are equal."""
    weights: dict[Presence, float] = {}
    seen: set[int] = set()
    before: Presence = (False,) * len(scales)
    weights[before] = 1.0
    for i in order:
        seen.add(i)
        after = tuple(j in seen for j in range(len(scales)))
        weights[after] = weights.get(after, 0.0) + scales[i]
        weights[before] -= scales[i]
        before = after
    return weights
