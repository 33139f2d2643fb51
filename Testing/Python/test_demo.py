"""The demonstration on the shipped sample, whose files are what their checksums say."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from MRDiffusionLib.errors import InputError
from MRDiffusionLib.imaging.volume import read_volume
from MRDiffusionLib.request import Progress
from MRDiffusionLib.settings import SynthesisSettings
from MRDiffusionLib.tasks import demo, demo_quality, demo_superresolution, demo_synthesis

ROOT = Path(__file__).resolve().parents[2]


def test_demo_writes_picture_table_and_volumes(tiny_pack: Path, tmp_path: Path) -> None:
    out = tmp_path / "demo-output"
    states: list[Progress] = []
    shown = demo_superresolution.main(out, pack=str(tiny_pack), steps=2, progress=states.append)
    scores = shown.scores
    assert list(scores) == ["zero filling", "bicubic", "single sample", "mean of 4"]
    record = json.loads((out / "superresolution.json").read_text())
    assert record["synthetic"] is True
    assert record["request"]["settings"]["samples"] == 4
    assert record["scores"] == scores
    assert f"| zero filling | {scores['zero filling']['psnr_db']:.2f} |" in shown.table
    assert "SYNTHETIC" in shown.table
    assert (out / "superresolution.md").read_text() == shown.table
    slices = [state.slice for state in states]
    assert slices == sorted(slices)
    assert slices[0] <= 12
    assert (slices[-1], states[0].slices) == (24, 24)
    picture = np.asarray(Image.open(shown.picture).convert("RGB"))
    assert picture.std() > 10
    # The yellow mark stands on results and nowhere else: not in the two columns at the left, nor in the last.
    yellow = ((picture == (255, 255, 0)).all(-1)).any(0).reshape(6, -1).any(1)
    assert yellow.tolist() == [False, False, True, True, True, False]
    result, reference = (
        read_volume(out / "superresolution.nii.gz"),
        read_volume(demo.SAMPLE_DATA / "brain-t1-reference.nii.gz"),
    )
    assert result.geometry.agrees_with(reference.geometry)


def test_without_the_sample_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(demo, "SAMPLE_DATA", tmp_path)
    with pytest.raises(InputError, match="brain-t1-low-resolution"):
        demo_superresolution.main(tmp_path / "out")


def test_scores_rank_a_slight_error_above_a_gross_one() -> None:
    reference = read_volume(demo.SAMPLE_DATA / "brain-t1-reference.nii.gz").array
    noise = np.random.default_rng(0).normal(0, 1, reference.shape).astype(np.float32)
    slight, gross = (demo_superresolution.score(reference, reference + s * noise) for s in (20, 200))
    assert all(slight[name] > gross[name] for name in ("psnr_db", "ssim", "haarpsi"))
    # Negative values count as 0 (air), so masked air does not gain noise below 0: half of its energy goes.
    assert slight["psnr_db"] == pytest.approx(20 * np.log10(reference.max() / 20), abs=2.5)


def test_sample_is_what_its_checksums_say() -> None:
    lines = (demo.SAMPLE_DATA / "SHA256SUMS").read_text().splitlines()
    files = dict(reversed(line.split("  ")) for line in lines)
    assert set(files) == {path.name for path in demo.SAMPLE_DATA.glob("*.nii.gz")}
    for name, wanted in files.items():
        assert hashlib.sha256((demo.SAMPLE_DATA / name).read_bytes()).hexdigest() == wanted


def test_low_resolution_sample_lies_where_the_reference_lies() -> None:
    low, reference = (
        read_volume(demo.SAMPLE_DATA / f"brain-t1-{name}.nii.gz") for name in ("low-resolution", "reference")
    )
    assert low.geometry.refined((128, 128)).agrees_with(reference.geometry)
    filled = demo_superresolution.enlarged(low.array, (128, 128))["zero filling"]
    aligned = np.corrcoef(filled.ravel(), reference.array.ravel())[0, 1]
    for axis in (1, 2):
        for pixels in (-1, 1):
            assert np.corrcoef(np.roll(filled, pixels, axis).ravel(), reference.array.ravel())[0, 1] < aligned - 0.005


def test_demo_of_synthesis_writes_picture_table_and_volumes(tiny_synthesis_pack: Path, tmp_path: Path) -> None:
    settings = SynthesisSettings(target="LGE", steps=2, samples=2)
    states: list[Progress] = []
    shown = demo_synthesis.main(tmp_path, pack=str(tiny_synthesis_pack), settings=settings, progress=states.append)
    done = [state.slice / state.slices for state in states]
    assert done == sorted(done) and done[-1] == 1 and done[0] < 0.2  # one bar for all runs, which never stands still
    assert list(shown.scores) == ["one-pass regression", "one sample", "mean of 2"]
    assert "simulated" in shown.table and "SYNTHETIC" in shown.table
    assert (tmp_path / "synthesis.md").read_text() == shown.table
    record = json.loads((tmp_path / "synthesis.json").read_text())
    assert record["synthetic"] is True and record["request"]["settings"]["target"] == "LGE"
    picture = np.asarray(Image.open(shown.picture).convert("RGB"))
    yellow = ((picture == (255, 255, 0)).all(-1)).any(0)
    # Given images at the left and the truth at the right are not marked.
    assert not yellow[: len(yellow) // 4].any() and not yellow[-len(yellow) // 8 :].any() and yellow.any()
    # What the demonstration calls the truth lies where the result lies.
    given, truth = demo_synthesis._on_grid(
        {"bSSFP": str(demo.SAMPLE_DATA / "cardiac-bssfp.nii.gz"), "LGE": str(demo.SAMPLE_DATA / "cardiac-lge.nii.gz")},
        read_volume(tmp_path / "synthesis.nii.gz"),
        {"percentile": 99.5, "value": 0.9},
    )
    assert given["bSSFP"].shape == truth.shape == read_volume(tmp_path / "synthesis.nii.gz").array.shape


def test_demo_of_quality_writes_picture_table_and_volumes(
    tiny_degrader_pack: Path, tiny_enhancer_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a degrader of noise alone at hand, it stands for both kinds."""
    monkeypatch.setattr(demo_quality, "KINDS", ("noise",))
    states: list[Progress] = []
    shown = demo_quality.main(
        tmp_path, degrader=str(tiny_degrader_pack), enhancer=str(tiny_enhancer_pack), progress=states.append
    )
    assert list(shown.scores) == [
        "noisy scan (simulated)",
        "degrader: noise",
        "noise, enhanced",
        "noisy scan, enhanced",
    ]
    assert "simulated" in shown.table and "SYNTHETIC" in shown.table
    done = [state.slice / state.slices for state in states]
    assert done == sorted(done) and done[-1] == 1
    record = json.loads((tmp_path / "enhancement.json").read_text())
    assert record["synthetic"] is True and record["request"]["settings"]["kind"] == "noise"
    picture = np.asarray(Image.open(shown.picture).convert("RGB"))
    yellow = ((picture == (255, 255, 0)).all(-1)).any(0).reshape(5, -1).any(1)
    assert yellow.tolist() == [False, False, True, True, True]
    truth = read_volume(demo.SAMPLE_DATA / "brain-t1-fine.nii.gz")
    for name in ("enhancement", "degradation-noise"):
        assert read_volume(tmp_path / f"{name}.nii.gz").geometry.agrees_with(truth.geometry)
