"""The benchmark runs from end to end (what it measures here, with random weights and others at work, means nothing)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "Testing" / "Benchmarks"


def run(script: str, *arguments: str) -> str:
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_benchmark_gives_json_and_a_table(tiny_pack: Path, tmp_path: Path) -> None:
    file = tmp_path / "benchmark.json"
    options = (
        "--pack",
        str(tiny_pack),
        "--device",
        "cpu",
        "--steps",
        "2",
        "--repeats",
        "1",
        "--many",
        "32",
        "--json",
        str(file),
    )
    printed = run("superresolution.py", *options)
    measured = json.loads(file.read_text())
    assert measured["slice"]["steps"] == 2
    assert measured["volume"]["slices"] == 12
    assert measured["memory"]["many"]["slices"] == 32
    assert measured["memory"]["many"]["arrays_mb"] == 32 * (64**2 + 128**2) * 4 / 1e6
    # A volume streams through the memory of one batch, however long it is.
    assert measured["memory"]["ratio_less_arrays"] < 1.2
    # Two transforms and a few sums cannot cost nothing, nor more than the step that holds them.
    assert 0 < measured["guidance"]["guide_share"] < 1
    assert measured["guidance"]["fp32"]["gflop"] == measured["guidance"]["bf16"]["gflop"] > 0
    assert 0 < measured["startup"]["import_seconds"] < measured["startup"]["worker_ready_seconds"]
    assert "| Worker ready (s) |" in printed
    other = {"name": "other", "slice": measured["slice"]}
    (tmp_path / "other.json").write_text(json.dumps(other))
    two = run("table.py", str(file), str(tmp_path / "other.json"))
    assert "| | this machine | other |" in two
    assert two.count(" - |") >= 10


def test_benchmark_of_synthesis_gives_json_and_a_table(tiny_synthesis_pack: Path, tmp_path: Path) -> None:
    file = tmp_path / "benchmark.json"
    pack = ("--pack", str(tiny_synthesis_pack))
    printed = run(
        "synthesis.py", *pack, "--device", "cpu", "--steps", "2", "--repeats", "1", "--many", "32", "--json", str(file)
    )
    measured = json.loads(file.read_text())
    assert measured["volume"]["bf16"]["seconds"] > measured["volume"]["preview_seconds"] > 0
    assert measured["memory"]["ratio_less_arrays"] < 1.2
    assert "| A step: three branches (ms) |" in printed


def test_benchmark_of_quality_gives_json_and_a_table(
    tiny_degrader_pack: Path, tiny_enhancer_pack: Path, tmp_path: Path
) -> None:
    """Of the kinds of which there is a pack."""
    shutil.copytree(tiny_degrader_pack, tmp_path / "degrade-noise")
    file = tmp_path / "benchmark.json"
    packs = ("--degrader", str(tmp_path / "degrade-{}"), "--enhancer", str(tiny_enhancer_pack))
    printed = run(
        "quality.py", *packs, "--device", "cpu", "--steps", "2", "--repeats", "1", "--many", "32", "--json", str(file)
    )
    measured = json.loads(file.read_text())
    assert list(measured["degradation"]) == ["noise"] and measured["degradation"]["noise"]["bf16"] > 0
    assert measured["enhancement"]["blur"]["fp32"] > 0
    assert measured["memory"]["many"]["arrays_mb"] == 32 * 256**2 * 4 * 2 / 1e6
    assert measured["memory"]["ratio_less_arrays"] < 1.2
    assert "Degrading a slice, noise" in printed and "Degrading a slice, blur" not in printed


def test_benchmark_of_pairs_gives_json_and_a_table(
    tiny_degrader_pack: Path, tiny_enhancer_pack: Path, tmp_path: Path
) -> None:
    file = tmp_path / "benchmark.json"
    packs = (str(tiny_degrader_pack), str(tiny_enhancer_pack))
    few = ("--sample", "reference", "--workers", "1", "--cases", "3")
    printed = run("pairs.py", *packs, *few, "--json", str(file))
    (measured,) = json.loads(file.read_text())["runs"]
    assert measured["cases"] == 3 and measured["per_core_second"] > 0
    # The parent reads names and writes records: it loads no torch.
    assert 0 < measured["parent_mb"] < 0.6 * measured["worker_mb"]
    assert "| 1 | 3 |" in printed


def test_benchmark_of_the_panel_gives_json_and_a_table(tmp_path: Path) -> None:
    """With a shipped pack; the limits leave room for a busy machine, docs/results/performance.md has the figures."""
    file = tmp_path / "benchmark.json"
    printed = run("panel.py", "--tasks", "superresolution", "--json", str(file))
    measured = json.loads(file.read_text())["superresolution"]
    warm, cold = measured["warm"], measured["cold"]
    assert warm["first"] <= warm["finished"] < 20 and warm["again_first"] < 10
    assert warm["first"] < cold["first"] < 120  # what was done before the press need not be done after it
    assert "| Super-resolve: press to first picture, finished preview (s) |" in printed
    assert "Synthesize" not in printed
