"""What the panel's tests share: panels with a quick worker, volumes, and waiting for Qt."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import slicer.util

from MRDiffusionLib.packs import PackInfo

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "MRDiffusion" / "MRDiffusion.py"
WORKER = [sys.executable, str(Path(__file__).with_name("panel_worker.py"))]


def panel_module() -> Any:
    """`MRDiffusionPanel.panel`, which can be imported once the host is there."""
    return importlib.import_module("MRDiffusionPanel.panel")


def make_panel(command: list[str], grace_ms: int = 20000) -> Any:
    """A panel with its own worker command and packs that exist only as descriptions."""
    from MRDiffusionPanel.logic import Logic
    from MRDiffusionPanel.worker import WorkerProcess

    from MRDiffusion import MRDiffusionLogic

    packs = [pack_info(name) for name in ("quick", "slow", "error", "crash", "hang")]
    logic = Logic(WorkerProcess(command, grace_ms))
    return panel_module().Panel(MRDiffusionLogic().getParameterNode, MODULE.parent / "Resources", logic, lambda: packs)


def pack_info(name: str, **values: Any) -> PackInfo:
    """A description for tests: 16x16 pixels of 1 mm."""
    defaults: dict[str, Any] = {
        "folder": Path("/packs") / name,
        "name": name,
        "version": "1.0",
        "title": f"Test pack {name}",
        "task": "superresolution",
        "roles": ("low_resolution",),
        "matrix": (16, 16),
        "pixel_size_mm": (1.0, 1.0),
        "prediction": "v",
        "network": {},
        "schedule": {},
        "normalisation": {},
        "domain": {"plane": "any", "median": {}},
        "training_data": "nothing",
        "licence": "CC0-1.0",
        "quality": {},
        "intended_use": "tests",
        "limits": ("It knows <nothing>.",),
        "weights_sha256": "0" * 64,
    }
    return PackInfo(**{**defaults, **values})


def add_volume(name: str = "low", size: tuple[int, int, int] = (3, 8, 8), spacing: float = 2.0) -> Any:
    """A scalar volume (slices, rows, columns) of random numbers in the application's scene."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    values = np.random.default_rng(0).uniform(1, 100, size).astype(np.float32)
    slicer.util.updateVolumeFromArray(node, values)
    node.SetSpacing(spacing, spacing, 5.0)
    node.CreateDefaultDisplayNodes()
    return node


def select(panel: Any, node: Any, pack: str = "quick") -> None:
    """Choose an input and a pack."""
    panel.parameters.pack = pack
    panel.parameters.inputVolume = node


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Let Qt work until something is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        slicer.app.processEvents()
        time.sleep(0.002)


def run(panel: Any) -> Any:
    """Press Apply and wait for the end; gives the result node."""
    assert panel.ui.applyButton.enabled, panel.ui.stateText.text
    panel.ui.applyButton.click()
    wait_for(lambda: not panel.logic.busy)
    return panel.logic.results.get("result")
