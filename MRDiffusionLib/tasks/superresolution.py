"""k-space-guided super-resolution: a low-resolution volume and an unconditional prior in, a finer volume out.

Seed 002 (Jiang, Gao, Sun, "MR image super-resolution via a variational diffusion model", ISMRM 2023, 0163). Slice by
slice: the measured centre of k-space guides the sampling of the prior, whose pack serves any lower resolution.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..diffusion.noise import SampleNoise, stream_seed
from ..diffusion.samplers import Step, partial_start, sample, step_gammas
from ..errors import InputError, SettingError
from ..imaging.volume import Geometry, Volume, read_volume
from ..physics.guidance import k_space_guide
from ..physics.kspace import Measurement, k_space_report, measure_image
from ..physics.noise import estimate_noise
from ..request import Progress, Request, Result
from ..settings import SuperResolutionSettings
from .device import faster_precision, resolve_device
from .models import Model, PackCache
from .provenance import provenance

if TYPE_CHECKING:
    from . import OnPreview, OnProgress

ROLE = "low_resolution"
PIXEL_SIZE_TOLERANCE = 0.15
"""Relative difference to the pack's pixel size above which a person is warned."""


def run(request: Request, cache: PackCache, progress: OnProgress | None, preview: OnPreview | None) -> Result:
    """Run a super-resolution request; see `tasks.run`."""
    started = time.monotonic()
    settings = request.settings
    device = resolve_device(request.device)
    precision = faster_precision(device) if request.precision == "auto" else request.precision
    model = cache.model(request.pack, device, precision)
    low = read_volume(Path(request.inputs[ROLE]))
    _check(low, settings, model)
    request = request.resolved(
        device=str(device),
        precision=precision,
        batch=request.batch or default_batch(device),
        settings=replace(settings, noise=estimate_noise(low.array) if settings.noise is None else settings.noise),
        slices=None if request.slices is None else _slice_numbers(request.slices, len(low.array)),
    )
    restored = restore_volume(low.array, model, request, progress, preview)
    geometry = low.geometry.refined(settings.matrix)
    volumes = {"result": Volume(restored.mean, geometry)}
    if restored.deviation is not None:
        volumes["standard_deviation"] = Volume(restored.deviation, geometry)
    return Result(
        volumes=volumes,
        measurements={**restored.report, "seconds": time.monotonic() - started},
        provenance=provenance(request, model.info, {ROLE: low}),
        warnings=_warnings(low.geometry, settings, model, restored.report),
    )


def default_batch(device: torch.device) -> int:
    """Images computed in one network call: a larger batch costs memory and saves little on a CPU."""
    return 4 if device.type == "cpu" else 32


@dataclass(frozen=True)
class Restored:
    """Arrays (slices, rows, columns) float32 in the input's units, and the k-space report averaged over slices."""

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32] | None
    report: dict[str, Any]


def intensity_scale(array: NDArray[np.float32], normalisation: dict[str, float]) -> float:
    """The intensity that the pack calls 1: `percentile` of the positive voxels is `value` on the pack's scale.

    Raises InputError if no voxel is positive.
    """
    positive = array[array > 0]
    if not positive.size:
        raise InputError("the volume has no positive voxel", "Load a magnitude image")
    return float(np.percentile(positive, normalisation["percentile"]) / normalisation["value"])


def restore_volume(
    low: NDArray[np.float32],
    model: Model,
    request: Request,
    progress: OnProgress | None = None,
    preview: OnPreview | None = None,
) -> Restored:
    """Super-resolve an array (slices, h, w) slice by slice, in the memory of one batch.

    Args:
        request: resolved: `batch` and `settings.noise` are numbers.
    """
    settings = request.settings
    scale = intensity_scale(low, model.info.normalisation)
    numbers = list(range(len(low))) if request.slices is None else list(request.slices)
    mean = np.zeros((len(numbers), *settings.matrix), np.float32)
    deviation = np.zeros_like(mean) if settings.samples > 1 else None
    reports: list[dict[str, float]] = []
    clock = _Clock(len(numbers), settings, progress)
    for chunk in _chunks(len(numbers), settings.samples, request.batch):
        chosen = [numbers[i] for i in chunk]
        measured = _measure(low[chosen], scale, settings, model.device)
        images = _sample_slices(measured, chosen, model, request, clock, preview, scale)
        for row, i in enumerate(chunk):
            mean[i] = to_intensity(images[row].mean(0), scale)
            if deviation is not None:
                deviation[i] = (images[row].std(0) * (scale / 2)).cpu().numpy()
            report = k_space_report(images[row].mean(0)[None, None], measured.select([row]))
            reports.append(report)
        clock.slices_done += len(chunk)
    return Restored(mean, deviation, _average(reports, scale))


def _measure(slices: NDArray[np.float32], scale: float, settings: SuperResolutionSettings, device: torch.device) -> Measurement:
    """Slices (n, h, w) as measurements on the model's scale, x = 2 intensity / scale - 1."""
    x = torch.from_numpy(slices).to(device)[:, None] * (2 / scale) - 1
    assert settings.noise is not None
    return measure_image(x, settings.matrix, noise=settings.noise * 2 / scale)


