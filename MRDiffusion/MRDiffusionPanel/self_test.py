"""The cases of the module's self-test; each runs in Slicer and in the test host, on an empty scene.

Those of a rehearsal need no PyTorch and take seconds; `run`, `preview` and `synthesis` compute with the models.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import slicer.util

from MRDiffusionLib.packs import list_packs

from . import nodes, views, volume_files
from .installation.plan import missing
from .logic import State
from .panel import Panel
from .swipe import Swipe

LONGEST_RUN_S = 300.0


def _panel() -> Panel:
    slicer.modules.mrdiffusion.widgetRepresentation()  # makes the widget, if the module has not been opened yet
    panel: Panel = slicer.modules.MRDiffusionWidget.panel
    panel.enter()
    return panel


def _with_sample(case: Any, what: str) -> Panel | None:
    """The panel after its sample was loaded; None, and told, where a library is not installed."""
    if missing():
        case.delayDisplay(f"Not run: {', '.join(missing())} not installed")
        return None
    case.delayDisplay(what)
    panel = _panel()
    panel.ui.sampleButton.click()
    return panel


def sample_is_ready(case: Any) -> None:
    """One click loads the sample; then a run can start, or the panel says what is missing."""
    case.delayDisplay("Load the sample")
    panel = _panel()
    case.assertFalse(panel.ui.applyButton.enabled)
    panel.ui.sampleButton.click()
    case.assertIsNotNone(panel.parameters.inputVolume)
    if missing():
        case.assertIn("Install", panel.ui.stateText.text)
    else:
        case.assertTrue(panel.ui.applyButton.enabled, panel.ui.stateText.text)


def result_node(case: Any) -> None:
    """A volume that goes out and comes back lies where it was, and is marked."""
    case.delayDisplay("Write a volume and read it as a result")
    scene = slicer.mrmlScene
    volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "oblique")
    slicer.util.updateVolumeFromArray(volume, np.arange(24, dtype=np.float32).reshape(2, 3, 4))
    volume.SetIJKToRASDirections(0.8, 0.6, 0.0, 0.6, -0.8, 0.0, 0.0, 0.0, 1.0)
    volume.SetSpacing(1.5, 0.5, 4.0)
    volume.SetOrigin(10.0, -20.0, 30.0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "volume.nrrd"
        volume_files.taken(volume).write(path)
        read = {"result": volume_files.Incoming.read(path)}
        results = nodes.add_results(scene, read, {"result": "SYNTHETIC r"}, [volume], {"seed": 7}, {})
    result = results["result"]
    for name in ("GetSpacing", "GetOrigin"):
        np.testing.assert_allclose(getattr(result, name)(), getattr(volume, name)(), atol=1e-9)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(result), slicer.util.arrayFromVolume(volume))
    case.assertTrue(nodes.is_synthetic(result) and not nodes.is_synthetic(volume))
    case.assertEqual(nodes.provenance_of(result), {"seed": 7})


def swipe(case: Any) -> None:
    """Two volumes are shown on either side of an edge that moves, and the views are afterwards as they were."""
    manager = slicer.app.layoutManager()
    if manager is None:
        return
    case.delayDisplay("Divide the slice views")
    pair = []
    for name in ("one", "other"):
        volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
        slicer.util.updateVolumeFromArray(volume, np.arange(500, dtype=np.float32).reshape(5, 10, 10))
        volume.CreateDefaultDisplayNodes()
        pair.append(volume)
    views.show_input(pair[0])
    widget = manager.sliceWidget("Red")
    composite, layer = widget.mrmlSliceCompositeNode(), widget.sliceLogic().GetForegroundLayer()
    before = views.Layers.of(composite)
    edge = Swipe(lambda: None, lambda: None)
    edge.start(*pair)
    edge.move(0.25)
    case.delayDisplay("The edge is at a quarter of the views")
    case.assertTrue(edge.active)
    case.assertIsNotNone(layer.GetReslice().GetInputConnection(1, 0))
    edge.stop()
    case.assertEqual(views.Layers.of(composite), before)
    case.assertIsNone(layer.GetReslice().GetInputConnection(1, 0))


def rehearsal(case: Any) -> None:
    """Each task runs on its sample, with everything but its network: preview, result, marks."""
    case.delayDisplay("Rehearse each task")
    panel = _panel()
    with _rehearsing(panel):
        for task, button in panel.taskButtons.items():
            button.click()
            if not any(pack.task == task for pack in list_packs()):
                continue
            panel.ui.sampleButton.click()
            steps = panel.section.parameter("steps")
            if hasattr(panel.parameters, steps):
                setattr(panel.parameters, steps, 2)
            _preview(case, panel)
            result = _run(case, panel)
            provenance = nodes.provenance_of(result)
            case.assertTrue(provenance["rehearsal"])
            case.assertEqual(provenance["request"]["task"], task)


def saved(case: Any) -> None:
    """What a result says of itself is in the file of the scene, and beside its own."""
    case.delayDisplay("Save and load a rehearsed result")
    panel = _panel()
    with _rehearsing(panel), tempfile.TemporaryDirectory() as folder:
        panel.ui.sampleButton.click()
        panel.parameters.steps = 1
        result = _run(case, panel)
        name, provenance = result.GetName(), nodes.provenance_of(result)
        path = str(Path(folder) / "scene.mrml")
        case.assertTrue(slicer.util.saveScene(path))
        slicer.modules.MRDiffusionInstance.markViews()
        place = Path(folder) / "result.nrrd"
        case.assertTrue(slicer.util.saveNode(result, str(place), {}))
        case.assertTrue(place.with_suffix(".json").is_file())
        case.assertEqual(nodes.provenance_of(slicer.util.loadVolume(str(place))), provenance)
        slicer.util.loadScene(path, {"clear": True})
    loaded = slicer.util.getNode(name)
    case.assertTrue(nodes.is_synthetic(loaded))
    case.assertEqual(nodes.provenance_of(loaded), provenance)


def stopped(case: Any) -> None:
    """Cancel ends a run, a closed scene too, and the panel is ready for the next."""
    case.delayDisplay("Stop a rehearsal")
    panel = _panel()
    with _rehearsing(panel):
        panel.ui.sampleButton.click()
        panel.parameters.steps = 1000
        for stop in (panel.ui.cancelButton.click, lambda: slicer.mrmlScene.Clear(0)):
            panel.ui.applyButton.click()
            case.assertTrue(panel.logic.busy, panel.ui.stateText.text)
            stop()
            _wait(panel)
            case.assertEqual(panel.logic.state, State.IDLE, panel.ui.stateText.text)
            case.assertEqual(panel.logic.results, {})
        panel.ui.sampleButton.click()
        panel.parameters.steps = 1
        _run(case, panel)


def run(case: Any) -> None:
    """The sample becomes a marked volume with the target matrix, in a view's reach."""
    panel = _with_sample(case, "Super-resolve the sample in one step")
    if panel is None:
        return
    volume = panel.parameters.inputVolume
    panel.parameters.steps = 1
    result = _run(case, panel)
    rows, columns = panel.parameters.rows, panel.parameters.columns
    case.assertEqual(
        slicer.util.arrayFromVolume(result).shape, (slicer.util.arrayFromVolume(volume).shape[0], rows, columns)
    )


