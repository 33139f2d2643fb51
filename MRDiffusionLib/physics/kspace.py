"""What a low-resolution acquisition measures, and how it relates to an image on a finer grid.

Two grids with the same field of view have their voxel corners in common, not their voxel centres. Voxel n of N lies at
`p = (n - N // 2) / N + delta_N` fields of view from the middle, with `delta_N = 1/(2N)` for even N and 0 for odd N.
Fourier coefficients of the same object on both grids therefore differ by an amplitude, `sqrt(M/N)` per axis for the
orthonormal transform, and by the phase ramp `exp(2 pi i k (delta_M - delta_N))`. With both, anatomy does not move.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .fourier import fft2c, ifft2c, measured_mask


def _frequencies(n: int, device: torch.device) -> Tensor:
    return torch.arange(n, device=device, dtype=torch.float64) - n // 2


def _half_voxel(n: int) -> float:
    return 0.5 / n if n % 2 == 0 else 0.0


def resize_k_space(k_space: Tensor, matrix: tuple[int, int]) -> Tensor:
    """Crop or zero-pad centred k-space (..., h, w) to another matrix with the same field of view.

    Amplitude (image intensity) and position of the anatomy are kept. Returns (..., H, W), complex.
    """
    old = (k_space.shape[-2], k_space.shape[-1])
    # `F.pad` with negative numbers crops; the zero frequency moves from n // 2 to m // 2.
    pads: list[int] = []
    for n, m in ((old[1], matrix[1]), (old[0], matrix[0])):
        before = m // 2 - n // 2
        pads += [before, m - n - before]
    resized = torch.view_as_complex(
        torch.stack([F.pad(part, pads) for part in (k_space.real, k_space.imag)], dim=-1).contiguous()
    )
    for axis, n, m in ((-2, old[0], matrix[0]), (-1, old[1], matrix[1])):
        shift = _half_voxel(m) - _half_voxel(n)
        if shift:
            ramp = torch.exp(2j * math.pi * shift * _frequencies(m, k_space.device)).to(resized.dtype)
            resized = resized * (ramp[:, None] if axis == -2 else ramp)
    return resized * math.sqrt(matrix[0] * matrix[1] / (old[0] * old[1]))


def resize_image(image: Tensor, matrix: tuple[int, int]) -> Tensor:
    """Real images (..., h, w) to another matrix through k-space: zero filling upwards, low-pass downwards; real.

    Only lines with a measured mirror line are used (`measured_mask`, symmetric), so a real image stays real.
    """
    old = (image.shape[-2], image.shape[-1])
    common = (min(old[0], matrix[0]), min(old[1], matrix[1]))
    # A mask leaves out the unpaired line only on a grid finer than `common`: downwards the old one, upwards the new.
    k_space = resize_k_space(fft2c(image) * measured_mask(common, old).to(image.device), matrix)
    return ifft2c(k_space * measured_mask(common, matrix).to(image.device)).real


def partial_fourier_mask(matrix: tuple[int, int], full: tuple[int, int], fraction: float, axis: int = -2) -> Tensor:
    """The centre `matrix` of k-space with only the first `fraction` of its lines along `axis` measured, (H, W) bool.

    Args:
        fraction: above 0.5 (so that the centre is measured) to 1.
    """
    if not 0.5 < fraction <= 1:
        raise ValueError(f"partial Fourier fraction {fraction} is outside (0.5, 1]")
    if axis not in (-2, -1):
        raise ValueError(f"axis {axis} is not -2 (rows) or -1 (columns)")
    mask = measured_mask(matrix, full, symmetric=False)
    n, m = full[axis], matrix[axis]
    k = torch.arange(n) - n // 2
    kept = k < -(m // 2) + math.ceil(fraction * m)
    return mask & (kept[:, None] if axis == -2 else kept[None, :])


def mirrored(k_space: Tensor) -> Tensor:
    """`conj(k(-f))` for centred k-space (..., H, W): equal to `k_space` where the image is real.

    The line `-N/2` of an even N is its own mirror line.
    """
    for axis in (-2, -1):
        k_space = torch.flip(k_space, (axis,))
        if k_space.shape[axis] % 2 == 0:
            k_space = torch.roll(k_space, 1, axis)
    return k_space.conj() if k_space.is_complex() else k_space


@dataclass(frozen=True)
class Measurement:
    """Measured k-space on the fine grid, `y = Lambda F (e^{i phase} x) + noise`, x a real image.

    Attributes:
        k_space: (B, 1, H, W) complex, zero where not measured.
        mask: (H, W) bool, true where measured.
        noise: standard deviation s of a measured sample, `E|n|^2 = s^2`, in the units of `k_space`.
        phase: (B, 1, H, W) image phase in radians, known from the low-resolution data; None for magnitude images.
    """

    k_space: Tensor
    mask: Tensor
    noise: float = 0.0
    phase: Tensor | None = None

    def forward(self, image: Tensor) -> Tensor:
        """`A x = Lambda F (e^{i phase} x)`, (B, 1, H, W) real to complex."""
        return fft2c(image if self.phase is None else image * torch.exp(1j * self.phase)) * self.mask

    def adjoint(self, k_space: Tensor) -> Tensor:
        """`A^T k = Re(e^{-i phase} F^-1 Lambda k)`, complex to real."""
        image = ifft2c(k_space * self.mask)
        return image.real if self.phase is None else (image * torch.exp(-1j * self.phase)).real

    def residual(self, image: Tensor) -> Tensor:
        """`y - A x`, complex."""
        return self.k_space - self.forward(image)

    def zero_filled(self) -> Tensor:
        """`A^T y`: the image with nothing beyond the measurement, (B, 1, H, W) real."""
        return self.adjoint(self.k_space)

    def select(self, index: list[int]) -> Measurement:
        """The measurement of some of the batch, in the order given, repeats allowed."""
        phase = None if self.phase is None else self.phase[index]
        return Measurement(self.k_space[index], self.mask, self.noise, phase)


def measure_image(low: Tensor, matrix: tuple[int, int], noise: float = 0.0) -> Measurement:
    """A low-resolution magnitude image, (B, 1, h, w) real, as a measurement on the fine grid.

    The magnitude of a low-passed complex image is not the low-passed magnitude; taking it as such is the approximation
    that every method without raw data makes.

    Args:
        noise: standard deviation of the low-resolution image's noise, in its units.
    """
    old = (low.shape[-2], low.shape[-1])
    mask = measured_mask(old, matrix).to(low.device)
    k_space = resize_k_space(fft2c(low), matrix) * mask
    return Measurement(k_space, mask, noise * math.sqrt(matrix[0] * matrix[1] / (old[0] * old[1])))


def measure_k_space(
    k_space: Tensor, matrix: tuple[int, int], mask: Tensor | None = None, noise: float = 0.0
) -> Measurement:
    """Complex low-resolution k-space, (B, 1, h, w), as a measurement on the fine grid with the phase that it carries.

    Args:
        mask: (h, w) bool, true where measured; by default where any of the k-space is not zero.
        noise: standard deviation of a sample, `E|n|^2 = s^2`, in the units of `k_space`.
    """
    old = (k_space.shape[-2], k_space.shape[-1])
    measured = (k_space != 0).flatten(0, -3).any(0) if mask is None else mask
    fine = resize_k_space(measured.to(k_space.dtype), matrix).abs() > 1e-6 * math.sqrt(
        matrix[0] * matrix[1] / (old[0] * old[1])
    )
    moved = resize_k_space(k_space * measured, matrix)
    # The phase is taken from the symmetric centre alone: partial Fourier lines without a mirror line would twist it.
    both = fine & mirrored(fine)
    window = _hann_window(both)
    phase = torch.angle(ifft2c(moved * window))
    scale = math.sqrt(matrix[0] * matrix[1] / (old[0] * old[1]))
    return Measurement(moved, fine, noise * scale, phase)


def _hann_window(mask: Tensor) -> Tensor:
    """A Hann window over the extent of a mask, (H, W): a smooth phase has no ringing."""
    window = torch.ones_like(mask, dtype=torch.float32)
    for axis in (0, 1):
        lines = mask.any(1 - axis)
        k = _frequencies(len(lines), mask.device).abs()
        reach = float(k[lines].max()) + 1 if bool(lines.any()) else 1.0
        hann = torch.where(k < reach, 0.5 * (1 + torch.cos(math.pi * k / reach)), torch.zeros_like(k)).float()
        window = window * (hann[:, None] if axis == 0 else hann)
    return window * mask


def k_space_report(image: Tensor, measurement: Measurement) -> dict[str, float]:
    """How an image agrees with its measurement, over the whole batch (B, 1, H, W).

    Returns:
        residual: root mean square of `y - A x` over the measured samples, in the units of k-space.
        noise: the measurement's noise level s, in the same units.
        residual_over_noise: their ratio; near 1 is agreement, far below copies the noise, far above ignores the data.
            NaN where the noise level is 0.
        residual_over_signal: residual relative to the root mean square of the measured samples.
        energy_outside: share of the image's energy (mean removed) outside the measured band: what the prior added.
    """
    samples = measurement.mask.sum() * len(image)
    residual = float((measurement.residual(image).abs().square().sum() / samples).sqrt())
    signal = float((measurement.k_space.abs().square().sum() / samples).sqrt())
    varying = image - image.mean(dim=(-2, -1), keepdim=True)
    phased = varying if measurement.phase is None else varying * torch.exp(1j * measurement.phase)
    energy = fft2c(phased).abs().square()
    outside = float((energy * ~measurement.mask).sum() / energy.sum().clamp(min=1e-30))
    return {
        "residual": residual,
        "noise": measurement.noise,
        "residual_over_noise": residual / measurement.noise if measurement.noise > 0 else math.nan,
        "residual_over_signal": residual / max(signal, 1e-30),
        "energy_outside": outside,
    }
