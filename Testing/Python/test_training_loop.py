"""The training loop on a tiny archive: it learns, repeats itself, resumes exactly and names what goes wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from PIL import Image
from torch import Tensor, nn

from MRDiffusionLib.diffusion.schedule import LinearSchedule
from MRDiffusionLib.errors import InputError, SettingError, StorageError
from MRDiffusionLib.networks.unet import VDMUNet
from MRDiffusionLib.training import loop, slices_job
from MRDiffusionLib.training.batches import batch_times, prior_losses
from MRDiffusionLib.training.config import TrainingConfig, config_from, read_config
from MRDiffusionLib.training.loop import Diverged, Trainer, check_batches, seconds_left, train
from MRDiffusionLib.training.optimisation import moving_average
from MRDiffusionLib.training.regression import zero_filled
from MRDiffusionLib.training.share import Share
from MRDiffusionLib.training.slices_job import build_model, check_sizes
from MRDiffusionLib.training.validation import picture, validate
from MRDiffusionLib.training.vdm import from_levels

ROOT = Path(__file__).resolve().parents[2]
NETWORK = {"channels": [16, 32], "num_res_blocks": [1, 1], "norm_groups": 8, "head_channels": 16}
LEARNED = {"loss": "bound", "schedule": {"name": "learned", "width": 16}}
# Without Fourier features: of a zero-filled image, which has no grey levels, they are noise, and nothing is learnt.
PLAIN = {**NETWORK, "fourier_exponents": []}
REGRESSION = {"task": "regression", "measured": [[5, 5], [9, 9]], "network": PLAIN}
SPARED = {"phases": [{"steps": 6, "batch": 4, "crop": 8, "measured": {"share": 0.7}}]}
KINDS = {"linear, v": {}, "measured centres": SPARED, "learned, bound": LEARNED, "regression": REGRESSION}


@pytest.fixture(scope="session")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 slices of 16x16 pixels, 8 subjects: discs of random size and brightness, as smooth as anatomy."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:16, :16] - 7.5
    discs = [rng.uniform(80, 250) / (1 + np.exp(2 * (np.hypot(x, y) - rng.uniform(3, 7)))) for _ in range(48)]
    path = tmp_path_factory.mktemp("data") / "slices.npz"
    np.savez(path, images=np.array(discs).astype(np.uint8), subject=np.arange(48) // 6 + 1)
    return path


@pytest.fixture()
def make(slices: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A configuration of 6 steps in two phases, with changes. Pictures take longer than these runs: there are none."""
    monkeypatch.setattr(slices_job, "picture", lambda *_: None)

    def configuration(**changes: Any) -> TrainingConfig:
        values = {
            "name": "tiny",
            "data": str(slices),
            "train_subjects": [1, 6],
            "validation_subjects": [7, 8],
            "phases": [{"steps": 4, "batch": 4, "crop": 8}, {"steps": 2, "batch": 2, "crop": 16}],
            "network": NETWORK,
            "learning_rate": 0.002,
            "warmup_steps": 2,
            "precision": "32-true",
            "validation_slices": 8,
            **changes,
        }
        return config_from(values)

    return configuration


def run(config: TrainingConfig, folder: Path, **more: Any) -> tuple[dict[str, Any], list[str]]:
    """Train; the last checkpoint and the lines of progress."""
    lines: list[str] = []
    assert train(config, folder, accelerator="cpu", log=lines.append, **more) == folder
    return torch.load(folder / "last.ckpt", weights_only=True), lines


def trainer(config: TrainingConfig, folder: Path) -> Trainer:
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    return Trainer(config, folder, fabric, log=lambda line: None)


def tensors(value: Any, name: str = "") -> dict[str, Any]:
    """All leaves of a checkpoint."""
    if isinstance(value, (dict, list, tuple)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for key, part in items for k, v in tensors(part, f"{name}/{key}").items()}
    return {name: value}


