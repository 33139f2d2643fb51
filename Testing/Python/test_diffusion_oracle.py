"""Samplers against an independent solver library (diffusers), on grids where that one is right.

The library's own time grids are wrong for many step counts, so it is given our noise levels as its whole training grid
and runs every one of its steps.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from MRDiffusionLib.diffusion import CosineSchedule, LinearSchedule, Schedule, alpha, sample, sigma, step_gammas

diffusers = pytest.importorskip("diffusers")

SHAPE = (2, 1, 8, 8)
SCHEDULES = {"linear": LinearSchedule(), "cosine": CosineSchedule(-10.0, 6.0)}
every_schedule = pytest.mark.parametrize("name", SCHEDULES)
every_count = pytest.mark.parametrize("steps", [1, 2, 20, 50, 501, 1000])


def denoise(z: Tensor, gamma: Tensor) -> Tensor:
    """A smooth, non-linear stand-in for a network: any will do, both sides call the same."""
    level = torch.sigmoid(gamma).reshape(-1, 1, 1, 1).to(z.dtype)
    return torch.tanh(1.5 * z + 0.2 * torch.roll(z, 1, -1)) * (1 - 0.5 * level) + 0.1


def noise(seed: int) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def on_our_grid(make: Any, schedule: Schedule, steps: int, **settings: Any) -> tuple[Any, Tensor]:
    """A diffusers scheduler whose training grid is our grid of noise levels, and that grid (clean end first)."""
    gammas = step_gammas(schedule, steps)[:-1].flip(0)
    scheduler = make(num_train_timesteps=steps, timestep_spacing="trailing", **settings)
    scheduler.alphas_cumprod = torch.sigmoid(-gammas)
    scheduler.set_timesteps(steps)
    assert scheduler.timesteps.tolist() == list(range(steps - 1, -1, -1))
    return scheduler, gammas


def run_theirs(scheduler: Any, gammas: Tensor, z: Tensor, to_output: Any, **more: Any) -> Tensor:
    for t in scheduler.timesteps:
        gamma = gammas[t]
        x0 = denoise(z, gamma.to(z.dtype).expand(len(z)))
        z = scheduler.step(to_output(x0, z, gamma), t, z, **more).prev_sample
    return z


def as_eps(x0: Tensor, z: Tensor, gamma: Tensor) -> Tensor:
    return (z - alpha(gamma) * x0) / sigma(gamma)


def as_x0(x0: Tensor, z: Tensor, gamma: Tensor) -> Tensor:
    return x0


@every_schedule
@every_count
@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
def test_dpm_solver_multistep(name, steps):
    schedule, z = SCHEDULES[name], noise(0)
    scheduler, gammas = on_our_grid(
        diffusers.DPMSolverMultistepScheduler,
        schedule,
        steps,
        algorithm_type="dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        prediction_type="sample",
        final_sigmas_type="zero",
    )
    # It keeps its noise levels in float32, whose differences are too coarse at 1000 steps.
    exact = torch.cat([torch.exp(gammas / 2).flip(0), torch.zeros(1)])
    torch.testing.assert_close(scheduler.sigmas.double(), exact, rtol=1e-6, atol=0)
    scheduler.sigmas = exact
    theirs = run_theirs(scheduler, gammas, z, as_x0)
    ours = sample(denoise, z, step_gammas(schedule, steps), z.clone, "dpmpp_2m")
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@every_schedule
@every_count
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim(name, steps, eta):
    schedule, z = SCHEDULES[name], noise(1).double()
    scheduler, gammas = on_our_grid(
        diffusers.DDIMScheduler, schedule, steps, clip_sample=False, set_alpha_to_one=True, prediction_type="epsilon"
    )
    draws, generator = torch.Generator().manual_seed(2), torch.Generator().manual_seed(2)
    theirs = run_theirs(scheduler, gammas, z, as_eps, eta=eta, generator=generator)

    def draw() -> Tensor:
        return torch.randn(SHAPE, generator=draws, dtype=torch.float64)

    ours = sample(denoise, z, step_gammas(schedule, steps), draw, "ddim", eta)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@every_schedule
@every_count
def test_ancestral_is_ddpm(name, steps):
    schedule, z = SCHEDULES[name], noise(3).double()
    scheduler, gammas = on_our_grid(
        diffusers.DDPMScheduler,
        schedule,
        steps,
        clip_sample=False,
        variance_type="fixed_small",
        prediction_type="sample",
    )
    draws, generator = torch.Generator().manual_seed(4), torch.Generator().manual_seed(4)
    theirs = run_theirs(scheduler, gammas, z, as_x0, generator=generator)

    def draw() -> Tensor:
        return torch.randn(SHAPE, generator=draws, dtype=torch.float64)

    ours = sample(denoise, z, step_gammas(schedule, steps), draw, "ancestral")
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_one_ancestral_step_has_the_posterior_mean_and_variance_of_ddpm():
    scheduler, gammas = on_our_grid(
        diffusers.DDPMScheduler, LinearSchedule(), 40, clip_sample=False, prediction_type="sample"
    )
    z, x0 = noise(5).double(), noise(6).double()
    for t in (39, 20, 3, 1):
        levels = torch.stack([gammas[t], gammas[t - 1]])
        responses = [
            sample(lambda z, gamma: x0, z, levels, lambda n=n: torch.full_like(z, n), "ancestral") for n in (0, 1)
        ]
        variance = scheduler._get_variance(t).item()
        torch.testing.assert_close(responses[1] - responses[0], torch.full_like(z, variance**0.5), rtol=1e-5, atol=0)
        generator, same = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
        drawn = scheduler.step(x0, t, z, generator=generator).prev_sample
        mean = drawn - variance**0.5 * torch.randn(SHAPE, generator=same, dtype=torch.float64)
        torch.testing.assert_close(responses[0], mean, atol=1e-5, rtol=0)
