"""k-space-guided super-resolution: a low-resolution volume and an unconditional prior in, a finer volume out.

Seed 002 (Jiang, Gao, Sun, "MR image super-resolution via a variational diffusion model", ISMRM 2023, 0163). Slice by
slice: the measured centre of k-space guides the sampling of the prior, whose pack serves any lower resolution.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..diffusion.noise import SampleNoise, stream_seed
from ..diffusion.samplers import Step, partial_start, sample, step_gammas
from ..errors import InputError, PackError, SettingError
from ..imaging.geometry import Geometry
from ..imaging.volume import Volume
from ..packs.domain import plane_warnings
from ..packs.intensity import intensity_scale
from ..physics.guidance import k_space_guide
from ..physics.kspace import Measurement, k_space_report
from ..request import Request, Result
from ..settings import SuperResolutionSettings
from .acquisition import Acquisition, read_acquisition
from .device import place
from .models import Model, PackCache
from .provenance import provenance
from .slicewise import Clock, chunks, resolved

if TYPE_CHECKING:
    from . import OnPreview, OnProgress

ROLE = "low_resolution"


def run(request: Request, cache: PackCache, progress: OnProgress | None, preview: OnPreview | None) -> Result:
    """Run a super-resolution request; see `tasks.run`."""
    started = time.monotonic()
    settings = request.settings
    assert isinstance(settings, SuperResolutionSettings)
    device, precision = place(request)
    model = cache.model(request.pack, device, precision)
    low = read_acquisition(request.inputs[ROLE])
    _check(low, settings, model)
    settings = replace(settings, noise=low.noise() if settings.noise is None else settings.noise)
    request = resolved(request, device, precision, len(low.magnitude), settings=settings)
    restored = restore(low, model, request, progress, preview)
    geometry = low.geometry.refined(settings.matrix)
    if request.slices is not None:
        geometry = geometry.part(request.slices)
    volumes = {"result": Volume(restored.mean, geometry)}
    if restored.deviation is not None:
        volumes["standard_deviation"] = Volume(restored.deviation, geometry)
    return Result(
        volumes=volumes,
        measurements={**restored.report, "seconds": time.monotonic() - started},
        provenance=provenance(request, model.info, {ROLE: (low.sha256, low.geometry)}),
        warnings=_warnings(low.geometry, settings, model),
    )


@dataclass(frozen=True)
class Restored:
    """Arrays (slices, rows, columns) float32 in the input's units, and the k-space report averaged over slices."""

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32] | None
    report: dict[str, Any]


def restore(
    low: Acquisition,
    model: Model,
    request: Request,
    progress: OnProgress | None = None,
    preview: OnPreview | None = None,
) -> Restored:
    """Super-resolve slice by slice, in the memory of one batch.

    Args:
        request: resolved: `batch` and `settings.noise` are numbers.
    """
    settings = request.settings
    assert isinstance(settings, SuperResolutionSettings) and settings.noise is not None
    scale = intensity_scale(low.magnitude, model.info.normalisation)
    numbers = list(range(len(low.magnitude))) if request.slices is None else list(request.slices)
    mean = np.zeros((len(numbers), *settings.matrix), np.float32)
    deviation = np.zeros_like(mean) if settings.samples > 1 else None
    reports: list[dict[str, float]] = []
    # A slice without any signal stays empty: the prior would put a brain there.
    signal = [i for i, n in enumerate(numbers) if (low.magnitude[n] > 0).any()]
    clock = Clock(len(signal), settings.samples, settings.steps, progress)
    grid = low.geometry.refined(settings.matrix)
    for chunk in chunks(signal, settings.samples, request.batch):
        chosen = [numbers[i] for i in chunk]
        measured = on_model_scale(low.measure(chosen, settings.matrix, settings.noise, model.device), scale)

        def show(row: int, x0: Tensor, chosen: list[int] = chosen) -> None:
            if preview is not None:
                preview(chosen[row], Volume(to_intensity(x0, scale)[None], grid.part((chosen[row],))))

        images = sample_slices(measured, chosen, model, request, clock.step, show)
        for row, i in enumerate(chunk):
            average = images[row].mean(0)
            mean[i] = to_intensity(average, scale)
            if deviation is not None:
                deviation[i] = (images[row].std(0) * (scale / 2)).cpu().numpy()
            reports.append(k_space_report(average[None, None], measured.select([row])))
    return Restored(mean, deviation, _average(reports, scale))


def on_model_scale(measured: Measurement, scale: float) -> Measurement:
    """From intensity u to the model's x = 2 u / scale - 1: `y <- 2 y / scale - A 1`."""
    ones = torch.ones(measured.k_space.shape, device=measured.k_space.device)
    k_space = measured.k_space * (2 / scale) - measured.forward(ones)
    return replace(measured, k_space=k_space, noise=measured.noise * 2 / scale)


