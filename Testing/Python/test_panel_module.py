"""The module as Slicer loads, reloads and tests it, and the panel with the real worker."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import types
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import slicer.util
from MRDiffusionPanel import nodes, signals
from MRDiffusionPanel.logic import State
from panel_support import MODULE, ROOT, WORKER, add_volume, pack_info, panel_module, run, select, wait_for

from MRDiffusionLib.packs import read_info
from MRDiffusionLib.worker import protocol

pytest_plugins = ["panel_fixtures"]


def python(code: str, **variables: str) -> str:
    """What a fresh Python prints, with the host on its path and nothing of this process."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "Testing" / "Host"), **variables}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_loading_imports_nothing_and_opening_no_torch(tmp_path: Path) -> None:
    code = f"""
import sys, pathlib, slicer_host
slicer_host.start(pathlib.Path({str(tmp_path)!r}))
module = slicer_host.load_module(pathlib.Path({str(MODULE)!r}))
heavy = {{"torch", "monai", "SimpleITK", "scipy", "matplotlib", "PIL"}}
own = {{"MRDiffusionPanel", "MRDiffusionLib"}}
print(sorted(name for name in sys.modules if name.partition(".")[0] in heavy | own))
widget = module.widgetRepresentation()
print(sorted(name for name in sys.modules if name.partition(".")[0] in heavy))
widget.python.cleanup()
"""
    assert python(code).splitlines() == ["[]", "[]"]


def test_library_is_found_beside_the_module_only_if_it_stands_there(module: Any, tmp_path: Path) -> None:
    folder = tmp_path / "MRDiffusion"
    folder.mkdir()
    copy = folder / "MRDiffusion.py"
    copy.write_text(MODULE.read_text(encoding="utf-8"), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("copied_module", copy)
    assert spec is not None and spec.loader is not None
    copied = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copied)
    before = list(sys.path)
    copied.find_library()
    assert sys.path == before
    (tmp_path / "MRDiffusionLib").mkdir()
    (tmp_path / "MRDiffusionLib" / "__init__.py").touch()
    try:
        copied.find_library()
        copied.find_library()
        assert sys.path == [*before, str(tmp_path)]
    finally:
        sys.path[:] = before


def test_logic_runs_in_any_scene_without_the_application(tmp_path: Path) -> None:
    """With slicer-core alone: no Qt, no `slicer.app`, a worker made of a few lines."""
    code = f"""
import sys, pathlib, shutil
sys.path[:0] = [{str(ROOT)!r}, {str(MODULE.parent)!r}, {str(ROOT / "Testing" / "Python")!r}]
import numpy, slicer, slicer.util
from MRDiffusionPanel.logic import Logic, State
from MRDiffusionPanel.signals import Signal
from MRDiffusionPanel.tasks.superresolution import SuperResolution
from MRDiffusionLib.packs import PackInfo
from MRDiffusionLib.settings import SuperResolutionSettings

class Worker:
    message, ended = Signal(), Signal()
    def send(self, message):
        output = pathlib.Path(message["output"]) / "result.nrrd"
        shutil.copy(message["request"]["inputs"]["low_resolution"], output)
        self.message.emit({{"type": "result", "id": message["id"], "volumes": {{"result": str(output)}},
                            "measurements": {{}}, "provenance": {{"request": message["request"]}}, "warnings": []}})
    def close(self): pass

scene = slicer.vtkMRMLScene()
volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "low")
slicer.util.updateVolumeFromArray(volume, numpy.random.rand(2, 8, 8).astype("f4"))
values = {{f: None for f in PackInfo.__dataclass_fields__}}
pack = PackInfo(**{{**values, "name": "p", "matrix": (8, 8)}})
logic = Logic(Worker())
logic.start(SuperResolution({{"low_resolution": volume}}, pack, "p", SuperResolutionSettings(matrix=(8, 8))))
print(logic.state == State.DONE, logic.results["result"].GetName(), "qt" in sys.modules, hasattr(slicer, "app"))
logic.close()
"""
    printed = python(code, TMPDIR=str(tmp_path))
    assert printed == "True SYNTHETIC SR of low; 8x8, lambda 1.0, projection; seed 0 False False\n"
    assert list(tmp_path.iterdir()) == []


def test_metadata_say_what_it_is_and_is_not(module: Any) -> None:
    assert module.title == "MR Diffusion" and module.categories == ["Image Synthesis"]
    assert "not diffusion-weighted imaging" in module.helpText and "not for diagnosis" in module.helpText
    assert "ISMRM" in module.acknowledgementText
    assert (MODULE.parent / "Resources" / "Icons" / "MRDiffusion.png").is_file()
    # Slicer takes every .py file beside the module for a module.
    assert [path.name for path in MODULE.parent.glob("*.py")] == ["MRDiffusion.py"]


