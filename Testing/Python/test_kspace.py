"""What a low-resolution acquisition measures: geometry, amplitude, projection, phase, noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from MRDiffusionLib.physics.fourier import fft2c, ifft2c, measured_mask
from MRDiffusionLib.physics.kspace import (
    Measurement,
    k_space_report,
    measure_image,
    measure_k_space,
    mirrored,
    partial_fourier_mask,
    resize_image,
    resize_k_space,
)
from MRDiffusionLib.physics.noise import estimate_noise

GRIDS = [
    ((64, 64), (128, 128)),
    ((32, 32), (128, 128)),
    ((48, 40), (128, 128)),
    ((37, 61), (128, 128)),
    ((33, 48), (65, 127)),
]


def blob(matrix: tuple[int, int], centre: tuple[float, float] = (0.13, -0.21), width: float = 0.07) -> Tensor:
    """A Gaussian at a physical position (fields of view from the middle), sampled at voxel centres."""
    y, x = ((torch.arange(n, dtype=torch.float64) + 0.5) / n - 0.5 for n in matrix)
    return torch.exp(-((y[:, None] - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * width**2))


@pytest.mark.parametrize(("low", "high"), GRIDS)
def test_anatomy_neither_moves_nor_changes_its_brightness(low: tuple[int, int], high: tuple[int, int]) -> None:
    # The same analytic object on both grids; a shift of 0.01 fine pixels would show as an error of about 1e-3.
    assert (resize_image(blob(low), high) - blob(high)).abs().max() < 1e-4
    assert (resize_image(blob(high), low) - blob(low)).abs().max() < 1e-4


@pytest.mark.parametrize(("low", "high"), GRIDS)
def test_zero_filling_then_cropping_is_the_identity_on_the_measured_band(
    low: tuple[int, int], high: tuple[int, int]
) -> None:
    image = torch.randn(*low, dtype=torch.float64)
    band = ifft2c(fft2c(image) * measured_mask(low, (low[0] + 1, low[1] + 1))[: low[0], : low[1]]).real
    once = resize_image(resize_image(band, high), low)
    assert torch.allclose(resize_image(resize_image(once, high), low), once, atol=1e-12)


MASKS = {
    "64x64": measured_mask((64, 64), (128, 128)),
    "even, not symmetric": measured_mask((64, 32), (128, 128), symmetric=False),
    "37x61 of odd": measured_mask((37, 61), (127, 129)),
    "one line": measured_mask((1, 40), (48, 50)),
    "full": measured_mask((48, 50), (48, 50)),
    "partial Fourier": partial_fourier_mask((64, 64), (128, 128), 0.625),
    "partial Fourier, columns": partial_fourier_mask((64, 61), (96, 127), 0.75, axis=-1),
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
def test_the_projection_is_idempotent_and_self_adjoint(mask: Tensor) -> None:
    def project(x: Tensor) -> Tensor:
        return ifft2c(fft2c(x) * mask)

    u, v = (torch.randn(mask.shape, dtype=torch.complex128) for _ in range(2))
    assert (project(project(u)) - project(u)).abs().max() < 1e-6
    assert abs(torch.vdot(project(u).flatten(), v.flatten()) - torch.vdot(u.flatten(), project(v).flatten())) < 1e-6


@pytest.mark.parametrize("name", ["64x64", "37x61 of odd", "one line", "full"])
def test_a_symmetric_mask_keeps_a_real_image_real(name: str) -> None:
    image = torch.randn(*MASKS[name].shape, dtype=torch.float64)
    low_pass = ifft2c(fft2c(image) * MASKS[name])
    assert low_pass.imag.abs().max() < 1e-12
    measurement = Measurement(fft2c(image)[None, None] * MASKS[name], MASKS[name])
    twice = measurement.adjoint(measurement.forward(low_pass.real[None, None]))
    assert torch.allclose(twice[0, 0], low_pass.real, atol=1e-12)


@pytest.mark.parametrize("phased", [False, True])
def test_adjoint_is_the_adjoint_of_forward(phased: bool) -> None:
    mask = partial_fourier_mask((40, 33), (64, 63), 0.7)
    phase = torch.randn(2, 1, 64, 63, dtype=torch.float64) if phased else None
    measurement = Measurement(torch.zeros(2, 1, 64, 63, dtype=torch.complex128), mask, phase=phase)
    x = torch.randn(2, 1, 64, 63, dtype=torch.float64)
    k = torch.randn(2, 1, 64, 63, dtype=torch.complex128)
    # The inner product of real images with complex data is the real part.
    left = torch.vdot(measurement.forward(x).flatten(), k.flatten()).real
    assert math.isclose(left, (x * measurement.adjoint(k)).sum(), rel_tol=1e-9)


def test_partial_fourier_measures_the_centre_and_the_given_share() -> None:
    mask = partial_fourier_mask((64, 64), (128, 128), 0.75)
    assert mask.any(1).sum() == 48 and mask.any(0).sum() == 64
    assert mask[64, 64]
    for fraction in (0.5, 1.1, math.nan):
        with pytest.raises(ValueError, match="outside"):
            partial_fourier_mask((64, 64), (128, 128), fraction)


@pytest.mark.parametrize("shape", [(8, 8), (7, 8), (9, 7)])
def test_mirrored_k_space_of_a_real_image_is_itself(shape: tuple[int, int]) -> None:
    k_space = fft2c(torch.randn(*shape, dtype=torch.float64))
    assert torch.allclose(mirrored(k_space), k_space)
    assert not torch.allclose(mirrored(fft2c(torch.randn(*shape, dtype=torch.complex128))), k_space)


@pytest.mark.parametrize("matrix", [(128, 128), (64, 64), (97, 61)])
def test_resizing_keeps_the_mean(matrix: tuple[int, int]) -> None:
    image = torch.rand(2, 80, 75, dtype=torch.float64)
    small = (min(matrix[0], 80), min(matrix[1], 75))
    assert torch.allclose(resize_image(image, small).mean((-2, -1)), image.mean((-2, -1)))


def test_a_measured_image_zero_fills_to_the_resized_one() -> None:
    low = torch.rand(3, 1, 48, 40, dtype=torch.float64)
    measurement = measure_image(low, (128, 128))
    assert torch.allclose(measurement.zero_filled(), resize_image(low, (128, 128)), atol=1e-12)
    assert measurement.residual(measurement.zero_filled()).abs().max() < 1e-10


def test_noise_is_scaled_with_the_matrix() -> None:
    low = torch.randn(200, 1, 32, 32, dtype=torch.float64) * 0.3
    measurement = measure_image(low, (64, 64), noise=0.3)
    samples = measurement.k_space[:, 0][:, measurement.mask]
    assert math.isclose(samples.abs().square().mean().sqrt(), measurement.noise, rel_tol=0.02)


def smooth_phase(matrix: tuple[int, int]) -> Tensor:
    y, x = ((torch.arange(n, dtype=torch.float64) + 0.5) / n - 0.5 for n in matrix)
    return 1.5 * torch.sin(2 * y)[:, None] + 1.2 * x + 0.4


def test_complex_k_space_carries_its_phase() -> None:
    full = (128, 128)
    truth = blob(full)
    k_space = resize_k_space(fft2c(truth * torch.exp(1j * smooth_phase(full))), (64, 64))
    measurement = measure_k_space(k_space[None, None], full)
    assert measurement.phase is not None
    bright = truth > 0.2
    error = torch.angle(torch.exp(1j * (measurement.phase[0, 0] - smooth_phase(full))))
    assert error[bright].abs().max() < 0.02
    assert (measurement.zero_filled()[0, 0] - truth).abs()[bright].max() < 0.02
    # Taken as magnitude, the image with a phase would not fit: the report must notice.
    fits = k_space_report(truth[None, None], measurement)
    wrong = k_space_report(truth[None, None], Measurement(measurement.k_space, measurement.mask))
    assert fits["residual_over_signal"] < 0.02 < 0.3 < wrong["residual_over_signal"]


def test_partial_fourier_k_space_is_measured_where_it_is_not_zero() -> None:
    truth = blob((64, 64))
    k_space = fft2c(truth).to(torch.complex64) * partial_fourier_mask((64, 64), (64, 64), 0.75)
    measurement = measure_k_space(k_space[None, None], (128, 128))
    assert measurement.mask.sum() == 48 * 64


def test_the_report_tells_agreement_from_invention() -> None:
    low = resize_image(torch.rand(1, 1, 64, 64, dtype=torch.float64), (32, 32))
    measurement = measure_image(low, (64, 64), noise=0.1)
    assert measurement.noise == pytest.approx(0.2)
    filled = measurement.zero_filled()
    exact = k_space_report(filled, measurement)
    assert exact["residual_over_noise"] < 1e-9 and exact["energy_outside"] < 1e-20
    noisy = k_space_report(
        filled + measurement.adjoint(fft2c(torch.randn(1, 1, 64, 64, dtype=torch.float64) * 0.2)), measurement
    )
    assert noisy["residual_over_noise"] == pytest.approx(1, rel=0.1)
    invented = filled + 0.1 * torch.randn(1, 1, 64, 64, dtype=torch.float64)
    assert k_space_report(invented, measurement)["energy_outside"] > 0.05


@pytest.mark.parametrize("sigma", [0.5, 20.0])
def test_noise_is_estimated_from_air(sigma: float) -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    head = 40 * sigma * ((y / 0.8) ** 2 + (x / 0.7) ** 2 < 1)
    complex_noise = rng.normal(0, sigma, (8, 64, 64)) + 1j * rng.normal(0, sigma, (8, 64, 64))
    volume = np.abs(head + complex_noise).astype(np.float32)
    assert estimate_noise(volume) == pytest.approx(sigma, rel=0.05)
    # Anatomy that reaches one side of the field of view must not count as noise.
    volume[:, 20:, 25:40] += 40 * sigma
    assert estimate_noise(volume) == pytest.approx(sigma, rel=0.08)


def test_masked_air_has_no_noise() -> None:
    volume = np.zeros((4, 64, 64), np.float32)
    volume[:, 20:40, 20:40] = 100
    assert estimate_noise(volume) == 0
