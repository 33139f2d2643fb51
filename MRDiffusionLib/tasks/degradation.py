"""The degrader: a low-quality acquisition of an image at a chosen level, slice by slice, by diffusion.

Seed 000 (Zhou, Chamberlain, "Improved deep learning MR image enhancement with synthetic images", ISMRM 2024, 2246).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..diffusion.denoiser import Denoiser
from ..diffusion.noise import SampleNoise, stream_seed
from ..diffusion.samplers import Step, sample, step_gammas
from ..errors import PackError
from ..imaging.volume import Volume
from ..request import Request, Result
from ..settings import DegradationSettings
from .device import place
from .image import ROLE, Image, read_image
from .models import DegraderModel, PackCache
from .provenance import provenance
from .slicewise import Clock, chunks, resolved

if TYPE_CHECKING:
    from . import OnPreview, OnProgress

SAMPLER = "dpmpp_2m"
"""Of second order: in 20 steps DDIM would lose 11 % of the deviation of white noise (docs/decisions.md)."""


def run(request: Request, cache: PackCache, progress: OnProgress | None, preview: OnPreview | None) -> Result:
    """Run a degradation request; see `tasks.run`."""
    started = time.monotonic()
    settings = request.settings
    assert isinstance(settings, DegradationSettings)
    device, precision = place(request)
    model = cache.degrader(request.pack, device, precision)
    if model.info.network["kind"] != settings.kind:
        hint = "Choose its kind, or another pack: python -m MRDiffusionLib packs list"
        raise PackError(f"pack {model.info.name} degrades by {model.info.network['kind']}, not {settings.kind}", hint)
    image = read_image(request.inputs[ROLE], model.info)
    request = resolved(request, device, precision, len(image.array))
    geometry = image.geometry if request.slices is None else image.geometry.part(request.slices)
    return Result(
        volumes={"result": Volume(degrade(image, model, request, progress, preview), geometry)},
        measurements={"seconds": time.monotonic() - started},
        provenance=provenance(request, model.info, {ROLE: (image.sha256, image.geometry)}),
        warnings=image.warnings,
    )


def degrade(
    image: Image,
    model: DegraderModel,
    request: Request,
    progress: OnProgress | None = None,
    preview: OnPreview | None = None,
) -> NDArray[np.float32]:
    """Degraded slices (slices, rows, columns) in the image's units, in the memory of one batch.

    Args:
        request: resolved: `batch` is a number.
    """
    settings = request.settings
    assert isinstance(settings, DegradationSettings)
    numbers = list(range(len(image.array))) if request.slices is None else list(request.slices)
    if settings.level == 0:
        return image.array[numbers]
    made = np.zeros((len(numbers), *image.array.shape[1:]), np.float32)
    clock = Clock(len(numbers), 1, settings.steps, progress)
    for chunk in chunks(list(range(len(numbers))), 1, request.batch):
        chosen = [numbers[i] for i in chunk]

        def show(first: Tensor, number: int = chosen[0]) -> None:
            if preview is not None:
                preview(number, Volume(image.intensities(first), image.geometry.part((number,))))

        made[chunk] = image.intensities(sample_slices(image, chosen, model, request, clock, show))
    return made


def sample_slices(
    image: Image,
    numbers: list[int],
    model: DegraderModel,
    request: Request,
    clock: Clock,
    show: Callable[[Tensor], None],
) -> Tensor:
    """Padded low-quality slices (B, 1, H, W) in [-1, 1] and above.

    Args:
        numbers: of the slices; they seed the noise.
        show: called with the first of them, (1, 1, H, W), after every step.
    """
    settings, network = request.settings, model.network
    assert isinstance(settings, DegradationSettings)
    position = image.position(model.device)
    clean = image.slices(numbers, model.device)
    level = clean.new_full((len(clean),), settings.level)
    condition = network.condition(clean, level)

    def step(state: Step) -> None:
        clock.step(len(state.x0))
        show(network.degraded(state.x0[:1], clean[:1], level[:1]))

    with torch.no_grad():

        def predict(z: Tensor, gamma: Tensor) -> Tensor:
            prediction: Tensor = network(z, gamma, condition, position)
            return prediction.float()

        draw = SampleNoise([stream_seed(request.seed, n, 0) for n in numbers], clean.shape[1:], model.device)
        denoiser = Denoiser(predict, model.info.prediction)
        gammas = step_gammas(model.schedule, settings.steps)
        residual = sample(denoiser, draw(), gammas, draw, SAMPLER, 0.0, None, step)
        return network.degraded(residual, clean, level)
