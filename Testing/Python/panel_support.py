"""What the panel's tests share: panels with a quick worker, volumes, and waiting for Qt."""

from __future__ import annotations

import importlib
import itertools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import qt
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
    from MRDiffusionPanel.background import Background
    from MRDiffusionPanel.logic import Logic
    from MRDiffusionPanel.worker import WorkerProcess

    from MRDiffusion import MRDiffusionLogic

    packs = [pack_info(name) for name in ("quick", "slow", "error", "crash", "killed", "large", "hang")]
    packs += [synthesis_pack("cardiac"), synthesis_pack("slow-cardiac"), synthesis_pack("brain", ("T1", "T2", "FLAIR"))]
    packs += [quality_pack("noisy", kind="noise"), quality_pack("fast", kind="blur"), quality_pack("better")]
    logic = Logic(WorkerProcess(command, grace_ms), Background())
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
        "normalisation": {"percentile": 99.5, "value": 0.9},
        "domain": {"plane": "any", "median": {}},
        "training_data": "nothing",
        "licence": "CC0-1.0",
        "quality": {},
        "intended_use": "tests",
        "limits": ("It knows <nothing>.",),
        "weights_sha256": "0" * 64,
    }
    return PackInfo(**{**defaults, **values})


def synthesis_pack(name: str, roles: tuple[str, ...] = ("bSSFP", "T2", "LGE"), **values: Any) -> PackInfo:
    """A description for tests: 16x16 pixels of 1 mm, trained on simulated images if it is of the heart."""
    training = "real bSSFP; T2 and LGE are simulated" if "LGE" in roles else "brains"
    described = {"task": "synthesis", "roles": roles, "network": {"regression": {}}, "training_data": training}
    return pack_info(name, **{**described, **values})


def quality_pack(name: str, kind: str = "", **values: Any) -> PackInfo:
    """A description for tests: a degrader of a kind, or an enhancer of both."""
    task, network = ("degradation", {"kind": kind}) if kind else ("enhancement", {"kinds": ["noise", "blur"]})
    domain = {"plane": "axial", "median": {}}
    return pack_info(name, **{"task": task, "roles": ("image",), "network": network, "domain": domain, **values})


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


def select_roles(panel: Any, pack: str = "cardiac", **volumes: Any) -> None:
    """Choose the task Synthesize, a pack and a volume for some of its sequences, as a person does."""
    panel.taskButtons["synthesis"].click()
    panel.parameters.synthesisPack = pack
    for role, volume in volumes.items():
        row(panel, role).selector.setCurrentNode(volume)


def row(panel: Any, role: str) -> Any:
    """The row of a sequence."""
    return next(each for each in panel.sections["synthesis"]._rows.rows if each.role == role)


def shown_roles(panel: Any) -> list[str]:
    """The sequences that can be given, from top to bottom."""
    return [each.role for each in panel.sections["synthesis"]._rows.rows if each.role and not each.label.isHidden()]


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
    wait_for(lambda: not panel.logic.busy, 300.0)  # the real worker loads torch, perhaps on a busy machine
    return panel.logic.results.get("result")


def longest_block(act: Callable[[], Any], ended: Callable[[], bool]) -> float:
    """Do something: the longest time between two beats of a 2 ms timer until it has ended, in seconds.

    Less the time in which the thread waited for a processor: other work on the machine does not count.
    """
    beats: list[tuple[float, float]] = []
    timer = qt.QTimer()
    timer.setInterval(2)
    timer.timeout.connect(lambda: beats.append((time.monotonic(), _waited())))
    timer.start()
    end = time.monotonic() + 60
    while len(beats) < 3:
        slicer.app.processEvents()
    act()
    while not ended():
        assert time.monotonic() < end, "it did not happen in time"
        slicer.app.processEvents()
    last = len(beats)
    while len(beats) < last + 3:  # what is left to be done when it has ended
        slicer.app.processEvents()
    timer.stop()
    running = [at - waited for at, waited in beats]
    return max(later - earlier for earlier, later in itertools.pairwise(running))


def slowness() -> float:
    """How much longer than a virtual core of an AMD EPYC (20 ms) this one takes for some work in Python and memory.

    At least 1; time of the processor, the best of five. What a thread may take at most is meant for such a core.
    """

    def work() -> float:
        begun, total = time.thread_time(), 0
        for number in range(400_000):
            total += number & 3
        array = np.arange(1_500_000, dtype=np.float32)
        for _ in range(4):
            array = array.copy() + 1
        return time.thread_time() - begun

    return max(1.0, min(work() for _ in range(5)) / 0.02)


def _waited() -> float:
    """Seconds that this thread was ready to run and had to wait for others; 0 where the system does not tell."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


def save_scene_as_older_slicers(sequence: Any, file: Path) -> None:
    """Save the scene with a sequence whose frames have lost their attributes, which older Slicers do not write."""
    for number in range(sequence.GetNumberOfDataNodes()):
        frame = sequence.GetNthDataNode(number)
        for attribute in frame.GetAttributeNames():
            frame.RemoveAttribute(attribute)
    file.parent.mkdir()
    assert slicer.util.saveScene(str(file))
