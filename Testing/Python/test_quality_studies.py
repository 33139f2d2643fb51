"""The studies of degraders and enhancers, on a few discs and throw-away networks: tables, figures, and going on."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from MRDiffusionLib.imaging.geometry import Geometry
from MRDiffusionLib.imaging.volume import Volume, write_volume
from MRDiffusionLib.training.config import config_from
from MRDiffusionLib.training.loop import train
from MRDiffusionLib.training.pairs import joined, read_pairs, simulate_pairs, write_pairs

STUDIES = Path(__file__).resolve().parents[1] / "Studies"
STRAIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
UNET = {"channels": [8, 16], "num_res_blocks": [1, 1], "head_channels": 8, "norm_groups": 4}


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Subjects 53 to 60, two slices of 96x96 pixels each: textured discs."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:96, :96] - 47.5
    images = [(np.hypot(x, y) < 44) * rng.integers(60, 240, (96, 96)) for _ in range(16)]
    path = tmp_path_factory.mktemp("study") / "slices.npz"
    np.savez(path, images=np.array(images, np.uint8), subject=np.repeat(np.arange(53, 61), 2))
    return path


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch):
    """The study modules, which import each other from their folder."""
    monkeypatch.syspath_prepend(str(STUDIES))
    import degrader
    import enhancement
    import enhancement_figures

    monkeypatch.setattr(degrader, "LEVELS", (0.5,))
    monkeypatch.setattr(degrader, "SHOWN", (0.5,))
    monkeypatch.setattr(enhancement, "LEVELS", (0.5,))
    monkeypatch.setattr(enhancement_figures, "EXAMPLE", (53, 1, 0.5))
    yield sys.modules
    for path in STUDIES.glob("*.py"):
        sys.modules.pop(path.stem, None)


def test_degraders_are_compared_with_acquisitions(study, slices, tiny_degrader_pack, tmp_path):
    flags = ["--slices", "1", "--kinds", "noise", "--noise", str(tiny_degrader_pack)]
    study["degrader"].main([str(slices), "--out", str(tmp_path), *flags])
    text = (tmp_path / "tables.md").read_text()
    assert "## noise" in text and "| 0.5 | 0.35 |" in text
    assert (tmp_path / "noise.png").exists() and (tmp_path / "scores.json").exists()


def test_an_acquisition_compared_with_itself_has_no_fault(study, slices):
    degrader = study["degrader"]
    clean = degrader.clean_slices(slices, 53, 2)
    real = [degrader.acquired(clean, "noise", 0.5, 53, seed) for seed in (0, 1)]
    scores = degrader.compare(clean, real * 2, real)
    assert scores.ssim == pytest.approx(scores.acquired_ssim)
    assert scores.deviation == scores.acquired_deviation == 1.0 and degrader.largest([scores], "spectrum") == 0.0
    assert scores.shift < 0.1 and abs(scores.seeds) < 0.1
    twice = [clean + 2 * (image - clean) for image in real]
    assert degrader.compare(clean, real * 2, twice).deviation == pytest.approx(2.0, rel=1e-4)
    tenfold = degrader.compare(clean, real * 2, [10 * image for image in real])
    assert degrader.largest([tenfold], "spectrum") == pytest.approx(20.0)
    others = [degrader.acquired(clean, "noise", 0.5, 53, seed) for seed in range(6)]
    several = degrader.compare(clean, others, real)
    assert 0 < degrader.largest([several], "acquired_spectrum") < 3
    sharp = [degrader.acquired(clean, "blur", 0.9, 53, seed) for seed in range(4)]
    noisy = degrader.compare(clean, sharp, [image + 1e-3 * real[0] for image in sharp[:2]])
    assert not all(noisy.visible) and degrader.largest([noisy], "spectrum") < degrader.largest(
        [noisy], "spectrum", True
    )


@pytest.mark.parametrize(("extra", "count"), [((), 32), (("--extra", "0.25"), 36)])
def test_synthetic_pairs_replace_or_join_the_acquired_ones(
    study, slices, tiny_degrader_pack, tmp_path, monkeypatch, extra, count
):
    import synthetic_pairs

    with np.load(slices) as archive:
        pairs = simulate_pairs(archive["images"], np.repeat([1, 53], 8), ("noise",))
    pairs = joined([pairs, pairs])
    write_pairs(pairs, tmp_path / "pairs.npz")
    monkeypatch.setattr(synthetic_pairs, "KINDS", ("noise",))
    arguments = [str(tmp_path / "pairs.npz"), str(tmp_path / "out.npz"), "--noise", str(tiny_degrader_pack), *extra]
    synthetic_pairs.main(arguments)
    made = read_pairs(tmp_path / "out.npz")
    own = made.source == synthetic_pairs.SYNTHETIC
    assert len(made) == count and own.sum() == (4 if extra else 16) and set(made.subject[own]) == {1}


@pytest.fixture
def runs(slices: Path, tmp_path: Path) -> Path:
    """A step of training for some of the ways."""
    with np.load(slices) as archive:
        subject = np.where(archive["subject"] > 56, archive["subject"] - 56, archive["subject"])
        pairs = simulate_pairs(archive["images"], subject)
    write_pairs(pairs, tmp_path / "pairs.npz")
    for name, kinds in (
        ("acquired-noise", ["noise"]),
        ("synthetic-noise", ["noise"]),
        ("misaligned-noise", ["noise"]),
        ("combined", ["noise", "blur"]),
    ):
        config = config_from(
            {
                "name": name,
                "task": "enhancer",
                "data": str(tmp_path / "pairs.npz"),
                "train_subjects": [1, 4],
                "validation_subjects": [53, 56],
                "kinds": kinds,
                "phases": [{"steps": 1, "batch": 1, "crop": 16}],
                "network": {"iterations": 1, "unet": UNET, "estimator": [4]},
                "precision": "32-true",
                "learning_rate": 1e-2,
                "seed": len(name),
            }
        )
        train(config, tmp_path / "runs" / name, accelerator="cpu", log=lambda line: None)
    return tmp_path / "runs"


def test_trainings_are_compared_and_scores_kept(study, slices, runs, tmp_path, capsys):
    enhancement, out = study["enhancement"], tmp_path / "out"
    enhancement.main([str(slices), str(runs), "--out", str(out)])
    text = (out / "tables.md").read_text()
    assert "synthetic less misaligned" in text and "combined less acquired" in text and "16 slices: r " in text
    assert {path.name for path in out.glob("*.png")} == {
        "agreement-noise.png",
        "examples-noise.png",
        "examples-blur.png",
        "niqe-noise.png",
        "niqe-blur.png",
    }
    assert "acquired-blur is left out" in capsys.readouterr().out
    lines = (out / "scores.jsonl").read_text().splitlines()
    # The given images and four networks for noise; the given ones and the combined network for blur.
    assert len(lines) == 16 * (5 + 2)
    (out / "scores.jsonl").write_text("\n".join(lines[:40]) + '\n["half')
    enhancement.main([str(slices), str(runs), "--out", str(out)])
    assert (out / "tables.md").read_text() == text
    assert sorted((out / "scores.jsonl").read_text().splitlines()) == sorted(lines)


class Mean(torch.nn.Module):
    """A scorer that tells the mean grey level."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean((1, 2, 3))


