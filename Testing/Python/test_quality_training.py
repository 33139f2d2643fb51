"""Pairs of high and low quality, and what is trained on them: from clean slices to packs that run."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from MRDiffusionLib import tasks
from MRDiffusionLib.cli.main import main as command_line
from MRDiffusionLib.errors import InputError, PackError, SettingError
from MRDiffusionLib.imaging import Geometry, Volume, write_volume
from MRDiffusionLib.networks.enhancer import Enhancer
from MRDiffusionLib.packs import find_pack
from MRDiffusionLib.packs.weights import load_degrader, load_enhancer
from MRDiffusionLib.request import Request
from MRDiffusionLib.settings import DegradationSettings, EnhancementSettings
from MRDiffusionLib.training.config import QualityConfig, config_from, read_config
from MRDiffusionLib.training.enhancer_job import EnhancerJob
from MRDiffusionLib.training.export import pack_from_checkpoint
from MRDiffusionLib.training.jobs import make_job
from MRDiffusionLib.training.loop import train
from MRDiffusionLib.training.pairs import (
    ACQUIRED,
    UNIT,
    Pairs,
    from_levels,
    joined,
    read_pairs,
    simulate_pairs,
    to_levels,
    write_pairs,
)
from MRDiffusionLib.training.quality_data import draw_pairs, levels_by_kind
from MRDiffusionLib.training.share import Share

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "MRDiffusionLib" / "training" / "configs"
UNET = {"channels": [8, 16], "num_res_blocks": [1, 1], "head_channels": 8, "norm_groups": 4}
ENHANCER = {"iterations": 2, "unet": UNET, "estimator": [4, 8]}


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six subjects of three slices: bright discs in air."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:32, :32]
    images = [
        200 * (np.hypot(y - rng.uniform(12, 20), x - rng.uniform(12, 20)) < rng.uniform(7, 11)) for _ in range(18)
    ]
    path = tmp_path_factory.mktemp("slices") / "slices.npz"
    np.savez(path, images=np.array(images, np.uint8), subject=np.repeat(np.arange(1, 7), 3))
    return path


@pytest.fixture(scope="module")
def archive(slices: Path) -> Path:
    path = slices.with_name("pairs.npz")
    assert command_line(["prepare", "pairs", str(slices), str(path)]) == 0
    return path


@pytest.fixture
def make(archive: Path):
    def build(task: str, **changes: object) -> QualityConfig:
        values = {
            "name": "discs",
            "task": task,
            "data": str(archive),
            "train_subjects": [1, 4],
            "validation_subjects": [5, 6],
            "kinds": ["noise"] if task == "degrader" else ["noise", "blur"],
            "phases": [{"steps": 4, "batch": 4, "crop": 16}],
            "network": {"degrader": UNET, "enhancer": ENHANCER}[task],
            "precision": "32-true",
            "warmup_steps": 1,
            "validate_every": 4,
            "picture_every": 4,
            "checkpoint_every": 2,
            **changes,
        }
        config = config_from(values)
        assert isinstance(config, QualityConfig)
        return config

    return build


def run(config: QualityConfig, out: Path, **more: object) -> Path:
    return train(config, out, accelerator="cpu", log=lambda line: None, **more)  # type: ignore[arg-type]


# Pairs.


def test_pairs_are_the_slices_and_their_simulated_acquisitions(archive: Path, slices: Path):
    pairs, clean = read_pairs(archive), np.load(slices)["images"]
    assert len(pairs) == 36 and set(pairs.source) == {ACQUIRED} and pairs.aligned.all()
    assert sorted(set(pairs.kind)) == ["blur", "noise"] and 0 <= pairs.level.min() < pairs.level.max() <= 1
    own = pairs.chosen(pairs.kind == "blur")
    assert np.array_equal(own.high, np.round(clean / 255 * UNIT))
    errors = (from_levels(own.low) - from_levels(own.high)).square().mean((1, 2))
    assert torch.corrcoef(torch.stack([errors, torch.from_numpy(own.level)]))[0, 1] > 0.7


def test_a_pair_does_not_depend_on_the_others(slices: Path):
    with np.load(slices) as archive:
        images, subject = archive["images"], archive["subject"]
    whole, part = simulate_pairs(images, subject, seed=3), simulate_pairs(images[:2], subject[:2], seed=3)
    assert np.array_equal(whole.chosen(whole.kind == "noise").low[:2], part.chosen(part.kind == "noise").low)


def test_misaligned_pairs_are_told_and_moved(slices: Path):
    with np.load(slices) as archive:
        images, subject = archive["images"], archive["subject"]
    straight, moved = (simulate_pairs(images, subject, ("blur",), seed=1, misaligned=share) for share in (0.0, 0.5))
    assert 0 < moved.aligned.sum() < len(moved) and straight.aligned.all()
    same = (straight.low == moved.low).all((1, 2))
    assert np.array_equal(same, moved.aligned)


def test_grey_levels_survive_the_archive(archive: Path, tmp_path: Path):
    pairs = read_pairs(archive)
    assert np.array_equal(to_levels((from_levels(pairs.low) + 1) / 2), pairs.low)
    write_pairs(joined([pairs, pairs]), tmp_path / "twice.npz")
    assert len(read_pairs(tmp_path / "twice.npz")) == 2 * len(pairs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"low": np.zeros((36, 8, 8), np.uint16)}, "holds high"),
        ({"level": np.zeros(3, np.float32)}, "holds high"),
        ({"low": np.zeros((36, 32, 32), np.float32)}, "holds high"),
        ({"kind": np.full(36, "fog")}, "36 pairs of fog"),
    ],
)
def test_other_archives_are_refused(archive: Path, tmp_path: Path, change: dict[str, np.ndarray], message: str):
    values = asdict(read_pairs(archive)) | change
    np.savez(tmp_path / "wrong.npz", **values)
    with pytest.raises(InputError, match=message):
        read_pairs(tmp_path / "wrong.npz")


def test_subjects_that_are_not_there_are_named(archive: Path):
    with pytest.raises(InputError, match="no pair of subjects 40 to 41, blur"):
        read_pairs(archive).of((40, 41), ("blur",))


# Batches.


def test_crops_of_both_images_are_of_one_place(archive: Path):
    pairs = read_pairs(archive)
    same = Pairs(**(asdict(pairs) | {"low": pairs.high}))
    batch = draw_pairs(same, 32, 16, torch.Generator().manual_seed(0))
    assert torch.equal(batch.high, batch.low)
    assert batch.high.shape == (32, 1, 16, 16) and batch.position.shape == (32, 2, 16, 16)
    # Mirrored or not: coordinates of columns rise from left to right.
    assert torch.allclose(batch.position[:, 1].diff(dim=-1), torch.tensor(2 / 32), atol=1e-6)


def test_a_gain_keeps_air_dark(archive: Path):
    pairs = read_pairs(archive).of((1, 6), ("blur",))
    batch = draw_pairs(pairs, 16, 32, torch.Generator().manual_seed(0), gain=(0.5, 0.5))
    assert batch.high.min() == -1 and batch.high.max() == pytest.approx(200 / 255 - 1, abs=1e-3)


def test_levels_stand_at_their_kind():
    levels = levels_by_kind(torch.tensor([0.2, 0.7]), np.array(["blur", "noise"]), ("noise", "blur"))
    assert levels.tolist() == [[0, pytest.approx(0.2)], [pytest.approx(0.7), 0]]


# Configurations.


@pytest.mark.parametrize("name", ["brain-degrade-noise", "brain-degrade-blur", "brain-enhance"])
def test_shipped_configurations_are_in_order(name: str):
    config = read_config(CONFIGS / f"{name}.json")
    assert isinstance(config, QualityConfig) and config.name == name
    assert config.train_subjects == (1, 46) and config.validation_subjects == (47, 52)


@pytest.mark.parametrize(
    ("task", "change", "message"),
    [
        ("enhancer", {"kinds": []}, "kinds"),
        ("enhancer", {"kinds": ["noise", "noise"]}, "kinds"),
        ("enhancer", {"kinds": ["fog"]}, "kinds"),
        ("enhancer", {"distillation": 1.5}, "distillation"),
        ("enhancer", {"teachers": {"noise": "brain-enhance"}}, "no checkpoint"),
        ("enhancer", {"teachers": {"noise": 3}}, "teachers"),
        ("enhancer", {"train_subjects": [1, 5]}, "overlap"),
        ("degrader", {"kinds": ["noise", "blur"]}, "kinds"),
        ("degrader", {"schedule": {"name": "learned"}}, "learned"),
    ],
)
def test_other_settings_are_refused(make, task: str, change: dict[str, object], message: str):
    with pytest.raises(SettingError, match=message):
        make(task, **change)


@pytest.mark.parametrize(("task", "crop"), [("degrader", 18), ("enhancer", 18), ("enhancer", 64)])
def test_crops_that_do_not_fit_are_refused(make, task: str, crop: int):
    with pytest.raises(SettingError, match=f"crop = {crop}"):
        make_job(make(task, phases=[{"steps": 1, "batch": 1, "crop": crop}]))


# From archive to pack.

DESCRIPTION = {
    "version": "1",
    "title": "discs",
    "roles": ["image"],
    "matrix": [32, 32],
    "pixel_size_mm": [1.0, 1.0],
    "normalisation": {"percentile": 99.5, "value": 0.8},
    "domain": {"plane": "axial"},
    "training_data": "discs",
    "licence": "CC0-1.0",
    "quality": {},
    "intended_use": "tests",
    "limits": [],
}


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """Two slices of 27x30 pixels, of no multiple of anything."""
    y, x = np.mgrid[:27, :30]
    disc = 150.0 * (np.hypot(y - 13, x - 15) < 9)
    path = tmp_path / "disc.nii.gz"
    straight = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    geometry = Geometry((30, 27, 2), (1.0, 1.0, 5.0), (0.0, 0.0, 0.0), straight)
    write_volume(Volume(np.stack([disc, disc]).astype(np.float32), geometry), path)
    return path


def export(config: QualityConfig, folder: Path, out: Path) -> Path:
    return pack_from_checkpoint(
        folder / "best.ckpt", config, out, description=DESCRIPTION, model_card="card", licence="licence"
    ).folder


@pytest.mark.parametrize("task", ["degrader", "enhancer"])
def test_training_in_bfloat16(make, tmp_path: Path, task: str):
    """The default; CPUs have operations of their own for it."""
    out = run(make(task, precision="bf16-mixed"), tmp_path / "run")
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    totals = [line["validation"]["total"] for line in lines if "validation" in line]
    assert totals and np.isfinite(totals).all() and (out / "best.ckpt").exists()


@pytest.mark.parametrize("kind", ["noise", "blur"])
def test_a_degrader_is_trained_exported_and_run(make, tmp_path: Path, volume: Path, kind: str):
    config = make("degrader", kinds=[kind])
    folder = run(config, tmp_path / "run")
    pack = export(config, folder, tmp_path / "pack")
    trained = torch.load(folder / "best.ckpt", weights_only=True)["ema"]
    network, _ = load_degrader(tasks.models.find_pack(str(pack)))
    for name, value in network.state_dict().items():
        same = torch.allclose(value, trained[f"module.{name}"], rtol=1e-2, atol=1e-2)
        assert same or (kind == "noise" and name in ("biases", "deviations")), f"{name}: that of noise is corrected"
    assert (network.deviations[0] < network.deviations[-1]).all(), "more at higher levels"
    settings = DegradationSettings(kind=kind, level=0.5, steps=2)
    result = tasks.run(Request("degradation", str(pack), {"image": str(volume)}, settings))
    assert result.volumes["result"].array.shape == (2, 27, 30) and np.isfinite(result.volumes["result"].array).all()


def test_an_enhancer_is_trained_exported_and_run(make, tmp_path: Path, volume: Path):
    config = make("enhancer")
    pack = export(config, run(config, tmp_path / "run"), tmp_path / "pack")
    network, _ = load_enhancer(tasks.models.find_pack(str(pack)))
    assert network.kinds == ("noise", "blur")
    out = tmp_path / "out.nii.gz"
    code = command_line(["enhance", str(volume), str(out), "--kind", "blur", "--level", "auto", "--pack", str(pack)])
    assert code == 0 and out.exists()


@pytest.mark.parametrize("task", ["degrader", "enhancer"])
def test_a_run_that_was_stopped_goes_on_bit_by_bit(make, tmp_path: Path, task: str):
    config = make(task)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(config, whole)
    run(config, parts, stop_after=2)
    run(config, parts)
    one, other = (torch.load(folder / "last.ckpt", weights_only=True)["ema"] for folder in (whole, parts))
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def test_a_run_begins_with_another_ones_weights(make, tmp_path: Path):
    first = run(make("enhancer"), tmp_path / "first")
    job = make_job(make("enhancer", start=str(first / "best.ckpt")))
    assert torch.equal(job.model.step, torch.load(first / "best.ckpt", weights_only=True)["ema"]["module.step"])


def test_an_enhancer_begins_with_a_packs_weights(make, tiny_enhancer_pack: Path):
    job = make_job(make("enhancer", start=str(tiny_enhancer_pack)))
    given, _ = load_enhancer(find_pack(str(tiny_enhancer_pack)))
    weights = given.state_dict()
    assert weights and all(torch.equal(value, weights[name]) for name, value in job.model.state_dict().items())
    with pytest.raises(SettingError, match=r"\['blur', 'noise'\].*tiny-enhancer"):
        make_job(make("enhancer", start=str(tiny_enhancer_pack), kinds=["blur", "noise"]))
    with pytest.raises(SettingError, match="tiny-enhancer is of another network"):
        make_job(make("enhancer", start=str(tiny_enhancer_pack), network={**ENHANCER, "iterations": 3}))


def test_a_degrader_begins_with_a_packs_weights_and_what_it_measured_itself(make, tiny_degrader_pack: Path):
    network = load_degrader(find_pack(str(tiny_degrader_pack)))[0]
    own = make_job(make("degrader", network={**UNET, "fold": 4})).model.state_dict()
    job = make_job(make("degrader", network={**UNET, "fold": 4}, start=str(tiny_degrader_pack)))
    for name, value in job.model.state_dict().items():
        measured = name in ("deviations", "biases")
        assert torch.equal(value, own[name] if measured else network.state_dict()[name]), name
        assert not measured or not torch.equal(own[name], network.state_dict()[name]), name
    with pytest.raises(PackError, match="enhancement"):
        make_job(make("degrader", start="brain-enhance"))


def test_misaligned_pairs_learn_from_the_teacher_alone(make, archive: Path, tmp_path: Path):
    """With k = 1 for them the high-quality image, which lies elsewhere, has no weight."""
    pairs = read_pairs(archive)
    teacher = run(make("enhancer"), tmp_path / "teacher") / "best.ckpt"
    losses = []
    for offset in (0, 1000):
        path = tmp_path / f"misaligned-{offset}.npz"
        write_pairs(replace(pairs, high=pairs.high + np.uint16(offset), aligned=np.zeros(len(pairs), bool)), path)
        teachers = {"noise": str(teacher), "blur": str(teacher)}
        job = make_job(make("enhancer", data=str(path), teachers=teachers, distillation=0.3, seed=1))
        assert isinstance(job, EnhancerJob)
        job.model.estimator.requires_grad_(False)
        made, *_ = job.losses(_WithoutLevels(job.model), 0, Share(), torch.device("cpu"))
        losses.append(float(made.detach()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5) and losses[0] > 0


class _WithoutLevels(torch.nn.Module):
    """An enhancer whose estimated levels are right, so that the loss is the images'."""

    def __init__(self, model: Enhancer) -> None:
        super().__init__()
        self.model = model

    def forward(self, low: torch.Tensor, levels: torch.Tensor, position: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.model.restore(low, levels, position), levels


def test_a_teacher_of_another_kind_is_refused(make, tmp_path: Path):
    teacher = run(make("enhancer", kinds=["noise"]), tmp_path / "teacher") / "best.ckpt"
    with pytest.raises(SettingError, match="teacher for blur restores noise"):
        make_job(make("enhancer", teachers={"blur": str(teacher)}))


def test_a_checkpoint_of_another_task_is_refused(make, tmp_path: Path):
    other = run(make("degrader"), tmp_path / "run")
    with pytest.raises(InputError, match="is of the task degrader"):
        make_job(make("enhancer", teachers={"noise": str(other / "best.ckpt")}))


def test_enhancement_settings_know_their_task(volume: Path, tmp_path: Path):
    with pytest.raises(SettingError, match="not those of task degradation"):
        Request("degradation", "pack", {"image": str(volume)}, EnhancementSettings())
