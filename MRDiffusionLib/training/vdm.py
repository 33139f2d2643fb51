"""The variational diffusion model: its loss and its bound, after 2107.00630, sections 3 and 4.

Images are `x = 2 v / 255 - 1` with integer levels v of 0 to 255. The bound is the sum of three terms, in nats an image:

    prior           KL( q(z_1 | x) || N(0, I) )              eq. 11
    reconstruction  -log p(x | z_0), categorical over levels  eq. 11 and appendix C
    diffusion       1/2 integral of gamma'(t) |eps - eps_hat|^2 dt, or its T-step sum   eq. 17 and 13
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..diffusion.denoiser import per_sample, to_eps
from ..diffusion.schedule import Schedule, alpha, sigma
from ..errors import SettingError
from ..settings import shown

LEVELS = 256


def from_levels(levels: Tensor) -> Tensor:
    """Integer grey levels 0..255 to the model's range [-1, 1]."""
    return levels.float() * (2 / (LEVELS - 1)) - 1


def prior_loss(x: Tensor, schedule: Schedule) -> Tensor:
    """`1/2 sum[alpha_1^2 x^2 + sigma_1^2 - ln sigma_1^2 - 1]`, (B,), nats."""
    gamma_1 = schedule(torch.ones((), device=x.device))
    variance = sigma(gamma_1) ** 2
    return 0.5 * ((1 - variance) * x**2 + variance - variance.log() - 1).flatten(1).sum(1)


def reconstruction_loss(x: Tensor, noise: Tensor, schedule: Schedule) -> Tensor:
    """`-log p(x | z_0)`, (B,), nats; `p(v | z_0)` proportional to `exp(-(z_0/alpha_0 - x_v)^2 / (2 SNR(0)^-1))`."""
    gamma_0 = schedule(torch.zeros((), device=x.device))
    spread = torch.exp(gamma_0 / 2)  # sigma_0 / alpha_0
    z0 = x + spread * noise
    levels = from_levels(torch.arange(LEVELS, device=x.device))
    losses = []
    # A batch at once would be 256 numbers a pixel: an image at a time.
    for image, true in zip(z0.flatten(1), x.flatten(1), strict=True):
        logits = -0.5 * ((image[:, None] - levels) / spread) ** 2
        index = ((true + 1) * (LEVELS - 1) / 2).round().long().clamp(0, LEVELS - 1)
        losses.append(nn.functional.cross_entropy(logits, index, reduction="sum"))
    return torch.stack(losses)


def low_discrepancy(batch: int, generator: torch.Generator, offset: float = 0.0) -> Tensor:
    """`(u + i/B) mod 1` in random order: uniform times that cover [0, 1] evenly (2107.00630, appendix I)."""
    u = torch.rand((), generator=generator) + offset
    return ((u + torch.arange(batch) / batch) % 1)[torch.randperm(batch, generator=generator)]


