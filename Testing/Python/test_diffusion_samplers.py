"""Samplers against theory: data whose best denoiser is known in closed form.

For Gaussian data every sampler is a linear map of its noise, so the variance of its samples is known exactly at every
step count. The recursions below are written from the papers in their symbols (alpha_bar, lambda), not from the code.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from MRDiffusionLib.diffusion import (
    SAMPLERS,
    DDPMSchedule,
    Denoiser,
    LinearSchedule,
    SampleNoise,
    alpha,
    partial_start,
    sample,
    sigma,
    step_gammas,
)

DRAWS = 80_000
STEPS = [10, 20, 50, 100, 150, 400, 501, 600, 1000]
GAMMA_MIN, GAMMA_MAX = -13.3, 5.0
MEAN, STD = 0.3, 0.22
METHODS = {
    "ancestral": ("ancestral", 0.0),
    "ddim eta 0": ("ddim", 0.0),
    "ddim eta 0.5": ("ddim", 0.5),
    "ddim eta 1": ("ddim", 1.0),
    "dpmpp_2m": ("dpmpp_2m", 0.0),
}
every_method = pytest.mark.parametrize("method", METHODS)
every_count = pytest.mark.parametrize("steps", STEPS)
DETERMINISTIC = ("ddim eta 0", "dpmpp_2m")


# Theory: plain numbers.


def alpha_bars(steps: int, start: float = 1.0) -> list[float]:
    """alpha_bar at t = start, start (1 - 1/steps), ..., start / steps, and 1 at the clean end."""
    times = [start * i / steps for i in range(steps, 0, -1)]
    return [1 / (1 + math.exp(GAMMA_MIN + (GAMMA_MAX - GAMMA_MIN) * t)) for t in times] + [1.0]


def best_x0(bar: float, mean: float, std: float) -> tuple[float, float]:
    """E[x0 | z] = offset + slope z for x0 ~ N(mean, std^2), z ~ N(sqrt(bar) x0, 1 - bar)."""
    slope = math.sqrt(bar) * std**2 / (bar * std**2 + 1 - bar)
    return mean - slope * math.sqrt(bar) * mean, slope


def ddpm_step(bar_t: float, bar_s: float) -> tuple[float, float, float]:
    """Ho et al. 2006.11239, eq. 7: factors of z and x0, and the variance of the added noise."""
    keep = bar_t / bar_s
    beta = 1 - keep
    of_z = math.sqrt(keep) * (1 - bar_s) / (1 - bar_t)
    of_x0 = math.sqrt(bar_s) * beta / (1 - bar_t)
    return of_z, of_x0, (1 - bar_s) / (1 - bar_t) * beta


def ddim_step(bar_t: float, bar_s: float, eta: float) -> tuple[float, float, float]:
    """Song et al. 2010.02502, eq. 12 with the sigma of eq. 16."""
    added = eta**2 * (1 - bar_s) / (1 - bar_t) * (1 - bar_t / bar_s)
    of_eps = math.sqrt(max(0.0, 1 - bar_s - added))
    of_z = of_eps / math.sqrt(1 - bar_t)
    return of_z, math.sqrt(bar_s) - of_z * math.sqrt(bar_t), added


def step_factors(method: str, bar_t: float, bar_s: float) -> tuple[float, float, float]:
    return ddpm_step(bar_t, bar_s) if method == "ancestral" else ddim_step(bar_t, bar_s, METHODS[method][1])


def theory(method: str, steps: int, mean: float, variance: float, start: float = 1.0) -> tuple[float, float]:
    """Mean and variance of the samples for data N(MEAN, STD^2) from z of the given mean and variance."""
    if method == "dpmpp_2m":
        at_0, at_1 = (dpmpp_theory(z, steps, start) for z in (0.0, 1.0))
        return at_0 + (at_1 - at_0) * mean, (at_1 - at_0) ** 2 * variance
    bars = alpha_bars(steps, start)
    for bar_t, bar_s in pairwise(bars):
        of_z, of_x0, added = step_factors(method, bar_t, bar_s)
        offset, slope = best_x0(bar_t, MEAN, STD)
        mean = (of_z + of_x0 * slope) * mean + of_x0 * offset
        variance = (of_z + of_x0 * slope) ** 2 * variance + added
    return mean, variance


def dpmpp_theory(z: float, steps: int, start: float, denoise: Callable[..., float] | None = None) -> float:
    """Lu et al. 2211.01095, algorithm 2, from one z; the step to the clean end is DDIM's and gives x0."""
    bars = alpha_bars(steps, start)

    def gaussian(z: float, bar: float) -> float:
        offset, slope = best_x0(bar, MEAN, STD)
        return offset + slope * z

    denoise = denoise or gaussian
    lambdas = [0.5 * math.log(bar / (1 - bar)) for bar in bars[:-1]]
    before = x0 = denoise(z, bars[0])
    for i in range(1, steps):
        h = lambdas[i] - lambdas[i - 1]
        if i == 1:
            direction = x0
        else:
            r = (lambdas[i - 1] - lambdas[i - 2]) / h
            direction = (1 + 1 / (2 * r)) * x0 - before / (2 * r)
        ratio = math.sqrt((1 - bars[i]) / (1 - bars[i - 1]))
        z = ratio * z - math.sqrt(bars[i]) * math.expm1(-h) * direction
        before, x0 = x0, denoise(z, bars[i])
    return x0


