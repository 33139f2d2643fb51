"""Samplers: from noise to an image in any number of steps.

One step goes from noise level `gamma_t` to a cleaner `gamma_s`, given the (corrected) clean image `x0`. All samplers
have the signature `(z, x0, gamma_t, gamma_s, previous, draw, eta) -> z_s` and run in the one loop `sample`. The last
step goes to `gamma_s = -inf` (alpha 1, sigma 0), where every sampler returns `x0` itself; no special case is needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral

import torch
from torch import Tensor

from .denoiser import per_sample, to_eps
from .guidance import Guide
from .schedule import Schedule, alpha, sigma

Draw = Callable[[], Tensor]


class Cancelled(Exception):
    """Raised by a step callback to stop sampling; `sample` lets it through at once."""


@dataclass(frozen=True)
class Step:
    """What a callback sees after each denoiser call: step 1..of, and the predicted clean images (B, C, ...)."""

    step: int
    of: int
    x0: Tensor


@dataclass(frozen=True)
class Previous:
    """The step before: its clean image and the half log-SNR `-gamma/2` that it was predicted at."""

    x0: Tensor
    half_log_snr: Tensor


def ancestral(
    z: Tensor, x0: Tensor, gamma_t: Tensor, gamma_s: Tensor, previous: Previous | None, draw: Draw, eta: float
) -> Tensor:
    """`z_s = a (z_t - b eps) + c noise`, the true reverse step (2107.00630, eq. 32-34).

    `a = alpha_s / alpha_t`, `b = sigma_t g`, `c = sigma_s sqrt(g)` with `g = -expm1(gamma_s - gamma_t)`.
    """
    gain = -torch.expm1(gamma_s - gamma_t)
    a, b, c = alpha(gamma_s) / alpha(gamma_t), sigma(gamma_t) * gain, sigma(gamma_s) * gain.sqrt()
    return a * (z - b * to_eps(x0, z, gamma_t)) + c * draw()


def ddim(
    z: Tensor, x0: Tensor, gamma_t: Tensor, gamma_s: Tensor, previous: Previous | None, draw: Draw, eta: float
) -> Tensor:
    """`z_s = alpha_s x0 + sqrt(sigma_s^2 - c^2) eps + c noise` (Song et al. 2010.02502, eq. 12).

    `c = eta sigma_s sqrt(-expm1(gamma_s - gamma_t))`: eta 0 is deterministic, eta 1 is the ancestral sampler.
    """
    c = eta * sigma(gamma_s) * (-torch.expm1(gamma_s - gamma_t)).sqrt()
    z_s = alpha(gamma_s) * x0 + (sigma(gamma_s) ** 2 - c**2).clamp(min=0).sqrt() * to_eps(x0, z, gamma_t)
    return z_s + c * draw() if eta > 0 else z_s


def dpmpp_2m(
    z: Tensor, x0: Tensor, gamma_t: Tensor, gamma_s: Tensor, previous: Previous | None, draw: Draw, eta: float
) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2211.01095, algorithm 2), `lambda = -gamma/2`, `h = lambda_s - lambda_t`.

    `D = (1 + 1/(2r)) x0 - 1/(2r) x0_previous` with `r = h_previous / h`;
    `z_s = (sigma_s / sigma_t) z_t - alpha_s (exp(-h) - 1) D`. First order at the first and the last step.
    """
    h = (gamma_t - gamma_s) / 2
    if previous is None or math.isinf(gamma_s):
        direction = x0
    else:
        r = (-gamma_t / 2 - previous.half_log_snr) / h
        direction = (1 + 1 / (2 * r)) * x0 - 1 / (2 * r) * previous.x0
    return sigma(gamma_s) / sigma(gamma_t) * z - alpha(gamma_s) * torch.expm1(-h) * direction


SAMPLERS = {"ancestral": ancestral, "ddim": ddim, "dpmpp_2m": dpmpp_2m}