def _sample_slices(
    measured: Measurement,
    numbers: list[int],
    model: Model,
    request: Request,
    clock: _Clock,
    preview: OnPreview | None,
    scale: float,
) -> Tensor:
    """All samples of some slices, (slices, samples, H, W), computed `request.batch` images at a time."""
    settings, device = request.settings, model.device
    pairs = [(row, k) for row in range(len(numbers)) for k in range(settings.samples)]
    images = []
    for begin in range(0, len(pairs), request.batch):
        part = pairs[begin : begin + request.batch]
        seeds = [stream_seed(request.seed, numbers[row], k) for row, k in part]
        shape = (1, *settings.matrix)
        measurement = measured.select([row for row, _ in part])
        draw = SampleNoise(seeds, shape, device)
        # The guide's noise has its own stream, so that changing the method does not change the sampler's.
        guide_draw = SampleNoise([stream_seed(seed, 1) for seed in seeds], shape, device)
        gammas = step_gammas(model.schedule, settings.steps, settings.strength)
        z = draw()
        if settings.strength < 1:
            z = partial_start(measurement.zero_filled(), z, gammas[0])

        def on_step(step: Step, part: list[tuple[int, int]] = part) -> None:
            clock.step(step.step, len(part))
            if preview is not None:
                preview(numbers[part[0][0]], to_intensity(step.x0[0, 0], scale))

        with torch.no_grad():
            images.append(
                sample(
                    model.denoiser(),
                    z,
                    gammas,
                    draw,
                    settings.sampler,
                    settings.eta,
                    k_space_guide(settings.method, measurement, settings.weight, guide_draw),
                    on_step,
                )
            )
        clock.images_done += len(part)
    return torch.cat(images)[:, 0].reshape(len(numbers), settings.samples, *settings.matrix)


def to_intensity(x: Tensor, scale: float) -> NDArray[np.float32]:
    """From the model's range [-1, 1] to the input's intensity."""
    return ((x.float() + 1) * (scale / 2)).cpu().numpy().astype(np.float32)


def _chunks(slices: int, samples: int, batch: int) -> Iterator[list[int]]:
    """Slice indices to work on together, so that one batch is full: several slices, or one slice of many samples."""
    together = max(1, batch // samples)
    for begin in range(0, slices, together):
        yield list(range(begin, min(begin + together, slices)))


class _Clock:
    """Turns steps into `Progress` with the time left, from the mean time per image and step."""

    def __init__(self, slices: int, settings: SuperResolutionSettings, report: OnProgress | None) -> None:
        self.slices, self.steps, self.samples, self.report = slices, settings.steps, settings.samples, report
        self.slices_done, self.images_done = 0, 0
        self.begin = time.monotonic()

    def step(self, step: int, images: int) -> None:
        if self.report is None:
            return
        done = self.images_done * self.steps + step * images
        total = self.slices * self.samples * self.steps
        left = (time.monotonic() - self.begin) * (total - done) / done
        within = (self.images_done - self.slices_done * self.samples) // self.samples
        now = min(self.slices_done + within + 1, self.slices)
        self.report(Progress(now, self.slices, step, self.steps, left if done > images else None))


def _average(reports: list[dict[str, float]], scale: float) -> dict[str, float]:
    """Root mean square of residual and noise over slices (in input intensity), mean of the share outside the band."""

    def rms(name: str) -> float:
        return float(np.sqrt(np.mean([r[name] ** 2 for r in reports])))

    residual, noise = rms("residual") * scale / 2, rms("noise") * scale / 2
    return {
        "k_space_residual": residual,
        "k_space_noise": noise,
        "residual_over_noise": residual / noise if noise > 0 else float("nan"),
        "residual_over_signal": rms("residual_over_signal"),
        "energy_outside": float(np.mean([r["energy_outside"] for r in reports])),
    }


def _slice_numbers(slices: tuple[int, ...], count: int) -> tuple[int, ...]:
    outside = [s for s in slices if not 0 <= s < count]
    if outside:
        raise SettingError(f"slice {outside[0]} is outside 0 to {count - 1}", "Choose a slice of the volume")
    return slices


def _check(low: Volume, settings: SuperResolutionSettings, model: Model) -> None:
    """Refuse what cannot give a sensible result. Raises InputError, SettingError."""
    slices, rows, columns = low.array.shape
    if float(low.array.min()) == float(low.array.max()):
        raise InputError(
            f"the low-resolution volume is constant ({float(low.array.min()):g} everywhere)", "Load a volume with an image"
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


def _warnings(
    geometry: Geometry, settings: SuperResolutionSettings, model: Model, report: dict[str, float]
) -> tuple[str, ...]:
    """Sentences on what the pack has not seen."""
    sentences = []
    refined = geometry.refined(settings.matrix)
    for axis, name, trained in ((1, "row", model.info.pixel_size_mm[0]), (0, "column", model.info.pixel_size_mm[1])):
        size = refined.spacing[axis]
        if abs(size - trained) > PIXEL_SIZE_TOLERANCE * trained:
            sentences.append(
                f"The result's {name} spacing of {size:.2f} mm differs from the {trained:.2f} mm that pack "
                f"{model.info.name} was trained on: detail may be invented."
            )
    if settings.weight < 1:
        sentences.append(f"The data weight is {settings.weight:g}: the result may disagree with the measured image.")
    return tuple(sentences)