def differing(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """Names of what is not equal to the last bit."""
    a, b = tensors(first), tensors(second)
    assert set(a) == set(b)
    return [k for k in a if not (torch.equal(a[k], b[k]) if isinstance(a[k], Tensor) else a[k] == b[k])]


# It learns.


@pytest.fixture(scope="session")
def trained(slices: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], TrainingConfig]:
    config = config_from(
        {
            "name": "tiny",
            "data": str(slices),
            "train_subjects": [1, 6],
            "validation_subjects": [7, 8],
            "phases": [{"steps": 60, "batch": 8, "crop": 16, "noise_levels": {"mean": 0.0, "std": 2.0}}],
            "network": NETWORK,
            "learning_rate": 0.004,
            "warmup_steps": 5,
            "ema_decay": 0.9,
            "precision": "32-true",
            "validation_slices": 8,
            "validate_every": 20,
            "checkpoint_every": 50,
            "picture_every": 30,
        }
    )
    folder = tmp_path_factory.mktemp("trained") / "new" / "folder"
    lines: list[str] = []
    train(config, folder, accelerator="cpu", log=lines.append)
    return folder, lines, config


def notes(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_the_loss_and_the_bound_fall(trained):
    folder, _, _ = trained
    losses = [note["loss"] for note in notes(folder) if "loss" in note]
    bounds = [note["validation"]["total"] for note in notes(folder) if "validation" in note]
    assert len(losses) == len(bounds) == 3
    assert losses[2] < losses[1] < losses[0] < 1.5
    assert bounds[2] < bounds[0] - 0.2


def test_progress_tells_loss_speed_and_time_left(trained):
    _, lines, _ = trained
    progress = [line for line in lines if "images/s" in line]
    assert [line.split()[1] for line in progress] == ["20/60", "40/60", "60/60"]
    assert all("loss 0." in line and "min left" in line for line in progress)
    assert sum("validation" in line and "total" in line for line in lines) == 3


def test_a_run_leaves_checkpoints_log_and_pictures(trained):
    folder, _, config = trained
    names = {path.name for path in folder.iterdir()}
    pictures = {"samples-000030.png", "samples-000060.png"}
    assert names == {"config.json", "last.ckpt", "best.ckpt", "log.jsonl", *pictures}
    assert read_config(folder / "config.json") == config
    shown = np.asarray(Image.open(folder / "samples-000060.png"))
    assert shown.shape == (16, 8 * 16) and len(np.unique(shown)) > 10
    last, best = (torch.load(folder / name, weights_only=True) for name in ("last.ckpt", "best.ckpt"))
    assert last["step"] == 60 == config.steps
    scores = {note["step"]: note["validation"]["total"] for note in notes(folder) if "validation" in note}
    assert best["best"] == last["best"] == min(scores.values()) == scores[best["step"]]


def test_the_averaged_weights_are_what_is_validated(trained):
    folder, _, config = trained
    best = torch.load(folder / "best.ckpt", weights_only=True)
    model = build_model(config)
    averaged = {k.removeprefix("module."): v for k, v in best["ema"].items() if k.startswith("module.")}
    model.load_state_dict(averaged)
    held_out = torch.from_numpy(np.load(config.data)["images"])[36:48, None]
    assert validate(model, held_out[:8], config)["total"] == pytest.approx(best["best"], rel=1e-5)
    model.load_state_dict(best["model"])
    assert validate(model, held_out[:8], config)["total"] != pytest.approx(best["best"], rel=1e-5)


def test_a_finished_run_stays_as_it_is(trained):
    folder, _, config = trained
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    lines: list[str] = []
    train(config, folder, accelerator="cpu", log=lines.append)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert lines == [f"resuming {folder} at step 60 of 60"]


def test_the_regression_learns(make, tmp_path):
    phases = [{"steps": 150, "batch": 8, "crop": 16}]
    speed = {"learning_rate": 0.001, "warmup_steps": 5, "ema_decay": 0.8}
    config = make(**{**REGRESSION, "measured": [[3, 3], [5, 5]]}, phases=phases, **speed)
    run(config, tmp_path)
    (scores,) = [note["validation"] for note in notes(tmp_path) if "validation" in note]
    assert set(scores) == {"3x3", "5x5", "total"}
    assert scores["total"] == pytest.approx((scores["3x3"] + scores["5x5"]) / 2)
    first = validate(build_model(config), held_out(config), config)
    assert scores["total"] < 0.8 * first["total"]


def test_the_regressions_picture_shows_zero_filled_restored_and_true_slices(make, tmp_path):
    config = make(**REGRESSION)
    picture(build_model(config), held_out(config), tmp_path / "picture.png", config)
    tiles = np.split(np.asarray(Image.open(tmp_path / "picture.png")), 9, axis=1)
    truth = held_out(config)[::2][:3, 0].numpy()
    for i in range(3):
        assert np.array_equal(tiles[6 + i], truth[i])
        assert np.array_equal(tiles[i], tiles[3 + i]) and not np.array_equal(tiles[i], truth[i])


def held_out(config: TrainingConfig) -> Tensor:
    return torch.from_numpy(np.load(config.data)["images"])[36:48, None][: config.validation_slices]


def test_the_untrained_regression_is_zero_filling(make):
    config = make(**REGRESSION)
    scores = validate(build_model(config), held_out(config), config)
    x = from_levels(held_out(config))
    for matrix in ((5, 5), (9, 9)):
        expected = (zero_filled(x, matrix) - x).abs().mean().item()
        assert scores[f"{matrix[0]}x{matrix[1]}"] == pytest.approx(expected, rel=1e-5)


def test_bf16_trains_too(make, tmp_path):
    checkpoint, _ = run(make(precision="bf16-mixed", phases=[{"steps": 2, "batch": 2, "crop": 8}]), tmp_path)
    assert all(value.dtype == torch.float32 for value in checkpoint["model"].values())
    assert np.isfinite(checkpoint["best"])


@pytest.mark.parametrize("kind", KINDS)
def test_bf16_rounds_nothing_before_the_network(make, tmp_path, monkeypatch, kind):
    """The smallest noise, 0.001, is below bfloat16's step of 0.004 near 1: the network must see what float32 gives."""
    seen: dict[str, list[Tensor]] = {"32-true": [], "bf16-mixed": []}
    real = loop.Trainer.train_step
    for precision, inputs in seen.items():

        def step(self: Trainer, inputs: list[Tensor] = inputs) -> None:
            def look(module: nn.Module, given: tuple[Tensor, ...]) -> None:
                inputs.extend(value for value in given if value is not None)

            with self.bare.network.register_forward_pre_hook(look):
                real(self)

        monkeypatch.setattr(loop.Trainer, "train_step", step)
        train(make(precision=precision, **KINDS[kind]), tmp_path / precision, accelerator="cpu", stop_after=1)
    assert len(seen["32-true"]) == 3
    for exact, half in zip(*seen.values()):
        assert exact.dtype == half.dtype == torch.float32 and torch.equal(exact, half)


# It repeats itself.


@pytest.mark.parametrize("kind", KINDS)
def test_stopped_and_resumed_equals_uninterrupted(make, tmp_path, kind):
    config = make(**KINDS[kind], validate_every=2)
    whole, _ = run(config, tmp_path / "whole")
    run(config, tmp_path / "parts", stop_after=1)
    run(config, tmp_path / "parts", stop_after=4)
    parts, lines = run(config, tmp_path / "parts")
    assert lines[0] == f"resuming {tmp_path / 'parts'} at step 5 of 6"
    assert whole["step"] == parts["step"] == 6
    assert differing(whole, parts) == []


def test_the_seed_decides_the_run(make, tmp_path):
    first, second, other = (
        run(make(seed=seed), tmp_path / str(i), stop_after=2)[0] for i, seed in enumerate((3, 3, 4))
    )
    assert differing(first, second) == []
    assert "/model/network.unet.conv_in.conv.weight" in differing(first, other)


def test_the_global_random_state_does_not_matter(make, tmp_path):
    first, _ = run(make(), tmp_path / "a", stop_after=2)
    torch.manual_seed(99)
    np.random.seed(99)
    second, _ = run(make(), tmp_path / "b", stop_after=2)
    assert differing(first, second) == []


def test_every_step_has_its_own_batch_and_its_phase(make):
    config, seen = make(), []

    class Look(nn.Module):
        def forward(self, images: Tensor, noise: Tensor, levels: Tensor, loss: str, position: Tensor) -> Tensor:
            seen.append((images, noise, levels))
            return levels

    images = torch.from_numpy(np.load(config.data)["images"])[:36, None]
    for step in range(6):
        prior_losses(Look(), LinearSchedule(), images, config, step, Share(), torch.device("cpu"))
    assert [tuple(batch.shape) for batch, _, _ in seen] == [(4, 1, 8, 8)] * 4 + [(2, 1, 16, 16)] * 2
    assert not torch.equal(seen[0][0], seen[1][0]) and not torch.equal(seen[0][1], seen[1][1])
    assert all(levels.min() >= -13.3 and levels.max() <= 5 for _, _, levels in seen)


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_all_processes_together_cover_the_times(make, processes):
    config = make(phases=[{"steps": 3, "batch": 8, "crop": 8}])
    for step in range(3):
        parts = [batch_times(config, step, Share(rank, processes)) for rank in range(processes)]
        assert [len(part) for part in parts] == [8 // processes] * processes
        whole = torch.cat(parts)
        assert (whole.sort().values * 8).floor().long().tolist() == list(range(8))
        assert torch.equal(whole, batch_times(config, step, Share()))


# The averaged weights.


def test_the_average_is_exponential_with_a_growing_memory(make, tmp_path):
    one = trainer(make(ema_decay=0.4), tmp_path)
    name = "network.unet.conv_in.conv.weight"
    weights = []
    for _ in range(5):
        one.train_step()
        weights.append(one.bare.state_dict()[name].clone())
    expected = weights[0]
    for n, weight in enumerate(weights[1:], start=1):
        decay = min(0.4, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * weight
    found = one.average.module.state_dict()[name]
    torch.testing.assert_close(found, expected)
    assert not torch.equal(found, weights[-1])


def test_the_average_of_a_long_run_has_the_decay_asked_for():
    update = moving_average(0.99)
    assert update(torch.tensor(0.0), torch.tensor(1.0), 10_000).item() == pytest.approx(0.01)
    assert update(torch.tensor(0.0), torch.tensor(1.0), torch.tensor(1)).item() == pytest.approx(9 / 11)


# Checkpoints.


@pytest.mark.parametrize(
    "changes",
    [
        {"network": {**NETWORK, "channels": [16, 16]}},
        {"network": {**NETWORK, "fourier_exponents": [5, 6]}},
        {"prediction": "eps"},
        {"schedule": {"name": "linear", "gamma_min": -10.0}},
        {"schedule": {"name": "cosine"}},
        REGRESSION,
    ],
    ids=str,
)
def test_a_checkpoint_of_another_network_is_refused(make, tmp_path, changes):
    """Equal shapes do not make an equal network."""
    run(make(), tmp_path, stop_after=1)
    before = (tmp_path / "last.ckpt").read_bytes()
    with pytest.raises(SettingError, match="another network") as caught:
        run(make(**changes), tmp_path)
    assert "another folder" in caught.value.hint
    assert (tmp_path / "last.ckpt").read_bytes() == before


def test_a_checkpoint_from_before_descriptions_goes_on(make, tmp_path):
    checkpoint, _ = run(make(), tmp_path / "old", stop_after=2)
    older = {name: checkpoint[name] for name in ("model", "ema", "optimizer", "step", "best")}
    torch.save(older, tmp_path / "old" / "last.ckpt")
    resumed, _ = run(make(), tmp_path / "old")
    whole, _ = run(make(), tmp_path / "whole")
    assert [name for name in differing(resumed, whole) if name != "/mean_loss"] == []


def test_another_networks_shapes_are_refused_without_a_description(make, tmp_path):
    checkpoint, _ = run(make(), tmp_path, stop_after=1)
    del checkpoint["description"]
    torch.save(checkpoint, tmp_path / "last.ckpt")
    with pytest.raises(SettingError, match="another network"):
        run(make(network={**NETWORK, "channels": [16, 16]}), tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello", None], ids=["empty", "text", "cut short"])
def test_a_damaged_checkpoint_is_refused(make, tmp_path, content):
    run(make(), tmp_path, stop_after=1)
    path = tmp_path / "last.ckpt"
    path.write_bytes(path.read_bytes()[:5000] if content is None else content)
    with pytest.raises(InputError, match=r"last\.ckpt cannot be read"):
        run(make(), tmp_path)


def test_a_checkpoint_that_runs_code_is_refused(make, tmp_path):
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "touched",))

    torch.save({"model": Evil()}, tmp_path / "last.ckpt")
    with pytest.raises(InputError, match="cannot be read"):
        run(make(), tmp_path)
    assert not (tmp_path / "touched").exists()


def test_a_full_disk_leaves_the_older_checkpoint(make, tmp_path, monkeypatch):
    run(make(), tmp_path, stop_after=1)
    before = (tmp_path / "last.ckpt").read_bytes()

    def full(state: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file: no space left on device")

    monkeypatch.setattr(loop.torch, "save", full)
    with pytest.raises(StorageError, match=r"last\.ckpt cannot be written .*no space left"):
        run(make(), tmp_path, stop_after=1)
    assert (tmp_path / "last.ckpt").read_bytes() == before
    assert not list(tmp_path.glob("*.partial"))


def test_a_folder_that_cannot_be_made_is_named(make, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file/out cannot be made"):
        run(make(), tmp_path / "file" / "out")


# What goes wrong.


def test_divergence_is_said_and_harms_nothing(make, tmp_path):
    config = make(learning_rate=1e18, warmup_steps=0, checkpoint_every=1, phases=[{"steps": 9, "batch": 2, "crop": 8}])
    with pytest.raises(Diverged, match=r"step [1-8], .*Lower learning_rate \(1e\+18\)"):
        run(config, tmp_path)
    last = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert all(torch.isfinite(value).all() for value in last["model"].values())
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_before_the_weights_change(make, tmp_path, monkeypatch, bad):
    one = trainer(make(), tmp_path)
    one.train_step()
    before = {name: value.clone() for name, value in one.bare.state_dict().items()}
    usual = one._losses
    monkeypatch.setattr(one, "_losses", lambda: usual() * bad)
    with pytest.raises(Diverged, match=r"the loss is (nan|inf) at step 1"):
        one.train_step()
    assert one.step == 1
    assert all(torch.equal(value, before[name]) for name, value in one.bare.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"network": {**NETWORK, "depth": 3}}, "depth"),
        ({"network": {**NETWORK, "norm_groups": 7}}, "cannot be built"),
        ({"network": {**NETWORK, "gamma_min": 1.0}}, "gamma_min"),
        ({"schedule": {"name": "sine"}}, "sine"),
        ({"schedule": {}}, "schedule None"),
    ],
    ids=str,
)
def test_a_network_that_cannot_be_built_is_a_persons_error(make, changes, words):
    with pytest.raises(SettingError, match=words):
        build_model(make(**changes))


@pytest.mark.parametrize(
    ("changes", "image", "words"),
    [
        ({"phases": [{"steps": 1, "batch": 4, "crop": 10}]}, (16, 16), "crop = 10 .* multiple of 4, at most 16"),
        ({"phases": [{"steps": 1, "batch": 4, "crop": 20}]}, (16, 24), "crop = 20"),
        ({}, (16, 18), "16x18 pixels, not multiples of 4"),
        ({**REGRESSION, "measured": [[9, 17]]}, (16, 20), "measured = 9x17"),
    ],
    ids=str,
)
def test_sizes_that_do_not_go_together_are_refused(make, changes, image, words):
    config = make(**changes)
    with pytest.raises(SettingError, match=words):
        check_sizes(config, VDMUNet(**config.network), image)


def test_a_batch_that_the_processes_cannot_share_is_refused(make):
    with pytest.raises(SettingError, match="batch = 4 cannot be shared among 3 processes"):
        check_batches(make(), Share(0, 3))


def test_the_sizes_are_checked_before_anything_is_written(make, tmp_path):
    with pytest.raises(SettingError, match="crop = 12"):
        run(make(phases=[{"steps": 1, "batch": 1, "crop": 12}], network={**NETWORK, "fold": 4}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_missing_data_is_named(make, tmp_path):
    with pytest.raises(InputError, match=r"none\.npz does not exist"):
        run(replace(make(), data=str(tmp_path / "none.npz")), tmp_path)


def test_the_time_left_counts_pixels(make):
    """Phase 1: 4 steps of 4 x 8 x 8 = 256 pixels; phase 2: 2 steps of 2 x 16 x 16 = 512."""
    config = make()
    assert seconds_left(config, 0, 2, 6, 10.0) == pytest.approx(10.0 * (2 * 256 + 2 * 512) / (2 * 256))
    assert seconds_left(config, 3, 5, 6, 6.0) == pytest.approx(6.0 * 512 / (256 + 512))
    assert seconds_left(config, 0, 6, 6, 6.0) == 0


# Two processes.

TWO = """
import sys
from pathlib import Path

import torch
from lightning_fabric import Fabric

from MRDiffusionLib.training.config import read_config
from MRDiffusionLib.training.loop import Diverged, Trainer

torch.set_num_threads(1)
config, folder = read_config(sys.argv[1]), Path(sys.argv[2])
fabric = Fabric(accelerator="cpu", devices=2, precision=config.precision)
fabric.launch()
trainer = Trainer(config, folder, fabric, log=lambda line: None)
seen = []
trainer.bare.register_forward_pre_hook(lambda module, inputs: seen.append((inputs[0].clone(), inputs[2].clone())))
trainer.run(3)
report = {"state": [trainer.bare.state_dict(), trainer.average.state_dict(), trainer.mean_loss]}
report["images"], report["times"] = [list(values) for values in zip(*seen)]
# One process's loss becomes NaN: all have to stop, or the others would wait for ever.
usual = trainer._losses
trainer._losses = lambda: usual() * (float("nan") if fabric.global_rank == 1 else 1.0)
try:
    trainer.train_step()
except Diverged:
    report["diverged"] = True
torch.save(report, folder / f"rank{fabric.global_rank}.pt")
"""


def test_two_processes_train_one_network(make, slices, tmp_path):
    """Lightning Fabric starts the second process itself; a learned schedule, whose gradient takes its own way."""
    script, path, folder = tmp_path / "two.py", tmp_path / "config.json", tmp_path / "out"
    script.write_text(TWO)
    values = {
        "name": "two",
        "data": str(slices),
        "train_subjects": [1, 6],
        "validation_subjects": [7, 8],
        "phases": [{"steps": 4, "batch": 8, "crop": 8}],
        "network": NETWORK,
        "warmup_steps": 0,
        "precision": "32-true",
        "checkpoint_every": 3,
        **LEARNED,
    }
    path.write_text(json.dumps(values))
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, script, path, folder], env=env, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))

    assert differing(first["state"], second["state"]) == []
    weights, start = first["state"][0], build_model(config_from(values)).state_dict()
    assert (weights["schedule.l3"] - start["schedule.l3"]).abs().max() > 1e-5
    for mine, others in zip(first["images"], second["images"]):
        assert mine.shape == others.shape == (4, 1, 8, 8) and not torch.equal(mine, others)
    for mine, others in zip(first["times"], second["times"]):
        assert (torch.cat([mine, others]).sort().values * 8).floor().long().tolist() == list(range(8))
    assert first["diverged"] and second["diverged"]
    saved = torch.load(folder / "last.ckpt", weights_only=True)
    assert saved["step"] == 3 and differing(saved["model"], weights) == []
