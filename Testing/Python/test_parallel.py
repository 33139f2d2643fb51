"""Coil sensitivities and the g-factor, against a SENSE reconstruction of noise."""

from __future__ import annotations

import math

import pytest
import torch

from MRDiffusionLib.physics.fourier import fft2c, ifft2c
from MRDiffusionLib.physics.parallel import g_factor, sensitivities


@pytest.mark.parametrize(("matrix", "axis"), [((24, 20), 0), ((20, 24), 1)])
@pytest.mark.parametrize("factor", [2, 3])
def test_g_factor_is_the_noise_of_a_sense_reconstruction(matrix: tuple[int, int], axis: int, factor: int) -> None:
    """Pseudo-replicas: noise in each coil's k-space, every `factor`-th line, unfolded pixel by pixel."""
    assert matrix[axis] % factor == 0  # the reference reconstruction folds whole pixels
    generator = torch.Generator().manual_seed(1)
    places = [(torch.arange(n, dtype=torch.float64) - n // 2) / n for n in matrix]
    coils = sensitivities(*torch.meshgrid(*places, indexing="ij")).to(torch.complex128)
    lines = (torch.arange(matrix[axis]) - matrix[axis] // 2) % factor == 0
    mask = lines[:, None] if axis == 0 else lines[None, :]
    replicas = 400
    noise = torch.randn((replicas, *coils.shape), dtype=torch.complex128, generator=generator)
    full = unfolded(fft2c(noise), torch.ones_like(mask), coils, 1, axis)
    fast = unfolded(fft2c(noise), mask, coils, factor, axis)
    ratio = (fast.abs().square().mean(0) / full.abs().square().mean(0)).sqrt() / math.sqrt(factor)
    expected = g_factor(matrix, factor, axis).double()
    assert torch.allclose(ratio, expected, rtol=0.2)
    assert (ratio / expected).mean() == pytest.approx(1, abs=0.01)


def unfolded(k_space: torch.Tensor, mask: torch.Tensor, coils: torch.Tensor, factor: int, axis: int) -> torch.Tensor:
    """Images (R, H, W) by least squares from the folded coil images, pixel by pixel."""
    folded = ifft2c(k_space * mask) * factor
    images = torch.zeros(len(k_space), *coils.shape[1:], dtype=coils.dtype)
    size = coils.shape[1 + axis]
    for start in range(size // factor):
        where = [start + i * size // factor for i in range(factor)]
        index = torch.tensor(where)
        s = coils.index_select(1 + axis, index)
        y = folded.select(2 + axis, start)
        # (columns, coils, factor) and (columns, coils, replicas)
        matrix = s.permute(2, 0, 1) if axis == 0 else s.permute(1, 0, 2)
        solved = torch.linalg.lstsq(matrix, y.permute(2, 1, 0)).solution
        for i, place in enumerate(where):
            images.select(1 + axis, place).copy_(solved[:, i].T)
    return images


def test_no_acceleration_costs_no_noise() -> None:
    assert torch.equal(g_factor((7, 10), 1), torch.ones(7, 10))


@pytest.mark.parametrize("matrix", [(33, 40), (40, 33)])
def test_g_factor_of_any_size_is_smooth_and_symmetric(matrix: tuple[int, int]) -> None:
    g = g_factor(matrix, 2)
    assert g.shape == matrix and g.min() >= 1 and g.isfinite().all()
    # The ring is symmetric about the vertical axis; column 0 of an even matrix has no mirror image.
    inner = g if matrix[1] % 2 else g[:, 1:]
    assert torch.allclose(inner, inner.flip(1), atol=1e-4)


@pytest.mark.parametrize("factor", [0, 9])
def test_more_folds_than_coils_are_refused(factor: int) -> None:
    with pytest.raises(ValueError, match="outside 1 to 8"):
        g_factor((8, 8), factor)