def test_module_reloaded_in_mid_run(module: Any, scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "worker_command", lambda python="": WORKER)
    monkeypatch.setattr(panel_module(), "list_packs", lambda: [pack_info("slow")])
    low = add_volume()
    module.widgetRepresentation()
    before = slicer.modules.MRDiffusionWidget.panel
    before.ui.applyButton.click()
    wait_for(lambda: before.logic.state == State.RUNNING)
    process, folder = before.logic.worker._process.processId(), before.logic._folder.path
    voxels = slicer.util.arrayFromVolume(low).copy()
    slicer.util.reloadScriptedModule("MRDiffusion")
    try:
        assert not Path(f"/proc/{process}").exists() and not folder.exists()
        after = slicer.modules.MRDiffusionWidget.panel
        assert after is not before and after.parameters.inputVolume is low
        after.parameters.steps = 1
        assert run(after) is not None
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(low), voxels)
    finally:
        slicer.app.moduleManager().unload("MRDiffusion")
        module._widget = None


def test_module_marks_the_views_from_the_start(module: Any, scene: Any) -> None:
    slicer.app.make_views()
    slicer.app.startupCompleted.emit()
    instance = slicer.modules.MRDiffusionInstance
    mark = instance.mark
    assert mark is not None
    slicer.app.startupCompleted.emit()
    assert instance.mark is mark
    mark.remove()
    instance.mark = None


@pytest.mark.torch
def test_self_test_passes(tiny_pack: Path, tiny_synthesis_pack: Path, tmp_path: Path) -> None:
    """The cases of MRDiffusion.py, under unittest and runTest, with the real worker."""
    script, packs = ROOT / "Testing" / "Host" / "run_self_test.py", tmp_path / "packs"
    shutil.copytree(tiny_pack, packs / "tiny")
    shutil.copytree(tiny_synthesis_pack, packs / "heart")
    described = packs / "heart" / "pack.json"
    described.write_text(json.dumps(json.loads(described.read_text()) | {"name": "heart"}))
    environment = {**os.environ, "MRDIFFUSION_PACKS": str(packs), "TMPDIR": str(tmp_path)}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [sys.executable, str(script), str(MODULE)], env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 cases" in done.stdout and "skipped" not in done.stderr and "Not run" not in done.stdout
    assert list(tmp_path.glob("*MRDiffusion*")) == []


@pytest.mark.torch
def test_panel_with_the_real_worker(
    scene: Any, tiny_pack_32: Path, low_volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from MRDiffusion import MRDiffusionLogic

    monkeypatch.setenv("MRDIFFUSION_PACKS", str(tiny_pack_32.parent))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    packs = [read_info(tiny_pack_32)]
    panel = panel_module().Panel(MRDiffusionLogic().getParameterNode, MODULE.parent / "Resources", None, lambda: packs)
    try:
        panel.parameters.steps, panel.parameters.samples = 4, 2
        low = slicer.util.loadVolume(str(low_volume))
        select(panel, low, packs[0].name)
        first = run(panel)
        assert first is not None, panel.ui.stateText.text
        values = slicer.util.arrayFromVolume(first)
        assert values.shape == (3, 32, 32) and np.isfinite(values).all()
        assert nodes.provenance_of(first)["pack"]["name"] == packs[0].name
        assert slicer.util.arrayFromVolume(panel.logic.results["standard_deviation"]).min() >= 0
        again = run(panel)
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(again), values)

        panel.parameters.steps = 1000
        panel.ui.applyButton.click()
        wait_for(lambda: panel.logic.state == State.RUNNING)
        panel.ui.cancelButton.click()
        wait_for(lambda: not panel.logic.busy)
        assert panel.ui.stateText.text.split("\n")[0] == "Cancelled"
    finally:
        panel.cleanup()
    assert list(tmp_path.iterdir()) == []


def test_signal_tells_all_even_if_one_leaves() -> None:
    signal, heard = signals.Signal(), []

    def once(value: int) -> None:
        heard.append(("once", value))
        signal.disconnect(once)

    signal.connect(once)
    signal.connect(lambda value: heard.append(("always", value)))
    signal.emit(1)
    signal.emit(2)
    assert heard == [("once", 1), ("always", 1), ("always", 2)]


def test_samples_are_offered_in_sample_data(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from MRDiffusionPanel import samples

    offered: list[dict[str, Any]] = []
    logic = types.SimpleNamespace(registerCustomSampleDataSource=lambda **values: offered.append(values))
    monkeypatch.setitem(sys.modules, "SampleData", types.SimpleNamespace(SampleDataLogic=logic))
    slicer.modules.MRDiffusionInstance.registerSamples()
    assert len(offered) == len(samples.SAMPLES) and {each["category"] for each in offered} == {"MRDiffusion"}
    for each in offered:
        assert len(each["uris"]) == len(each["fileNames"]) == len(each["nodeNames"]) == len(each["checksums"])
        assert Path(each["thumbnailFileName"]).read_bytes().startswith(b"\x89PNG")
        for uri, checksum in zip(each["uris"], each["checksums"]):
            with urllib.request.urlopen(uri) as stream:
                assert checksum == "SHA256:" + hashlib.sha256(stream.read()).hexdigest()
    # Simulated images say so in their name.
    names = [name for each in offered for name in each["nodeNames"]]
    assert {"cardiac-t2 (simulated)", "brain-t1-noisy (simulated noise)"} <= set(names)
    monkeypatch.setitem(sys.modules, "SampleData", None)
    slicer.modules.MRDiffusionInstance.registerSamples()
