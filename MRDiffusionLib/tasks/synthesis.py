"""CMRDiff: one sequence from others, slice by slice, by latent diffusion with a guidance scale for each.

Seed 001 (Xie et al., "CMRDiff: Multi-sequence CMR synthesis", Proc. ISMRM 2024, 0384).
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..diffusion.classifier_free import ClassifierFree
from ..diffusion.denoiser import Denoiser
from ..diffusion.noise import SampleNoise, stream_seed
from ..diffusion.samplers import Step, partial_start, sample, step_gammas
from ..diffusion.schedule import alpha
from ..errors import SettingError
from ..imaging.volume import Volume
from ..request import Request, Result
from ..settings import DEFAULT_SCALE, STARTS, SynthesisSettings
from .conditions import Conditions, read_conditions
from .device import place
from .models import PackCache, Synthesiser
from .provenance import provenance
from .slicewise import Clock, chunks, resolved

if TYPE_CHECKING:
    from . import OnPreview, OnProgress

WHITE = 1000.0
"""Intensity of a result where the network says 1: nobody can know the gain of a scan that was not made."""

PREVIEW_SECONDS = 0.25
"""Between previews: each costs a pass of the decoder."""


def run(request: Request, cache: PackCache, progress: OnProgress | None, preview: OnPreview | None) -> Result:
    """Run a synthesis request; see `tasks.run`."""
    started = time.monotonic()
    settings = request.settings
    assert isinstance(settings, SynthesisSettings)
    device, precision = place(request)
    model = cache.synthesiser(request.pack, device, precision)
    check(settings, tuple(request.inputs), model)
    given = read_conditions(request.inputs, model.info)
    # A scale that nobody chose is written down, as its default may change.
    scales = tuple((role, dict(settings.scales).get(role, DEFAULT_SCALE)) for role in given.roles)
    request = resolved(request, device, precision, given.count, settings=replace(settings, scales=scales))
    made = synthesise(given, model, request, progress, preview)
    geometry = given.geometry if request.slices is None else given.geometry.part(request.slices)
    volumes = {"result": Volume(made.mean, geometry)}
    if made.deviation is not None:
        volumes["standard_deviation"] = Volume(made.deviation, geometry)
    absent = [role for role in model.info.roles if role != settings.target and role not in request.inputs]
    missing = [f"{role} is not given: the result is made without it, and less certain." for role in absent]
    return Result(
        volumes=volumes,
        measurements={"seconds": time.monotonic() - started},
        provenance=provenance(request, model.info, given.digests),
        warnings=(*given.warnings, *missing),
    )


def check(settings: SynthesisSettings, roles: tuple[str, ...], model: Synthesiser) -> None:
    """Refuse what the pack cannot do. Raises SettingError."""
    known = model.info.roles
    hint = f"Pack {model.info.name} knows {', '.join(known)}"
    if settings.target not in known:
        raise SettingError(f"target = {settings.target!r} is no sequence of the pack", hint)
    for role in roles:
        if role not in known:
            raise SettingError(f"the given {role} is no sequence of the pack", hint)
        if role == settings.target:
            raise SettingError(f"{role} is both the target and given", "Leave it out of the given images")
    for role, _ in settings.scales:
        if role not in roles:
            raise SettingError(f"there is a scale for {role}, which is not given", f"Given are {', '.join(roles)}")
    if settings.start not in (*STARTS, *roles):
        raise SettingError(f"start = {settings.start} is not given", f"Use one of {', '.join((*STARTS, *roles))}")
    if settings.start == "regression" and model.network.regression is None:
        raise SettingError(f"pack {model.info.name} has no regression to start from", "Use start noise")


@dataclass(frozen=True)
class Synthesised:
    """Arrays (slices, rows, columns) float32, white at `WHITE`."""

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32] | None


def synthesise(
    given: Conditions,
    model: Synthesiser,
    request: Request,
    progress: OnProgress | None = None,
    preview: OnPreview | None = None,
) -> Synthesised:
    """Slice by slice, in the memory of one batch. `request` is resolved: `batch` is a number."""
    settings = request.settings
    assert isinstance(settings, SynthesisSettings)
    numbers = list(range(given.count)) if request.slices is None else list(request.slices)
    matrix = given.images.shape[-2:]
    mean = np.zeros((len(numbers), *matrix), np.float32)
    deviation = np.zeros_like(mean) if settings.samples > 1 else None
    # A slice without any signal stays empty: the prior would put a heart there.
    signal = [i for i, n in enumerate(numbers) if given.present[n].any() and given.images[n].max() > -1]
    clock = Clock(len(signal), settings.samples, settings.steps, progress)
    for chunk in chunks(signal, settings.samples, request.batch):
        chosen = [numbers[i] for i in chunk]

        def show(row: int, image: Tensor, chosen: list[int] = chosen) -> None:
            if preview is not None:
                preview(chosen[row], Volume(to_intensity(image)[None], given.geometry.part((chosen[row],))))

        images = sample_slices(given, chosen, model, request, clock.step, None if preview is None else show)
        for row, i in enumerate(chunk):
            mean[i] = to_intensity(images[row].mean(0))
            if deviation is not None:
                deviation[i] = (images[row].std(0) * (WHITE / 2)).cpu().numpy()
    return Synthesised(mean, deviation)


def sample_slices(
    given: Conditions,
    numbers: list[int],
    model: Synthesiser,
    request: Request,
    on_step: Callable[[int], None] | None = None,
    show: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """All samples of some slices, `request.batch` of them at a time.

    Args:
        numbers: the slices' numbers: they seed the noise, so a slice can be redrawn alone.
        on_step: called after every denoiser call with the number of images in it.
        show: called with a row of `numbers` and its predicted clean image (H, W) in [-1, 1].

    Returns:
        (slices, samples, H, W) in [-1, 1].
    """
    settings, device = request.settings, model.device
    assert isinstance(settings, SynthesisSettings)
    guided = Guided(given, numbers, model, settings)
    pairs = [(row, k) for row in range(len(numbers)) for k in range(settings.samples)]
    images = []
    for begin in range(0, len(pairs), request.batch):
        part = pairs[begin : begin + request.batch]
        rows = [row for row, _ in part]
        seeds = [stream_seed(request.seed, numbers[row], k) for row, k in part]
        draw = SampleNoise(seeds, guided.latents.shape[2:], device)
        if settings.start != "noise" and settings.strength == 0:
            images.append(guided.image(guided.start[rows], rows, None))
            continue
        gammas = step_gammas(model.schedule, settings.steps, settings.strength if settings.start != "noise" else 1.0)
        z = draw()
        if settings.start != "noise":
            z = partial_start(guided.start[rows], z, gammas[0])
        decode = functools.partial(guided.image, gamma=gammas[0])
        callback = _Callback(part, decode, on_step, show)
        denoise = Denoiser(guided.of(rows), model.info.prediction)
        with torch.no_grad():
            latents = sample(denoise, z, gammas, draw, "ddim", settings.eta, None, callback)
        images.append(decode(latents, rows))
    return torch.cat(images).unflatten(0, (len(numbers), settings.samples))


class Guided:
    """What is computed once for some slices, and the guided network for any of them.

    Attributes:
        latents: (slices, S, C, h, w) of the given images.
        tokens: (slices, S, T, D) of their features, or None.
    """

    def __init__(self, given: Conditions, numbers: list[int], model: Synthesiser, settings: SynthesisSettings) -> None:
        self.model, self.settings = model, settings
        network = model.network
        self.images = torch.from_numpy(given.images[numbers]).to(model.device)
        self.present = torch.from_numpy(given.present[numbers]).to(model.device)
        self.slots = [model.info.roles.index(role) for role in given.roles]
        self.target = model.info.roles.index(settings.target)
        with torch.no_grad():
            # One slice at a time: the result of a slice must not depend on its neighbours' number.
            parts = self.images.split(1)
            self.latents = torch.cat([network.encode(part) for part in parts])
            self.tokens: Tensor | None = None
            if network.features is not None:
                self.tokens = torch.cat([network.features(part) for part in parts])
        scales = dict(settings.scales)
        self.scales = [scales.get(role, DEFAULT_SCALE) for role in given.roles]

    @functools.cached_property
    def start(self) -> Tensor:
        """The latents that sampling starts from, (slices, C, h, w)."""
        if self.settings.start != "regression":
            return self.latents[:, self.model.info.roles.index(self.settings.start)]
        parts = self.regression.split(1)
        with torch.no_grad():
            return torch.cat([self.model.network.encode(part[:, None])[:, 0] for part in parts])

    @functools.cached_property
    def regression(self) -> Tensor:
        """The one-pass prediction, (slices, H, W) in [-1, 1]."""
        return torch.cat([self._regress(row) for row in self._rows()])

    @functools.cached_property
    def lost(self) -> Tensor:
        """What the autoencoder's round trip loses of the one-pass prediction, (slices, H, W)."""
        return self.regression - self._decoded(self.start)

    def image(self, latents: Tensor, rows: list[int], gamma: Tensor | None) -> Tensor:
        """Decoded latents of these rows, (B, H, W) in [-1, 1].

        A sampling that starts from the one-pass prediction r keeps what the autoencoder would lose of it, as far as the
        noise at the start (`gamma`, None for none) leaves r: x = D(z) + alpha (r - D(E(r))).
        """
        images = self._decoded(latents)
        if self.settings.start == "regression":
            images = images + (1.0 if gamma is None else alpha(gamma)) * self.lost[rows]
        return images.clamp(-1, 1)

    def _decoded(self, latents: Tensor) -> Tensor:
        with torch.no_grad():
            return self.model.network.decode(latents)

    def _rows(self) -> range:
        return range(len(self.images))

    def _regress(self, row: int) -> Tensor:
        assert self.model.network.regression is not None
        target = torch.tensor([self.target], device=self.images.device)
        with torch.no_grad():
            made = self.model.network.regression(self.images[row][None], self.present[row][None], target)
        return made.float().clamp(-1, 1)[:, 0]

    def of(self, rows: list[int]) -> Callable[[Tensor, Tensor], Tensor]:
        """`(z, gamma) -> prediction` for a batch whose images belong to these rows.

        On a CPU image by image, as `VDMUNet` does: a sample is then the same alone and in a batch.
        """
        parts = [[row] for row in rows] if self.latents.device.type == "cpu" else [rows]
        networks = [ClassifierFree(self._conditional(part), self.settings.guidance, self.scales) for part in parts]
        sizes = [len(part) for part in parts]

        def network(z: Tensor, gamma: Tensor) -> Tensor:
            each = zip(networks, z.split(sizes), gamma.split(sizes), strict=True)
            return torch.cat([predict(own, level) for predict, own, level in each])

        return network

    def _conditional(self, rows: list[int]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        latents, present = self.latents[rows], self.present[rows]
        tokens = None if self.tokens is None else self.tokens[rows]

        def network(z: Tensor, gamma: Tensor, chosen: Tensor) -> Tensor:
            branches = len(z) // len(rows)
            seen = torch.zeros(len(z), present.shape[1], dtype=torch.bool, device=z.device)
            seen[:, self.slots] = chosen
            prediction: Tensor = self.model.network.unet(
                z,
                gamma,
                latents.repeat(branches, 1, 1, 1, 1),
                seen & present.repeat(branches, 1),
                torch.full((len(z),), self.target, device=z.device),
                None if tokens is None else tokens.repeat(branches, 1, 1, 1),
            )
            return prediction.float()

        return network


class _Callback:
    """Counts steps, and decodes the first image of a batch for a preview now and then."""

    def __init__(
        self,
        part: list[tuple[int, int]],
        decode: Callable[[Tensor, list[int]], Tensor],
        on_step: Callable[[int], None] | None,
        show: Callable[[int, Tensor], None] | None,
    ) -> None:
        self.part, self.decode, self.on_step, self.show = part, decode, on_step, show
        self.shown = 0.0

    def __call__(self, step: Step) -> None:
        if self.on_step is not None:
            self.on_step(len(self.part))
        now = time.monotonic()
        if self.show is not None and now - self.shown >= PREVIEW_SECONDS:
            self.shown = now
            row = self.part[0][0]
            self.show(row, self.decode(step.x0[:1], [row])[0])


def to_intensity(x: Tensor) -> NDArray[np.float32]:
    """From [-1, 1] to 0 ... `WHITE`."""
    return ((x.float() + 1) * (WHITE / 2)).cpu().numpy().astype(np.float32)
