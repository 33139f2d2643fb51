"""What fast scans lose on average: a table that is measured on pairs, and taken from images again."""

import math

import pytest
import torch

from MRDiffusionLib.physics.degradation import FastScan
from MRDiffusionLib.physics.fourier import fft2c, ifft2c
from MRDiffusionLib.physics.low_pass import low_pass
from MRDiffusionLib.physics.transfer import BINS, FURTHEST, lost, measured_losses, without_gaps


def images(size: tuple[int, int], count: int = 2) -> torch.Tensor:
    return torch.rand((count, 1, *size), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [(32, 24), (33, 41)])
def test_nothing_is_lost_of_a_full_scan_and_all_of_none(size):
    image, extent = images(size), torch.tensor([0.5, 0.9])
    assert torch.equal(lost(image, torch.zeros(1, BINS, BINS), extent), torch.zeros_like(image))
    assert torch.allclose(lost(image, torch.ones(1, BINS, BINS), extent), image, atol=1e-5)


@pytest.mark.parametrize("size", [(64, 48), (65, 33)])
def test_losses_are_those_of_a_linear_scan(size):
    """Of a filter that depends smoothly on frequency, the measured table gives it back, at another extent too."""

    def scanned(image: torch.Tensor, extent: float) -> torch.Tensor:
        ky, kx = (((torch.arange(n) - n // 2) / (n / 2) / extent) for n in image.shape[-2:])
        return ifft2c(fft2c(image) * torch.exp(-0.4 * ky[:, None].abs() - 0.2 * kx[None].abs())).real

    image = images(size)
    sums, powers = without_gaps(*measured_losses(image, scanned(image, 0.7), torch.tensor([0.7, 0.7])))
    table = (sums.sum(0) / powers.sum(0))[None].float()
    for extent in (0.7, 0.8):
        found = image - lost(image, table, torch.tensor([extent, extent]))
        # A bin has frequencies on both sides of its middle.
        wanted = scanned(image, extent)
        assert (found - wanted).square().mean() < 0.01 * (image - wanted).square().mean()


def test_the_table_is_the_best_linear_one():
    """Of two scans of which one loses a frequency that the other measures, half is lost on average."""
    image = images((64, 64), 1).expand(2, -1, -1, -1)
    low = torch.cat([low_pass(image[:1], torch.tensor([0.5])), image[1:]])
    sums, powers = (part.sum(0) for part in measured_losses(image, low, torch.tensor([0.5, 0.5])))
    inside = int(BINS / FURTHEST) - 1
    assert torch.allclose(
        sums[:inside, :inside], torch.zeros(inside, inside, dtype=sums.dtype), atol=1e-6 * powers.max()
    )
    assert torch.allclose(sums[-1], powers[-1] / 2)


def test_the_table_reaches_the_edge_of_the_fastest_scan():
    scan = FastScan(1.0, partial=0.65, elliptical=True)
    assert math.sqrt(scan.acceleration) < FURTHEST


def test_losses_keep_the_type():
    image = images((16, 16)).bfloat16()
    assert lost(image, torch.ones(1, BINS, BINS), torch.tensor([0.5, 0.5])).dtype == torch.bfloat16
