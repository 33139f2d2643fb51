"""The enhancer: a better image from a noisy or a fast scan, slice by slice, in one pass (seed 000)."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import SettingError
from ..imaging.volume import Volume
from ..request import Request, Result
from ..settings import EnhancementSettings
from .device import place
from .image import ROLE, Image, read_image
from .models import EnhancerModel, PackCache
from .provenance import provenance
from .slicewise import Clock, chunks, resolved

if TYPE_CHECKING:
    from . import OnPreview, OnProgress

LOOKED_AT = 9
"""Slices that the level is estimated from, evenly spread."""


def run(request: Request, cache: PackCache, progress: OnProgress | None, preview: OnPreview | None) -> Result:
    """Run an enhancement request; see `tasks.run`."""
    started = time.monotonic()
    settings = request.settings
    assert isinstance(settings, EnhancementSettings)
    device, precision = place(request)
    model = cache.enhancer(request.pack, device, precision)
    if settings.kind not in model.network.kinds:
        known = ", ".join(model.network.kinds)
        raise SettingError(f"pack {model.info.name} does not mend {settings.kind}", f"It knows {known}")
    image = read_image(request.inputs[ROLE], model.info)
    level, told = settings.level, image.warnings
    if level is None:
        level = estimate_level(image, model, settings.kind)
        told = (f"The level was estimated from the image: {level:.2f}.", *told)
    settings = replace(settings, level=level)
    request = resolved(request, device, precision, len(image.array), settings=settings)
    geometry = image.geometry if request.slices is None else image.geometry.part(request.slices)
    return Result(
        volumes={"result": Volume(enhance(image, model, request, progress), geometry)},
        measurements={"level": level, "seconds": time.monotonic() - started},
        provenance=provenance(request, model.info, {ROLE: (image.sha256, image.geometry)}),
        warnings=told,
    )


def estimate_level(image: Image, model: EnhancerModel, kind: str) -> float:
    """The level of degradation of a volume: the median over slices that show something."""
    signal = [n for n in range(len(image.array)) if (image.array[n] > 0).any()]
    chosen = [signal[i] for i in np.linspace(0, len(signal) - 1, min(LOOKED_AT, len(signal))).round().astype(int)]
    weight = next(model.network.estimator.parameters())
    with torch.no_grad():
        levels = [model.network.estimator(image.slices([n], model.device).to(weight.dtype)) for n in chosen]
    return float(torch.cat(levels)[:, model.network.kinds.index(kind)].median())


def enhance(
    image: Image, model: EnhancerModel, request: Request, progress: OnProgress | None = None
) -> NDArray[np.float32]:
    """Enhanced slices (slices, rows, columns) in the image's units, in the memory of one batch.

    Args:
        request: resolved: `batch` and `settings.level` are numbers.
    """
    settings, network = request.settings, model.network
    assert isinstance(settings, EnhancementSettings) and settings.level is not None
    numbers = list(range(len(image.array))) if request.slices is None else list(request.slices)
    if settings.level == 0:
        return image.array[numbers]
    made = np.zeros((len(numbers), *image.array.shape[1:]), np.float32)
    # A slice without any signal stays empty.
    signal = [i for i, n in enumerate(numbers) if (image.array[n] > 0).any()]
    clock = Clock(len(signal), 1, 1, progress)
    position = image.position(model.device)
    levels = torch.tensor([[settings.level if kind == settings.kind else 0.0 for kind in network.kinds]])
    for chunk in chunks(signal, 1, request.batch):
        low = image.slices([numbers[i] for i in chunk], model.device)
        with torch.no_grad():
            images = network.restore(low, levels.expand(len(low), -1).to(model.device), position)
        made[chunk] = image.intensities(images)
        clock.step(len(chunk))
    return made