def test_a_scorer_of_the_users_is_added_to_old_scores(study, slices, runs, tmp_path):
    enhancement, out = study["enhancement"], tmp_path / "out"
    enhancement.main([str(slices), str(runs), "--out", str(out)])
    torch.export.save(torch.export.export(Mean(), (torch.zeros(9, 3, 224, 224),)), tmp_path / "scorer.pt2")
    enhancement.main([str(slices), str(runs), "--out", str(out), "--scorer", str(tmp_path / "scorer.pt2")])
    assert "| SSIM | NIQE | scorer |" in (out / "tables.md").read_text()
    assert len((out / "scores.jsonl").read_text().splitlines()) == 2 * 16 * (5 + 2)
    assert (out / "scorer-noise.png").exists()


def test_crops_for_a_scorer_cover_the_slice(study):
    enhancement = study["enhancement"]
    assert enhancement.score_crops(Mean(), np.ones((256, 240), np.float32)) == pytest.approx(1.0)
    # Padded with air around it.
    assert enhancement.score_crops(Mean(), np.ones((112, 224), np.float32)) == pytest.approx(0.5)


def test_the_external_test_reads_each_group_and_compares(study, tiny_enhancer_pack, tmp_path, monkeypatch, capsys):
    import enhancement_external as external

    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64] - 31.5
    stack = ((np.hypot(x, y) < 24) * rng.integers(60, 900, (6, 64, 64))).astype(np.uint16)
    volume = Volume(stack.astype(np.float32), Geometry((64, 64, 6), (1.5, 1.25, 5.0), (0.0,) * 3, STRAIGHT))
    for name in (
        *(f"brain_t2/sub-0{n}_inplaneT2.nii.gz" for n in (1, 2)),
        *(f"brain_multisequence/raw/patient0{n}/study1_T1W.nii.gz" for n in (1, 3)),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_volume(volume, tmp_path / name)
    (tmp_path / "cardiac_cine").mkdir()
    spacing = np.full(6, 1.4, np.float32)
    np.savez(
        tmp_path / "cardiac_cine" / "contoured_u16.npz",
        images=stack,
        patient=np.repeat(["a", "b"], 3),
        spacing_mm=spacing,
    )
    monkeypatch.setattr(external, "LEVELS", (0.3, 0.6))
    assert [s.pixel_mm for s in external.t2(tmp_path)] == [(1.25, 1.5)] * 2
    external.main([str(tmp_path), "--out", str(tmp_path / "out"), "--pack", str(tiny_enhancer_pack)])
    text = (tmp_path / "out" / "external.md").read_text()
    assert text.count("| bSSFP cine of the heart | 2 |") == 2 and text.count("| T2, another scanner | 2 |") == 2
    assert (tmp_path / "out" / "external.png").exists()