# The samplers, with the same denoiser as a tensor function.


def gaussian_denoiser(mean: float = MEAN, std: float = STD) -> Callable[[Tensor, Tensor], Tensor]:
    def denoise(z: Tensor, gamma: Tensor) -> Tensor:
        a, s = alpha(gamma)[:, None], sigma(gamma)[:, None]
        return mean + a * std**2 / (a**2 * std**2 + s**2) * (z - a * mean)

    return denoise


def run(method: str, steps: int, z: Tensor, draw: Callable[[], Tensor], start: float = 1.0, **more: object) -> Tensor:
    sampler, eta = METHODS[method]
    gammas = step_gammas(LinearSchedule(GAMMA_MIN, GAMMA_MAX), steps, start)
    denoise = more.pop("denoise", None) or gaussian_denoiser()
    return sample(denoise, z, gammas, draw, sampler, eta, **more)


def exact_moments(method: str, steps: int, start: float = 1.0) -> tuple[float, float]:
    """Mean and variance of a sampler's output for z ~ N(0, 1): it is linear, so its response to each noise is enough.

    Row 0 has no noise at all; row 1 only the start, row 2 + i only the noise of step i.
    """
    rows = steps + 2
    calls = iter(range(steps))

    def draw() -> Tensor:
        noise = torch.zeros(rows, 1, dtype=torch.float64)
        noise[2 + next(calls)] = 1
        return noise

    z = torch.zeros(rows, 1, dtype=torch.float64)
    z[1] = 1
    result = run(method, steps, z, draw, start)[:, 0]
    return result[0].item(), (result[1:] - result[0]).square().sum().item()


@every_method
@every_count
def test_variance_is_exactly_the_theory(method, steps):
    mean, variance = exact_moments(method, steps)
    expected_mean, expected_variance = theory(method, steps, 0.0, 1.0)
    assert mean == pytest.approx(expected_mean, rel=1e-7)
    assert variance == pytest.approx(expected_variance, rel=1e-7)


@every_method
@pytest.mark.parametrize("steps", [1, 2, 3, 37, 400])
@pytest.mark.parametrize("start", [0.3, 0.62])
def test_variance_of_a_partial_start_is_exactly_the_theory(method, steps, start):
    mean, variance = exact_moments(method, steps, start)
    expected_mean, expected_variance = theory(method, steps, 0.0, 1.0, start)
    assert mean == pytest.approx(expected_mean, rel=1e-7)
    assert variance == pytest.approx(expected_variance, rel=1e-7)


@every_method
@every_count
def test_variance_of_drawn_samples(method, steps):
    """The same with real noise in float32: within 2 %, four standard errors of the variance."""
    draw = SampleNoise([steps], (DRAWS,))
    result = run(method, steps, draw(), draw)
    mean, variance = theory(method, steps, 0.0, 1.0)
    assert result.var().item() == pytest.approx(variance, rel=0.02)
    assert result.mean().item() == pytest.approx(mean, abs=5 * math.sqrt(variance / DRAWS))


@every_method
@pytest.mark.parametrize("start", [0.25, 0.5, 0.75])
def test_partial_start_from_an_image_gives_the_theory(method, start):
    draw = SampleNoise([7], (DRAWS,))
    gammas = step_gammas(LinearSchedule(GAMMA_MIN, GAMMA_MAX), 40, start)
    source = -0.5
    z = partial_start(torch.full((1, DRAWS), source), draw(), gammas[0])
    result = run(method, 40, z, draw, start)
    bar = alpha_bars(40, start)[0]
    mean, variance = theory(method, 40, math.sqrt(bar) * source, 1 - bar, start)
    assert result.var().item() == pytest.approx(variance, rel=0.02)
    assert result.mean().item() == pytest.approx(mean, abs=5 * math.sqrt(variance / DRAWS))


