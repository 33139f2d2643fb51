"""Guidance with a scale for each condition: invariants, and a Gaussian model where the answer is known."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from MRDiffusionLib.diffusion import Denoiser, LinearSchedule, sample, step_gammas
from MRDiffusionLib.diffusion.classifier_free import ClassifierFree
from MRDiffusionLib.diffusion.denoiser import per_sample, to_eps
from MRDiffusionLib.diffusion.schedule import alpha, sigma
from MRDiffusionLib.workload import MODES, guidance_weights

SCALES = [(0.0, 0.0), (1.0, 1.0), (1.5, 0.7), (3.0, 0.0), (0.0, 2.0)]


class Gaussian:
    """x ~ N(0, 1); condition i is a noisy look `c_i = x + s_i noise`. The posterior under any set of them is exact."""

    def __init__(self, looks: Tensor, spreads: tuple[float, ...]) -> None:
        self.looks, self.spreads, self.calls = looks, torch.tensor(spreads), 0

    def posterior(self, present: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of x, (B, 1) each, for looks (conditions,)."""
        precision = present.float() / self.spreads**2
        variance = 1 / (1 + precision.sum(1, keepdim=True))
        return variance * (precision * self.looks).sum(1, keepdim=True), variance

    def __call__(self, z: Tensor, gamma: Tensor, present: Tensor) -> Tensor:
        self.calls += 1
        mean, variance = self.posterior(present)
        a, s = per_sample(alpha(gamma), z), per_sample(sigma(gamma), z)
        gain = variance * a / (a**2 * variance + s**2)
        return mean + gain * (z - a * mean)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scales", SCALES)
def test_weights_add_up_to_one(mode: str, scales: tuple[float, float]) -> None:
    assert sum(guidance_weights(mode, scales).values()) == pytest.approx(1)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_ends_of_the_scales(count: int) -> None:
    every, none = (True,) * count, (False,) * count
    for mode in MODES:
        assert guidance_weights(mode, [0.0] * count) == {none: pytest.approx(1)}
    for mode in ("nested", "averaged"):
        weights = guidance_weights(mode, [1.0] * count)
        assert weights.keys() == {every} and weights[every] == pytest.approx(1)
    if count == 2:
        assert guidance_weights("composable", [1.0, 1.0]) == {
            (False, False): -1.0,
            (True, False): 1.0,
            (False, True): 1.0,
        }


def test_nested_is_the_printed_formula() -> None:
    e = {p: torch.randn(()) for p in itertools.product((False, True), repeat=2)}
    s1, s2 = 1.5, 0.7
    none, first, second, both = e[False, False], e[True, False], e[False, True], e[True, True]
    formulas = {
        "nested": none + s1 * (first - none) + s2 * (both - first),
        "composable": none + s1 * (first - none) + s2 * (second - none),
    }
    formulas["averaged"] = 0.5 * (formulas["nested"] + none + s2 * (second - none) + s1 * (both - second))
    for mode, expected in formulas.items():
        guided = sum(weight * e[present] for present, weight in guidance_weights(mode, (s1, s2)).items())
        torch.testing.assert_close(torch.as_tensor(guided), expected)


def test_averaged_does_not_depend_on_the_order() -> None:
    forward, backward = guidance_weights("averaged", (1.5, 0.7)), guidance_weights("averaged", (0.7, 1.5))
    assert {p[::-1]: pytest.approx(w) for p, w in backward.items()} == forward
    assert guidance_weights("nested", (1.5, 0.7)) != {
        p[::-1]: w for p, w in guidance_weights("nested", (0.7, 1.5)).items()
    }


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="'both' is unknown; known are nested"):
        guidance_weights("both", (1, 1))


@pytest.mark.parametrize("mode", MODES)
def test_branches_are_one_call_and_equal_separate_ones(mode: str) -> None:
    network = Gaussian(torch.tensor([0.8, -0.5]), (0.5, 0.8))
    z, gamma = torch.randn(5, 1), torch.linspace(-3, 3, 5)
    guided = ClassifierFree(network, mode, (1.5, 0.7))
    result, calls = guided(z, gamma), network.calls
    expected = sum(
        weight * network(z, gamma, torch.tensor([present]).expand(5, 2)) for present, weight in guided.weights.items()
    )
    assert calls == 1
    torch.testing.assert_close(result, torch.as_tensor(expected))


def test_guidance_commutes_with_the_kind_of_prediction() -> None:
    network = Gaussian(torch.tensor([0.8, -0.5]), (0.5, 0.8))
    z, gamma = torch.randn(4, 1), torch.full((4,), 0.3)

    def as_eps(z: Tensor, gamma: Tensor, present: Tensor) -> Tensor:
        return to_eps(network(z, gamma, present), z, gamma)

    by_x0 = Denoiser(ClassifierFree(network, "nested", (2.0, 0.5)), "x0")(z, gamma)
    by_eps = Denoiser(ClassifierFree(as_eps, "nested", (2.0, 0.5)), "eps")(z, gamma)
    torch.testing.assert_close(by_x0, by_eps, atol=1e-5, rtol=1e-5)


def draw(scales: tuple[float, float], mode: str = "nested", count: int = 20000) -> Tensor:
    network = Gaussian(torch.tensor([1.0, -0.6]), (0.5, 0.5))
    gammas = step_gammas(LinearSchedule(-10, 5), 300)
    generator = torch.Generator().manual_seed(0)

    def noise() -> Tensor:
        return torch.randn(count, 1, generator=generator)

    with torch.no_grad():
        return sample(Denoiser(ClassifierFree(network, mode, scales), "x0"), noise(), gammas, noise, "ancestral")


def test_samples_at_scale_one_are_the_joint_posterior_and_at_zero_the_prior() -> None:
    network = Gaussian(torch.tensor([1.0, -0.6]), (0.5, 0.5))
    for scales, present in (((1.0, 1.0), [[True, True]]), ((0.0, 0.0), [[False, False]])):
        mean, variance = network.posterior(torch.tensor(present))
        drawn = draw(scales)
        assert float(drawn.mean()) == pytest.approx(float(mean), abs=0.03)
        assert float(drawn.var()) == pytest.approx(float(variance), rel=0.05)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("condition", [0, 1])
def test_raising_a_scale_brings_samples_closer_to_its_condition(mode: str, condition: int) -> None:
    look = (1.0, -0.6)[condition]
    distances = []
    for scale in (0.0, 0.5, 1.0):
        scales = (scale, 0.5) if condition == 0 else (0.5, scale)
        distances.append(abs(float(draw(scales, mode, 2000).mean()) - look))
    assert distances[0] > distances[1] > distances[2]
