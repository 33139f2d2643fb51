"""The centred, orthonormal Fourier transform of the last two axes, for any size, odd or even.

`F x[k] = 1/sqrt(N) sum_n x[n] exp(-2 pi i k n / N)` per axis, with k and n counted from the centre `N // 2`: the zero
frequency lies at index `N // 2`, and so does the origin of the image.
"""

from __future__ import annotations

import torch
from torch import Tensor

AXES = (-2, -1)


def fft2c(image: Tensor) -> Tensor:
    """Image (..., H, W), real or complex, to centred k-space (..., H, W), complex; a unitary map."""
    return torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(image, dim=AXES), norm="ortho"), dim=AXES)


def ifft2c(k_space: Tensor) -> Tensor:
    """Centred k-space (..., H, W) to the image (..., H, W), complex: the inverse and the adjoint of `fft2c`."""
    return torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(k_space, dim=AXES), norm="ortho"), dim=AXES)


def measured_mask(matrix: tuple[int, int], full: tuple[int, int], symmetric: bool = True) -> Tensor:
    """The measured centre of k-space: (H, W) bool, true where measured.

    `m` lines of `N` per axis: the centre `N // 2` and the lines around it, `-(m // 2)` to `(m - 1) // 2`.

    Args:
        matrix: measured lines per axis, 1 to N.
        full: the full matrix.
        symmetric: leave out the line `-m/2` of an even m < N. A real image has Hermitian k-space; only a symmetric mask
            keeps it real, so that the projection on the measured band is idempotent. The line carries half the
            information of a complex one anyway.

    Raises:
        ValueError: a measured count outside 1..N.
    """
    lines = []
    for m, n in zip(matrix, full, strict=True):
        if not 1 <= m <= n:
            raise ValueError(f"measured matrix {matrix[0]}x{matrix[1]} does not fit into {full[0]}x{full[1]}")
        k = torch.arange(n) - n // 2
        low = -((m - 1) // 2) if symmetric and m < n else -(m // 2)
        lines.append((k >= low) & (k <= (m - 1) // 2))
    return lines[0][:, None] & lines[1][None, :]
