"""What surrounds a sampler: the denoiser interface, clipping, seeds, guides, callbacks, cancelling."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from MRDiffusionLib.diffusion import (
    SAMPLERS,
    Cancelled,
    Denoiser,
    Guide,
    Guides,
    LinearSchedule,
    SampleNoise,
    Step,
    alpha,
    dynamic_clip,
    sample,
    sigma,
    static_clip,
    step_gammas,
)
from MRDiffusionLib.diffusion.denoiser import to_eps, to_x0
from MRDiffusionLib.diffusion.noise import stream_seed
from MRDiffusionLib.networks.unet import VDMUNet

SHAPE = (1, 16, 16)
every_sampler = pytest.mark.parametrize("sampler", SAMPLERS)


def shrink(z: Tensor, gamma: Tensor) -> Tensor:
    """The best denoiser for N(0, 1/4): x0 is linear in z."""
    a, s = (f(gamma).reshape(-1, *[1] * (z.ndim - 1)) for f in (alpha, sigma))
    return a * 0.25 / (a**2 * 0.25 + s**2) * z


def small_network(**settings: object) -> VDMUNet:
    """A real network with no zero weights: the last convolution, and that of each block, start at zero."""
    torch.manual_seed(0)
    network = VDMUNet(channels=(16, 32), num_res_blocks=(1, 1), head_channels=16, norm_groups=8, **settings)
    with torch.no_grad():
        for weight in network.parameters():
            if not weight.any():
                weight.normal_(0, 0.05)
    return network.eval()


def run(
    seeds: list[int], denoise: Callable[[Tensor, Tensor], Tensor] = shrink, steps: int = 10, **more: object
) -> Tensor:
    draw = SampleNoise(seeds, SHAPE)
    return sample(denoise, draw(), step_gammas(LinearSchedule(), steps), draw, **more)


# Denoiser.


@pytest.mark.parametrize("kind", ["eps", "v", "x0"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_prediction_gives_back_the_image_it_stands_for(kind, dtype):
    generator = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, 3, 2, 4, 4, generator=generator, dtype=dtype)
    gamma = torch.tensor([-3.0, -1.0, 2.0], dtype=dtype)
    a, s = alpha(gamma)[:, None, None, None], sigma(gamma)[:, None, None, None]
    z = a * x0 + s * eps
    prediction = {"eps": eps, "v": a * eps - s * x0, "x0": x0}[kind]
    torch.testing.assert_close(to_x0(prediction, kind, z, gamma), x0, atol=1e-5, rtol=0)
    torch.testing.assert_close(to_eps(x0, z, gamma), eps, atol=1e-4, rtol=0)
    torch.testing.assert_close(Denoiser(lambda z, gamma: prediction, kind)(z, gamma), x0, atol=1e-5, rtol=0)


def test_the_denoiser_keeps_the_type_of_the_image_and_clips():
    network = lambda z, gamma: torch.full_like(z, 3.0, dtype=torch.bfloat16)  # noqa: E731
    z, gamma = torch.zeros(2, 1, 2, 2), torch.zeros(2)
    assert Denoiser(network, "x0")(z, gamma).dtype == torch.float32
    assert Denoiser(network, "x0")(z, gamma).max() == 3
    assert Denoiser(network, "x0", static_clip())(z, gamma).max() == 1


def test_an_unknown_prediction_is_refused():
    with pytest.raises(ValueError, match="'noise' is unknown; use 'eps', 'v' or 'x0'"):
        Denoiser(shrink, "noise")
    with pytest.raises(ValueError, match="'score'"):
        to_x0(torch.zeros(1, 1), "score", torch.zeros(1, 1), torch.zeros(1))


def test_static_clip():
    x0 = torch.tensor([[-2.0, -1.0, 0.3, 5.0]])
    assert static_clip()(x0).tolist() == [[-1.0, -1.0, pytest.approx(0.3), 1.0]]
    assert static_clip(0.0, 2.0)(x0).tolist() == [[0.0, 0.0, pytest.approx(0.3), 2.0]]


def test_dynamic_clip_leaves_an_image_in_range_alone():
    x0 = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert torch.equal(dynamic_clip()(x0), x0)


def test_dynamic_clip_scales_each_sample_by_its_own_quantile():
    x0 = torch.linspace(-1, 1, 101).repeat(2, 1) * torch.tensor([[4.0], [0.5]])
    clipped = dynamic_clip(quantile=0.9)(x0)
    assert torch.equal(clipped[1], x0[1])
    s = 4 * 0.9
    torch.testing.assert_close(clipped[0], x0[0].clamp(-s, s) / s, atol=0.02, rtol=0)
    assert clipped.abs().max() <= 1 + 1e-6
    assert (clipped[0].abs() > 0.999).sum() == pytest.approx(11, abs=2)


def test_dynamic_clip_takes_images_larger_than_torch_quantile_does():
    x0 = torch.zeros(5, 1, 2**11, 2**11)
    x0[2] = 3
    with pytest.raises(RuntimeError, match="too large"):
        torch.quantile(x0.flatten(), 0.5)
    clipped = dynamic_clip(0.995)(x0)
    assert clipped[2].min() == 1 and clipped[[0, 1, 3, 4]].abs().max() == 0


@pytest.mark.parametrize(
    "make",
    [
        lambda: static_clip(1.0, 1.0),
        lambda: static_clip(math.nan, 1.0),
        lambda: dynamic_clip(0.0),
        lambda: dynamic_clip(1.5),
        lambda: dynamic_clip(floor=0.0),
    ],
)
def test_clips_that_make_no_sense_are_refused(make):
    with pytest.raises(ValueError, match=r"range|quantile|floor"):
        make()


# Seeds.


def test_a_seed_gives_the_same_noise_alone_and_in_a_batch():
    together = SampleNoise([5, 6, 7], SHAPE)
    first, second = together(), together()
    alone = SampleNoise([6], SHAPE)
    assert torch.equal(alone()[0], first[1]) and torch.equal(alone()[0], second[1])
    assert not torch.equal(first[0], first[1]) and not torch.equal(first[1], second[1])


def test_noise_is_standard_normal():
    draws = SampleNoise([stream_seed(0, i) for i in range(20)], (10_000,))()
    assert draws.dtype == torch.float32
    assert draws.mean().item() == pytest.approx(0, abs=0.01)
    assert draws.var().item() == pytest.approx(1, abs=0.02)
    correlation = torch.corrcoef(draws) - torch.eye(20)
    assert correlation.abs().max() < 0.05


def test_stream_seeds_of_different_keys_differ():
    keys = [(seed, number, k) for seed in (0, 1, 2**32, 2**32 + 1, 2**62) for number in range(20) for k in range(20)]
    seeds = {stream_seed(*key) for key in keys}
    assert len(seeds) == len(keys)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_large_part_is_not_read_as_two():
    assert stream_seed(2**32, 5) != stream_seed(0, 1, 5)
    assert stream_seed(2**32) != stream_seed(0, 1)
    assert stream_seed(3, 2**40) != stream_seed(3, 0, 256)


def test_stream_seeds_stay_what_they_are():
    """Results of earlier runs are drawn again from these."""
    keys = [(0, 0, 0), (1, 2, 3), (7, 127, 3)]
    assert [stream_seed(*key) for key in keys] == [7896617691693857887, 6498626229777268288, 7739540648916217125]


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="negative"):
        stream_seed(1, -1)


@every_sampler
def test_a_sample_is_the_same_alone_or_in_a_batch(sampler):
    """A real network in float32. Its Fourier features amplify every rounding difference: computed as one batch, the
    same samples were 0.1 apart."""
    denoise = Denoiser(small_network(), "v", static_clip())
    settings = {"steps": 8, "sampler": sampler, "eta": 0.85}
    together = run([3, 4, 5, 6], denoise, **settings)
    assert together.std(0).mean() > 0.05
    for i, seed in enumerate([3, 4, 5, 6]):
        torch.testing.assert_close(run([seed], denoise, **settings)[0], together[i], atol=1e-4, rtol=0)


@every_sampler
def test_the_same_seed_gives_the_same_sample_to_the_bit(sampler):
    denoise = Denoiser(small_network(), "v")
    results = [run([3, 4], denoise, steps=5, sampler=sampler, eta=0.5) for _ in range(2)]
    assert torch.equal(*results)
    assert not torch.equal(run([3, 5], denoise, steps=5, sampler=sampler, eta=0.5)[1], results[0][1])


# Callback.


@every_sampler
def test_the_callback_sees_every_step_and_the_last_prediction_is_the_result(sampler):
    seen: list[Step] = []
    result = run([0, 1], sampler=sampler, callback=seen.append)
    assert [(step.step, step.of) for step in seen] == [(i, 10) for i in range(1, 11)]
    assert all(step.x0.shape == (2, *SHAPE) and not step.x0.requires_grad for step in seen)
    torch.testing.assert_close(seen[-1].x0, result, atol=1e-5, rtol=0)


@pytest.mark.parametrize("at", [1, 4, 10])
def test_cancel_leaves_within_the_step(at):
    calls = []

    def denoise(z: Tensor, gamma: Tensor) -> Tensor:
        calls.append(gamma)
        return shrink(z, gamma)

    def callback(step: Step) -> None:
        if step.step == at:
            raise Cancelled

    with pytest.raises(Cancelled):
        run([0], denoise, callback=callback)
    assert len(calls) == at


# Guides.


class Add(Guide):
    """Adds to the prediction, and notes the noise levels it saw."""

    def __init__(self, value: float, factor: float = 1.0) -> None:
        self.value, self.factor = value, factor
        self.levels: list[float] = []
        self.states: list[float] = []

    def correct_prediction(self, x0: Tensor, z: Tensor, gamma: Tensor) -> Tensor:
        self.levels.append(gamma.item())
        return self.factor * x0 + self.value

    def correct_state(self, z: Tensor, gamma: Tensor) -> Tensor:
        self.states.append(gamma.item())
        return z


def test_a_guide_sees_every_noise_level_before_and_after_the_step():
    guide = Add(0.0)
    run([0], guide=guide, steps=4)
    gammas = step_gammas(LinearSchedule(), 4).tolist()
    assert guide.levels == gammas[:-1] and guide.states == gammas


def test_no_guide_is_a_guide_that_changes_nothing():
    assert torch.equal(run([0]), run([0], guide=Guide()))
    assert torch.equal(run([0]), run([0], guide=Guides([])))


@every_sampler
def test_the_sampler_follows_the_corrected_prediction(sampler):
    """A guide that always answers the same image ends there, whatever the denoiser says."""
    target = torch.linspace(-1, 1, 256).reshape(1, *SHAPE)

    class To(Guide):
        def correct_prediction(self, x0: Tensor, z: Tensor, gamma: Tensor) -> Tensor:
            return target.expand_as(x0)

    result = run([0, 1], sampler=sampler, eta=0.5, guide=To())
    torch.testing.assert_close(result, target.expand(2, *SHAPE), atol=1e-5, rtol=0)


def test_guides_are_applied_in_their_order():
    x0, z, gamma = torch.ones(1, 2), torch.zeros(1, 2), torch.tensor(0.0)
    add, double = Add(1.0), Add(0.0, factor=2.0)
    assert Guides([add, double]).correct_prediction(x0, z, gamma).tolist() == [[4.0, 4.0]]
    assert Guides([double, add]).correct_prediction(x0, z, gamma).tolist() == [[3.0, 3.0]]
    assert Guides([Guides([add, double]), add]).correct_prediction(x0, z, gamma).tolist() == [[5.0, 5.0]]


def test_states_are_corrected_in_order_and_the_correction_stays():
    class Set(Guide):
        def __init__(self, value: float) -> None:
            self.value = value

        def correct_state(self, z: Tensor, gamma: Tensor) -> Tensor:
            return 0.5 * z + self.value if math.isinf(gamma.item()) else z

    plain = run([0])
    torch.testing.assert_close(run([0], guide=Guides([Set(1.0), Set(10.0)])), (0.5 * plain + 1.0) * 0.5 + 10.0)


class Posterior(Guide):
    """Pulls towards a measurement of the whole image by the gradient of the misfit through the denoiser."""

    needs_gradient = True

    def __init__(self, target: float, rate: float) -> None:
        self.target, self.rate = target, rate
        self.gradients: list[Tensor] = []

    def correct_prediction(self, x0: Tensor, z: Tensor, gamma: Tensor) -> Tensor:
        misfit = 0.5 * (x0 - self.target).square().sum()
        (gradient,) = torch.autograd.grad(misfit, z, retain_graph=True)
        self.gradients.append(gradient)
        return x0 - self.rate * gradient


def test_a_guide_that_needs_it_gets_the_gradient_through_the_denoiser():
    """Here x0 = k z, so the gradient of the misfit is k (x0 - target)."""
    guide = Posterior(0.7, 0.0)
    seen: list[Step] = []
    with torch.no_grad():
        result = run([0, 1], steps=6, guide=guide, callback=seen.append)
    assert torch.equal(result, run([0, 1], steps=6))
    assert not result.requires_grad
    for gamma, step, gradient in zip(step_gammas(LinearSchedule(), 6), seen, guide.gradients, strict=False):
        a, s = alpha(gamma).item(), sigma(gamma).item()
        k = a * 0.25 / (a**2 * 0.25 + s**2)
        torch.testing.assert_close(gradient, k * (step.x0 - 0.7), atol=1e-5, rtol=1e-4)


def test_the_gradient_goes_through_a_real_network():
    """Against a finite difference along it. No Fourier features: their slope changes within any finite step."""
    denoise = Denoiser(small_network(fourier_exponents=()), "v")
    guide, start = Posterior(0.7, 0.0), SampleNoise([0], SHAPE)
    z, levels = start().double(), step_gammas(LinearSchedule(), 1)
    denoise.network.double()
    sample(denoise, z, levels, start, guide=Guides([Guide(), guide]))
    (gradient,) = guide.gradients
    direction = gradient / gradient.norm()

    def misfit(z: Tensor) -> Tensor:
        with torch.no_grad():
            return 0.5 * (denoise(z, levels[:1]) - 0.7).square().sum()

    slope = (misfit(z + 1e-4 * direction) - misfit(z - 1e-4 * direction)) / 2e-4
    assert slope.item() == pytest.approx(gradient.norm().item(), rel=1e-4)


@every_sampler
def test_a_guide_with_a_gradient_pulls_the_sample(sampler):
    plain = run([0], sampler=sampler, steps=30)
    pulled = run([0], sampler=sampler, steps=30, guide=Posterior(0.7, 0.3))
    assert (pulled - 0.7).square().mean() < 0.5 * (plain - 0.7).square().mean()


def test_guides_need_the_gradient_if_one_of_them_does():
    assert Guides([Guide(), Posterior(0, 0)]).needs_gradient
    assert not Guides([Guide(), Add(0)]).needs_gradient


def test_no_gradient_is_recorded_without_need():
    class Look(Guide):
        def correct_prediction(self, x0: Tensor, z: Tensor, gamma: Tensor) -> Tensor:
            assert not z.requires_grad and not x0.requires_grad
            return x0

    run([0], Denoiser(small_network(), "v"), steps=2, guide=Look())
