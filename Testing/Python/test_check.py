"""`python -m MRDiffusionLib check`, and the panel's button for it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import slicer
from MRDiffusionPanel.installation import remembered
from MRDiffusionPanel.installation.check import Check
from panel_support import WORKER, add_volume, make_panel, run, select, wait_for

from MRDiffusionLib.packs.find import shipped_folder
from MRDiffusionLib.packs.info import read_info
from MRDiffusionLib.worker import check
from MRDiffusionLib.worker.libraries import Library

pytest_plugins = ["panel_fixtures"]

ROOT = Path(__file__).parents[2]
NAMES = ("torch", "monai", "einops", "SimpleITK", "safetensors")


def program(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> types.SimpleNamespace:
    """A computer whose torch, graphics card, memory and packs a test chooses; at first all in order, without a card."""
    cuda = types.SimpleNamespace(is_available=lambda: False)
    torch = types.SimpleNamespace(
        __version__="2.9.0+cpu", cuda=cuda, version=types.SimpleNamespace(cuda=None), get_num_threads=lambda: 2
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    for name in NAMES[1:]:
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setattr(check, "libraries", lambda: [Library(name, ">=1", "1.2", True) for name in NAMES])
    monkeypatch.setattr(check, "scan_packs", lambda: ([], []))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(check, "LEAST_MEMORY", 0)
    monkeypatch.setattr(check, "LEAST_DISK", 0)
    return types.SimpleNamespace(torch=torch, patch=monkeypatch, folder=tmp_path)


def about(report: dict[str, Any]) -> list[str]:
    json.dumps(report, allow_nan=False)
    return [each["about"] for each in report["problems"]]


def test_all_in_order(quick: Any) -> None:
    report = check.check()
    assert about(report) == [] and report["device"] == "cpu (2 threads)"
    text = check.as_text(report)
    assert text.endswith("Everything is in order.") and "monai" in text and "Memory: " in text


CARD = 'echo "NVIDIA RTX 4000, 20475 MiB, 19000 MiB, 550.1"'


def test_cpu_torch_on_a_computer_with_a_graphics_card(quick: Any) -> None:
    program(quick.folder, "nvidia-smi", CARD)
    report = check.check()
    assert about(report) == ["cpu build"]
    assert "NVIDIA RTX 4000, 19000 MiB free of 20475 MiB, driver 550.1" in check.as_text(report)
    assert "built for the CPU only" in check.as_text(report) and "CUDA build" in check.as_text(report)


def test_a_driver_that_is_too_old_or_does_not_work(quick: Any) -> None:
    program(quick.folder, "nvidia-smi", CARD)
    quick.torch.version.cuda = "13.0"
    assert about(check.check()) == ["driver"]
    program(quick.folder, "nvidia-smi", "echo 'Driver/library version mismatch'; exit 18")
    report = check.check()
    assert about(report) == ["no driver"] and "version mismatch" in report["problems"][0]["message"]


def test_a_graphics_card_that_is_used(quick: Any) -> None:
    program(quick.folder, "nvidia-smi", CARD)
    quick.torch.cuda = types.SimpleNamespace(
        is_available=lambda: True, mem_get_info=lambda: (19 * 10**9, 21 * 10**9), get_device_name=lambda: "RTX 4000"
    )
    report = check.check()
    assert about(report) == [] and report["device"] == "cuda (RTX 4000, 19.0 GB free of 21.0 GB)"


def test_short_memory_and_disk_and_a_damaged_pack(quick: Any, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(shipped_folder() / "brain-t1-128", damaged)
    with (damaged / "weights.safetensors").open("r+b") as stream:
        stream.seek(-4, os.SEEK_END)
        stream.write(b"oops")
    quick.patch.setattr(check, "scan_packs", lambda: ([read_info(damaged)], []))
    quick.patch.setattr(check, "LEAST_MEMORY", 10**18)
    quick.patch.setattr(check, "LEAST_DISK", 10**18)
    report = check.check()
    assert about(report) == ["memory", "disk", "packs"]
    assert report["packs"][0]["problem"] == "damaged" and "checksum" in report["problems"][2]["message"]
    assert all(each["fix"] for each in report["problems"])


def test_the_command_works_where_torch_is_missing() -> None:
    """In a Python without any package."""
    command = [sys.executable, "-S", "-m", "MRDiffusionLib", "check"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and done.stderr == ""
    assert "torch - (needs >=2.8): missing" in done.stdout and "Device: unknown" in done.stdout
    assert "Problem: torch >=2.8: missing; monai" in done.stdout and "requirements.txt" in done.stdout
    assert "Pack brain-t1-128 0.2: in order" in done.stdout


def test_the_command_works_where_torch_is_broken(tmp_path: Path) -> None:
    for name, version in (("torch", "2.9.0"), ("monai", "1.6.1"), ("einops", "0.1")):
        (tmp_path / name).mkdir()
        cause = "OSError('libcudnn.so.9: cannot open shared object file')" if name == "torch" else "SystemExit(7)"
        (tmp_path / name / "__init__.py").write_text(f"raise {cause}")
        (tmp_path / f"{name}-{version}.dist-info").mkdir()
        (tmp_path / f"{name}-{version}.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
    command = [sys.executable, "-S", "-m", "MRDiffusionLib", "check", "--json"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    report = json.loads(done.stdout)
    assert {each["name"]: each["problem"] for each in report["libraries"]} == {
        "torch": "broken", "monai": "broken", "einops": "wrong version", "SimpleITK": "missing",
        "safetensors": "missing",
    }  # fmt: skip
    assert "libcudnn.so.9" in " ".join(each["message"] for each in report["problems"])


# In the panel

REPORT = {
    "version": "1", "computer": "c", "python": "3", "device": "cpu (2 threads)", "gpus": ["RTX"], "memory": {},
    "disk": {"folder": "/tmp", "free": None}, "libraries": [], "packs": [],
    "problems": [{"about": "cpu build", "message": "torch is for the CPU", "fix": "pip"},
                 {"about": "memory", "message": "short", "fix": "Close other programs"}],
}  # fmt: skip


@pytest.fixture
def computer() -> Iterator[None]:
    """What the application remembers is forgotten afterwards."""
    yield
    for name in (remembered.COMPUTER, remembered.PYTHON_THERE):
        remembered.keep(name, "")


def choose_command(panel: Any, *command: str) -> None:
    panel.installation._check._command = list(command)


def checked(panel: Any) -> str:
    panel.installation.check_button.click()
    assert not panel.installation.check_button.enabled
    wait_for(lambda: panel.installation.check_button.enabled)
    return panel.installation.text.plainText


def test_the_button_shows_the_report_in_slicers_words(panel: Any, tmp_path: Path) -> None:
    assert panel.installation.widget.collapsed and panel.installation.check_button.toolTip
    (tmp_path / "report").write_text(json.dumps(REPORT))
    choose_command(panel, "/bin/cat", str(tmp_path / "report"))
    text = checked(panel)
    assert "Device: cpu (2 threads)" in text and "What to do: Close other programs." in text
    assert "PyTorch Utils" in text and "What to do: pip" not in text
    panel.installation.copy_button.click()
    assert slicer.app.clipboard().text() == text


def test_a_check_that_crashes_or_cannot_start_says_so(panel: Any, tmp_path: Path) -> None:
    choose_command(panel, program(tmp_path, "crash", "echo 'Illegal instruction' >&2; exit 3"))
    text = checked(panel)
    assert "without a report (code 3)" in text and "Illegal instruction" in text
    choose_command(panel, str(tmp_path / "none"))
    panel.installation.check_button.click()
    wait_for(lambda: "cannot be started" in panel.installation.text.plainText)
    assert panel.installation.check_button.enabled


def test_a_check_ends_with_the_panel_and_in_its_time(panel: Any) -> None:
    choose_command(panel, "/bin/sleep", "60")
    panel.installation._check._timer.setInterval(100)
    assert "without a report" in checked(panel)
    panel.installation._check._timer.setInterval(60000)
    panel.installation.check_button.click()
    assert panel.installation._check.running  # the fixture looks for the process after the panel has gone


def test_the_other_computer_is_asked(module: Any, computer: None) -> None:
    texts: list[str] = []
    remembered.keep(remembered.COMPUTER, "u@x")
    asks = Check([sys.executable, "-c", "import sys; print(sys.argv[1:])"])
    asks.finished.connect(texts.append)
    asks.start()
    wait_for(lambda: bool(texts))
    asks.close()
    assert "without a report" in texts[0]
    assert remembered.other_computer() == ["--ssh", "u@x"]


def test_a_run_at_another_computer_and_back(
    scene: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, computer: None
) -> None:
    """From Apply to the result, through a relay and a fake ssh; then the same panel computes here again."""
    from MRDiffusionPanel import nodes, worker

    places = {name: tmp_path / name for name in ("here", "there", "bin")}
    for each in places.values():
        each.mkdir()
    program(places["bin"], "ssh", 'while [ "$1" != "--" ]; do shift; done\nexec sh -c "$3"')
    there = f'export TMPDIR={places["there"]} PYTHONPATH={ROOT}\nexec {" ".join(WORKER)} "$@"'
    python = program(places["bin"], "python-there", there)
    monkeypatch.setenv("PATH", f"{places['bin']}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(places["here"]))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(worker, "python_executable", lambda: python)
    panel = make_panel([])
    panel.parameters.steps = 2
    select(panel, add_volume("at home"))
    first = nodes.provenance_of(run(panel))["process"]
    monkeypatch.setattr(worker, "python_executable", lambda: sys.executable)
    panel.installation.computer.text = "radiologist@workstation"
    panel.installation.python.text = python
    panel.installation.computer.editingFinished.emit()
    result = run(panel)
    assert nodes.provenance_of(result)["process"] != first
    assert slicer.util.arrayFromVolume(result).shape == (3, 16, 16)
    assert nodes.provenance_of(result)["request"]["inputs"] == {"low_resolution": "at home"}
    assert os.listdir(places["there"]) != []
    panel.cleanup()
    panel.widget.deleteLater()
    wait_for(lambda: os.listdir(places["here"]) == os.listdir(places["there"]) == [])
