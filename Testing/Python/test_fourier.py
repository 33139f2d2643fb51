"""The centred Fourier transform and the masks of measured k-space."""

from __future__ import annotations

import cmath
import math

import pytest
import torch

from MRDiffusionLib.physics.fourier import fft2c, ifft2c, measured_mask

SIZES = [(8, 8), (7, 7), (8, 5), (5, 8), (1, 6), (128, 128), (37, 61), (48, 40)]
every_size = pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.complex128) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def mirrored(mask: torch.Tensor) -> torch.Tensor:
    """The mask at -k, with k counted from the centre and around the edge."""
    for axis in (0, 1):
        n = mask.shape[axis]
        index = (2 * (n // 2) - torch.arange(n)) % n
        mask = mask.index_select(axis, index)
    return mask


def test_transform_is_the_sum_of_its_definition():
    image = noise(4, 5)
    k_space = fft2c(image)
    for row in range(4):
        for column in range(5):
            total = sum(
                complex(image[y, x]) * cmath.exp(-2j * math.pi * ((row - 2) * (y - 2) / 4 + (column - 2) * (x - 2) / 5))
                for y in range(4)
                for x in range(5)
            )
            assert complex(k_space[row, column]) == pytest.approx(total / math.sqrt(20), abs=1e-12)


@every_size
def test_inverse_undoes_the_transform_on_both_sides(size):
    image = noise(3, 2, *size)
    torch.testing.assert_close(ifft2c(fft2c(image)), image)
    torch.testing.assert_close(fft2c(ifft2c(image)), image)


@every_size
def test_transform_is_unitary_and_the_inverse_is_its_adjoint(size):
    x, y = noise(*size, seed=1), noise(*size, seed=2)
    assert fft2c(x).norm().item() == pytest.approx(x.norm().item(), rel=1e-12)
    left = torch.vdot(fft2c(x).flatten(), y.flatten())
    right = torch.vdot(x.flatten(), ifft2c(y).flatten())
    torch.testing.assert_close(left, right)


@every_size
def test_a_point_at_the_centre_is_flat_and_a_flat_image_is_a_point(size):
    centre = (size[0] // 2, size[1] // 2)
    point = torch.zeros(size, dtype=torch.float64)
    point[centre] = 1
    flat = torch.full(size, 1 / math.sqrt(size[0] * size[1]), dtype=torch.complex128)
    torch.testing.assert_close(fft2c(point), flat)
    torch.testing.assert_close(fft2c(flat.real), point.to(torch.complex128))


def test_float32_images_have_single_precision_k_space():
    image = noise(128, 128, dtype=torch.float32)
    assert fft2c(image).dtype == torch.complex64
    torch.testing.assert_close(ifft2c(fft2c(image)).real, image, atol=1e-5, rtol=0)


MASKS = [((64, 64), (128, 128)), ((37, 61), (128, 128)), ((33, 32), (64, 65)), ((1, 2), (9, 8)), ((8, 3), (8, 7))]
every_mask = pytest.mark.parametrize(("matrix", "full"), MASKS, ids=str)


@every_mask
@pytest.mark.parametrize("symmetric", [True, False])
def test_projection_is_idempotent_and_self_adjoint(matrix, full, symmetric):
    mask = measured_mask(matrix, full, symmetric)

    def project(image: torch.Tensor) -> torch.Tensor:
        return ifft2c(fft2c(image) * mask)

    x, y = noise(*full, seed=1), noise(*full, seed=2)
    torch.testing.assert_close(project(project(x)), project(x), atol=1e-6, rtol=0)
    left, right = torch.vdot(project(x).flatten(), y.flatten()), torch.vdot(x.flatten(), project(y).flatten())
    torch.testing.assert_close(left, right, atol=1e-6, rtol=0)


@every_mask
def test_a_symmetric_mask_keeps_a_real_image_real(matrix, full):
    mask = measured_mask(matrix, full)
    assert torch.equal(mirrored(mask), mask)
    image = noise(*full, dtype=torch.float64)
    projected = ifft2c(fft2c(image) * mask)
    assert projected.imag.abs().max() < 1e-12
    again = ifft2c(fft2c(projected.real) * mask).real
    torch.testing.assert_close(again, projected.real, atol=1e-6, rtol=0)


def test_a_mask_with_the_unpaired_line_does_not_keep_a_real_image_real():
    """The reason for `symmetric`."""
    mask = measured_mask((64, 64), (128, 128), symmetric=False)
    assert not torch.equal(mirrored(mask), mask)
    assert ifft2c(fft2c(noise(128, 128, dtype=torch.float64)) * mask).imag.abs().max() > 0.01


@pytest.mark.parametrize("full", [(16, 16), (15, 15), (16, 15)], ids=str)
def test_lines_are_counted_from_the_centre(full):
    for m in range(1, 16):
        exact = measured_mask((m, full[1]), full, symmetric=False)
        assert exact.shape == full and exact.dtype == torch.bool
        assert exact.sum().item() == m * full[1]
        rows = exact[:, 0].nonzero().flatten() - full[0] // 2
        assert (rows[0].item(), rows[-1].item()) == (-(m // 2), (m - 1) // 2)
        symmetric = measured_mask((m, full[1]), full)
        lost = 1 if m % 2 == 0 and m < full[0] else 0
        assert symmetric.sum().item() == (m - lost) * full[1]


def test_everything_measured_is_everything():
    assert measured_mask((6, 7), (6, 7)).all()


@pytest.mark.parametrize("matrix", [(0, 4), (4, -1), (9, 4), (4, 9)], ids=str)
def test_a_matrix_that_does_not_fit_is_refused(matrix):
    with pytest.raises(ValueError, match=rf"{matrix[0]}x{matrix[1]} does not fit into 8x8"):
        measured_mask(matrix, (8, 8))
