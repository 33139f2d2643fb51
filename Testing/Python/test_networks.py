"""The denoising network around MONAI's U-Net."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from MRDiffusionLib.networks.unet import GroupNorm, VDMUNet, coordinates, fourier_features

SMALL = {"channels": (16, 32), "num_res_blocks": (1, 1), "head_channels": 16, "norm_groups": 8}


def network(**settings: object) -> VDMUNet:
    """A small network with no zero weights: the last convolution, and that of each block, start at zero."""
    torch.manual_seed(0)
    small = VDMUNet(**{**SMALL, **settings})
    with torch.no_grad():
        for weight in small.parameters():
            if not weight.any():
                weight.normal_(0, 0.05)
    return small.eval()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [(16, 16), (16, 24), (4, 32), (12, 8)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_output_has_the_shape_and_type_of_the_image(size, dtype):
    small = network().to(dtype)
    z = noise(3, 1, *size).to(dtype)
    result = small(z, torch.tensor([-10.0, 0.0, 5.0], dtype=dtype))
    assert result.shape == z.shape and result.dtype == dtype
    assert result.is_contiguous() and torch.isfinite(result).all() and result.abs().max() > 0


@pytest.mark.parametrize(
    ("settings", "multiple"),
    [
        (SMALL, 4),
        ({**SMALL, "fold": 1}, 2),
        ({**SMALL, "fold": 4}, 8),
        ({}, 8),
        ({"channels": (16, 16, 16, 32), "num_res_blocks": (1,) * 4, "head_channels": 16}, 16),
    ],
    ids=str,
)
def test_multiple_is_the_smallest_step_of_the_size(settings, multiple):
    torch.manual_seed(0)
    some = VDMUNet(**settings).eval()
    assert some.multiple == multiple
    with torch.no_grad():
        assert some(noise(1, 1, multiple, 2 * multiple), torch.zeros(1)).shape == (1, 1, multiple, 2 * multiple)
    with pytest.raises(ValueError, match=f"multiples of {multiple}"):
        some(noise(1, 1, multiple, multiple + multiple // 2), torch.zeros(1))


def test_the_first_prediction_is_zero():
    torch.manual_seed(0)
    assert VDMUNet(**SMALL)(noise(2, 1, 16, 16), torch.zeros(2)).abs().max() == 0


def test_fourier_features_are_sines_and_cosines_of_the_image():
    z = noise(2, 3, 4, 5).double()
    features = fourier_features(z, (0, 2))
    assert features.shape == (2, 12, 4, 5)
    angle = 2 * math.pi * z[1, 2, 3, 4].item()
    values = features[1, 2::3, 3, 4].tolist()
    assert values == pytest.approx([math.sin(angle), math.cos(angle), math.sin(4 * angle), math.cos(4 * angle)])


def test_fourier_features_tell_neighbouring_grey_levels_apart():
    """Why they are there: two levels of an 8-bit image, 0.008 apart, are far apart in the features."""
    levels = torch.tensor([100.0, 101.0]).reshape(2, 1, 1, 1) * (2 / 255) - 1
    low, high = fourier_features(levels, (6, 7))
    assert (low - high).norm() > 1


def test_coordinates_are_pixel_centres_of_the_field_of_view():
    rows, columns = coordinates((4, 2))
    assert rows[:, 0].tolist() == [-0.75, -0.25, 0.25, 0.75]
    assert columns[0].tolist() == [-0.5, 0.5]
    assert torch.equal(rows[:, 0], rows[:, 1]) and torch.equal(columns[0], columns[3])


def test_coordinates_of_a_finer_matrix_cover_the_same_field_of_view():
    coarse, fine = coordinates((8, 8)), coordinates((16, 16))
    torch.testing.assert_close(torch.nn.functional.avg_pool2d(fine, 2), coarse)


def test_no_position_is_the_whole_field_of_view():
    z, gamma, small = noise(2, 1, 16, 8), torch.zeros(2), network()
    assert torch.equal(small(z, gamma), small(z, gamma, None, coordinates((16, 8))[None]))


def test_the_position_of_a_crop_matters_image_by_image():
    z, gamma, small = noise(1, 1, 8, 8).expand(2, -1, -1, -1), torch.zeros(2), network()
    whole = coordinates((16, 16))
    corners = torch.stack([whole[:, :8, :8], whole[:, 8:, 8:]])
    result = small(z, gamma, None, corners)
    assert (result[0] - result[1]).abs().max() > 1e-4
    for i in (0, 1):
        assert torch.equal(small(z[:1], gamma[:1], None, corners[i : i + 1])[0], result[i])


def test_gamma_matters_image_by_image():
    z, small = noise(1, 1, 8, 8).expand(2, -1, -1, -1), network()
    result = small(z, torch.tensor([-8.0, 3.0]))
    assert (result[0] - result[1]).abs().max() > 1e-4
    assert torch.equal(small(z, torch.tensor([3.0])), result[1].expand(2, -1, -1, -1))


def test_gamma_reaches_the_time_embedding_as_0_to_1000():
    small = network(gamma_min=-6.0, gamma_max=4.0)
    seen: list[Tensor] = []
    small.unet.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[1]))
    for gamma in (-6.0, -1.0, 4.0):
        small(noise(1, 1, 8, 8), torch.tensor([gamma]))
    assert [value.item() for value in seen] == [0.0, 500.0, 1000.0]


def test_a_condition_is_seen():
    small = network(condition_channels=2)
    z, gamma = noise(2, 1, 8, 8), torch.zeros(2)
    first, second = (small(z, gamma, noise(2, 2, 8, 8, seed=seed)) for seed in (1, 2))
    assert first.shape == z.shape and (first - second).abs().max() > 1e-4


def test_several_image_channels():
    small = network(image_channels=3)
    assert small(noise(2, 3, 8, 8), torch.zeros(2)).shape == (2, 3, 8, 8)


@pytest.mark.parametrize("training", [True, False])
def test_weights_in_bfloat16_give_nearly_the_same_and_keep_the_type(training):
    z, gamma = noise(2, 1, 16, 16), torch.tensor([-3.0, 2.0])
    exact = network().train(training)(z, gamma)
    half = network().train(training).to(torch.bfloat16)(z, gamma)
    assert half.dtype == torch.float32
    assert 0 < (half - exact).norm() / exact.norm() < 0.03


def test_batch_and_single_image_agree_in_training_too():
    z, gamma = noise(3, 1, 16, 16), torch.tensor([-3.0, 0.0, 2.0])
    small = network()
    torch.testing.assert_close(small.train()(z, gamma), small.eval()(z, gamma), atol=1e-5, rtol=0)


@pytest.mark.parametrize("training", [True, False])
def test_the_gradient_reaches_every_weight_and_the_image(training):
    small = network(condition_channels=1).train(training)
    z = noise(2, 1, 8, 8).requires_grad_(True)
    small(z, torch.zeros(2), noise(2, 1, 8, 8)).square().sum().backward()
    assert z.grad is not None and z.grad.abs().max() > 0
    dead = [name for name, p in small.named_parameters() if p.grad is None]
    assert dead == []


def test_the_same_seed_builds_the_same_network():
    first, second = network().state_dict(), network().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_settings_rebuild_a_network_that_takes_the_weights():
    small = network(condition_channels=1, fourier_exponents=(3,), fold=1, gamma_min=-9.0)
    again = VDMUNet(**small.settings)
    again.load_state_dict(small.state_dict())
    z, condition = noise(1, 1, 8, 8), noise(1, 1, 8, 8, seed=1)
    assert torch.equal(again.eval()(z, torch.zeros(1), condition), small(z, torch.zeros(1), condition))


def test_the_weights_of_shipped_packs_keep_their_names_and_shapes():
    """A pack stores these names; a network with others could not load it."""
    with torch.device("meta"):
        weights = VDMUNet(channels=(64, 128, 160), num_res_blocks=(1, 1, 1)).state_dict()
    assert sum(w.numel() for w in weights.values()) == 5_719_140
    assert tuple(weights["unet.conv_in.conv.weight"].shape) == (64, 22, 3, 3)
    assert tuple(weights["unet.out.2.conv.weight"].shape) == (4, 64, 3, 3)
    assert "unet.middle_block.attention.attn.to_q.weight" in weights


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda n: n(noise(1, 2, 8, 8), torch.zeros(1)), r"\(1, 2, 8, 8\) are not \(B, 1, H, W\)"),
        (lambda n: n(noise(1, 8, 8), torch.zeros(1)), r"\(1, 8, 8\) are not"),
        (lambda n: n(noise(1, 1, 8, 10), torch.zeros(1)), "8x10 pixels are not multiples of 4"),
        (lambda n: n(noise(2, 1, 8, 8), torch.zeros(3)), r"gamma of shape \(3,\) does not go with 2 images"),
        (lambda n: n(noise(2, 1, 8, 8), torch.zeros(())), r"gamma of shape \(\)"),
        (lambda n: n(noise(1, 1, 8, 8), torch.zeros(1), noise(1, 1, 8, 8)), "1 channels was given"),
    ],
)
def test_input_that_does_not_fit_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call(network())


def test_a_missing_condition_is_refused():
    with pytest.raises(ValueError, match="0 channels was given; the network takes 2"):
        network(condition_channels=2)(noise(1, 1, 8, 8), torch.zeros(1))


@pytest.mark.parametrize(
    "settings",
    [
        {"channels": (20, 32)},
        {"num_res_blocks": (1,)},
        {"head_channels": 64},
        {"channels": ()},
        {"fold": 0},
        {"gamma_min": 5.0, "gamma_max": 5.0},
    ],
    ids=str,
)
def test_settings_that_make_no_network_are_refused(settings):
    with pytest.raises(ValueError, match=r"channels|num_res_blocks|gamma_min"):
        VDMUNet(**{**SMALL, **settings})


def test_normalisation_trains_in_float32_and_predicts_as_it_was():
    """In training bfloat16 is normalised by the statistics of float32, and gradients arrive; weights keep names."""
    network = VDMUNet(channels=(8, 16), num_res_blocks=(1, 1), fourier_exponents=(), head_channels=8, norm_groups=4)
    found = [module for module in network.modules() if isinstance(module, torch.nn.GroupNorm)]
    assert found and all(type(module) is GroupNorm for module in found)
    norm, plain = GroupNorm(4, 8), torch.nn.GroupNorm(4, 8)
    assert norm.state_dict().keys() == plain.state_dict().keys()
    x = (100 + torch.randn((2, 8, 6, 5), generator=torch.Generator().manual_seed(0))).bfloat16().requires_grad_()
    wanted = plain(x.float())
    assert norm(x).dtype == torch.bfloat16 and torch.equal(norm(x), wanted.to(torch.bfloat16))
    norm(x).float().square().sum().backward()
    assert x.grad is not None and norm.weight.grad is not None and torch.isfinite(x.grad).all()
    assert torch.equal(norm.bfloat16().eval()(x), plain.bfloat16()(x))
