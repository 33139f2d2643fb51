"""Noise schedules: monotone, ends pinned, equal to their papers, inverted by `time_of`."""

from __future__ import annotations

import json
import math

import pytest
import torch

from MRDiffusionLib.diffusion import (
    CosineSchedule,
    DDPMSchedule,
    LearnedSchedule,
    LinearSchedule,
    Schedule,
    alpha,
    schedule_from_dict,
    sigma,
)


def learned(seed: int = 0, size: float = 30.0) -> LearnedSchedule:
    """A learned schedule far from its first weights, negative ones among them."""
    schedule = LearnedSchedule(-13.3, 5.0, width=64)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in schedule.parameters():
            parameter.copy_(size * torch.randn(parameter.shape, generator=generator))
    return schedule


SCHEDULES = {
    "linear": lambda: LinearSchedule(),
    "cosine": lambda: CosineSchedule(-12.0, 9.0),
    "ddpm linear": lambda: DDPMSchedule(),
    "ddpm scaled_linear": lambda: DDPMSchedule("scaled_linear", 0.0015, 0.0205),
    "learned, first weights": lambda: LearnedSchedule(),
    "learned, random weights": lambda: learned(0),
    "learned, other random weights": lambda: learned(1, 3.0),
}
every_schedule = pytest.mark.parametrize("make", SCHEDULES.values(), ids=SCHEDULES)
every_type = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])


@every_schedule
@every_type
def test_gamma_increases_and_its_ends_are_pinned(make, dtype):
    schedule: Schedule = make()
    gamma = schedule(torch.linspace(0, 1, 301, dtype=dtype))
    assert gamma.dtype == dtype and gamma.shape == (301,)
    assert torch.isfinite(gamma).all()
    assert (gamma[1:] > gamma[:-1]).all()
    assert gamma[0].item() == pytest.approx(schedule.gamma_min, abs=2e-4)
    assert gamma[-1].item() == pytest.approx(schedule.gamma_max, abs=2e-4)