def sample_slices(
    measured: Measurement,
    numbers: list[int],
    model: Model,
    request: Request,
    on_step: Callable[[int], None] | None = None,
    show: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """All samples of some slices, `request.batch` images at a time.

    Args:
        measured: their measurements on the model's scale, one per slice.
        numbers: the slices' numbers in the volume: they seed the noise, so a slice can be redrawn alone.
        on_step: called after every denoiser call with the number of images in it.
        show: called with a row of `measured` and its predicted clean image (H, W).

    Returns:
        (slices, samples, H, W) on the model's scale, [-1, 1] up to the correction by the measurement.
    """
    settings, device = request.settings, model.device
    assert isinstance(settings, SuperResolutionSettings)
    pairs = [(row, k) for row in range(len(numbers)) for k in range(settings.samples)]
    gammas = step_gammas(model.schedule, settings.steps, settings.strength)
    images = []
    for begin in range(0, len(pairs), request.batch):
        part = pairs[begin : begin + request.batch]
        seeds = [stream_seed(request.seed, numbers[row], k) for row, k in part]
        shape = (1, *settings.matrix)
        measurement = measured.select([row for row, _ in part])
        draw = SampleNoise(seeds, shape, device)
        # The guide's noise has its own stream, so that changing the method does not change the sampler's.
        guide = k_space_guide(
            settings.method,
            measurement,
            settings.weight,
            SampleNoise([stream_seed(seed, 1) for seed in seeds], shape, device),
        )
        z = draw()
        if settings.strength < 1:
            z = partial_start(measurement.zero_filled(), z, gammas[0])

        def callback(step: Step, part: list[tuple[int, int]] = part) -> None:
            if on_step is not None:
                on_step(len(part))
            if show is not None:
                show(part[0][0], step.x0[0, 0])

        with torch.no_grad():
            images.append(sample(model.denoiser(), z, gammas, draw, settings.sampler, settings.eta, guide, callback))
    return torch.cat(images)[:, 0].reshape(len(numbers), settings.samples, *settings.matrix)


def to_intensity(x: Tensor, scale: float) -> NDArray[np.float32]:
    """From the model's range [-1, 1] to the input's intensity."""
    return ((x.float() + 1) * (scale / 2)).cpu().numpy().astype(np.float32)


def _average(reports: list[dict[str, float]], scale: float) -> dict[str, Any]:
    """Root mean square of residual and noise over slices (in input intensity), mean of the share outside the band.

    `residual_over_noise` is None for data without noise; nothing is reported of slices without signal.
    """
    if not reports:
        return {}

    def rms(name: str) -> float:
        return float(np.sqrt(np.mean([r[name] ** 2 for r in reports])))

    residual, noise = rms("residual") * scale / 2, rms("noise") * scale / 2
    return {
        "k_space_residual": residual,
        "k_space_noise": noise,
        "residual_over_noise": residual / noise if noise > 0 else None,
        "residual_over_signal": rms("residual_over_signal"),
        "energy_outside": float(np.mean([r["energy_outside"] for r in reports])),
    }


def _check(low: Acquisition, settings: SuperResolutionSettings, model: Model) -> None:
    """Refuse what cannot give a sensible result. Raises InputError, SettingError, PackError."""
    if model.info.task != "superresolution":
        raise PackError(
            f"pack {model.info.name} is for the task {model.info.task}, not for superresolution",
            "Choose another pack: python -m MRDiffusionLib packs list",
        )
    _, rows, columns = low.magnitude.shape
    if float(low.magnitude.min()) == float(low.magnitude.max()):
        raise InputError(
            f"the low-resolution volume has the value {float(low.magnitude.min()):g} everywhere",
            "Load a volume that shows something",
        )
    if rows > settings.matrix[0] or columns > settings.matrix[1]:
        raise SettingError(
            f"target matrix {settings.matrix[0]}x{settings.matrix[1]} is smaller than the input's {rows}x{columns}",
            "Choose an input of lower resolution, or a pack with a larger matrix",
        )
    if tuple(settings.matrix) != tuple(model.info.matrix):
        raise SettingError(
            f"target matrix {settings.matrix[0]}x{settings.matrix[1]} is not supported by pack {model.info.name}",
            f"Use {model.info.matrix[0]}x{model.info.matrix[1]}",
        )
    if rows < 8 or columns < 8:
        raise InputError(f"slices of {rows}x{columns} pixels are too small", "Slices need at least 8x8 pixels")


def _warnings(geometry: Geometry, settings: SuperResolutionSettings, model: Model) -> tuple[str, ...]:
    """Sentences on what the pack has not seen."""
    columns, rows, _ = geometry.refined(settings.matrix).spacing
    sentences = plane_warnings(geometry.normal, model.info)
    sentences += [
        f"The result's {('row', 'column')[axis]} spacing of {(rows, columns)[axis]:.2f} mm differs from the "
        f"{model.info.pixel_size_mm[axis]:.2f} mm that pack {model.info.name} was trained on: detail may be invented."
        for axis in model.info.unseen_pixel_sizes((rows, columns))
    ]
    if settings.weight < 1:
        sentences.append(f"The data weight is {settings.weight:g}: the result may disagree with the measured image.")
    return tuple(sentences)
