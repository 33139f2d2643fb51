"""The k-space guides against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from MRDiffusionLib.diffusion import LinearSchedule, SampleNoise, alpha, sample, sigma, step_gammas
from MRDiffusionLib.physics.fourier import fft2c, ifft2c, measured_mask
from MRDiffusionLib.physics.guidance import METHODS, Gradient, Projection, k_space_guide, noise_ratio
from MRDiffusionLib.physics.kspace import Measurement

SIZE = (16, 15)
DIRECT = ("conditional", "projection", "replacement")
"""The methods that reproduce exact data whatever the network."""


def spectrum() -> Tensor:
    """Variance of each Fourier coefficient of a stationary Gaussian image: bright centre, faint outside, (H, W)."""
    y, x = (torch.arange(n, dtype=torch.float64) - n // 2 for n in SIZE)
    return 1 / (1 + 0.3 * (y[:, None] ** 2 + x**2))


def draw_images(count: int, seed: int) -> Tensor:
    noise = torch.randn(count, 1, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return ifft2c(fft2c(noise) * spectrum().sqrt()).real


def wiener(z: Tensor, gamma: Tensor) -> Tensor:
    """The exact denoiser of that Gaussian: `x0 = v alpha / (v alpha^2 + sigma^2) z` per Fourier coefficient."""
    a, s = (f(gamma).double().reshape(-1, 1, 1, 1) for f in (alpha, sigma))
    v = spectrum()
    return ifft2c(fft2c(z) * (v * a / (v * a**2 + s**2))).real


def measured(x: Tensor, noise: float, seed: int = 5) -> Measurement:
    mask = measured_mask((8, 7), SIZE)
    added = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * noise
    return Measurement(fft2c(x + added) * mask, mask, noise)


def run(method: str, measurement: Measurement, steps: int, weight: float = 1.0, eta: float = 1.0) -> Tensor:
    count = len(measurement.k_space)
    draw, guide_draw = (SampleNoise(range(begin, begin + count), (1, *SIZE)) for begin in (0, 10_000))
    guide = k_space_guide(method, measurement, weight, guide_draw)
    z = draw().double()
    gammas = step_gammas(LinearSchedule(-12, 6), steps)
    return sample(wiener, z, gammas, lambda: draw().double(), "ddim", eta, guide)


@pytest.mark.parametrize("method", METHODS)
def test_weight_zero_is_the_unguided_prior(method: str) -> None:
    measurement = measured(draw_images(4, 1), 0.0)
    free = run(method, measurement, 10, weight=0.0)
    draw = SampleNoise(range(4), (1, *SIZE))
    z = draw().double()
    expected = sample(wiener, z, step_gammas(LinearSchedule(-12, 6), 10), lambda: draw().double(), "ddim", 1.0)
    assert torch.allclose(free, expected, atol=1e-12)


@pytest.mark.parametrize("method", DIRECT)
@pytest.mark.parametrize("steps", [10, 50])
def test_full_weight_reproduces_noise_free_data(method: str, steps: int) -> None:
    measurement = measured(draw_images(4, 1), 0.0)
    assert measurement.residual(run(method, measurement, steps)).abs().max() < 1e-6


@pytest.mark.parametrize("method", METHODS)
def test_the_residual_falls_with_the_weight(method: str) -> None:
    measurement = measured(draw_images(16, 1), 0.0)
    residuals = [
        float(measurement.residual(run(method, measurement, 20, weight)).abs().square().mean())
        for weight in (0.0, 0.05, 0.25, 0.5, 1.0)
    ]
    assert residuals == sorted(residuals, reverse=True)
    assert residuals[-1] < 0.02 * residuals[0]


@pytest.mark.parametrize("method", DIRECT)
def test_the_unmeasured_band_is_left_to_the_prior(method: str) -> None:
    # For a stationary Gaussian the bands are independent, so outside the posterior is the prior, sample by sample.
    measurement = measured(draw_images(4, 1), 0.0)
    guided, free = (fft2c(run(method, measurement, 20, weight)) for weight in (1.0, 0.0))
    difference = (guided - free).abs()
    assert (difference * ~measurement.mask).max() < 1e-9 < (difference * measurement.mask).max()


def test_projection_with_noise_comes_near_the_exact_posterior_mean() -> None:
    # Posterior of a Gaussian coefficient: mean v / (v + s^2) y; copying the data would leave the mean at y. The method
    # is an approximation: measured at 0.27 of the distance that copying leaves.
    noise = 0.5
    measurement = measured(draw_images(1, 1), noise)
    repeated = Measurement(measurement.k_space.expand(500, -1, -1, -1), measurement.mask, noise)
    mean = fft2c(run("projection", repeated, 100)).mean((0, 1))
    mask, v = measurement.mask, spectrum()
    exact = (v / (v + noise**2) * measurement.k_space[0, 0])[mask]
    copied = measurement.k_space[0, 0][mask]
    error = (mean[mask] - exact).abs().square().mean().sqrt()
    assert error < 0.35 * (copied - exact).abs().square().mean().sqrt()


def test_conditional_with_noise_samples_the_exact_posterior() -> None:
    # A Gaussian coefficient given y = x + s n: mean v / (v + s^2) y, variance v s^2 / (v + s^2); v outside the band.
    noise, count = 0.5, 1000
    measurement = measured(draw_images(1, 1), noise)
    repeated = Measurement(measurement.k_space.expand(count, -1, -1, -1), measurement.mask, noise)
    drawn = fft2c(run("conditional", repeated, 400))
    mask, v = measurement.mask, spectrum()
    exact = v / (v + noise**2) * measurement.k_space[0, 0]
    copied = (measurement.k_space[0, 0] - exact)[mask].abs().square().mean().sqrt()
    assert (drawn.mean((0, 1)) - exact)[mask].abs().square().mean().sqrt() < 0.05 * copied
    variance = drawn.var((0, 1))
    assert (variance / (v * noise**2 / (v + noise**2)))[mask].mean() == pytest.approx(1, abs=0.03)
    assert (variance / v)[~mask].mean() == pytest.approx(1, abs=0.03)


def test_conditional_samples_the_exact_posterior_where_the_prior_links_the_bands() -> None:
    """A Gaussian that is not stationary: what is measured tells of what is not.

    With the denoiser that is exact for a clean measured band, mean and variance of the samples are the posterior's.
    `projection` with the exact denoiser for white noise is further off in the mean.
    """
    side, count, generator = 6, 1000, torch.Generator().manual_seed(1)
    n = side * side
    factor = torch.randn(n, n, dtype=torch.float64, generator=generator) * torch.logspace(0, -1.5, n).double()
    covariance = factor @ factor.T / n + 1e-3 * torch.eye(n, dtype=torch.float64)
    mask = measured_mask((3, 3), (side, side))
    pixels = torch.eye(n, dtype=torch.float64).reshape(n, 1, side, side)
    inside = ifft2c(fft2c(pixels) * mask).real.reshape(n, n)  # the projection on the measured band
    outside = torch.eye(n, dtype=torch.float64) - inside

    def denoiser(noise_covariance: Tensor):
        def denoise(z: Tensor, gamma: Tensor) -> Tensor:
            a, s = (float(f(gamma[0])) for f in (alpha, sigma))
            gain = a * covariance @ torch.linalg.pinv(a**2 * covariance + s**2 * noise_covariance)
            return (z.reshape(len(z), n) @ gain.T).reshape(z.shape)

        return denoise

    truth = torch.linalg.cholesky(covariance) @ torch.randn(n, dtype=torch.float64, generator=generator)
    k_space = fft2c(truth.reshape(1, 1, side, side)) * mask
    observe = torch.linalg.pinv(inside @ covariance @ inside, rtol=1e-9, hermitian=True)
    exact = covariance @ inside @ observe @ inside @ truth
    spread = covariance - covariance @ inside @ observe @ inside @ covariance
    measurement = Measurement(k_space.expand(count, -1, -1, -1), mask)
    errors = {}
    for method, noise_covariance in (("conditional", outside), ("projection", torch.eye(n, dtype=torch.float64))):
        draw = SampleNoise(range(count), (1, side, side))
        guide = k_space_guide(method, measurement, 1.0, draw)
        gammas = step_gammas(LinearSchedule(-12, 6), 400)
        z = draw().double()
        drawn = sample(denoiser(noise_covariance), z, gammas, lambda: draw().double(), "ddim", 1.0, guide)  # noqa: B023
        drawn = drawn.reshape(count, n)
        errors[method] = float((drawn.mean(0) - exact).norm() / (outside @ exact).norm())
        if method == "conditional":
            variances, modes = torch.linalg.eigh(spread)
            free = variances > 1e-6  # the 36 - 9 directions that were not measured
            assert int(free.sum()) == 27
            ratios = (drawn @ modes).var(0)[free] / variances[free]
            assert ratios.mean() == pytest.approx(1, abs=0.03) and ratios.std() < 0.06
    assert errors["conditional"] < 0.05 < errors["projection"], errors


def test_conditional_keeps_the_measured_band_free_of_added_noise() -> None:
    measurement = measured(draw_images(3, 2), 0.0)
    guide = k_space_guide("conditional", measurement, 1.0, SampleNoise([0], (1, *SIZE)))
    z = torch.randn(3, 1, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for gamma in (5.0, 0.0, -8.0, -math.inf):
        level = torch.tensor(gamma, dtype=torch.float64)
        state = guide.correct_state(z, level)
        torch.testing.assert_close(measurement.forward(state), alpha(level) * measurement.k_space)
        assert (fft2c(state - z) * ~measurement.mask).abs().max() < 1e-9


def test_conditional_lets_go_of_noisy_data_below_their_noise_level() -> None:
    noise = 0.3
    measurement = measured(draw_images(1, 2), noise)
    guide = k_space_guide("conditional", measurement, 1.0, SampleNoise([0], (1, *SIZE)))
    z = torch.zeros(1, 1, *SIZE, dtype=torch.float64)
    of_data = 2 * math.log(noise)  # sigma / alpha = exp(gamma / 2)
    assert guide.correct_state(z, torch.tensor(of_data + 0.01)).abs().max() > 0
    assert guide.correct_state(z, torch.tensor(of_data - 0.01)).abs().max() == 0


def test_the_gradient_of_an_isotropic_denoiser_is_the_projection() -> None:
    measurement = measured(draw_images(3, 2), 0.1)
    z = torch.randn(3, 1, *SIZE, dtype=torch.float64, requires_grad=True)
    gamma = torch.tensor(0.5, dtype=torch.float64)
    x0 = 0.37 * z
    gradient = Gradient(measurement, 0.8).correct_prediction(x0, z, gamma)
    projection = Projection(measurement, 0.8).correct_prediction(x0.detach(), z.detach(), gamma)
    assert torch.allclose(gradient, projection, atol=1e-10)


def test_the_gradient_reaches_beyond_the_measured_band_where_the_prior_links_the_bands() -> None:
    def squared(z: Tensor) -> Tensor:
        return z + 0.3 * z**2  # its Jacobian couples frequencies

    measurement = measured(draw_images(1, 3), 0.0)
    z = torch.randn(1, 1, *SIZE, dtype=torch.float64, requires_grad=True)
    x0 = squared(z)
    change = Gradient(measurement, 1.0).correct_prediction(x0, z, torch.tensor(0.0)) - x0.detach()
    assert (fft2c(change) * ~measurement.mask).abs().max() > 1e-3
    before, after = (measurement.residual(x).abs().square().sum() for x in (x0.detach(), x0.detach() + change))
    assert after < before


def test_noise_ratio_follows_its_formula() -> None:
    measurement = measured(draw_images(1, 1), 0.3)
    gamma = torch.tensor(-1.7, dtype=torch.float64)
    assert noise_ratio(measurement, gamma) == pytest.approx(0.09 * float(alpha(gamma) ** 2 / sigma(gamma) ** 2))
    assert noise_ratio(measured(draw_images(1, 1), 0.0), torch.tensor(-math.inf)) == 0


def test_replacement_adds_only_the_noise_that_the_data_lack() -> None:
    noise = 0.4
    truth = torch.zeros(4000, 1, *SIZE, dtype=torch.float64)
    measurement = measured(truth, noise)
    guide = k_space_guide("replacement", measurement, 1.0, SampleNoise(range(4000), (1, *SIZE)))
    for gamma in (2.0, 0.0, -1.0):
        level = torch.tensor(gamma, dtype=torch.float64)
        state = guide.correct_state(torch.zeros_like(truth), level)
        power = fft2c(state).abs().square().mean((0, 1))[measurement.mask]
        assert power.mean() == pytest.approx(float(sigma(level) ** 2), rel=0.03)


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(ValueError, match="'magic' is unknown"):
        k_space_guide("magic", measured(draw_images(1, 1), 0.0), 1.0, SampleNoise([0], (1, *SIZE)))