@every_schedule
def test_gamma_has_the_shape_of_t(make):
    schedule = make()
    t = torch.rand(2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    gamma = schedule(t)
    assert gamma.shape == t.shape
    assert gamma[1, 2, 3].item() == pytest.approx(schedule(t[1, 2, 3]).item(), abs=1e-6)


@every_schedule
def test_time_of_inverts(make):
    schedule = make()
    t = torch.linspace(0, 1, 41, dtype=torch.float64)
    gamma = schedule(t)
    back = schedule.time_of(gamma)
    assert back.dtype == torch.float64 and not back.requires_grad
    torch.testing.assert_close(schedule(back), gamma, atol=1e-6, rtol=0)
    torch.testing.assert_close(back, t, atol=1e-5, rtol=0)


def test_time_of_a_gamma_beyond_an_end_is_that_end():
    times = LinearSchedule(-10.0, 5.0).time_of(torch.tensor([-20.0, 99.0]))
    torch.testing.assert_close(times, torch.tensor([0.0, 1.0], dtype=torch.float64), atol=1e-12, rtol=0)


@every_schedule
def test_description_and_weights_bring_the_schedule_back(make):
    schedule = make()
    again = schedule_from_dict(json.loads(json.dumps(schedule.to_dict())))
    again.load_state_dict(schedule.state_dict())
    t = torch.linspace(0, 1, 17)
    assert type(again) is type(schedule)
    assert torch.equal(again(t), schedule(t))
    assert again.to_dict() == schedule.to_dict()


def test_alpha_and_sigma_preserve_variance_and_give_the_snr():
    gamma = torch.tensor([-13.3, -2.0, 0.0, 5.0], dtype=torch.float64)
    torch.testing.assert_close(alpha(gamma) ** 2 + sigma(gamma) ** 2, torch.ones_like(gamma))
    torch.testing.assert_close(alpha(gamma) ** 2 / sigma(gamma) ** 2, torch.exp(-gamma))


def test_alpha_and_sigma_of_the_clean_end():
    clean = torch.tensor(-math.inf)
    assert alpha(clean).item() == 1.0 and sigma(clean).item() == 0.0


def test_sigma_keeps_its_digits_at_the_clean_end_in_float32():
    assert sigma(torch.tensor(-13.3)).item() == pytest.approx(math.sqrt(1 / (1 + math.exp(13.3))), rel=1e-5)


def test_linear_schedule_is_linear():
    gamma = LinearSchedule(-12.0, 4.0)(torch.tensor([0.25, 0.5], dtype=torch.float64))
    assert gamma.tolist() == [-8.0, -4.0]


def test_cosine_schedule_is_the_cosine_of_its_name():
    """alpha = cos(u), sigma = sin(u) with u linear in t."""
    schedule = CosineSchedule(-14.0, 14.0)
    gamma = schedule(torch.tensor([0.1, 0.4, 0.8], dtype=torch.float64))
    low, high = math.atan(math.exp(-7)), math.atan(math.exp(7))
    for value, t in zip(gamma, (0.1, 0.4, 0.8), strict=True):
        assert alpha(value).item() == pytest.approx(math.cos(low + (high - low) * t), rel=1e-9)


@pytest.mark.parametrize(
    ("kind", "low", "high"), [("linear", 1e-4, 0.02), ("scaled_linear", 0.00085, 0.012)], ids=["linear", "scaled"]
)
def test_ddpm_schedule_equals_diffusers(kind, low, high):
    diffusers = pytest.importorskip("diffusers")
    reference = diffusers.DDPMScheduler(1000, low, high, kind).alphas_cumprod.double()
    t = torch.arange(1000, dtype=torch.float64) / 999
    ours = alpha(DDPMSchedule(kind, low, high)(t)) ** 2
    # diffusers multiplies a thousand float32 numbers.
    torch.testing.assert_close(ours, reference, rtol=2e-5, atol=1e-7)


def test_ddpm_schedule_equals_the_product_of_its_betas():
    schedule = DDPMSchedule("linear", 1e-4, 0.02, steps=50)
    product = 1.0
    for i in range(50):
        product *= 1 - (1e-4 + (0.02 - 1e-4) * i / 49)
        gamma = schedule(torch.tensor(i / 49, dtype=torch.float64))
        assert alpha(gamma).item() ** 2 == pytest.approx(product, rel=1e-10)


def test_learned_schedule_starts_close_to_linear():
    """As in the reference: its first layer starts as the whole range, the correction is small."""
    torch.manual_seed(0)
    t = torch.linspace(0, 1, 101)
    difference = LearnedSchedule()(t) - LinearSchedule()(t)
    assert 0 < difference.abs().max() < 1.0


def test_learned_schedule_gives_its_weights_a_gradient_that_the_ends_do_not_have():
    schedule = learned(2)
    middle = torch.autograd.grad(schedule(torch.tensor([0.5])).sum(), list(schedule.parameters()))
    ends = torch.autograd.grad(schedule(torch.tensor([0.0, 1.0])).sum(), list(schedule.parameters()))
    assert sum(g.abs().sum() for g in middle) > 1e-2
    assert sum(g.abs().sum() for g in ends) < 1e-4 * sum(g.abs().sum() for g in middle)


@pytest.mark.parametrize(
    "description",
    [
        {},
        {"name": "sine"},
        {"name": ["linear"]},
        {"name": "linear", "gamma_mid": 1},
        {"name": "linear", "gamma_min": 5.0, "gamma_max": -5.0},
        {"name": "linear", "gamma_min": "low"},
        {"name": "linear", "gamma_min": float("nan")},
        {"name": "cosine", "gamma_max": float("inf")},
        {"name": "ddpm", "kind": "quadratic"},
        {"name": "ddpm", "beta_max": 1.0},
        {"name": "ddpm", "beta_min": 0.0},
        {"name": "ddpm", "steps": 1},
        {"name": "learned", "width": 0},
    ],
    ids=str,
)
def test_a_bad_description_is_refused(description):
    with pytest.raises(ValueError, match=r"schedule|gamma|beta|width"):
        schedule_from_dict(description)
