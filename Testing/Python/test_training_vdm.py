"""The variational bound against closed forms: Gaussian data, whose best denoiser is known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from MRDiffusionLib.diffusion import (
    CosineSchedule,
    DDPMSchedule,
    LearnedSchedule,
    LinearSchedule,
    Schedule,
    alpha,
    sigma,
)
from MRDiffusionLib.errors import SettingError
from MRDiffusionLib.training.optimisation import schedule_gradients
from MRDiffusionLib.training.vdm import (
    NoiseLevels,
    VariationalDiffusion,
    from_levels,
    low_discrepancy,
    prior_loss,
    reconstruction_loss,
)

GAMMA_MIN, GAMMA_MAX = -13.3, 5.0
STD = 0.4


class Exact(nn.Module):
    """The best predictor for x ~ N(0, STD^2), in the form asked for."""

    def __init__(self, kind: str, std: float = STD) -> None:
        super().__init__()
        self.kind, self.std = kind, std
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, z: Tensor, gamma: Tensor, condition: object = None, position: object = None) -> Tensor:
        a, s = (f(gamma).reshape(-1, 1, 1, 1) for f in (alpha, sigma))
        x0 = a * self.std**2 / (a**2 * self.std**2 + s**2) * z
        eps = (z - a * x0) / s
        return {"eps": eps, "v": a * eps - s * x0, "x0": x0}[self.kind]


def learned() -> LearnedSchedule:
    schedule = LearnedSchedule(GAMMA_MIN, GAMMA_MAX, width=32)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in schedule.parameters():
            parameter.copy_(8 * torch.randn(parameter.shape, generator=generator))
    return schedule


SCHEDULES: dict[str, Callable[[], Schedule]] = {
    "linear": lambda: LinearSchedule(GAMMA_MIN, GAMMA_MAX),
    "cosine": lambda: CosineSchedule(-8.0, GAMMA_MAX),
    "learned": learned,
}
every_schedule = pytest.mark.parametrize("name", SCHEDULES)
every_kind = pytest.mark.parametrize("kind", ["eps", "v", "x0"])


def gaussian(count: int, pixels: int = 64, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, noise = torch.randn(2, count, 1, 1, pixels, generator=generator)
    return STD * x, noise


def integral(low: float, high: float, std: float = STD) -> float:
    """`1/2 int E|eps - eps_hat|^2 dgamma` a pixel: the error is `s^2 / (s^2 + e^gamma)` for data of variance s^2."""
    return 0.5 * math.log((1 + std**2 * math.exp(-low)) / (1 + std**2 * math.exp(-high)))


def test_the_integral_is_that_of_the_error():
    """The closed form above against a sum, and its integrand against drawn errors."""
    gammas = np.linspace(GAMMA_MIN, GAMMA_MAX, 200_001)
    error = STD**2 / (STD**2 + np.exp(gammas))
    assert integral(GAMMA_MIN, GAMMA_MAX) == pytest.approx(0.5 * np.trapezoid(error, gammas), rel=1e-8)
    model = VariationalDiffusion(Exact("eps"), LinearSchedule(GAMMA_MIN, GAMMA_MAX), "eps")
    for gamma in (-8.0, -2.0, 1.0):
        x, noise = gaussian(2000, 100)
        drawn = model.eps_error(x, noise, torch.full((2000,), gamma))[0].mean() / 100
        assert drawn.item() == pytest.approx(STD**2 / (STD**2 + math.exp(gamma)), rel=0.02)


@every_schedule
def test_diffusion_term_is_the_integral_whatever_the_schedule(name):
    schedule = SCHEDULES[name]()
    model = VariationalDiffusion(Exact("eps"), schedule, "eps").eval()
    x, noise = gaussian(10_000)
    t = low_discrepancy(10_000, torch.Generator().manual_seed(0))
    loss = model.diffusion_loss(x, noise, t).mean().item() / 64
    assert loss == pytest.approx(integral(schedule.gamma_min, schedule.gamma_max), rel=0.02)


def discrete(schedule: Schedule, steps: int) -> float:
    """The T-step term: `1/2 sum expm1(gamma_t - gamma_s) s^2 / (s^2 + e^gamma_t)` a pixel."""
    gammas = schedule(torch.arange(steps + 1, dtype=torch.float64) / steps).detach().numpy()
    return 0.5 * float(np.sum(np.expm1(np.diff(gammas)) * STD**2 / (STD**2 + np.exp(gammas[1:]))))


@every_schedule
@pytest.mark.parametrize("steps", [1, 10, 100, 1000])
def test_t_step_term_is_its_sum(name, steps):
    schedule = SCHEDULES[name]()
    model = VariationalDiffusion(Exact("v"), schedule, "v").eval()
    x, noise = gaussian(10_000, seed=steps)
    t = low_discrepancy(10_000, torch.Generator().manual_seed(0))
    loss = model.diffusion_loss(x, noise, t, steps).mean().item() / 64
    assert loss == pytest.approx(discrete(schedule, steps), rel=0.02)


@every_schedule
def test_the_t_step_bound_comes_down_to_the_continuous_one(name):
    """More steps are never worse (2107.00630, section 5.2)."""
    schedule = SCHEDULES[name]()
    values = [discrete(schedule, steps) for steps in (10, 100, 1000, 50_000)]
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(integral(schedule.gamma_min, schedule.gamma_max), rel=1e-3)


@pytest.mark.parametrize("steps", [0, 50])
def test_every_prediction_has_the_same_bound(steps):
    x, noise = gaussian(200)
    t = low_discrepancy(200, torch.Generator().manual_seed(0))
    losses = [
        VariationalDiffusion(Exact(kind).double(), LinearSchedule(-8.0, 5.0), kind).diffusion_loss(x, noise, t, steps)
        for kind in ("eps", "v", "x0")
    ]
    torch.testing.assert_close(losses[1], losses[0], rtol=2e-3, atol=1e-3)
    torch.testing.assert_close(losses[2], losses[0], rtol=2e-3, atol=1e-3)


@every_kind
def test_errors_of_eps_and_v_are_what_they_say(kind):
    x, noise = gaussian(5)
    gamma = torch.tensor([-9.0, -4.0, 0.0, 2.0, 5.0])
    a, s = alpha(gamma)[:, None, None, None], sigma(gamma)[:, None, None, None]
    of_eps, of_v = VariationalDiffusion(Exact(kind), LinearSchedule(), kind).eps_error(x, noise, gamma)
    z = a * x + s * noise
    eps, v = Exact("eps")(z, gamma), Exact("v")(z, gamma)
    torch.testing.assert_close(of_eps, (noise - eps).square().sum((1, 2, 3)), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(of_v, (a * noise - s * x - v).square().sum((1, 2, 3)), rtol=1e-3, atol=1e-4)


def test_the_discrete_times_are_rounded_up_to_the_grid():
    seen: list[Tensor] = []

    class Look(Exact):
        def forward(self, z: Tensor, gamma: Tensor, condition: object = None, position: object = None) -> Tensor:
            seen.append(gamma)
            return super().forward(z, gamma)

    x, noise = gaussian(4)
    model = VariationalDiffusion(Look("eps"), LinearSchedule(0.0, 4.0), "eps")
    model.diffusion_loss(x, noise, torch.tensor([0.0, 0.25, 0.26, 0.99]), 4)
    assert seen[0].tolist() == [1.0, 1.0, 2.0, 4.0]


# Prior and reconstruction.


def test_prior_term_is_the_divergence_of_two_gaussians():
    x, _ = gaussian(3, 10)
    schedule = LinearSchedule(-10.0, 2.0)
    q = torch.distributions.Normal(alpha(torch.tensor(2.0)) * x, sigma(torch.tensor(2.0)))
    p = torch.distributions.Normal(torch.zeros_like(x), 1.0)
    expected = torch.distributions.kl_divergence(q, p).sum((1, 2, 3))
    torch.testing.assert_close(prior_loss(x, schedule), expected, rtol=1e-4, atol=1e-5)


def brute_reconstruction(level: int, z: float, snr: float) -> float:
    """-log p(level | z0 / alpha0 = z) over all 256 grey levels, in plain numbers."""
    logits = [-0.5 * snr * (z - (2 * v / 255 - 1)) ** 2 for v in range(256)]
    top = max(logits)
    return top + math.log(sum(math.exp(value - top) for value in logits)) - logits[level]


@pytest.mark.parametrize("gamma", [-13.3, -8.0, -4.0])
def test_reconstruction_term_is_the_categorical(gamma):
    levels = torch.tensor([[0, 1, 100, 254, 255, 37], [255, 255, 3, 77, 0, 128]], dtype=torch.uint8)
    x = from_levels(levels)[:, None, None]
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    expected = [
        sum(
            brute_reconstruction(int(v), 2 * int(v) / 255 - 1 + math.exp(gamma / 2) * e, math.exp(-gamma))
            for v, e in zip(image, errors.flatten().tolist())
        )
        for image, errors in zip(levels, noise)
    ]
    result = reconstruction_loss(x, noise, LinearSchedule(gamma, 5.0))
    torch.testing.assert_close(result, torch.tensor(expected), rtol=2e-3, atol=2e-3)


def test_grey_levels_fill_the_range():
    assert from_levels(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1.0, 1.0]
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(((from_levels(levels) + 1) * 127.5).round().to(torch.uint8), levels)


# The bound as a whole.


def test_bits_per_dimension_of_gaussian_data():
    """8-bit Gaussian images with the exact denoiser: the bound is nearly the entropy of the grey levels.

    Nearly, because this denoiser does not know that values are discrete: at gamma_min = -13.3, where the noise is much
    finer than a level, that costs 0.6 bits.
    """
    generator = torch.Generator().manual_seed(0)
    std, gamma_min = 0.25, -10.5
    values = std * torch.randn(256, 1, 16, 16, generator=generator)
    levels = ((values + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    share = torch.bincount(levels.flatten().long(), minlength=256).double() / levels.numel()
    entropy = -(share[share > 0] * share[share > 0].log2()).sum().item()
    model = VariationalDiffusion(Exact("v", std), LinearSchedule(gamma_min, GAMMA_MAX), "v")
    bound = model.bits_per_dimension(levels, torch.Generator().manual_seed(1), draws=4)
    assert bound["total"] == pytest.approx(bound["prior"] + bound["reconstruction"] + bound["diffusion"], rel=1e-5)
    assert bound["diffusion"] == pytest.approx(integral(gamma_min, GAMMA_MAX, std) / math.log(2), rel=0.01)
    assert 0 < bound["standard_error"] < 0.3
    assert entropy - 0.03 < bound["total"] < entropy + 0.06


def test_bits_per_dimension_leaves_the_model_as_it_was_and_repeats_itself():
    model = VariationalDiffusion(Exact("eps"), LinearSchedule(), "eps").train()
    levels = torch.randint(0, 256, (5, 1, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    first, second = (model.bits_per_dimension(levels, torch.Generator().manual_seed(2), batch=2) for _ in range(2))
    assert first == second and model.training
    assert all(p.grad is None for p in model.parameters())


def test_bits_per_dimension_of_one_image():
    model = VariationalDiffusion(Exact("eps"), LinearSchedule(), "eps")
    levels = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    assert model.bits_per_dimension(levels, torch.Generator(), steps=10)["standard_error"] == 0.0


def test_the_training_losses_are_those_a_pixel():
    model = VariationalDiffusion(Exact("v"), LinearSchedule(), "v").eval()
    x, noise = gaussian(4)
    t = torch.tensor([0.1, 0.4, 0.6, 0.9])
    torch.testing.assert_close(model(x, noise, t, "bound"), model.diffusion_loss(x, noise, t) / 64)
    torch.testing.assert_close(model(x, noise, t, "bound-10"), model.diffusion_loss(x, noise, t, 10) / 64)
    gamma = model.schedule(t)
    torch.testing.assert_close(model(x, noise, gamma, "v"), model.eps_error(x, noise, gamma)[1] / 64)
    with pytest.raises(ValueError, match="'mse' is unknown"):
        model(x, noise, t, "mse")


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="'noise' is unknown"):
        VariationalDiffusion(Exact("v"), LinearSchedule(), "noise")
    x, noise = gaussian(1)
    with pytest.raises(ValueError, match="steps = -3"):
        VariationalDiffusion(Exact("v"), LinearSchedule(), "v").diffusion_loss(x, noise, torch.zeros(1), -3)


@pytest.mark.parametrize("make", [*SCHEDULES.values(), DDPMSchedule], ids=[*SCHEDULES, "ddpm"])
@pytest.mark.parametrize("loss", ["v", "bound", "bound-10"])
def test_every_loss_trains_the_network_under_every_schedule(make, loss):
    class Scale(Exact):
        def forward(self, z: Tensor, gamma: Tensor, condition: object = None, position: object = None) -> Tensor:
            return (1 + self.unused) * super().forward(z, gamma)

    model = VariationalDiffusion(Scale("v"), make(), "v").train()
    x, noise = gaussian(8)
    levels = torch.linspace(0.05, 0.95, 8)
    losses = model(x, noise, levels, loss)
    assert losses.shape == (8,) and (losses >= 0).all()
    losses.mean().backward()
    assert model.network.unused.grad.abs() > 0


# Times and noise levels.


@pytest.mark.parametrize("batch", [1, 2, 7, 32])
def test_low_discrepancy_times_cover_the_unit_interval_evenly(batch):
    for seed in range(20):
        t = low_discrepancy(batch, torch.Generator().manual_seed(seed))
        assert t.shape == (batch,) and t.min() >= 0 and t.max() < 1
        ordered = t.sort().values.double()
        torch.testing.assert_close(ordered.diff(), torch.full((batch - 1,), 1 / batch, dtype=torch.float64))
        assert (ordered * batch).floor().long().tolist() == list(range(batch))


def test_low_discrepancy_times_are_uniform_and_in_random_order():
    generator = torch.Generator().manual_seed(0)
    first = torch.stack([low_discrepancy(4, generator) for _ in range(2000)])
    for place in first.T:
        assert place.mean().item() == pytest.approx(0.5, abs=0.025)
        assert place.var().item() == pytest.approx(1 / 12, abs=0.007)


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
@pytest.mark.parametrize(("mean", "std"), [(-3.0, 2.5), (4.0, 0.3), (-20.0, 3.0)])
def test_noise_levels_follow_their_distribution(share, mean, std):
    """The fraction of levels below each gamma is the distribution function, from its definition."""
    gammas = NoiseLevels(mean, std, share).gammas(torch.linspace(0, 1, 100_001), GAMMA_MIN, GAMMA_MAX)
    assert torch.isfinite(gammas).all() and (gammas.diff() >= 0).all()
    assert gammas[0].item() == pytest.approx(GAMMA_MIN, abs=1e-4) or share == 0
    assert gammas.min() >= GAMMA_MIN - 1e-4 and gammas.max() <= GAMMA_MAX + 1e-4

    def phi(gamma: float) -> float:
        return 0.5 * (1 + math.erf((gamma - mean) / (std * math.sqrt(2))))

    for gamma in (-12.0, -6.0, -3.0, -1.0, 3.9, 4.5):
        normal = (phi(gamma) - phi(GAMMA_MIN)) / (phi(GAMMA_MAX) - phi(GAMMA_MIN))
        uniform = (gamma - GAMMA_MIN) / (GAMMA_MAX - GAMMA_MIN)
        below = (gammas < gamma).double().mean().item()
        assert below == pytest.approx(share * uniform + (1 - share) * normal, abs=2e-3)


def test_a_uniform_share_of_1_is_the_linear_schedule():
    u = torch.linspace(0, 1, 33)
    gammas = NoiseLevels(uniform_share=1.0).gammas(u, GAMMA_MIN, GAMMA_MAX)
    torch.testing.assert_close(gammas, LinearSchedule(GAMMA_MIN, GAMMA_MAX)(u), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "values",
    [{"std": 0.0}, {"std": -1}, {"uniform_share": 1.1}, {"mean": math.nan}, {"mean": "low"}, {"std": True}],
    ids=str,
)
def test_noise_levels_outside_their_range_are_refused(values):
    with pytest.raises(SettingError, match=next(iter(values))):
        NoiseLevels(**values)


def test_noise_levels_that_miss_the_schedule_are_refused():
    with pytest.raises(SettingError, match=r"outside -13.3 to 5"):
        NoiseLevels(mean=40.0, std=0.5, uniform_share=0.5).gammas(torch.rand(3), GAMMA_MIN, GAMMA_MAX)


# The learned schedule.


def losses_over_time(model: VariationalDiffusion, count: int = 4000) -> Tensor:
    x, noise = gaussian(count, 16, seed=5)
    return model(x, noise, (torch.arange(count) + 0.5) / count, "bound")


def test_the_learned_schedule_lowers_the_variance_and_leaves_the_mean():
    model = VariationalDiffusion(Exact("eps"), learned(), "eps").train()
    optimizer = torch.optim.Adam(model.schedule.parameters(), 0.3)
    before = losses_over_time(model).detach()
    for _ in range(40):
        losses = losses_over_time(model, 1000)
        optimizer.zero_grad()
        for parameter, gradient in schedule_gradients(model, losses):
            parameter.grad = gradient
        optimizer.step()
    after = losses_over_time(model).detach()
    assert after.var() < 0.5 * before.var()
    assert after.mean().item() == pytest.approx(before.mean().item(), rel=0.03)
    expected = integral(GAMMA_MIN, GAMMA_MAX)
    assert after.mean().item() == pytest.approx(expected, rel=0.03)


def test_the_mean_has_next_to_no_gradient_in_the_schedule():
    """Why the variance is minimised instead."""
    model = VariationalDiffusion(Exact("eps"), learned(), "eps").train()
    losses = losses_over_time(model, 20_000)
    parameters = list(model.schedule.parameters())
    of_mean = torch.autograd.grad(losses.mean(), parameters, retain_graph=True)
    of_square = torch.autograd.grad(losses.square().mean(), parameters)
    size = [math.sqrt(sum(g.square().sum().item() for g in gradients)) for gradients in (of_mean, of_square)]
    assert size[0] < 0.05 * size[1] / (2 * losses.mean().item())


def test_the_schedules_gradient_is_that_of_the_mean_square():
    model = VariationalDiffusion(Exact("eps"), learned(), "eps").train()
    expected = torch.autograd.grad(losses_over_time(model, 50).square().mean(), list(model.schedule.parameters()))
    found = schedule_gradients(model, losses_over_time(model, 50))
    assert [p for p, _ in found] == list(model.schedule.parameters())
    for (_, gradient), wanted in zip(found, expected):
        torch.testing.assert_close(gradient, wanted)


def test_fixed_schedules_have_no_gradient():
    model = VariationalDiffusion(Exact("eps"), LinearSchedule(), "eps")
    assert schedule_gradients(model, losses_over_time(model, 10)) == []
    assert schedule_gradients(nn.Linear(2, 2), torch.zeros(2)) == []
