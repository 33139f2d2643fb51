"""Training that begins with the weights of a pack."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from MRDiffusionLib.errors import PackError, SettingError
from MRDiffusionLib.networks.unet import VDMUNet
from MRDiffusionLib.packs import read_info
from MRDiffusionLib.packs.weights import load_network
from MRDiffusionLib.training.config import TrainingConfig, config_from
from MRDiffusionLib.training.loop import train
from MRDiffusionLib.training.start import FIRST, start_from

LEVELS = torch.tensor([-8.0, 2.0])


def network(pack: Path, **changes: Any) -> VDMUNet:
    """A new network as the pack's, with changes; its own weights are of no use."""
    torch.manual_seed(7)
    return VDMUNet(**{**read_info(pack).network, **changes}).eval()


def noisy() -> Tensor:
    return torch.randn((2, 1, 32, 32), generator=torch.Generator().manual_seed(3))


def predicted(some: VDMUNet, *condition: Tensor) -> Tensor:
    with torch.no_grad():
        return some.eval()(noisy(), LEVELS, *condition)


@pytest.fixture
def expected(tiny_pack_32: Path) -> Tensor:
    return predicted(load_network(read_info(tiny_pack_32))[0])


def test_the_same_network_predicts_what_the_packs_does(tiny_pack_32, expected):
    same = network(tiny_pack_32)
    assert not torch.allclose(predicted(same), expected, atol=1e-3)
    start_from(same, str(tiny_pack_32))
    torch.testing.assert_close(predicted(same), expected, atol=1e-5, rtol=1e-5)


def test_a_new_condition_is_ignored_at_first_and_then_learnt(tiny_pack_32, expected):
    conditional = network(tiny_pack_32, condition_channels=2)
    start_from(conditional, str(tiny_pack_32))
    condition = torch.randn((2, 2, 32, 32))
    torch.testing.assert_close(predicted(conditional, condition), expected, atol=1e-5, rtol=1e-5)
    conditional(noisy(), LEVELS, condition).square().mean().backward()
    first = conditional.get_parameter(FIRST)
    assert first.grad is not None
    of_condition = [i for i, name in enumerate(conditional.inputs) if name.startswith("condition")]
    assert len(of_condition) == 8 and first.grad[:, of_condition].abs().amin(dim=(0, 2, 3)).max() > 0


def test_inputs_that_are_gone_are_left_out(tiny_pack_32):
    """Without the Fourier features the network predicts what the pack's does with their weights at zero."""
    full, _ = load_network(read_info(tiny_pack_32))
    assert sum("2^" in name for name in full.inputs) == 16
    with torch.no_grad():
        full.get_parameter(FIRST)[:, ["2^" in name for name in full.inputs]] = 0
    plain = network(tiny_pack_32, fourier_exponents=[])
    start_from(plain, str(tiny_pack_32))
    torch.testing.assert_close(predicted(plain), predicted(full), atol=1e-5, rtol=1e-5)


INPUTS = [{}, {"image_channels": 2, "condition_channels": 3, "fold": 1}, {"fourier_exponents": [3, 4, 5]}]
UNLIKE = [{"channels": [16, 16]}, {"num_res_blocks": [2, 1]}, {"image_channels": 2}]


@pytest.mark.parametrize("settings", INPUTS, ids=str)
def test_every_input_channel_has_its_own_name(tiny_pack_32, settings):
    some = network(tiny_pack_32, **settings)
    assert len(set(some.inputs)) == len(some.inputs) == some.get_parameter(FIRST).shape[1]


@pytest.mark.parametrize("changes", UNLIKE, ids=str)
def test_another_network_is_refused(tiny_pack_32, changes):
    with pytest.raises(SettingError, match="cannot start from pack tiny-32") as caught:
        start_from(network(tiny_pack_32, **changes), str(tiny_pack_32))
    assert "num_res_blocks" in caught.value.hint


@pytest.fixture
def config(tiny_pack_32: Path, tmp_path: Path) -> TrainingConfig:
    path = tmp_path / "slices.npz"
    images = np.random.default_rng(0).integers(0, 255, (8, 16, 16), dtype=np.uint8)
    np.savez(path, images=images, subject=np.arange(8) // 2 + 1)
    values = {
        "name": "more",
        "data": str(path),
        "train_subjects": [1, 3],
        "validation_subjects": [4, 4],
        "phases": [{"steps": 2, "batch": 2, "crop": 16}],
        "start": str(tiny_pack_32),
        "network": read_info(tiny_pack_32).network,
        "learning_rate": 1e-9,
        "precision": "32-true",
    }
    return config_from(values)


def test_a_run_begins_with_the_packs_weights(config, tiny_pack_32, tmp_path):
    """At a learning rate of nearly nothing they are still there at the end, in the average too."""
    folder = train(config, tmp_path / "run", accelerator="cpu", log=lambda _: None)
    state = torch.load(folder / "last.ckpt", weights_only=True)
    for name, value in load_network(read_info(tiny_pack_32))[0].state_dict().items():
        for weights in (state["model"][f"network.{name}"], state["ema"][f"module.network.{name}"]):
            torch.testing.assert_close(weights, value, atol=1e-6, rtol=0)


def test_a_pack_that_is_missing_is_named_unless_the_run_goes_on(config, tmp_path, tiny_pack_32):
    gone = replace(config, start=str(tmp_path / "gone"))
    with pytest.raises(PackError, match="gone"):
        train(gone, tmp_path / "run", accelerator="cpu", log=lambda _: None)
    train(config, tmp_path / "run", accelerator="cpu", stop_after=1, log=lambda _: None)
    train(gone, tmp_path / "run", accelerator="cpu", log=lambda _: None)
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["step"] == 2