@dataclass(frozen=True)
class NoiseLevels:
    """Where training spends its noise levels: a normal density in gamma mixed with the uniform one of the bound.

    Guided super-resolution decides its detail at low and middle noise, while the bound spreads its effort over all
    levels; `uniform_share` keeps every level trained.

    Attributes:
        mean, std: of the normal density, in gamma; it is cut at the schedule's ends.
        uniform_share: weight of the uniform density, 0 to 1.

    Raises:
        SettingError: a value outside its range.
    """

    mean: float = -2.5
    std: float = 2.5
    uniform_share: float = 0.2

    def __post_init__(self) -> None:
        for name, low, high in (("mean", -50.0, 50.0), ("std", 0.01, 50.0), ("uniform_share", 0.0, 1.0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
                hint = f"Give a number from {low:g} to {high:g}"
                raise SettingError(f"{name} = {shown(value)} of noise_levels is outside its range", hint)

    def gammas(self, u: Tensor, gamma_min: float, gamma_max: float) -> Tensor:
        """Uniform numbers in [0, 1], (B,), to gammas of this density, by its inverse distribution function."""
        grid = torch.linspace(gamma_min, gamma_max, 2001, dtype=torch.float64)
        normal = 0.5 * (1 + torch.erf((grid - self.mean) / (self.std * math.sqrt(2))))
        if self.uniform_share < 1 and not normal[-1] > normal[0]:
            raise SettingError(
                f"noise_levels of mean {self.mean:g} and std {self.std:g} are outside {gamma_min:g} to {gamma_max:g}",
                "Move the mean between the schedule's ends",
            )
        normal = (normal - normal[0]) / (normal[-1] - normal[0]).clamp(min=1e-300)
        uniform = (grid - gamma_min) / (gamma_max - gamma_min)
        cdf = self.uniform_share * uniform + (1 - self.uniform_share) * normal
        position = torch.searchsorted(cdf, u.double().clamp(0, 1)).clamp(1, len(grid) - 1)
        low, high = cdf[position - 1], cdf[position]
        fraction = ((u.double() - low) / (high - low).clamp(min=1e-300)).clamp(0, 1)
        return torch.lerp(grid[position - 1], grid[position], fraction).float()


class VariationalDiffusion(nn.Module):
    """A network and its schedule, with the losses that train them.

    Args:
        network: `(z, gamma, condition, position) -> prediction`.
        schedule: gamma(t), learned or fixed.
        prediction: 'eps', 'v' or 'x0'.

    Raises:
        ValueError: an unknown prediction.
    """

    def __init__(self, network: nn.Module, schedule: Schedule, prediction: str = "v") -> None:
        super().__init__()
        if prediction not in ("eps", "v", "x0"):
            raise ValueError(f"prediction {prediction!r} is unknown; use 'eps', 'v' or 'x0'")
        self.network, self.schedule, self.prediction = network, schedule, prediction

    def eps_error(
        self, x: Tensor, noise: Tensor, gamma: Tensor, position: Tensor | None = None, condition: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Squared errors summed per image, each (B,): of the noise, and of v.

        `|v - v_hat|^2 = |eps - eps_hat|^2 / alpha^2`, whichever of them the network predicts.

        Args:
            x, noise: (B, C, H, W).
            gamma: (B,).
            position, condition: as the network takes them.
        """
        a, s = per_sample(alpha(gamma), x), per_sample(sigma(gamma), x)
        z = a * x + s * noise
        prediction = self.network(z, gamma, condition, position).float()
        if self.prediction == "v":
            v_error = (a * noise - s * x - prediction).square().flatten(1).sum(1)
            return v_error * alpha(gamma) ** 2, v_error
        eps = prediction if self.prediction == "eps" else to_eps(prediction, z, gamma)
        error = (noise - eps).square().flatten(1).sum(1)
        return error, error / alpha(gamma) ** 2

    def diffusion_loss(
        self, x: Tensor, noise: Tensor, t: Tensor, steps: int = 0, position: Tensor | None = None
    ) -> Tensor:
        """The diffusion term of the bound at times t, (B,), nats.

        Args:
            x, noise: (B, C, H, W).
            t: (B,) uniform in [0, 1].
            steps: 0 for continuous time, `1/2 gamma'(t) |..|^2`; else T, `T/2 expm1(gamma_t - gamma_s) |..|^2`
                with t rounded up to a multiple of 1/T.
            position: coordinates of crops.
        """
        if steps < 0:
            raise ValueError(f"steps = {steps} is below 0")
        if steps == 0:
            with torch.enable_grad():
                t = t.detach().requires_grad_(True)
                gamma = self.schedule(t)
                (slope,) = torch.autograd.grad(gamma.sum(), t, create_graph=self.training)
            weight = 0.5 * slope
        else:
            t = torch.ceil(t.clamp(min=1e-6) * steps) / steps
            gamma = self.schedule(t)
            weight = 0.5 * steps * torch.expm1(gamma - self.schedule(t - 1 / steps))
        return weight * self.eps_error(x, noise, gamma, position)[0]

    def forward(self, x: Tensor, noise: Tensor, level: Tensor, loss: str, position: Tensor | None = None) -> Tensor:
        """The training loss per image and pixel, (B,).

        Args:
            level: (B,); for the bound, times uniform in [0, 1]; for 'v', the gammas themselves (`NoiseLevels`).
            loss: 'bound' (diffusion term, continuous), 'bound-T' with an integer T, or 'v' (squared error of v).
        """
        pixels = x[0].numel()
        if loss == "bound":
            return self.diffusion_loss(x, noise, level, position=position) / pixels
        if loss.startswith("bound-"):
            return self.diffusion_loss(x, noise, level, int(loss.removeprefix("bound-")), position) / pixels
        if loss == "v":
            return self.eps_error(x, noise, level, position)[1] / pixels
        raise ValueError(f"loss {loss!r} is unknown; use 'v', 'bound' or 'bound-T' with an integer T")

    @torch.no_grad()
    def bits_per_dimension(
        self, levels: Tensor, generator: torch.Generator, batch: int = 16, draws: int = 1, steps: int = 0
    ) -> dict[str, float]:
        """The bound on integer images, in bits a pixel: its three terms, their sum, and the sum's standard error.

        Args:
            levels: (N, 1, H, W) uint8.
            draws: times per image; each batch's times cover [0, 1] evenly.
            steps: as in `diffusion_loss`.
        """
        was_training = self.training
        self.eval()
        terms: dict[str, list[Tensor]] = {"prior": [], "reconstruction": [], "diffusion": []}
        device = next(self.network.parameters()).device
        for start in range(0, len(levels), batch):
            x = from_levels(levels[start : start + batch]).to(device)
            diffusion = torch.zeros(len(x), device=device)
            for _ in range(draws):
                noise = torch.randn(x.shape, generator=generator).to(device)
                t = low_discrepancy(len(x), generator).to(device)
                diffusion += self.diffusion_loss(x, noise, t, steps) / draws
            terms["diffusion"].append(diffusion)
            terms["prior"].append(prior_loss(x, self.schedule))
            terms["reconstruction"].append(
                reconstruction_loss(x, torch.randn(x.shape, generator=generator).to(device), self.schedule)
            )
        self.train(was_training)
        per_bit = 1 / (levels[0].numel() * math.log(2))
        values = {name: torch.cat(parts) * per_bit for name, parts in terms.items()}
        total = sum(values.values(), torch.zeros(len(levels), device=device))
        result = {name: value.mean().item() for name, value in values.items()}
        spread = total.std().item() / math.sqrt(len(total)) if len(total) > 1 else 0.0
        return {**result, "total": total.mean().item(), "standard_error": spread}
