"""A training run becomes a pack that predicts what the run's averaged network predicts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from MRDiffusionLib.diffusion.schedule import SCHEDULES
from MRDiffusionLib.errors import PackError
from MRDiffusionLib.packs import verify_pack
from MRDiffusionLib.packs.weights import load_network
from MRDiffusionLib.training.config import read_config
from MRDiffusionLib.training.export import averaged_weights, main, pack_from_checkpoint
from MRDiffusionLib.training.loop import train
from MRDiffusionLib.training.slices_job import build_model

DESCRIPTION: dict[str, Any] = {
    "version": "0.1",
    "title": "A tiny model",
    "roles": ["low_resolution"],
    "matrix": [16, 16],
    "pixel_size_mm": [1.5, 1.5],
    "normalisation": {"percentile": 99.5, "value": 0.9},
    "domain": {"plane": "any", "median": {}},
    "training_data": "noise made by the test",
    "licence": "CC0-1.0",
    "quality": {"bits_per_dimension": 7.9},
    "intended_use": "tests",
    "limits": [],
}


def run(folder: Path, **changes: Any) -> tuple[Path, Path]:
    """Train a tiny network for a few steps; the configuration file and the checkpoint."""
    images = np.random.default_rng(0).integers(0, 256, (6, 16, 16), dtype=np.uint8)
    np.savez(folder / "data.npz", images=images, subject=np.array([1, 1, 2, 2, 3, 3]))
    values = {
        "name": "tiny-run",
        "data": str(folder / "data.npz"),
        "train_subjects": [1, 2],
        "validation_subjects": [3, 3],
        "phases": [{"steps": 3, "batch": 2, "crop": 16}],
        "network": {"channels": [8, 16], "num_res_blocks": [1, 1], "head_channels": 8, "norm_groups": 4},
        "measured": [[9, 9]],
        "learning_rate": 0.05,
        "warmup_steps": 1,
        "ema_decay": 0.5,
        "precision": "32-true",
        "picture_every": 100_000,
        **changes,
    }
    (folder / "config.json").write_text(json.dumps(values))
    config = read_config(folder / "config.json")
    train(config, folder / "run", accelerator="cpu", log=lambda line: None)
    return folder / "config.json", folder / "run" / "last.ckpt"


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    schedule = {"name": "learned", "gamma_min": -9.0, "gamma_max": 4.0, "width": 8}
    return run(tmp_path_factory.mktemp("prior"), loss="bound", schedule=schedule)


@pytest.fixture(scope="module")
def regression(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return run(tmp_path_factory.mktemp("regression"), task="regression")


@pytest.mark.parametrize("kind", ["prior", "regression"])
def test_pack_predicts_what_the_averaged_network_predicts(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    config_path, checkpoint = request.getfixturevalue(kind)
    config = read_config(config_path)
    info = pack_from_checkpoint(
        checkpoint, config, tmp_path / "pack", description=DESCRIPTION, model_card="# Tiny", licence="CC0"
    )
    verify_pack(info)
    assert (info.name, info.quality) == ("tiny-run", DESCRIPTION["quality"])
    assert info.task == {"prior": "superresolution", "regression": "regression"}[kind]
    assert info.prediction == {"prior": "v", "regression": "x0"}[kind]
    network, schedule = load_network(info)

    model = build_model(config)
    averaged = torch.load(checkpoint, weights_only=True)["ema"]
    model.load_state_dict({n.removeprefix("module."): v for n, v in averaged.items() if n != "n_averaged"})
    model.eval()
    z, gamma = torch.randn(2, 1, 16, 16), torch.tensor([-6.0, 2.0])
    with torch.no_grad():
        expected, found = model.network(z, gamma), network(z, gamma)
        assert expected.std() > 0.01, "a network that predicts nothing would pass any comparison"
        # bfloat16 keeps 8 bits of each weight.
        assert (found - expected).std() < 0.02 * expected.std()
        if kind == "prior":
            t = torch.linspace(0, 1, 9)
            assert torch.equal(schedule(t), model.schedule(t))
            assert not torch.allclose(schedule(t), build_model(config).schedule(t), atol=1e-3), "schedule was trained"
    assert (schedule.gamma_min, schedule.gamma_max) == ((-9.0, 4.0) if kind == "prior" else (-13.3, 5.0))


@pytest.mark.parametrize("name", ["linear", "cosine", "ddpm"])
def test_every_schedule_is_written_out_in_full(tmp_path: Path, name: str) -> None:
    config_path, checkpoint = run(tmp_path, schedule={"name": name}, phases=[{"steps": 1, "batch": 1, "crop": 16}])
    texts = {"description": DESCRIPTION, "model_card": "# Tiny", "licence": "CC0"}
    info = pack_from_checkpoint(checkpoint, read_config(config_path), tmp_path / "pack", **texts)  # type: ignore[arg-type]
    assert info.schedule == SCHEDULES[name]().to_dict()
    assert load_network(info)[1].to_dict() == info.schedule


def test_average_and_not_the_last_weights_are_taken(prior: tuple[Path, Path]) -> None:
    loaded = torch.load(prior[1], weights_only=True)
    name = "unet.conv_in.conv.weight"
    found = averaged_weights(prior[1])[name]
    assert torch.equal(found, loaded["ema"][f"module.network.{name}"])
    assert not torch.equal(found, loaded["model"][f"network.{name}"])


def test_command_writes_the_pack(prior: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "d.json").write_text(json.dumps({**DESCRIPTION, "name": "tiny-pack"}))
    (tmp_path / "card.md").write_text("# Tiny pack\n")
    (tmp_path / "LICENSE").write_text("CC0\n")
    texts = [
        f"--{n}={tmp_path / f}" for n, f in (("description", "d.json"), ("card", "card.md"), ("licence", "LICENSE"))
    ]
    main([str(prior[0]), str(prior[1]), str(tmp_path / "pack"), *texts])
    assert "tiny-pack 0.1" in capsys.readouterr().out
    assert (tmp_path / "pack" / "README.md").read_text() == "# Tiny pack\n"


def test_unfit_checkpoints_and_descriptions_are_refused(prior: tuple[Path, Path], tmp_path: Path) -> None:
    config = read_config(prior[0])

    def export(checkpoint: Path = prior[1], **changes: Any) -> None:
        texts = {"model_card": "# Tiny", "licence": "CC0"}
        pack_from_checkpoint(checkpoint, config, tmp_path / "p", description={**DESCRIPTION, **changes}, **texts)

    with pytest.raises(PackError, match=r"none\.ckpt cannot be read"):
        export(tmp_path / "none.ckpt")
    (tmp_path / "bad.ckpt").write_bytes(b"no checkpoint")
    with pytest.raises(PackError, match=r"bad\.ckpt cannot be read"):
        export(tmp_path / "bad.ckpt")
    torch.save({"ema": {"other": torch.zeros(1)}}, tmp_path / "other.ckpt")
    with pytest.raises(PackError, match="no averaged network"):
        export(tmp_path / "other.ckpt")
    torch.save({"ema": {"module.network.unet.x": torch.zeros(1)}}, tmp_path / "another.ckpt")
    with pytest.raises(PackError, match="no tensor"):
        export(tmp_path / "another.ckpt")
    with pytest.raises(PackError, match="sets network"):
        export(network={})
    with pytest.raises(PackError, match="quality"):
        export(quality=None)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["another.ckpt", "bad.ckpt", "other.ckpt"]
