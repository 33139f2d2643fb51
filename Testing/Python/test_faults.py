"""Simulated faults of pairs: displacements with known truth, ghosts, spikes."""

from __future__ import annotations

import math

import pytest
import torch

from MRDiffusionLib.physics.faults import Misalignment, motion_ghosts, rigid, smooth, spikes, together
from MRDiffusionLib.physics.fourier import fft2c


def blob(centre: tuple[float, float], matrix: tuple[int, int] = (64, 60), width: float = 3.0) -> torch.Tensor:
    y, x = torch.meshgrid(*(torch.arange(n).float() for n in matrix), indexing="ij")
    return torch.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * width**2))


def middle_of(image: torch.Tensor) -> tuple[float, float]:
    y, x = torch.meshgrid(*(torch.arange(n).float() for n in image.shape), indexing="ij")
    return float((y * image).sum() / image.sum()), float((x * image).sum() / image.sum())


def test_shift_moves_by_its_pixels() -> None:
    """What the moved image shows at p was at p + shift."""
    moved = rigid((64, 60), 0.0, (3.0, -2.5)).move(blob((30, 31)))
    assert middle_of(moved) == pytest.approx((27, 33.5), abs=0.01)


def test_rotation_is_about_the_middle() -> None:
    matrix, degrees = (64, 60), 20.0
    centre = (31.5, 29.5)
    moved = rigid(matrix, degrees, (0.0, 0.0)).move(blob((centre[0] + 10, centre[1])))
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # R p = q has the solution p = R^T q.
    assert middle_of(moved) == pytest.approx((centre[0] + 10 * c, centre[1] + 10 * s), abs=0.05)


def test_nothing_moves_by_nothing() -> None:
    image = torch.rand((20, 23), generator=torch.Generator().manual_seed(0))
    assert torch.allclose(rigid((20, 23), 0.0, (0.0, 0.0)).move(image), image, atol=1e-5)


@pytest.mark.parametrize("matrix", [(64, 64), (49, 70)])
def test_smooth_displacement_has_its_amplitude_and_no_mean(matrix: tuple[int, int]) -> None:
    field = smooth(matrix, 1.5, 8.0, torch.Generator().manual_seed(2)).displacement
    assert field.square().mean((-2, -1)).sqrt().tolist() == pytest.approx([1.5, 1.5], rel=1e-4)
    assert field.mean((-2, -1)).abs().max() < 1e-5
    steps = field.diff(dim=-1).abs().max()
    assert steps < 1.5  # neighbours keep their order: no folding


def test_displacements_add() -> None:
    both = together(rigid((8, 8), 0.0, (1.0, 0.0)), rigid((8, 8), 0.0, (0.0, 2.0)))
    assert torch.allclose(both.displacement, torch.tensor([1.0, 2.0]).reshape(2, 1, 1).expand(2, 8, 8))
    assert both.mean_pixels == pytest.approx(math.sqrt(5))
    assert isinstance(both, Misalignment)


def test_ghosts_lie_along_the_phase_encoded_axis() -> None:
    image = blob((32, 30), width=4.0)
    ghosted = motion_ghosts(image, 6.0, 0.5, torch.Generator().manual_seed(0))
    beside = torch.zeros_like(image, dtype=torch.bool)
    beside[:, 26:35] = True
    beside[20:45] = False
    assert ghosted[beside].mean() > 5 * ghosted[20:45, 50:].mean()
    assert ghosted.sum() > 0.8 * image.sum()


def test_no_motion_no_ghosts() -> None:
    image = blob((32, 30))
    for shift, share in ((0.0, 0.5), (5.0, 0.0)):
        assert torch.allclose(motion_ghosts(image, shift, share, torch.Generator().manual_seed(0)), image, atol=1e-6)


def test_spike_is_a_stripe_of_its_strength() -> None:
    """On a bright field the magnitude keeps the sum: one sample of k-space is one plane wave."""
    field = torch.full((40, 40), 5.0)
    striped = spikes(field, 1, 0.2, torch.Generator().manual_seed(1)) - field
    assert striped.abs().max() == pytest.approx(0.2, rel=0.03)
    strongest = fft2c(striped).abs().flatten().sort(descending=True).values
    assert strongest[1] > 20 * strongest[2]  # the wave and its mirror image
