"""Noise schedules of a variance-preserving diffusion, `z = alpha x + sigma eps`, in terms of `gamma = -log SNR`.

Kingma, Salimans, Poole, Ho, "Variational diffusion models", NeurIPS 2021 (2107.00630), section 3.1:
`alpha^2 = sigmoid(-gamma)`, `sigma^2 = sigmoid(gamma)`, `SNR = alpha^2 / sigma^2 = exp(-gamma)`.

A schedule is a module that maps time `t` in [0, 1] (0 clean, 1 noise) to gamma, increasing, with
`gamma(0) = gamma_min` and `gamma(1) = gamma_max`.
"""

from __future__ import annotations

import abc
import math
from typing import Any

import torch
from torch import Tensor, nn

GAMMA_MIN, GAMMA_MAX = -13.3, 5.0
"""End points of the VDM paper's schedule: sigma = 0.0013 at the clean end, alpha = 0.082 at the noisy end."""


def alpha(gamma: Tensor) -> Tensor:
    """Signal amplitude, `sqrt(sigmoid(-gamma))`; 1 at `gamma = -inf`."""
    return torch.sigmoid(-gamma).sqrt()


def sigma(gamma: Tensor) -> Tensor:
    """Noise standard deviation, `sqrt(sigmoid(gamma))`; 0 at `gamma = -inf`."""
    return torch.sigmoid(gamma).sqrt()


class Schedule(nn.Module, abc.ABC):
    """`gamma(t)` for `t` in [0, 1], any shape; subclasses implement `forward`."""

    name = ""

    def __init__(self, gamma_min: float = GAMMA_MIN, gamma_max: float = GAMMA_MAX) -> None:
        super().__init__()
        if not -math.inf < gamma_min < gamma_max < math.inf:
            raise ValueError(f"gamma_min = {gamma_min} and gamma_max = {gamma_max} are not finite and increasing")
        self.gamma_min, self.gamma_max = float(gamma_min), float(gamma_max)

    @abc.abstractmethod
    def forward(self, t: Tensor) -> Tensor:
        """`gamma(t)`, of t's shape and type, increasing from `gamma_min` to `gamma_max`."""

    def time_of(self, gamma: Tensor) -> Tensor:
        """The `t` in [0, 1] at which the schedule has this gamma, by bisection (schedules are monotone); float64.

        A gamma beyond an end gives that end.
        """
        target = gamma.detach().double()
        low, high = torch.zeros_like(target), torch.ones_like(target)
        with torch.no_grad():
            for _ in range(60):
                middle = (low + high) / 2
                below = self(middle) < target
                low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return (low + high) / 2

    def to_dict(self) -> dict[str, Any]:
        """The description that `schedule_from_dict` reads back (weights of a learned schedule are not in it)."""
        return {"name": self.name, "gamma_min": self.gamma_min, "gamma_max": self.gamma_max}


class LinearSchedule(Schedule):
    """`gamma(t) = gamma_min + (gamma_max - gamma_min) t`: every octave of noise gets the same number of steps."""

    name = "linear"

    def forward(self, t: Tensor) -> Tensor:
        return self.gamma_min + (self.gamma_max - self.gamma_min) * t


class CosineSchedule(Schedule):
    """`gamma = 2 log tan(u)` with `u` linear in t, cut at the end points (Hoogeboom et al. 2301.11093, section 2.1)."""

    name = "cosine"

    def forward(self, t: Tensor) -> Tensor:
        u_min, u_max = (math.atan(math.exp(g / 2)) for g in (self.gamma_min, self.gamma_max))
        return 2 * torch.log(torch.tan(u_min + (u_max - u_min) * t))