def preview(case: Any) -> None:
    """While its button is pressed, one slice of the sample is computed; then it is gone."""
    panel = _with_sample(case, "Preview a slice of the sample")
    if panel is None:
        return
    panel.parameters.steps = 1
    _preview(case, panel)


def tasks(case: Any) -> None:
    """Each button shows the rows of its task, and the scene keeps which one it was."""
    case.delayDisplay("Choose each task")
    panel = _panel()
    for task, button in panel.taskButtons.items():
        button.click()
        case.assertEqual(panel.parameters.task, task)
        case.assertTrue(button.checked)
        case.assertTrue(panel.ui.applyButton.enabled or "Not ready" in panel.ui.stateText.text)


def synthesis(case: Any) -> None:
    """The sample's bSSFP and T2 become a marked LGE that lies on their slices."""
    panel = _panel()
    panel.taskButtons["synthesis"].click()
    lacking = missing() or (not _cardiac() and ["a pack of bSSFP, T2 and LGE"])
    if lacking:
        case.delayDisplay(f"Not run: {', '.join(lacking)} not installed")
        return
    case.delayDisplay("Synthesize LGE of the sample in one step")
    panel.ui.sampleButton.click()
    panel.parameters.synthesisSteps = panel.parameters.synthesisSamples = 1
    result = _run(case, panel)
    case.assertIn("SYNTHETIC LGE of cardiac-bssfp", result.GetName())
    bssfp = result.GetNodeReference(nodes.INPUT_REFERENCE)
    case.assertEqual(slicer.util.arrayFromVolume(result).shape[0], slicer.util.arrayFromVolume(bssfp).shape[0])


def _cardiac() -> bool:
    """Whether there is a model of the sample's sequences."""
    return any(pack.task == "synthesis" and {"bSSFP", "T2", "LGE"} <= set(pack.roles) for pack in list_packs())


@contextlib.contextmanager
def _rehearsing(panel: Panel) -> Iterator[None]:
    """The panel with a worker that needs no PyTorch."""
    panel.logic.worker.rehearsal = True
    panel.enter()
    try:
        yield
    finally:
        panel.logic.worker.rehearsal = False
        panel.enter()


def _preview(case: Any, panel: Panel) -> None:
    """Press Preview, look at the slice, and let go."""
    panel.ui.previewButton.click()
    _wait(panel)
    case.assertEqual(panel.logic.state, State.DONE, panel.ui.stateText.text)
    node = panel.logic.results["preview"]
    case.assertIn("SYNTHETIC preview of slice", node.GetName())
    case.assertEqual(slicer.util.arrayFromVolume(node).shape[0], 1)
    panel.ui.previewButton.click()
    case.assertIsNone(node.GetScene())


def _run(case: Any, panel: Panel) -> Any:
    """Press Apply and wait; gives the result."""
    case.assertTrue(panel.ui.applyButton.enabled, panel.ui.stateText.text)
    panel.ui.applyButton.click()
    _wait(panel)
    case.assertEqual(panel.logic.state, State.DONE, panel.ui.stateText.text)
    result = panel.logic.results["result"]
    case.assertIn("SYNTHETIC", result.GetName())
    return result


def _wait(panel: Panel) -> None:
    """Until the run is over."""
    end = time.monotonic() + LONGEST_RUN_S
    while panel.logic.busy and time.monotonic() < end:
        slicer.app.processEvents()
        time.sleep(0.01)
