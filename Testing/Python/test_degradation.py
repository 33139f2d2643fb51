"""Simulated low-quality acquisitions: what a level means, noise statistics, k-space that a fast scan measures."""

from __future__ import annotations

import math

import pytest
import torch

from MRDiffusionLib.physics.degradation import FastScan, degrade, draw_fast_scan, fast_scan, noise_map, noisy_scan
from MRDiffusionLib.physics.fourier import fft2c
from MRDiffusionLib.physics.levels import FULL_SNR, acceleration, added_noise, level_of_noise, snr_ratio
from MRDiffusionLib.settings import KINDS

LEVELS = (0.0, 0.2, 0.5, 1.0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def brain(matrix: tuple[int, int] = (64, 48)) -> torch.Tensor:
    """A smooth bright ellipse in air."""
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in matrix), indexing="ij")
    return 0.8 * torch.sigmoid(20 * (0.5 - y**2 - 1.5 * x**2))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("matrix", [(64, 48), (33, 40)])
def test_level_0_is_the_image(kind: str, matrix: tuple[int, int]) -> None:
    image = brain(matrix)
    assert torch.allclose(degrade(image, kind, 0.0, generator()), image, atol=1e-6)


@pytest.mark.parametrize("level", [-0.01, 1.01, math.nan])
@pytest.mark.parametrize("kind", KINDS)
def test_other_levels_are_refused(kind: str, level: float) -> None:
    with pytest.raises(ValueError, match="outside 0 to 1"):
        degrade(brain(), kind, level, generator())


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="'fog' is unknown; known are noise, blur"):
        degrade(brain(), "fog", 0.5, generator())


def test_a_third_of_the_noise_scale_is_half_the_signal_to_noise_ratio() -> None:
    assert snr_ratio(1 / 3) == pytest.approx(0.5)
    assert acceleration(0.5) == pytest.approx(2)


@pytest.mark.parametrize("level", LEVELS)
def test_noise_of_both_scans_adds_up_to_the_ratio(level: float) -> None:
    full = 1 / FULL_SNR
    assert math.hypot(full, added_noise(level)) == pytest.approx(full / snr_ratio(level))
    assert level_of_noise(added_noise(level)) == pytest.approx(level)


@pytest.mark.parametrize("level", LEVELS[1:])
def test_noise_in_bright_signal_and_in_air(level: float) -> None:
    """In bright signal the magnitude's deviation is that of one channel; in air it is Rayleigh's."""
    matrix, wanted = (200, 200), added_noise(level) * noise_map((200, 200))
    bright = (noisy_scan(torch.full(matrix, 50.0), level, generator()) - 50) / wanted
    assert bright.std() == pytest.approx(1, abs=0.02) and bright.mean() == pytest.approx(0, abs=0.02)
    air = noisy_scan(torch.zeros(matrix), level, generator()) / wanted
    assert air.mean() == pytest.approx(math.sqrt(math.pi / 2), rel=0.01)


def test_noise_is_strongest_where_the_map_says() -> None:
    spread = noise_map((96, 96))
    assert spread.square().mean() == pytest.approx(1, abs=1e-5)
    draws = torch.stack([noisy_scan(torch.full((96, 96), 9.0), 0.5, generator(seed)) for seed in range(50)])
    measured = draws.std(0) / added_noise(0.5)
    assert torch.corrcoef(torch.stack([measured.flatten(), spread.flatten()]))[0, 1] > 0.8


def test_seeds_give_their_own_noise() -> None:
    one, same, other = (noisy_scan(brain(), 0.5, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("matrix", [(256, 256), (180, 231)])
def test_fast_scan_measures_the_share_that_its_level_says(level: float, seed: int, matrix: tuple[int, int]) -> None:
    scan = draw_fast_scan(level, generator(seed))
    assert scan.acceleration == pytest.approx(acceleration(level))
    assert scan.side <= 1 and 0.5 < scan.partial <= 1 and 0 <= scan.decay <= level
    weights = scan.weights(matrix)
    assert weights.numel() / (weights > 0).sum() == pytest.approx(acceleration(level), rel=0.03)
    assert weights.max() == weights[matrix[0] // 2, matrix[1] // 2] == 1


def test_means_of_speed_differ_from_case_to_case() -> None:
    scans = [draw_fast_scan(0.8, generator(seed)) for seed in range(20)]
    assert {scan.elliptical for scan in scans} == {True, False}
    assert max(scan.partial for scan in scans) - min(scan.partial for scan in scans) > 0.15


def test_unmeasured_k_space_is_empty_and_measured_k_space_kept() -> None:
    image = brain()
    scan = FastScan(side=0.5)
    weights = scan.weights((64, 48))
    k_space = fft2c(fast_scan(image, scan))
    # The image is positive and smooth, so that the magnitude changes nothing.
    assert (k_space - fft2c(image) * weights).abs().max() < 0.02 * fft2c(image).abs().max()


def test_decay_is_exponential_from_the_centre_out() -> None:
    weights = FastScan(side=1.0, decay=2.0).weights((65, 9))
    column = weights[:, 4]
    assert column[32] == 1 and column[0] == pytest.approx(math.exp(-2 * 32 / 32.5), rel=1e-5)
    assert torch.allclose(column, column.flip(0))


def test_partial_fourier_leaves_out_one_edge() -> None:
    rows = FastScan(side=1.0, partial=0.75).weights((64, 8)).any(1)
    assert rows[:48].all() and not rows[49:].any()


@pytest.mark.parametrize("kind", KINDS)
def test_quality_falls_with_the_level(kind: str) -> None:
    image = brain((96, 96))
    errors = [float((degrade(image, kind, level, generator(3)) - image).square().mean()) for level in LEVELS]
    assert errors == sorted(errors) and errors[-1] > 4 * errors[1]