def step_gammas(schedule: Schedule, steps: int, start: float = 1.0) -> Tensor:
    """The noise levels of a run: (steps + 1,) float64, from `gamma(start)` down, then -inf (clean).

    The denoiser is called at `t = start, start (1 - 1/steps), ..., start / steps`.

    Args:
        steps: denoiser calls, 1 to 1000.
        start: the time to start from, in (0, 1]; below 1 for a partial-noise start.

    Raises:
        ValueError: steps that are no whole number from 1 to 1000, a start outside (0, 1].
    """
    if not isinstance(steps, Integral) or not 1 <= steps <= 1000:
        raise ValueError(f"steps = {steps} is not a whole number from 1 to 1000")
    if not 0 < start <= 1:
        raise ValueError(f"start = {start} is outside (0, 1]")
    t = start * torch.arange(steps, 0, -1, dtype=torch.float64) / steps
    with torch.no_grad():
        gammas = schedule(t).double().cpu()
    return torch.cat([gammas, gammas.new_tensor([-math.inf])])


def partial_start(source: Tensor, noise: Tensor, gamma: Tensor) -> Tensor:
    """`alpha(gamma) source + sigma(gamma) noise`: begin at an intermediate noise level from a source image.

    Args:
        source, noise: (B, C, ...).
        gamma: () or (B,); the first of `step_gammas(schedule, steps, start)`.
    """
    gamma = gamma.to(source.device, source.dtype)
    return per_sample(alpha(gamma), source) * source + per_sample(sigma(gamma), source) * noise


def sample(
    denoise: Callable[[Tensor, Tensor], Tensor],
    z: Tensor,
    gammas: Tensor,
    draw: Draw,
    sampler: str = "ddim",
    eta: float = 0.0,
    guide: Guide | None = None,
    callback: Callable[[Step], None] | None = None,
) -> Tensor:
    """Run the reverse diffusion.

    Args:
        denoise: `(z, gamma) -> x0`, gamma of shape (B,) (`Denoiser`).
        z: the start, (B, C, ...), at noise level `gammas[0]`.
        gammas: strictly decreasing noise levels, (steps + 1,), the last of them -inf for clean images (`step_gammas`).
        draw: returns fresh standard normal noise of z's shape (`SampleNoise`).
        sampler: 'ancestral', 'ddim' or 'dpmpp_2m'.
        eta: stochasticity of 'ddim', 0 to 1.
        guide: corrects the prediction or the state at every step.
        callback: called once a step, after the denoiser and the guide; it may raise `Cancelled`.

    Returns:
        The images at the last noise level, (B, C, ...).

    Raises:
        ValueError: an unknown sampler, eta outside 0 to 1, noise levels that do not decrease.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler {sampler!r} is unknown; known are {', '.join(SAMPLERS)}")
    if not 0 <= eta <= 1:
        raise ValueError(f"eta = {eta} is outside 0 to 1")
    if gammas.ndim != 1 or len(gammas) < 2 or not bool((gammas[1:] < gammas[:-1]).all()):
        raise ValueError(f"the noise levels {gammas.tolist()} are not two or more that decrease strictly")
    guide = guide or Guide()
    step = SAMPLERS[sampler]
    # Steps in gamma are small differences of large numbers, so they are kept in float64; images keep z's type.
    levels = gammas.to(torch.float64)
    previous: Previous | None = None
    z = guide.correct_state(z, levels[0])
    for i in range(len(levels) - 1):
        gamma_t, gamma_s = levels[i], levels[i + 1]
        with torch.set_grad_enabled(guide.needs_gradient):
            z = z.detach().requires_grad_(guide.needs_gradient)
            x0 = denoise(z, gamma_t.to(z.dtype).to(z.device).expand(len(z)))
            x0 = guide.correct_prediction(x0, z, gamma_t)
        z, x0 = z.detach(), x0.detach()
        if callback is not None:
            callback(Step(i + 1, len(levels) - 1, x0))
        with torch.no_grad():
            z_s = step(z, x0, gamma_t, gamma_s, previous, draw, eta)
            z = guide.correct_state(z_s.to(z.dtype), gamma_s)
        previous = Previous(x0, -gamma_t / 2)
    return z