class DDPMSchedule(Schedule):
    """The beta schedules of Ho et al. 2006.11239 (`linear`) and of latent diffusion (`scaled_linear`).

    `alpha_bar_i = prod_{j <= i} (1 - beta_j)` over `steps` betas; gamma is interpolated linearly between the
    discrete values, which stand at `t = i / (steps - 1)`.

    Raises:
        ValueError: an unknown kind, betas outside (0, 1), fewer than 2 steps.
    """

    name = "ddpm"

    def __init__(self, kind: str = "linear", beta_min: float = 1e-4, beta_max: float = 0.02, steps: int = 1000) -> None:
        if steps < 2 or not 0 < beta_min <= beta_max < 1:
            raise ValueError(
                f"beta_min = {beta_min}, beta_max = {beta_max} and steps = {steps} make no schedule; "
                "0 < beta_min <= beta_max < 1 and 2 steps or more do"
            )
        if kind == "linear":
            betas = torch.linspace(beta_min, beta_max, steps, dtype=torch.float64)
        elif kind == "scaled_linear":
            betas = torch.linspace(beta_min**0.5, beta_max**0.5, steps, dtype=torch.float64) ** 2
        else:
            raise ValueError(f"beta schedule {kind!r} is unknown; use 'linear' or 'scaled_linear'")
        log_alpha_bar = torch.log1p(-betas).cumsum(0)
        table = torch.log(-torch.expm1(log_alpha_bar)) - log_alpha_bar
        super().__init__(table[0].item(), table[-1].item())
        self.kind, self.beta_min, self.beta_max, self.steps = kind, beta_min, beta_max, steps
        self.table: Tensor
        self.register_buffer("table", table, persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        position = t.double().clamp(0, 1) * (self.steps - 1)
        below = position.floor().clamp(max=self.steps - 2).long()
        gamma = torch.lerp(self.table[below], self.table[below + 1], position - below)
        return gamma.to(t.dtype)

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "kind": self.kind,
            "beta_min": self.beta_min,
            "beta_max": self.beta_max,
            "steps": self.steps,
        }


class LearnedSchedule(Schedule):
    """The VDM's monotone network with its ends pinned (2107.00630, appendix H).

    `raw(t) = l1(t) + l3(2 sigmoid(l2(2 t - 1)) - 1) / width`, all weights through `abs`, hence increasing;
    `gamma(t) = gamma_min + (gamma_max - gamma_min) (raw(t) - raw(0)) / (raw(1) - raw(0))`.
    """

    name = "learned"

    def __init__(self, gamma_min: float = GAMMA_MIN, gamma_max: float = GAMMA_MAX, width: int = 1024) -> None:
        super().__init__(gamma_min, gamma_max)
        if width < 1:
            raise ValueError(f"width = {width} is not 1 or more")
        self.width = width
        self.l1 = nn.Parameter(torch.tensor(self.gamma_max - self.gamma_min))
        self.l2_weight = nn.Parameter(torch.randn(width))
        self.l2_bias = nn.Parameter(torch.zeros(width))
        self.l3 = nn.Parameter(torch.randn(width))

    def raw(self, t: Tensor) -> Tensor:
        hidden = 2 * torch.sigmoid((2 * t[..., None] - 1) * self.l2_weight.abs() + self.l2_bias) - 1
        return self.l1.abs() * t + (hidden * self.l3.abs()).sum(-1) / self.width

    def forward(self, t: Tensor) -> Tensor:
        ends = self.raw(torch.tensor([0.0, 1.0], dtype=t.dtype, device=t.device))
        fraction = (self.raw(t) - ends[0]) / (ends[1] - ends[0])
        return self.gamma_min + (self.gamma_max - self.gamma_min) * fraction

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "width": self.width}


SCHEDULES: dict[str, type[Schedule]] = {
    cls.name: cls for cls in (LinearSchedule, CosineSchedule, DDPMSchedule, LearnedSchedule)
}


def schedule_from_dict(description: dict[str, Any]) -> Schedule:
    """The schedule that `Schedule.to_dict` described. Raises ValueError for an unknown name, setting or value."""
    settings = dict(description)
    name = settings.pop("name", None)
    if not isinstance(name, str) or name not in SCHEDULES:
        raise ValueError(f"schedule {name!r} is unknown; known are {', '.join(sorted(SCHEDULES))}")
    try:
        return SCHEDULES[name](**settings)
    except TypeError as error:
        raise ValueError(f"schedule {name!r}: {error}") from error