@every_method
def test_variance_converges_to_that_of_the_data(method):
    """From the exact marginal at the noisy end. The error falls as 1/steps, for 2M as 1/steps^2.

    It is taken from the variance of the best estimate at the last noise level, which lies below the data's by sigma^2.
    """
    first = alpha_bars(1)[0]
    errors = []
    for steps in (50, 100, 200, 400, 800):
        _, variance = theory(method, steps, 0.0, first * STD**2 + 1 - first)
        last = alpha_bars(steps)[-2]
        errors.append(abs(variance / (last * STD**4 / (last * STD**2 + 1 - last)) - 1))
        assert exact_moments(method, steps)[1] == pytest.approx(theory(method, steps, 0.0, 1.0)[1], rel=1e-7)
    assert variance == pytest.approx(STD**2, rel=0.012)
    expected = 4.0 if method == "dpmpp_2m" else 2.0
    for error, halved in pairwise(errors[1:]):
        assert error / halved == pytest.approx(expected, rel=0.1)


# A mixture: the denoiser is not linear.

WEIGHTS, MEANS, STDS = (0.3, 0.7), (-0.6, 0.5), (0.1, 0.05)
MIXTURE_MEAN = sum(w * m for w, m in zip(WEIGHTS, MEANS, strict=True))
MIXTURE_VARIANCE = sum(w * (s**2 + m**2) for w, m, s in zip(WEIGHTS, MEANS, STDS, strict=True)) - MIXTURE_MEAN**2


def mixture_denoiser(z: Tensor, gamma: Tensor) -> Tensor:
    a, s = alpha(gamma)[:, None], sigma(gamma)[:, None]
    log_weights, estimates = [], []
    for w, m, std in zip(WEIGHTS, MEANS, STDS, strict=True):
        variance = a**2 * std**2 + s**2
        log_weights.append(math.log(w) - 0.5 * variance.log() - 0.5 * (z - a * m) ** 2 / variance)
        estimates.append(m + a * std**2 / variance * (z - a * m))
    share = torch.stack(log_weights).softmax(0)
    return (share * torch.stack(estimates)).sum(0)


def mixture_best_x0(z: np.ndarray, bar: float) -> np.ndarray:
    """The same in NumPy, for the theory."""
    top, bottom = np.zeros_like(z), np.zeros_like(z)
    for w, m, std in zip(WEIGHTS, MEANS, STDS, strict=True):
        v = bar * std**2 + 1 - bar
        density = w * np.exp(-0.5 * (z - math.sqrt(bar) * m) ** 2 / v) / math.sqrt(v)
        top += density * (m + math.sqrt(bar) * std**2 / v * (z - math.sqrt(bar) * m))
        bottom += density
    return top / np.maximum(bottom, 1e-300)


def mixture_marginal(bar: float, grid: np.ndarray) -> np.ndarray:
    variances = [bar * std**2 + 1 - bar for std in STDS]
    return sum(
        w * np.exp(-0.5 * (grid - math.sqrt(bar) * m) ** 2 / v) / np.sqrt(2 * np.pi * v)
        for w, m, v in zip(WEIGHTS, MEANS, variances, strict=True)
    )


def mixture_draws(count: int) -> Tensor:
    """(1, count) samples of the mixture."""
    generator = torch.Generator().manual_seed(3)
    first = torch.rand(1, count, generator=generator) < WEIGHTS[0]
    noise = torch.randn(1, count, generator=generator)
    return torch.where(first, MEANS[0] + STDS[0] * noise, MEANS[1] + STDS[1] * noise)


def mixture_start(count: int) -> Tensor:
    """z at the noisy end, (1, count), from its exact marginal: alpha is not zero there."""
    draw = SampleNoise([11], (count,))
    return partial_start(mixture_draws(count), draw(), step_gammas(LinearSchedule(GAMMA_MIN, GAMMA_MAX), 1)[0])


def mixture_theory(method: str, steps: int) -> float:
    """Variance of the samples: the density of z on a grid, moved step by step."""
    bars = alpha_bars(steps)
    grid = np.linspace(-4.5, 4.5, 3001)
    density = mixture_marginal(bars[0], grid)
    if method == "dpmpp_2m":
        x0 = dpmpp_theory(grid, steps, 1.0, mixture_best_x0)
        mass = density * (grid[1] - grid[0])
        return float((mass * x0**2).sum() - (mass * x0).sum() ** 2)
    place, mass = grid, density * (grid[1] - grid[0])
    for bar_t, bar_s in pairwise(bars):
        of_z, of_x0, added = step_factors(method, bar_t, bar_s)
        place = of_z * place + of_x0 * mixture_best_x0(place, bar_t)
        if added:
            place, mass = spread(place, mass, math.sqrt(added))
    return float((mass * place**2).sum() - (mass * place).sum() ** 2)


