"""The command line: what it writes, what it says, its exit codes; and that a wrong word costs no import of torch."""

from __future__ import annotations

import argparse
import dataclasses
import errno
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from MRDiffusionLib.cli import main
from MRDiffusionLib.cli.bar import duration
from MRDiffusionLib.cli.running import slice_numbers
from MRDiffusionLib.settings import SuperResolutionSettings
from MRDiffusionLib.worker.protocol import worker_environment

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process: exit code, standard output, standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run


def process(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command line as a person does."""
    command = [sys.executable, "-m", "MRDiffusionLib", *map(str, arguments)]
    return subprocess.run(command, env=worker_environment(), capture_output=True, text=True, timeout=120, **options)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def quick(tiny_pack_32: Path) -> list[object]:
    """Flags for a run of milliseconds."""
    return ["--matrix", 32, 32, "--steps", 3, "--pack", tiny_pack_32, "--precision", "fp32"]


def test_a_run_in_a_pipe_writes_three_files_and_says_nothing(
    tiny_pack_32: Path, low_volume: Path, tmp_path: Path, run: Run
) -> None:
    from MRDiffusionLib.imaging.volume import read_volume

    out = tmp_path / "fine.nii.gz"
    done = process(
        "superresolve", low_volume, out, "--matrix", 32, 32, "--weight", 1.0, "--method", "projection", "--steps", 4,
        "--samples", 2, "--seed", 7, "--pack", tiny_pack_32, "--device", "cpu", "--precision", "fp32",
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert names(tmp_path) == ["fine.json", "fine.nii.gz", "fine_standard_deviation.nii.gz"]
    result = read_volume(out)
    assert result.array.shape == (3, 32, 32)
    assert result.geometry.agrees_with(read_volume(low_volume).geometry.refined((32, 32)))
    assert read_volume(tmp_path / "fine_standard_deviation.nii.gz").array.max() > 0

    provenance = json.loads((tmp_path / "fine.json").read_text(), parse_constant=pytest.fail)
    assert provenance["synthetic"] is True
    assert provenance["request"]["seed"] == 7 and provenance["request"]["settings"]["samples"] == 2
    assert provenance["outputs"]["result"]["file"] == "fine.nii.gz"
    assert provenance["measurements"]["seconds"] > 0

    # From the provenance alone, in another process than the first: the same to the last bit.
    code, _, err = run("rerun", tmp_path / "fine.json", tmp_path / "again.nrrd")
    assert (code, err) == (0, "")
    again = json.loads((tmp_path / "again.json").read_text())
    assert {r: o["sha256"] for r, o in again["outputs"].items()} == {
        r: o["sha256"] for r, o in provenance["outputs"].items()
    }
    np.testing.assert_array_equal(read_volume(tmp_path / "again.nrrd").array, result.array)


def test_one_sample_makes_no_standard_deviation_and_slices_can_be_chosen(
    quick: list[object], low_volume: Path, tmp_path: Path, run: Run
) -> None:
    from MRDiffusionLib.imaging.volume import read_volume

    assert run("superresolve", low_volume, tmp_path / "all.mha", *quick)[0] == 0
    assert run("superresolve", low_volume, tmp_path / "some.mha", *quick, "--slices", "1-2")[0] == 0
    assert names(tmp_path) == ["all.json", "all.mha", "some.json", "some.mha"]
    everything, some = read_volume(tmp_path / "all.mha"), read_volume(tmp_path / "some.mha")
    np.testing.assert_allclose(some.array, everything.array[1:], atol=1e-2)


def test_outputs_are_replaced_only_by_force(quick: list[object], low_volume: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "fine.nrrd"
    for existing in (out, tmp_path / "fine.json", tmp_path / "fine_standard_deviation.nrrd"):
        existing.write_text("precious")
        code, _, err = run("superresolve", low_volume, out, *quick, "--samples", 2)
        assert code == 2 and f"{existing} exists" in err and "--force" in err
        assert names(tmp_path) == [existing.name] and existing.read_text() == "precious"
        existing.unlink()
    out.write_text("old")
    assert run("superresolve", low_volume, out, *quick, "--force")[0] == 0
    assert out.read_bytes()[:4] == b"NRRD"


def test_an_input_is_never_an_output(quick: list[object], low_volume: Path, tmp_path: Path, run: Run) -> None:
    low = tmp_path / "low.nrrd"
    shutil.copy(low_volume, low)
    link = tmp_path / "link.nrrd"
    link.symlink_to(low)
    before = low.read_bytes()
    for out in (low, link, tmp_path / "." / "low.nrrd"):
        code, _, err = run("superresolve", low, out, *quick, "--force")
        assert code == 2 and "is an input" in err
    assert low.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["LOW", "OUT.png"], "no suffix of a volume format"),
        (["LOW", "missing/OUT.nrrd"], "does not exist"),
        (["MISSING.nrrd", "OUT.nrrd"], "MISSING.nrrd"),
        (["BROKEN.nrrd", "OUT.nrrd"], "BROKEN.nrrd"),
        (["LOW", "OUT.nrrd", "--pack", "no-such-pack"], "no-such-pack"),
        (["LOW", "OUT.nrrd", "--pack", "PACKS/nowhere"], "nowhere"),
        (["LOW", "OUT.nrrd", "--weight", "1.5"], "weight = 1.5 is outside 0 to 1"),
        (["LOW", "OUT.nrrd", "--weight", "nan"], "weight = nan"),
        (["LOW", "OUT.nrrd", "--steps", "0"], "steps = 0"),
        (["LOW", "OUT.nrrd", "--matrix", "8", "8"], "8x8 is smaller"),
        (["LOW", "OUT.nrrd", "--matrix", "64", "64"], "not supported by pack tiny-32"),
        (["LOW", "OUT.nrrd", "--seed", "-1"], "seed = -1"),
        (["LOW", "OUT.nrrd", "--device", "gpu"], "device = 'gpu'"),
        (["LOW", "OUT.nrrd", "--slices", "3"], "slice 3"),
    ],
)
def test_what_a_person_can_put_right_is_told_in_two_lines(
    quick: list[object], low_volume: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch,
    arguments: list[str], words: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("BROKEN.nrrd").write_text("NRRD0004\n")
    given = [low_volume if argument == "LOW" else argument for argument in arguments]
    code, out, err = run("superresolve", *given[:2], *quick, *given[2:])
    assert code == 2 and out == ""
    lines = err.rstrip("\n").split("\n")
    assert len(lines) == 2 and lines[0].startswith("error: ") and lines[1].startswith("  ")
    assert words in lines[0]
    assert names(tmp_path) == ["BROKEN.nrrd"]


def test_no_cuda_is_told_with_a_way_out(
    quick: list[object], low_volume: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, _, err = run("superresolve", low_volume, tmp_path / "o.nrrd", *quick, "--device", "cuda")
    assert code == 2 and "cuda is not available" in err and "--device cpu" in err
    assert "Traceback" not in err
    code, _, err = run("superresolve", low_volume, tmp_path / "o.nrrd", *quick, "--device", "cuda", "--debug")
    assert code == 2 and "Traceback" in err
    assert names(tmp_path) == []


def test_a_full_disk_leaves_nothing_but_a_message(
    quick: list[object], low_volume: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_text = Path.write_text

    def full(self: Path, *arguments: Any, **options: Any) -> int:
        if self.suffix == ".json":
            write_text(self, "half")
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_text(self, *arguments, **options)

    monkeypatch.setattr(Path, "write_text", full)
    code, _, err = run("superresolve", low_volume, tmp_path / "o.nrrd", *quick, "--samples", 2)
    assert code == 2 and f"{tmp_path} cannot be written" in err and "No space left" in err
    assert names(tmp_path) == []


def test_a_real_full_disk(quick: list[object], low_volume: Path, small_disk: Callable[[int], Path], run: Run) -> None:
    """The same on a file system of 64 kB, where the machine lets us mount one."""
    small = small_disk(64)
    (small / "filler").write_bytes(bytes(56 * 1024))
    code, _, err = run("superresolve", low_volume, small / "o.nrrd", *quick)
    assert code == 2 and "free" in err
    assert names(small) == ["filler"]


def test_an_accident_is_an_internal_error_with_its_traceback(
    quick: list[object], low_volume: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from MRDiffusionLib import tasks

    for raised, expected, words in (
        (KeyError("oops"), 1, "internal error: KeyError"),
        (MemoryError(), 2, "not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 2, "not enough memory"),
        (RuntimeError("could not create a primitive"), 2, "not enough memory"),
        (RuntimeError("Exception thrown in SimpleITK: Failed to allocate memory for image."), 2, "not enough memory"),
        (ModuleNotFoundError("No module named 'monai'", name="monai"), 2, "requirements.txt"),
        (KeyboardInterrupt(), 130, "cancelled"),
    ):

        def accident(*_: object, raised: BaseException = raised, **__: object) -> None:
            raise raised

        monkeypatch.setattr(tasks, "run", accident)
        code, _, err = run("superresolve", low_volume, tmp_path / "o.nrrd", *quick)
        assert code == expected and words in err
        assert ("Traceback" in err) == (code == 1)
    assert names(tmp_path) == []


def test_a_bar_on_a_terminal_and_ctrl_c_in_mid_run(tiny_pack_32: Path, low_volume: Path, tmp_path: Path) -> None:
    arguments = ["--matrix", "32", "32", "--steps", "1000", "--samples", "16", "--pack", str(tiny_pack_32)]
    command = [sys.executable, "-m", "MRDiffusionLib", "superresolve", str(low_volume), str(tmp_path / "o.nrrd")]
    ours, theirs = pty.openpty()
    child = subprocess.Popen([*command, *arguments], env=worker_environment(), stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    text, deadline = "", time.monotonic() + 60
    try:
        while not re.search(r"[#-]{20}  slice 1 of 3, step \d+ of 1000, \d+ (s|min).* left", text):
            assert time.monotonic() < deadline and child.poll() is None, text
            if select.select([ours], [], [], 0.2)[0]:
                text += os.read(ours, 4096).decode()
        child.send_signal(signal.SIGINT)
        out, _ = child.communicate(timeout=20)
        while select.select([ours], [], [], 0.2)[0]:
            try:
                text += os.read(ours, 4096).decode()
            except OSError:
                break
    finally:
        child.kill()
        os.close(ours)
    assert child.returncode == 130 and out == b""
    assert text.rstrip().endswith("cancelled") and "Traceback" not in text
    assert names(tmp_path) == []


def test_sigterm_ends_a_run_like_ctrl_c(quick: list[object], low_volume: Path, tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from MRDiffusionLib import tasks; from MRDiffusionLib.cli import main\n"
        "tasks.run = lambda *a, **k: os.kill(os.getpid(), signal.SIGTERM)\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "superresolve", low_volume, tmp_path / "o.nrrd", *quick]
    done = subprocess.run([str(c) for c in command], env=worker_environment(), capture_output=True, text=True)
    assert done.returncode == 143 and done.stderr == "cancelled\n"
    assert names(tmp_path) == []


def test_wrong_arguments_and_help_load_no_torch() -> None:
    code = (
        "import sys\n"
        "from MRDiffusionLib.cli import main\n"
        "try: end = main(sys.argv[1:])\n"
        "except SystemExit as error: end = error.code\n"
        "print('|', end, [m for m in ('torch', 'monai', 'SimpleITK') if m in sys.modules])"
    )
    for arguments, expected in (
        (["--help"], 0), (["--version"], 0), ([], 2), (["dance"], 2), (["superresolve", "--help"], 0),
        (["superresolve", "a"], 2), (["superresolve", "a", "b.nrrd", "--steps", "ten"], 2),
        (["superresolve", "a", "b.nrrd", "--method", "magic"], 2), (["superresolve", "a", "b.nrrd", "--eta", "7"], 2),
        (["superresolve", "a", "b.nrrd", "--slices", "5-3"], 2), (["packs", "list"], 0), (["packs", "show", "no"], 2),
        (["train", "no-such-config", "--out", "x"], 2), (["rerun", "no-such-file.json", "b.nrrd"], 2),
    ):  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], env=worker_environment(), capture_output=True, text=True
        )
        assert done.stdout.rpartition("|")[2].strip() == f"{expected} []", (arguments, done.stderr)
        assert "Traceback" not in done.stderr


def test_help_names_every_setting_with_range_and_default(run: Run) -> None:
    code, out, _ = run("superresolve", "--help")
    words = " ".join(out.split())
    assert code == 0
    for f in fields(SuperResolutionSettings):
        assert f"--{f.name.replace('_', '-')}" in words
    assert "[0 to 1; default 1.0]" in words and "[8 to 1024 pixels; default 128 128]" in words
    assert "replacement: mixes the noisy image" in words


def test_slices_and_durations_in_words() -> None:
    assert slice_numbers("3,4,5") == (3, 4, 5)
    assert slice_numbers("8-10, 3,9") == (3, 8, 9, 10)
    for text in ("", "a", "1,", "-1", "5-3", "1-", "1.5", "9999999"):
        with pytest.raises(argparse.ArgumentTypeError, match="slice number"):
            slice_numbers(text)
    assert [duration(s) for s in (0.2, 59, 61, 7260, -1)] == ["0 s", "59 s", "1 min 1 s", "2 h 1 min", "0 s"]


def test_rerun_insists_on_the_same_input_and_pack(
    quick: list[object], low_volume: Path, tiny_pack_32: Path, tmp_path: Path, run: Run
) -> None:
    from MRDiffusionLib.imaging.volume import Volume, read_volume, write_volume

    low = tmp_path / "low.nrrd"
    shutil.copy(low_volume, low)
    assert run("superresolve", low, tmp_path / "o.nrrd", *quick)[0] == 0
    provenance, again = tmp_path / "o.json", tmp_path / "again.nrrd"

    moved = tmp_path / "elsewhere.nrrd"
    low.rename(moved)
    code, _, err = run("rerun", provenance, again)
    assert code == 2 and "low.nrrd" in err and "does not exist" in err
    for given in (moved, f"low_resolution={moved}"):
        assert run("rerun", provenance, again, "--input", given, "--force") == (0, "", "")

    volume = read_volume(moved)
    write_volume(Volume(volume.array + 1, volume.geometry), low)
    code, _, err = run("rerun", provenance, again, "--force")
    assert code == 2 and "does not hold the values" in err and "--anyway" in err
    code, _, err = run("rerun", provenance, again, "--force", "--anyway")
    assert code == 0 and "does not hold the values" in err and "differs from the recorded result" in err
    shutil.copy(moved, low)

    values = json.loads(provenance.read_text())
    values["pack"]["weights_sha256"] = "0" * 64
    values["versions"]["torch"] = "1.0"
    provenance.write_text(json.dumps(values))
    code, _, err = run("rerun", provenance, again, "--force")
    assert code == 2 and "does not have the weights" in err
    code, _, err = run("rerun", provenance, again, "--force", "--anyway")
    assert code == 0 and "the recorded result was made with 1.0" in err

    for text in ("", "[]", '{"request": {}}'):
        provenance.write_text(text)
        assert run("rerun", provenance, again, "--force")[0] == 2


def test_packs_are_listed_shown_and_verified(
    tiny_pack_32: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MRDIFFUSION_PACKS", str(tmp_path))
    shutil.copytree(tiny_pack_32, tmp_path / "tiny")
    code, out, err = run("packs", "list")
    assert code == 0 and err == "" and re.search(r"^tiny-32 +1.0 +superresolution +32x32 +Random weights$", out, re.M)
    listed = json.loads(run("packs", "list", "--json")[1])
    shown = json.loads(run("packs", "show", "tiny-32")[1])
    assert shown in listed and shown["matrix"] == [32, 32] and shown["folder"] == str(tmp_path / "tiny")
    for name in ("tiny-32", tmp_path / "tiny"):
        assert run("packs", "verify", name) == (0, "tiny-32 1.0: in order\n", "")
    code, out, _ = run("packs", "verify")
    assert code == 0 and "tiny-32 1.0: in order" in out

    (tmp_path / "scrap").mkdir()
    (tmp_path / "scrap" / "pack.json").write_text("{")
    code, out, err = run("packs", "list")
    assert code == 0 and "tiny" in out and "scrap" in err
    with (tmp_path / "tiny" / "weights.safetensors").open("ab") as stream:
        stream.write(b"x")
    code, out, err = run("packs", "verify")
    assert code == 2 and "tiny" in err and "scrap" in err and "tiny-32 1.0: in order" not in out
    assert run("packs", "verify", "no-such-pack")[0] == 2


def test_a_reader_that_has_enough_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m MRDiffusionLib packs list | true"
    done = subprocess.run(command, shell=True, env=worker_environment(), capture_output=True, text=True)
    assert done.stderr == "" or done.stderr.startswith("warning: there is no pack")


def test_evaluate_prints_json(low_volume: Path, tmp_path: Path, run: Run) -> None:
    from MRDiffusionLib.imaging.volume import Volume, read_volume, write_volume

    volume = read_volume(low_volume)
    test, mask = tmp_path / "test.nrrd", tmp_path / "mask.nrrd"
    write_volume(Volume(volume.array + 5, volume.geometry), test)
    write_volume(Volume((volume.array > 50).astype(np.float32), volume.geometry), mask)
    code, out, err = run("evaluate", low_volume, test, "--mask", mask, "--data-range", 100)
    assert (code, err) == (0, "")
    figures = json.loads(out, parse_constant=pytest.fail)
    assert figures["whole"]["mae"] == pytest.approx(5, rel=1e-5)
    assert figures["whole"]["psnr_db"] == pytest.approx(20 * np.log10(100 / 5), rel=1e-5)
    assert figures["mask"]["voxels"] == int((volume.array > 50).sum())
    assert "mask" not in json.loads(run("evaluate", low_volume, low_volume)[1])
    code, out, err = run("evaluate", low_volume, tmp_path / "missing.nrrd")
    assert code == 2 and out == "" and "missing.nrrd" in err
    two = dataclasses.replace(volume.geometry, size=(16, 16, 2))
    write_volume(Volume(volume.array[1:], two), test)
    code, out, err = run("evaluate", low_volume, test)
    assert code == 2 and out == "" and "another grid" in err


def test_training_starts_and_goes_on(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 255, (6, 32, 32), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", images=images, subject=np.array([1, 1, 2, 2, 3, 3]))
    network = {"channels": [8, 16], "num_res_blocks": [1, 1], "head_channels": 8, "norm_groups": 4}
    values = {
        "name": "tiny", "data": str(tmp_path / "data.npz"), "train_subjects": [1, 2], "validation_subjects": [3, 3],
        "phases": [{"steps": 2, "batch": 2, "crop": 16}], "network": network, "precision": "32-true",
        "validation_slices": 2,
    }  # fmt: skip
    config, folder = tmp_path / "config.json", tmp_path / "out"
    config.write_text(json.dumps(values))
    arguments = ("train", config, "--out", folder, "--accelerator", "cpu", "--devices", 1, "--num-nodes", 1)
    monkeypatch.setattr("MRDiffusionLib.tasks.device.faster_precision", lambda device: "fp32")
    code, out, err = run(*arguments, "--stop-after", 1)
    assert code == 0 and "step 1/2" in out and "bf16" not in err, err
    code, out, err = run(*arguments, "--change", 'precision="bf16-mixed"')
    assert "bf16 is slow here" in err, err
    assert code == 0 and "resuming" in out and "step 2/2" in out
    assert {"last.ckpt", "best.ckpt", "log.jsonl"} <= set(names(folder))

    values["network"]["channels"] = [16, 16]
    config.write_text(json.dumps(values))
    code, _, err = run(*arguments)
    assert code == 2 and "another network" in err

    from MRDiffusionLib.training import loop

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "train", stopped)
    code, _, err = run(*arguments)
    assert code == 130 and "goes on from the last checkpoint" in err


def test_both_demos_get_their_folder_and_their_tables_are_printed(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from MRDiffusionLib.tasks import demo, demo_superresolution, demo_synthesis

    got: list[tuple[str, Path]] = []

    def pretend(task: str) -> Callable[..., demo.Demonstration]:
        def main(folder: Path, **_: object) -> demo.Demonstration:
            got.append((task, folder))
            return demo.Demonstration({}, f"| {task} |\n", folder / f"{task}.png", (f"of {task}",))

        return main

    for task, module in (("finer", demo_superresolution), ("other", demo_synthesis)):
        monkeypatch.setattr(module, "main", pretend(task))
    code, out, err = run("demo", "--out", tmp_path)
    assert code == 0
    for task in ("finer", "other"):
        assert f"| {task} |" in out and str(tmp_path / f"{task}.png") in out
        assert f"warning: of {task}" in err
    assert run("demo")[0] == 0
    assert got == [(task, folder) for folder in (tmp_path, Path("demo-output")) for task in ("finer", "other")]


def test_training_errors_are_the_persons(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"name": "x", "colour": 1}')
    code, _, err = run("train", config, "--out", tmp_path / "out")
    assert code == 2 and "colour" in err and "Traceback" not in err
    config.write_text(
        json.dumps(
            {"name": "x", "data": str(tmp_path / "missing.npz"), "train_subjects": [1, 2],
             "validation_subjects": [3, 3], "phases": [{"steps": 1, "batch": 1, "crop": 16}]}
        )
    )  # fmt: skip
    code, _, err = run("train", config, "--out", tmp_path / "out")
    assert code == 2 and "missing.npz" in err and "Traceback" not in err
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    code, _, err = run("train", config, "--out", tmp_path / "out", "--accelerator", "cuda")
    assert code == 2 and "cuda is not available" in err
    for flag, value in (
        ("--accelerator", "tpux"), ("--devices", "none"), ("--devices", "0"), ("--num-nodes", "-1"),
        ("--stop-after", "1.5"),
    ):  # fmt: skip
        assert run("train", config, "--out", tmp_path / "out", flag, value)[0] == 2
