"""The configuration of a training run: what it accepts, and how it names what it does not."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from MRDiffusionLib.errors import InputError, SettingError, UserError
from MRDiffusionLib.packs import find_pack
from MRDiffusionLib.training import config as config_module
from MRDiffusionLib.training.config import PairedConfig, Phase, TrainingConfig, config_from, read_config
from MRDiffusionLib.training.optimisation import learning_rate
from MRDiffusionLib.training.vdm import NoiseLevels

SHIPPED = sorted(p for p in (Path(config_module.__file__).parent / "configs").glob("*.json") if p.suffixes == [".json"])

VALUES: dict[str, Any] = {
    "name": "tiny",
    "data": "slices.npz",
    "train_subjects": [1, 4],
    "validation_subjects": [5, 6],
    "phases": [
        {"steps": 10, "batch": 4, "crop": 16},
        {"steps": 5, "batch": 2, "crop": 32, "noise_levels": {"std": 1.5}},
    ],
}


def test_a_configuration_is_read(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**VALUES, "measured": [[9, 7]], "learning_rate": 1}))
    config = read_config(path)
    assert config.phases == (Phase(10, 4, 16), Phase(5, 2, 32, NoiseLevels(std=1.5)))
    assert (config.train_subjects, config.validation_subjects, config.measured) == ((1, 4), (5, 6), ((9, 7),))
    assert config.steps == 15
    assert [config.phase_at(step).crop for step in (0, 9, 10, 14, 99)] == [16, 16, 32, 32, 32]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_configurations_are_in_order(path):
    config = read_config(path)
    assert config.steps > 0 and config.name == path.stem


def test_there_are_shipped_configurations():
    assert "brain-t1-128" in {path.stem for path in SHIPPED}


BAD: list[tuple[dict[str, Any], str]] = [
    ({"colour": 1}, "unknown setting colour"),
    ({"colour": 1, "age": 2}, "unknown setting age, colour"),
    ({"phases": []}, "phases is empty"),
    ({"phases": {"steps": 1}}, "phases = .* is not a list"),
    ({"phases": [7]}, "a phase is 7"),
    ({"phases": [{"steps": 10, "batch": 4}]}, "a phase lacks crop"),
    ({"phases": [{"steps": 10, "batch": 4, "crop": 16, "shuffle": True}]}, "a phase has the unknown setting shuffle"),
    ({"phases": [{"steps": 0, "batch": 4, "crop": 16}]}, "steps of a phase = 0"),
    ({"phases": [{"steps": 1, "batch": 2.5, "crop": 16}]}, "batch of a phase = 2.5"),
    ({"phases": [{"steps": 1, "batch": 2, "crop": "16"}]}, "crop of a phase = '16'"),
    ({"phases": [{"steps": 1, "batch": True, "crop": 16}]}, "batch of a phase = True"),
    (
        {"phases": [{"steps": 1, "batch": 2, "crop": 16, "noise_levels": {"sigma": 1}}]},
        "noise_levels has the unknown setting sigma",
    ),
    ({"phases": [{"steps": 1, "batch": 2, "crop": 16, "noise_levels": {"std": -1}}]}, "std = -1 of noise_levels"),
    ({"phases": [{"steps": 1, "batch": 2, "crop": 16, "noise_levels": 3}]}, "noise_levels is 3"),
    ({"train_subjects": [1]}, r"train_subjects = \[1\]"),
    ({"train_subjects": 4}, "train_subjects = 4"),
    ({"train_subjects": [4, 1]}, "train_subjects = 4 to 1 is empty"),
    ({"validation_subjects": ["5", 6]}, "validation_subjects = '5'"),
    ({"validation_subjects": [4, 6]}, "overlap"),
    ({"task": "classification"}, "task = 'classification'"),
    ({"task": ["prior"]}, "task = "),
    ({"loss": "mse"}, "loss = 'mse'"),
    ({"loss": "bound-0"}, "loss = 'bound-0'"),
    ({"loss": "bound-x"}, "loss = 'bound-x'"),
    ({"loss": 1}, "loss = 1"),
    ({"schedule": {"name": "learned"}}, "does not train a learned schedule"),
    ({"prediction": "noise"}, "prediction = 'noise'"),
    ({"precision": "16-true"}, "precision = '16-true'"),
    ({"network": []}, r"network = \[\]"),
    ({"schedule": "linear"}, "schedule = 'linear'"),
    ({"learning_rate": 0}, "learning_rate = 0"),
    ({"learning_rate": "fast"}, "learning_rate = 'fast'"),
    ({"learning_rate": math.nan}, "learning_rate = nan"),
    ({"gradient_clip": -1}, "gradient_clip = -1"),
    ({"weight_decay": -0.1}, "weight_decay = -0.1"),
    ({"ema_decay": 1.0}, "ema_decay = 1.0"),
    ({"warmup_steps": -1}, "warmup_steps = -1"),
    ({"seed": -1}, "seed = -1"),
    ({"seed": 0.5}, "seed = 0.5"),
    ({"checkpoint_every": 0}, "checkpoint_every = 0"),
    ({"validate_every": 0}, "validate_every = 0"),
    ({"picture_every": None}, "picture_every = None"),
    ({"validation_slices": 0}, "validation_slices = 0"),
    ({"measured": []}, "measured is empty"),
    ({"measured": [9, 9]}, "measured = 9"),
    ({"measured": [[9, 0]]}, "measured = 0"),
    ({"phases": [{"steps": 1, "batch": 2, "crop": 16, "measured": {"share": 1.5}}]}, "share = 1.5 of measured"),
    ({"phases": [{"steps": 1, "batch": 2, "crop": 16, "measured": {"share": "all"}}]}, "share = 'all' of measured"),
    ({"phases": [{"steps": 1, "batch": 2, "crop": 16, "measured": 0.5}]}, "measured is 0.5"),
    ({"phases": [{"steps": 1, "batch": 2, "crop": 16, "measured": {}}]}, "measured lacks share"),
    (
        {"loss": "bound", "phases": [{"steps": 1, "batch": 2, "crop": 16, "measured": {"share": 0.5}}]},
        "measured does not go with loss bound",
    ),
    ({"name": ""}, "name = ''"),
    ({"start": None}, "start = None"),
    ({"data": 3}, "data = 3"),
]


@pytest.mark.parametrize(("changes", "words"), BAD, ids=[words for _, words in BAD])
def test_what_is_wrong_is_named(tmp_path, changes, words):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**VALUES, **changes}))
    with pytest.raises(SettingError, match=words) as caught:
        read_config(path)
    assert str(path) in caught.value.message


@pytest.mark.parametrize("name", VALUES)
def test_what_is_missing_is_named(name):
    values = {key: value for key, value in VALUES.items() if key != name}
    with pytest.raises(SettingError, match=f"lacks {name}") as caught:
        config_from(values)
    assert "learning_rate" in caught.value.hint


def test_a_configuration_that_is_no_object_is_refused():
    with pytest.raises(SettingError, match=r"the configuration is \[1\]"):
        config_from([1])


@pytest.mark.parametrize("text", ["{", "", "\x00", "{'name': 1}"])
def test_a_file_that_is_not_json_is_refused(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"config\.json is not valid JSON"):
        read_config(path)


def test_a_file_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(InputError, match="not valid JSON"):
        read_config(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(InputError, match=str(path)):
            read_config(path)


def test_errors_are_the_persons_and_still_value_errors():
    with pytest.raises(UserError) as caught:
        TrainingConfig(name="x", data="y", train_subjects=(1, 2), validation_subjects=(3, 4), phases=())
    assert isinstance(caught.value, ValueError) and caught.value.hint


def test_the_learning_rate_warms_up_and_falls_to_zero():
    config = config_from({**VALUES, "learning_rate": 2.0, "warmup_steps": 5})
    rates = [learning_rate(config, step) for step in range(16)]
    assert rates[:6] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0, 2.0])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert rates[10] == pytest.approx(1.0) and rates[15] == pytest.approx(0.0)
    assert learning_rate(config_from({**VALUES, "learning_rate": 2.0, "warmup_steps": 0}), 0) == 2.0


def test_a_setting_can_be_changed_where_the_configuration_is_read(tmp_path):
    shipped = Path(__file__).resolve().parents[2] / "MRDiffusionLib/training/configs/cardiac-simulated.json"
    assert read_config(shipped).heatmap is not None
    assert read_config(shipped, {"heatmap": None}).heatmap is None
    with pytest.raises(SettingError, match="unknown setting heat"):
        read_config(shipped, {"heat": None})


def test_the_configuration_for_myops_goes_with_the_pack_that_it_starts_from():
    config = read_config(Path(__file__).resolve().parents[2] / "MRDiffusionLib/training/configs/myops.json")
    assert isinstance(config, PairedConfig) and config.features is not None
    pack = find_pack(config.start)
    assert config.start == config.autoencoder and config.schedule == pack.schedule
    assert config.network.items() <= pack.network["denoiser"].items()
    assert config.features.items() <= pack.network["features"].items()
    assert pack.pixel_size_mm == (1.4, 1.4) and config.phases[0].crop == pack.matrix[0]  # as `prepare myops` makes them