def spread(place: np.ndarray, mass: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Convolve point masses with N(0, width^2): on to a fine grid (keeping the mean), then by Fourier transform."""
    low, high, n = -6.0, 6.0, 2**14
    step = (high - low) / n
    position = (place - low) / step
    below = np.floor(position).astype(int)
    fraction = position - below
    binned = np.bincount(below, mass * (1 - fraction), n) + np.bincount(below + 1, mass * fraction, n)
    # Sharing a point among two bins adds step^2 f (1 - f) of variance, 1/6 step^2 on average; taken off again.
    frequency = 2 * np.pi * np.fft.rfftfreq(n, step)
    kernel = np.exp(-0.5 * frequency**2 * max(0.0, width**2 - step**2 / 6))
    smooth = np.fft.irfft(np.fft.rfft(binned) * kernel, n)
    keep = smooth > 1e-12
    return (low + step * np.arange(n))[keep], smooth[keep] / smooth[keep].sum()


@every_method
@every_count
def test_variance_of_a_mixture(method, steps):
    """Against the density propagated on a grid; samples are drawn, so 2 %."""
    draw = SampleNoise([1000 + steps], (20_000,))
    result = run(method, steps, mixture_start(20_000), draw, denoise=mixture_denoiser)
    assert result.var().item() == pytest.approx(mixture_theory(method, steps), rel=0.02)


@every_method
def test_modes_of_a_mixture(method):
    count = 100_000
    draw = SampleNoise([5], (count,))
    result = run(method, 400, mixture_start(count), draw, denoise=mixture_denoiser)[0]
    for group, weight, mean, std in zip((result[result < 0], result[result >= 0]), WEIGHTS, MEANS, STDS, strict=True):
        assert len(group) / count == pytest.approx(weight, abs=0.006)
        assert group.mean().item() == pytest.approx(mean, abs=0.002)
        assert group.var().item() == pytest.approx(std**2, rel=0.05)


@every_method
def test_a_mixture_from_a_partial_start(method):
    """Noised real samples come back as the mixture."""
    draw = SampleNoise([9], (100_000,))
    source = mixture_draws(100_000)
    z = partial_start(source, draw(), step_gammas(LinearSchedule(GAMMA_MIN, GAMMA_MAX), 200, 0.7)[0])
    result = run(method, 200, z, draw, start=0.7, denoise=mixture_denoiser)
    assert result.var().item() == pytest.approx(MIXTURE_VARIANCE, rel=0.02)
    assert (result < 0).float().mean().item() == pytest.approx(WEIGHTS[0], abs=0.006)


# Single steps, ends, arguments.


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_one_step_returns_the_prediction(sampler):
    z = torch.tensor([[0.4, -1.2]])
    result = sample(gaussian_denoiser(), z, step_gammas(LinearSchedule(), 1), torch.zeros_like(z).clone, sampler)
    expected = gaussian_denoiser()(z, torch.tensor([GAMMA_MAX]))
    torch.testing.assert_close(result, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_a_perfect_denoiser_ends_at_its_image(method):
    """1000 steps in float32 lose nothing, though sigma runs over three orders of magnitude."""
    image = torch.linspace(-1, 1, 100)[None]
    draw = SampleNoise([0], (100,))
    result = run(method, 1000, draw(), draw, denoise=lambda z, gamma: image)
    torch.testing.assert_close(result, image, atol=2e-6, rtol=0)


@pytest.mark.parametrize("std", [0.3, 1.0])
def test_twenty_steps_keep_white_noise_in_second_order_alone(std: float):
    """The degrader's schedule and steps: what decides its sampler (docs/decisions.md)."""

    def network(z: Tensor, gamma: Tensor) -> Tensor:
        a, s = alpha(gamma), sigma(gamma)
        return a * s * (1 - std**2) / (a * a * std**2 + s * s) * z

    z = torch.randn((1, 1, 256, 256), generator=torch.Generator().manual_seed(0))
    gammas = step_gammas(LinearSchedule(-12.0, 6.0), 20)
    made = {name: sample(Denoiser(network, "v"), z, gammas, lambda: z, name, 0.0) for name in ("ddim", "dpmpp_2m")}
    assert made["dpmpp_2m"].std() / std == pytest.approx(1.01, abs=0.01)
    assert made["ddim"].std() / std == pytest.approx(0.89, abs=0.01)


def test_deterministic_samplers_draw_nothing():
    def draw() -> Tensor:
        raise AssertionError("noise was drawn")

    for method in DETERMINISTIC:
        run(method, 5, torch.ones(1, 3), draw)


def test_ddim_at_eta_1_is_the_ancestral_sampler():
    z = torch.randn(2, 50, generator=torch.Generator().manual_seed(0))
    results = [run(method, 30, z, SampleNoise([1, 2], (50,))) for method in ("ancestral", "ddim eta 1")]
    torch.testing.assert_close(*results, atol=1e-5, rtol=0)


@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
def test_the_kind_of_prediction_makes_no_difference(prediction):
    def network(z: Tensor, gamma: Tensor) -> Tensor:
        x0 = gaussian_denoiser()(z, gamma)
        a, s = alpha(gamma)[:, None], sigma(gamma)[:, None]
        eps = (z - a * x0) / s
        return {"eps": eps, "v": a * eps - s * x0, "x0": x0}[prediction]

    z = torch.randn(1, 1000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = run("dpmpp_2m", 25, z, z.clone)
    result = run("dpmpp_2m", 25, z, z.clone, denoise=Denoiser(network, prediction))
    torch.testing.assert_close(result, expected, atol=1e-9, rtol=0)


def test_noise_levels_run_from_the_start_to_clean():
    schedule = DDPMSchedule()
    gammas = step_gammas(schedule, 4, 0.8)
    expected = schedule(torch.tensor([0.8, 0.6, 0.4, 0.2], dtype=torch.float64))
    torch.testing.assert_close(gammas[:-1], expected)
    assert gammas.dtype == torch.float64 and gammas[-1] == -math.inf


@pytest.mark.parametrize("steps", [1, 1000])
def test_noise_levels_at_the_limits(steps):
    gammas = step_gammas(LinearSchedule(), steps)
    assert len(gammas) == steps + 1 and (gammas[1:] < gammas[:-1]).all()


def test_partial_start_takes_one_level_or_one_a_sample():
    source, noise = torch.ones(2, 1, 3, 3), torch.full((2, 1, 3, 3), 2.0)
    levels = torch.tensor([-1.0, 2.0], dtype=torch.float64)
    together = partial_start(source, noise, levels)
    assert together.dtype == torch.float32
    for i, level in enumerate(levels):
        torch.testing.assert_close(together[i], partial_start(source, noise, level)[i])
        expected = 1 / math.sqrt(1 + math.exp(level)) + 2 / math.sqrt(1 + math.exp(-level))
        assert together[i, 0, 0, 0].item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("steps", [0, -1, 1001, 2.5, math.nan])
def test_step_counts_outside_the_range_are_refused(steps):
    with pytest.raises(ValueError, match=f"steps = {steps}"):
        step_gammas(LinearSchedule(), steps)


@pytest.mark.parametrize("start", [0.0, -0.1, 1.01, math.nan])
def test_starts_outside_the_range_are_refused(start):
    with pytest.raises(ValueError, match=f"start = {start}"):
        step_gammas(LinearSchedule(), 10, start)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"sampler": "euler"}, "'euler' is unknown; known are ancestral"),
        ({"eta": -0.1}, "eta = -0.1"),
        ({"eta": 1.1}, "eta = 1.1"),
        ({"eta": math.nan}, "eta = nan"),
        ({"gammas": torch.tensor([1.0, 1.0, -math.inf])}, "decrease"),
        ({"gammas": torch.tensor([-1.0, 1.0])}, "decrease"),
        ({"gammas": torch.tensor([1.0, math.nan])}, "decrease"),
        ({"gammas": torch.tensor([1.0])}, "decrease"),
        ({"gammas": torch.zeros(2, 2)}, "decrease"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused(arguments, words):
    z = torch.zeros(1, 2)
    settings = {"gammas": step_gammas(LinearSchedule(), 3), **arguments}
    with pytest.raises(ValueError, match=words):
        sample(gaussian_denoiser(), z, draw=z.clone, **settings)


def test_the_start_is_left_as_it_was():
    z = torch.ones(1, 4)
    run("ancestral", 5, z, SampleNoise([0], (4,)))
    assert torch.equal(z, torch.ones(1, 4)) and not z.requires_grad
