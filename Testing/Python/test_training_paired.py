"""Training on several sequences: what a batch is, the heatmap loss, and the three tasks from archive to pack."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from MRDiffusionLib import tasks
from MRDiffusionLib.cli.main import main as command_line
from MRDiffusionLib.errors import InputError, PackError, SettingError
from MRDiffusionLib.imaging import Geometry, Volume, write_volume
from MRDiffusionLib.networks.autoencoder import Autoencoder
from MRDiffusionLib.networks.conditional import ConditionalUNet
from MRDiffusionLib.packs import read_info
from MRDiffusionLib.packs.weights import load_cmrdiff
from MRDiffusionLib.request import Request
from MRDiffusionLib.settings import SynthesisSettings
from MRDiffusionLib.training.config import Augmentation, Heatmap, PairedConfig, config_from, read_config
from MRDiffusionLib.training.export import pack_from_checkpoint
from MRDiffusionLib.training.heatmap import heat, weighted_error
from MRDiffusionLib.training.jobs import make_job
from MRDiffusionLib.training.loop import train
from MRDiffusionLib.training.paired import HEART, WHOLE, Paired, write_paired
from MRDiffusionLib.training.paired_slices import Slices, augmented, drawn_roles, load_split, recontrasted
from MRDiffusionLib.training.share import Share

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "MRDiffusionLib" / "training" / "configs"
UNET = {"channels": [8, 16], "num_res_blocks": [1, 1], "head_channels": 8, "norm_groups": 4}
AUTOENCODER = {"channels": [8, 8], "latent_channels": 2, "num_res_blocks": 1, "norm_groups": 4}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight patients of four slices: a disc whose brightness in one sequence follows from that in the others."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:32, :32]
    images, labels = [], []
    for _ in range(32):
        disc = np.hypot(y - rng.uniform(12, 20), x - rng.uniform(12, 20)) < rng.uniform(5, 9)
        a, b = rng.uniform(60, 220, 2)
        images.append([disc * a, disc * b, disc * (a + b) / 2])
        labels.append(disc * 200)
    path = tmp_path_factory.mktemp("paired") / "discs.npz"
    names = np.repeat([f"myops_training_{n}" for n in range(101, 109)], 4)
    paired = Paired(
        np.array(images, np.uint8), np.array(labels, np.uint16), names, names, ("bSSFP", "T2", "LGE"), 1.4, WHOLE
    )
    write_paired(paired, path)
    return path


@pytest.fixture
def make(archive: Path):
    def build(task: str, **changes: object) -> PairedConfig:
        values = {
            "name": "discs",
            "task": task,
            "data": str(archive),
            "train_patients": ["myops_training_*"],
            "validation_patients": ["myops_training_10[78]"],
            "phases": [{"steps": 4, "batch": 4, "crop": 16 if task == "autoencoder" else 32}],
            "network": AUTOENCODER if task == "autoencoder" else UNET,
            "precision": "32-true",
            "warmup_steps": 1,
            "validate_every": 4,
            "picture_every": 4,
            "checkpoint_every": 2,
            "copies": 2,
            **changes,
        }
        config = config_from(values)
        assert isinstance(config, PairedConfig)
        return config

    return build


def run(config: PairedConfig, out: Path, **more: object) -> Path:
    return train(config, out, accelerator="cpu", log=lambda line: None, **more)  # type: ignore[arg-type]


@pytest.fixture
def autoencoder(make, tmp_path: Path) -> str:
    return str(run(make("autoencoder"), tmp_path / "autoencoder") / "best.ckpt")


# What a batch is.


def test_a_patient_that_validates_does_not_train(make):
    training, validation, sequences = load_split(make("autoencoder"))
    assert len(training) == 24 and len(validation) == 8 and sequences == ("bSSFP", "T2", "LGE")


def test_patterns_that_match_nobody_are_an_error(make):
    with pytest.raises(InputError, match="validation_patients matches no patient"):
        load_split(make("autoencoder", validation_patients=["nobody"]))


def test_contrast_changes_grey_levels_alone():
    images = torch.linspace(-1, 1, 41).expand(5, 3, 1, 41)
    changed = recontrasted(images, 0.5, torch.Generator().manual_seed(0))
    assert torch.equal(changed[..., [0, -1]], images[..., [0, -1]])  # air and white
    assert (changed.diff(dim=-1) > 0).all()  # what is brighter stays brighter
    exponents = (((changed + 1) / 2).log() / ((images + 1) / 2).log())[..., 20]
    assert exponents.min() > 1 / 1.5 and exponents.max() < 1.5 and exponents.flatten().unique().numel() == 15
    assert recontrasted(images, 0.0, torch.Generator()) is images


def test_the_wanted_image_keeps_its_contrast(make):
    """Whatever the network is shown, its errors are against the truth: alike where it sees nothing."""
    losses = []
    for contrast in (0.0, 5.0):
        config = make("translation", augmentation={"contrast": contrast}, drop=[0.0, 1.0])
        losses.append(make_job(config).losses(make_job(config).model, 0, Share(), torch.device("cpu")))
    assert torch.equal(*losses)


def some(count: int = 3) -> Slices:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, 3, 24, 32), generator=generator, dtype=torch.uint8)
    return Slices(images, images[:, 0] > 200)


def test_without_changes_a_slice_stays_as_it_is():
    slices = some()
    images, region = augmented(slices, Augmentation(0, 0, 0), torch.Generator())
    assert torch.allclose(images, slices.images.float() / 127.5 - 1, atol=1e-4) and torch.equal(region, slices.region)


def test_all_sequences_and_the_region_change_alike():
    slices = some(8)
    same = Slices(slices.images[:, :1].expand(-1, 3, -1, -1), slices.images[:, 0] > 127)
    images, region = augmented(same, Augmentation(20, 0.1, 3, True), torch.Generator().manual_seed(1))
    assert torch.equal(images[:, 0], images[:, 2])
    # The region is the bright part; both were sampled at the same places.
    inside, outside = images[:, 0][region].mean(), images[:, 0][~region].mean()
    assert inside > 0.2 and outside < -0.2


def test_a_shift_moves_by_pixels_on_images_that_are_not_square():
    dot = torch.zeros(1, 1, 24, 32, dtype=torch.uint8)
    dot[0, 0, 12, 16] = 255
    generator = torch.Generator().manual_seed(3)
    u = torch.rand((5, 1), generator=torch.Generator().manual_seed(3)) * 2 - 1
    images, _ = augmented(Slices(dot, dot[:, 0] > 0), Augmentation(0, 0, 8), generator)
    weight = (images[0, 0] + 1).clamp(min=0) * (images[0, 0] > -0.9)
    centre = [(weight.sum(1 - axis) * torch.arange(weight.shape[axis])).sum() / weight.sum() for axis in (0, 1)]
    assert float(centre[0]) == pytest.approx(12 - 8 * float(u[3]), abs=0.2)
    assert float(centre[1]) == pytest.approx(16 - 8 * float(u[2]), abs=0.2)


def test_conditions_are_dropped_as_often_as_asked_and_the_target_is_never_given():
    target, given = drawn_roles(20_000, 3, (0.1, 0.05), torch.Generator().manual_seed(0))
    assert not given[torch.arange(20_000), target].any()
    counts = given.sum(1)
    assert (counts == 0).float().mean() == pytest.approx(0.05 + 0.95 * 0.01, abs=0.005)
    assert (counts == 1).float().mean() == pytest.approx(0.95 * 0.18, abs=0.01)
    assert torch.bincount(target).float() / 20_000 == pytest.approx([1 / 3] * 3, abs=0.02)


# The heatmap loss.


def test_heat_is_the_region_averaged_and_blurred():
    region = torch.zeros(1, 32, 32, dtype=torch.bool)
    region[:, 8:24, 8:24] = True
    sharp = heat(region, 4, 0.0)
    assert sharp.shape == (1, 8, 8) and sharp.sum() == 16 and sharp[0, 3, 3] == 1 and sharp[0, 0, 0] == 0
    soft = heat(region, 4, 1.0)
    assert 0 < soft[0, 1, 4] < 1 and soft.max() <= 1 + 1e-6
    assert soft.sum() == pytest.approx(16, rel=0.01)


def test_a_constant_error_is_itself_whatever_the_weights():
    h = torch.rand(2, 8, 8)
    for settings in (None, Heatmap(), Heatmap(factor=9, poor=4)):
        assert torch.allclose(weighted_error(torch.full((2, 4, 8, 8), 0.3), h, settings), torch.tensor(0.3))


def test_errors_in_the_region_count_more_and_more_where_it_performs_poorly():
    h = torch.zeros(1, 8, 8)
    h[:, 2:6, 2:6] = 1
    inside, outside = (torch.where(m[:, None], 1.0, 0.1) for m in (h > 0, h == 0))
    plain = [float(weighted_error(e, h, Heatmap(factor=3, poor=0))) for e in (inside, outside)]
    assert plain[0] == pytest.approx((16 * 4 + 48 * 0.1) / 112) and plain[1] == pytest.approx((16 * 4 * 0.1 + 48) / 112)
    assert float(weighted_error(inside, h, Heatmap(factor=3, poor=2))) > plain[0]


def test_the_factor_for_poor_regions_has_no_gradient_of_its_own():
    error = torch.rand(1, 2, 8, 8, requires_grad=True)
    h = torch.ones(1, 8, 8)
    weighted_error(error, h, Heatmap(factor=3, poor=5)).sum().backward()
    # d/d error of sum(W e)/sum(W) with W constant is positive everywhere.
    assert (error.grad > 0).all()


# The networks.


@pytest.mark.parametrize("fold", [1, 2])
def test_what_is_not_given_does_not_matter(fold):
    torch.manual_seed(0)
    network = ConditionalUNet(3, 2, (8, 16), (1, 1), fold, 8, 8, 4)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    z, gamma, target = torch.randn(2, 2, 8, 8), torch.zeros(2), torch.tensor([2, 2])
    present = torch.tensor([[True, False, False], [True, True, False]])
    conditions, tokens = torch.randn(2, 3, 2, 8, 8), torch.randn(2, 3, 4, 8)
    first = network(z, gamma, conditions, present, target, tokens)
    conditions[0, 1:], tokens[0, 1:], conditions[:, 2], tokens[:, 2] = torch.nan, torch.nan, torch.inf, torch.inf
    assert torch.equal(first, network(z, gamma, conditions, present, target, tokens))
    conditions[1, 1] += 1
    assert not torch.equal(first[1], network(z, gamma, conditions, present, target, tokens)[1])
    assert not torch.allclose(first, network(z, gamma, conditions, present, torch.tensor([1, 1]), tokens))


def test_scaled_latents_have_mean_zero_and_deviation_one_and_decode_as_before():
    torch.manual_seed(0)
    autoencoder = Autoencoder(**AUTOENCODER).eval()
    images = torch.randn(6, 1, 32, 32)
    with torch.no_grad():
        before = autoencoder.decode(autoencoder.encode(images))
        autoencoder.set_scale(autoencoder.kl.encode(images)[0])
        latents = autoencoder.encode(images)
        assert latents.mean((0, 2, 3)).abs().max() < 1e-4 and (latents.std((0, 2, 3)) - 1).abs().max() < 1e-3
        assert torch.allclose(autoencoder.decode(latents), before, atol=1e-4)


# The tasks.


def test_each_task_trains_validates_and_draws(make, autoencoder, tmp_path):
    more = {"autoencoder": autoencoder}
    configs = {
        "plain": make("synthesis", **more),
        "full": make("synthesis", features={"channels": 8}, heatmap={}, **more),
        "regression": make("translation"),
        "adversarial": make("translation", adversarial=0.01),
    }
    for name, config in configs.items():
        folder = run(config, tmp_path / name)
        assert (folder / "best.ckpt").exists() and (folder / "samples-000004.png").exists()
        validations = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        scores = [entry["validation"] for entry in validations if "validation" in entry]
        assert scores and {"bSSFP", "T2", "LGE", "total"} <= set(scores[-1])


@pytest.mark.parametrize("task", ["autoencoder", "synthesis", "translation"])
def test_a_run_that_is_stopped_goes_on_as_if_it_was_not(make, autoencoder, tmp_path, task):
    config = make(task, **({"autoencoder": autoencoder, "features": {"channels": 8}} if task == "synthesis" else {}))
    whole = run(config, tmp_path / "whole")
    run(config, tmp_path / "parts", stop_after=2)
    parts = run(config, tmp_path / "parts")
    one, two = (torch.load(folder / "last.ckpt", weights_only=True)["ema"] for folder in (whole, parts))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("task", ["synthesis", "translation"])
def test_two_processes_share_a_run(make, autoencoder, tmp_path, task):
    """Lightning Fabric starts the second one itself; it would stop at weights that get no gradient."""
    own = {"synthesis": {"autoencoder": autoencoder, "features": {"channels": 8}}, "translation": {"adversarial": 0.1}}
    path, folder = tmp_path / "two.json", tmp_path / "two"
    path.write_text(json.dumps(asdict(make(task, **own[task]))))
    command = [sys.executable, "-m", "MRDiffusionLib", "train", path, "--out", folder]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--accelerator", "cpu", "--devices", "2"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert torch.load(folder / "last.ckpt", weights_only=True)["step"] == 4
    assert done.stdout.count("step 4/4") == 1  # one of them reports


def test_the_discriminator_learns_and_leaves_the_network_alone(make):
    """One backward pass for both: their gradients must not mix."""
    job = make_job(make("translation", adversarial=0.5))
    model = job.model
    job.losses(model, 0, Share(), torch.device("cpu")).mean().backward()
    of_discriminator = [p.grad.clone() for p in model.discriminator.parameters() if p.grad is not None]  # type: ignore[union-attr]
    assert any(gradient.abs().max() > 0 for gradient in of_discriminator)
    model.zero_grad()
    model.adversarial = 1e-9  # the discriminator stays, and the network no longer feels it
    job.losses(model, 0, Share(), torch.device("cpu")).mean().backward()
    again = [p.grad for p in model.discriminator.parameters() if p.grad is not None]  # type: ignore[union-attr]
    assert all(torch.allclose(a, b) for a, b in zip(of_discriminator, again, strict=True))


def test_three_runs_make_a_pack_that_synthesises(make, autoencoder, tmp_path):
    config = make("synthesis", autoencoder=autoencoder, features={"channels": 8}, heatmap={})
    own = run(config, tmp_path / "own") / "best.ckpt"
    baseline = run(make("translation"), tmp_path / "baseline") / "best.ckpt"
    described = {
        "version": "0",
        "title": "discs",
        "roles": ["bSSFP", "T2", "LGE"],
        "matrix": [32, 32],
        "pixel_size_mm": [1.4, 1.4],
        "domain": {"plane": "any", "median": {}},
        "training_data": "discs",
        "licence": "Apache-2.0",
        "quality": {},
        "intended_use": "tests",
        "limits": [],
    }
    texts = {"description": described, "model_card": "card", "licence": "licence"}
    info = pack_from_checkpoint(own, config, tmp_path / "pack", regression=baseline, **texts)
    assert info.task == "synthesis" and info.multiple == 4
    rng = np.random.default_rng(0)
    for role in ("bSSFP", "T2"):
        volume = Volume(
            rng.uniform(1, 99, (2, 32, 32)).astype(np.float32),
            Geometry((32, 32, 2), (1.4, 1.4, 8.0), (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)),
        )
        write_volume(volume, tmp_path / f"{role}.nii.gz")
    inputs = {role: str(tmp_path / f"{role}.nii.gz") for role in ("bSSFP", "T2")}
    settings = SynthesisSettings(target="LGE", steps=2, samples=1)
    assert np.isfinite(
        tasks.run(Request("synthesis", str(tmp_path / "pack"), inputs, settings)).volumes["result"].array
    ).all()
    # The latents' scale is that of the training, not 0 and 1.
    network, _ = load_cmrdiff(info)
    assert (network.autoencoder.mean != 0).all() and (network.autoencoder.std != 1).all()
    with pytest.raises(PackError, match="of the task translation"):
        pack_from_checkpoint(baseline, config, tmp_path / "other", **texts)
    alone = pack_from_checkpoint(own, config, tmp_path / "alone", **texts)
    with pytest.raises(SettingError, match="no regression to start from"):
        tasks.run(Request("synthesis", str(alone.folder), inputs, replace(settings, start="regression")))
    with pytest.raises(PackError, match="pack discs has no one-pass regression"):
        pack_from_checkpoint(own, config, tmp_path / "other", regression=str(alone.folder), **texts)
    with pytest.raises(PackError, match="of bSSFP, T2, LGE"):
        others = {**texts, "description": {**described, "roles": ["T2", "bSSFP", "LGE"]}}
        pack_from_checkpoint(own, config, tmp_path / "other", regression=str(info.folder), **others)
    # The baseline of a pack serves as well as the checkpoint that it was made of.
    from_pack = pack_from_checkpoint(own, config, tmp_path / "from-pack", regression=str(info.folder), **texts)
    first, second = (load_cmrdiff(each)[0].state_dict() for each in (info, from_pack))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"task": "synthesis"}, "autoencoder is missing"),
        ({"task": "translation", "adversarial": -1}, "adversarial = -1"),
        ({"task": "translation", "drop": [0.1]}, "two probabilities"),
        ({"task": "translation", "augmentation": {"rotate": 400}}, "rotate = 400"),
        ({"task": "translation", "augmentation": {"turn": 4}}, "unknown setting turn"),
        ({"task": "synthesis", "autoencoder": "x", "heatmap": {"factor": -1}}, "factor = -1"),
        ({"task": "synthesis", "autoencoder": "x", "features": 3}, "features = 3"),
        ({"task": "translation", "train_patients": []}, "train_patients"),
        ({"task": "translation", "labels": ["scar"]}, "labels = 'scar'"),
        ({"task": "synthesis", "autoencoder": "x", "schedule": {"name": "learned"}}, "schedule = learned"),
    ],
    ids=str,
)
def test_a_configuration_that_is_not_in_order_is_named(make, changes, words):
    task = changes.pop("task")
    with pytest.raises(SettingError, match=words):
        make(task, **changes)


def test_a_run_can_start_from_another_ones_weights(make, autoencoder, tmp_path):
    job = make_job(make("autoencoder", start=autoencoder, seed=5))
    trained = torch.load(autoencoder, weights_only=True)["ema"]
    for name, value in job.model.named_parameters():
        assert torch.equal(value, trained[f"module.{name}"])
    with pytest.raises(SettingError, match="another network"):
        make_job(make("translation", start=autoencoder))
    with pytest.raises(InputError, match="cannot be read"):
        make_job(make("translation", start=str(tmp_path / "none.ckpt")))


PARTS = {"autoencoder": "", "synthesis": "unet.", "translation": "unet."}
OF_PACK = {"autoencoder": "autoencoder.", "synthesis": "unet.", "translation": "regression."}


@pytest.mark.parametrize("task", list(PARTS))
def test_a_run_can_start_from_a_packs_weights(make, tiny_synthesis_pack, task):
    info = read_info(tiny_synthesis_pack)
    key = {"autoencoder": "autoencoder", "synthesis": "denoiser", "translation": "regression"}[task]
    given = {"start": str(tiny_synthesis_pack), "network": info.network[key]}
    if task == "synthesis":
        given |= {"autoencoder": str(tiny_synthesis_pack), "features": {"channels": 16}}
    if task == "translation":
        given["adversarial"] = 0.1  # a discriminator is in no pack
    job = make_job(make(task, **given))
    packed = load_cmrdiff(info)[0].state_dict()
    weights = {n: v for n, v in job.model.state_dict().items() if n.startswith(PARTS[task])}
    buffers = {name for name, _ in job.model.named_buffers()}
    compared = [name for name in weights if name not in buffers]
    assert len(compared) > 10
    for name in compared:
        assert torch.equal(weights[name], packed[OF_PACK[task] + name.removeprefix(PARTS[task])]), name
    if task == "synthesis":
        assert torch.equal(job.model.features.place, packed["features.place"])
        # The latents have the scale of these slices, not the pack's.
        assert not torch.equal(job.model.latent_mean, packed["autoencoder.mean"])
    with pytest.raises(SettingError, match="another network"):
        make_job(make(task, **{**given, "network": AUTOENCODER if task == "autoencoder" else UNET}))
    with pytest.raises(PackError, match="is unknown"):
        make_job(make(task, **{**given, "start": "unheard-of"}))


def test_a_user_of_myops_trains_and_gets_a_pack(tiny_synthesis_pack, tmp_path):
    """The documented way (docs/data.md), on files in that layout, with a small pack and few steps."""
    cohort, archive = tmp_path / "MYOPS", tmp_path / "myops.npz"
    for arguments in (
        ["simulate", str(cohort), "--modelled", "3", "1"],
        ["prepare", "myops", str(cohort), str(archive), "--matrix", "32", "--pixel", "5"],
    ):
        assert command_line(arguments) == 0
    pack = read_info(tiny_synthesis_pack)
    changes = {
        "data": str(archive),
        "validation_patients": ["myops_training_103"],
        "start": str(tiny_synthesis_pack),
        "autoencoder": str(tiny_synthesis_pack),
        "network": pack.network["denoiser"],
        "features": {"channels": 16},
        "phases": [{"steps": 2, "batch": 2, "crop": 32}],
        "copies": 1,
    }
    config = read_config(CONFIGS / "myops.json", changes)
    folder = run(config, tmp_path / "run")
    assert read_config(folder / "config.json") == config
    described = {key: getattr(pack, key) for key in ("version", "title", "training_data", "licence", "intended_use")}
    described |= {"roles": list(pack.roles), "matrix": [32, 32], "pixel_size_mm": [5.0, 5.0], "quality": {}}
    described |= {"limits": [], "domain": {"plane": "short axis"}}
    texts = {"description": described, "model_card": "card", "licence": "licence"}
    config = read_config(folder / "config.json")
    info = pack_from_checkpoint(folder / "best.ckpt", config, tmp_path / "pack", **texts)
    assert (info.name, info.normalisation) == ("myops", HEART)
    assert set(info.domain["median"]) == {"bSSFP", "T2", "LGE"}


@pytest.mark.parametrize("task", ["synthesis", "translation"])
def test_tasks_on_whole_slices_refuse_crops(make, autoencoder, task):
    config = make(task, autoencoder=autoencoder, phases=[{"steps": 1, "batch": 4, "crop": 16}])
    with pytest.raises(SettingError, match="crop = 16 is not the side"):
        make_job(config)


def test_the_heatmaps_blur_is_that_of_the_configuration(make, autoencoder):
    sharp, soft = (
        make_job(make("synthesis", autoencoder=autoencoder, heatmap={"smooth": smooth})) for smooth in (0.0, 3.0)
    )
    assert set(sharp.pool.heat[:24].unique().tolist()) <= {n / 4 for n in range(5)}  # 2x2 pixels each
    assert soft.pool.heat.max() < sharp.pool.heat.max()
    assert torch.equal(sharp.held_out.heat, soft.held_out.heat)


def test_an_autoencoder_that_is_none_is_named(make, tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        make_job(make("synthesis", autoencoder=str(tmp_path / "missing.ckpt")))


def test_shipped_configurations_can_be_read():
    found = sorted((ROOT / "MRDiffusionLib/training/configs").glob("*.json"))
    paired = [read_config(path) for path in found if not path.name.endswith(".pack.json")]
    assert any(isinstance(config, PairedConfig) for config in paired)


def test_an_adversarial_run_begins_with_a_baseline_trained_without_it(make, tmp_path: Path):
    first = run(make("translation"), tmp_path / "first") / "best.ckpt"
    job = make_job(make("translation", adversarial=0.01, start=str(first)))
    weights = torch.load(first, weights_only=True)["ema"]
    for name, value in job.model.state_dict().items():
        if not name.startswith("discriminator."):
            assert torch.equal(value, weights[f"module.{name}"]), name
    again = run(make("translation", adversarial=0.01, start=str(first)), tmp_path / "again") / "best.ckpt"
    other = make_job(make("translation", adversarial=0.01, start=str(again))).model.state_dict()
    trained = torch.load(again, weights_only=True)["ema"]
    assert all(torch.equal(value, trained[f"module.{name}"]) for name, value in other.items())
