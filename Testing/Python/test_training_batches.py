"""Noise with a spared centre of k-space, as guided sampling meets it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from MRDiffusionLib.diffusion.schedule import LinearSchedule
from MRDiffusionLib.physics.fourier import fft2c
from MRDiffusionLib.physics.kspace import mirrored
from MRDiffusionLib.training.batches import prior_losses, spare_centre
from MRDiffusionLib.training.config import config_from
from MRDiffusionLib.training.share import Share


def white(count: int, *size: int) -> Tensor:
    return torch.randn((count, 1, *(size or (32, 31))), generator=torch.Generator().manual_seed(0))


def spared(noise: Tensor, seed: int = 1, **more: float) -> tuple[Tensor, Tensor]:
    """The noise, and the factor of each k-space sample, (B, H, W)."""
    changed = spare_centre(noise, torch.Generator().manual_seed(seed), **more)
    return changed, (fft2c(changed) / fft2c(noise))[:, 0]


def test_real_noise_stays_real_and_is_scaled_by_one_factor_in_a_centred_rectangle():
    _, factors = spared(white(60), silent=0.5)
    assert factors.imag.abs().max() < 1e-3  # a complex factor would be noise that moved or did not stay real
    for factor in factors.real:
        inside = (factor - 1).abs() > 1e-3
        rows, columns = inside.any(1), inside.any(0)
        assert torch.equal(inside, rows[:, None] & columns)
        assert torch.equal(inside, mirrored(inside.to(torch.uint8)).bool())
        for lines, n in ((rows, 32), (columns, 31)):
            assert lines[n // 2] and 0.15 * n - 2 <= lines.sum() <= 0.9 * n + 2
        assert factor[inside].std() < 1e-3 and -1e-3 < factor[inside].mean() < 1


def test_most_centres_are_silent():
    _, factors = spared(white(2000, 16, 16))
    assert (factors.real[:, 8, 8].abs() < 1e-3).float().mean() == pytest.approx(0.75, abs=0.04)


def test_half_of_the_centres_have_the_same_share_of_both_axes():
    _, factors = spared(white(1000, 64, 64), silent=1.0)
    inside = factors.real < 0.5
    equal = inside.any(2).sum(1) == inside.any(1).sum(1)
    assert equal.float().mean() == pytest.approx(0.5, abs=0.06)


def test_outside_the_centre_the_noise_is_white_as_before():
    changed, factors = spared(white(400), silent=1.0)
    outside = (factors.real - 1).abs() < 1e-3
    power = fft2c(changed)[:, 0].abs().square()
    assert power[outside].mean() == pytest.approx(1, abs=0.02)
    assert power[~outside].mean() < 1e-9


def test_the_generator_decides():
    noise = white(8)
    assert torch.equal(spared(noise, 3)[0], spared(noise, 3)[0])
    assert not torch.equal(spared(noise, 3)[0], spared(noise, 4)[0])


def test_a_phase_treats_its_share_of_the_images_at_their_own_noise_levels():
    """Seen by the model: a silent centre in some images, and only these at the noise levels of measured centres."""
    seen = []

    def model(images: Tensor, noise: Tensor, levels: Tensor, loss: str, positions: Tensor) -> Tensor:
        seen.append((fft2c(noise).abs()[:, 0, 16, 16] < 1e-3, levels))
        return images.mean((1, 2, 3))

    levels = {"mean": 2.0, "std": 0.1, "uniform_share": 0.0}, {"mean": -6.0, "std": 0.1, "uniform_share": 0.0}
    phase = {
        "steps": 50,
        "batch": 16,
        "crop": 32,
        "noise_levels": levels[0],
        "measured": {"share": 0.6, "noise_levels": levels[1]},
    }
    subjects = {"train_subjects": [1, 1], "validation_subjects": [2, 2]}
    config = config_from({"name": "x", "data": "x", **subjects, "phases": [phase]})
    slices = torch.zeros((3, 1, 32, 32), dtype=torch.uint8)
    for step in range(50):
        prior_losses(model, LinearSchedule(), slices, config, step, Share(), torch.device("cpu"))  # type: ignore[arg-type]
    silent, gammas = (torch.cat(values) for values in zip(*seen))
    measured = gammas < -2
    assert measured.float().mean() == pytest.approx(0.6, abs=0.05)
    assert silent[~measured].float().mean() < 0.02 and silent[measured].float().mean() == pytest.approx(0.75, abs=0.05)
    assert (gammas[measured] + 6).abs().max() < 0.6 and (gammas[~measured] - 2).abs().max() < 0.6
