"""The cases of the module's self-test; each runs in Slicer and in the test host, on an empty scene."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import slicer.util

from . import nodes
from .dependencies import missing
from .logic import State
from .panel import Panel

LONGEST_RUN_S = 300.0


def _panel() -> Panel:
    slicer.modules.mrdiffusion.widgetRepresentation()  # makes the widget, if the module has not been opened yet
    panel: Panel = slicer.modules.MRDiffusionWidget.panel
    panel.enter()
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
        nodes.export_volume(volume, path)
        results = nodes.add_results(scene, {"result": path}, {"result": "SYNTHETIC r"}, [volume], {"seed": 7}, {})
    result = results["result"]
    for name in ("GetSpacing", "GetOrigin"):
        np.testing.assert_allclose(getattr(result, name)(), getattr(volume, name)(), atol=1e-9)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(result), slicer.util.arrayFromVolume(volume))
    case.assertTrue(nodes.is_synthetic(result) and not nodes.is_synthetic(volume))
    case.assertEqual(nodes.provenance_of(result), {"seed": 7})


def run(case: Any) -> None:
    """The sample becomes a marked volume with the target matrix, in a view's reach."""
    if missing():
        case.delayDisplay(f"Not run: {', '.join(missing())} not installed")
        return
    case.delayDisplay("Super-resolve the sample in one step")
    panel = _panel()
    panel.ui.sampleButton.click()
    volume = panel.parameters.inputVolume
    panel.parameters.steps = 1
    panel.ui.applyButton.click()
    end = time.monotonic() + LONGEST_RUN_S
    while panel.logic.busy and time.monotonic() < end:
        slicer.app.processEvents()
        time.sleep(0.01)
    case.assertEqual(panel.logic.state, State.DONE, panel.ui.stateText.text)
    result = panel.logic.results["result"]
    case.assertIn("SYNTHETIC", result.GetName())
    rows, columns = panel.parameters.rows, panel.parameters.columns
    case.assertEqual(
        slicer.util.arrayFromVolume(result).shape, (slicer.util.arrayFromVolume(volume).shape[0], rows, columns)
    )
