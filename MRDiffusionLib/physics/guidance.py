"""Guides that hold the sampling to a k-space measurement; `lambda` (`weight`) in [0, 1] for all of them.

    conditional   keeps the measured band of the noisy state free of noise, so that the network sees what was measured;
                  lambda is the share of the measurement at every step. For priors that were trained with such bands.
    replacement   mixes the noisy state with the equally noisy measurement; lambda is the share of the measurement at
                  every step (seed 002; Song et al. 2111.08005). Small lambdas add up over many steps.
    projection    corrects the predicted clean image; lambda is the share of the way to the data-consistent image
                  (DDNM 2212.00490, noise-weighted as in DiffPIR 2305.08995).
    gradient      moves the predicted clean image along the gradient of the data misfit through the network; lambda is
                  the share of the step that lowers the misfit most (after DPS 2209.14687 and PiGDM).

lambda = 0 is the unguided prior in all of them; lambda = 1 is full data consistency up to the measurement's noise.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..diffusion.guidance import Guide
from ..diffusion.samplers import Draw
from ..diffusion.schedule import alpha, sigma
from .kspace import Measurement

METHODS = ("conditional", "projection", "replacement", "gradient")


def noise_ratio(measurement: Measurement, gamma: Tensor) -> float:
    """`rho = s^2 alpha^2 / sigma^2`: noise variance of the measurement over the predicted image's; 0 is exact data.

    The correction `(y - F x0) / (1 + rho)` minimises `|y - F x|^2 / s^2 + alpha^2/sigma^2 |x - x0|^2`.
    """
    return float(measurement.noise**2 * torch.exp(-gamma)) if measurement.noise > 0 else 0.0


class Replacement(Guide):
    """`k <- lambda y_t + (1 - lambda) k` inside the mask, `y_t = alpha y + sqrt(sigma^2 - alpha^2 s^2) Lambda F noise`.

    The measurement already carries noise s, so only the rest up to sigma is added. After the last step (alpha = 1,
    sigma = 0) it mixes in the measurement itself.

    Args:
        draw: fresh real noise of the images' shape (B, 1, H, W).
    """

    def __init__(self, measurement: Measurement, weight: float, draw: Draw) -> None:
        self.measurement, self.weight, self.draw = measurement, weight, draw

    def correct_state(self, z: Tensor, gamma: Tensor) -> Tensor:
        if self.weight == 0:
            return z
        a, s = alpha(gamma), sigma(gamma)
        added = (s**2 - a**2 * self.measurement.noise**2).clamp(min=0).sqrt().to(z.dtype)
        noisy = a.to(z.dtype) * self.measurement.k_space
        if added > 0:
            noisy = noisy + added * self.measurement.forward(self.draw())
        return z + self.weight * self.measurement.adjoint(noisy - self.measurement.forward(z))


class Projection(Guide):
    """`x0 <- x0 + lambda A^T (y - A x0) / (1 + rho)` (DDNM for rho = 0; `noise_ratio`)."""

    def __init__(self, measurement: Measurement, weight: float) -> None:
        self.measurement, self.weight = measurement, weight

    def correct_prediction(self, x0: Tensor, z: Tensor, gamma: Tensor) -> Tensor:
        if self.weight == 0:
            return x0
        gain = self.weight / (1 + noise_ratio(self.measurement, gamma))
        return x0 + gain * self.measurement.adjoint(self.measurement.residual(x0))


class Conditional(Guide):
    """`z <- z + lambda A^T (alpha y - A z)` where `sigma >= alpha s`: the diffusion runs outside the measured band.

    A measurement `y = x + s n` is itself a state of the diffusion, at the noise level where `sigma = alpha s`. Above
    that level the band holds `alpha y`, with no more noise than was measured (none for exact data); below it the band
    is denoised with the rest. A denoiser that is right for such states (`training.batches.spare_centre`) makes this
    the reverse diffusion of the posterior; `projection` and `replacement` show it a band as noisy as the rest.

    The band is clean where `A^T A` is a projection: for magnitude images. With a known phase, or partial Fourier lines
    without a mirror line, `A^T` keeps the real part, and some noise stays in the band.
    """

    def __init__(self, measurement: Measurement, weight: float) -> None:
        self.measurement, self.weight = measurement, weight

    def correct_state(self, z: Tensor, gamma: Tensor) -> Tensor:
        a, s = alpha(gamma).to(z.dtype), sigma(gamma)
        if self.weight == 0 or s < alpha(gamma) * self.measurement.noise:
            return z
        return z + self.weight * self.measurement.adjoint(a * self.measurement.k_space - self.measurement.forward(z))


class Gradient(Guide):
    """`x0 <- x0 + lambda mu d / (1 + rho)`, with `d = J^T A^T (y - A x0)` and `J = d x0 / d z`.

    `J^T` is the network's own sensitivity: the correction follows what the network believes can vary at this noise
    level, and reaches frequencies beyond the measured ones. `mu = <r, A d> / |A d|^2` is the exact line search for the
    residual `r`, per image, so that no step size has to be tuned; for a denoiser with `J = c I` this is `Projection`.
    """

    needs_gradient = True

    def __init__(self, measurement: Measurement, weight: float) -> None:
        self.measurement, self.weight = measurement, weight

    def correct_prediction(self, x0: Tensor, z: Tensor, gamma: Tensor) -> Tensor:
        if self.weight == 0:
            return x0.detach()
        residual = self.measurement.residual(x0)
        misfit = 0.5 * residual.abs().square().sum()
        (gradient,) = torch.autograd.grad(-misfit, z)
        with torch.no_grad():
            reached = self.measurement.forward(gradient)
            along = (residual.conj() * reached).real.flatten(1).sum(1)
            length = reached.abs().square().flatten(1).sum(1)
            mu = torch.where(length > 0, along / length.clamp(min=1e-30), torch.zeros_like(along)).clamp(min=0)
            gain = self.weight / (1 + noise_ratio(self.measurement, gamma))
            return x0.detach() + gain * mu.reshape(-1, 1, 1, 1) * gradient


def k_space_guide(method: str, measurement: Measurement, weight: float, draw: Draw) -> Guide:
    """The guide of a method's name. Raises ValueError for an unknown one."""
    if method == "conditional":
        return Conditional(measurement, weight)
    if method == "replacement":
        return Replacement(measurement, weight, draw)
    if method == "projection":
        return Projection(measurement, weight)
    if method == "gradient":
        return Gradient(measurement, weight)
    raise ValueError(f"guidance method {method!r} is unknown; use {', '.join(METHODS)}")
