"""The panel's settings and the results' origin live in the scene: they survive saving and loading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import slicer
import slicer.util
from MRDiffusionPanel import nodes
from panel_support import add_volume, run, select

from MRDiffusionLib.request import request_from_provenance

pytest_plugins = ["panel_fixtures"]


def synthetic(scene: Any) -> Any:
    (found,) = filter(nodes.is_synthetic, slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode", scene))
    return found


@pytest.mark.parametrize("suffix", [".mrb", ".mrml"])
def test_saved_scene_brings_settings_and_provenance_back(panel: Any, scene: Any, tmp_path: Path, suffix: str) -> None:
    select(panel, add_volume())
    panel.parameters.seed, panel.parameters.weight, panel.parameters.method = 7, 0.25, "gradient"
    panel.parameters.noise = 1.5
    result = run(panel)
    name, provenance = result.GetName(), nodes.provenance_of(result)
    voxels = slicer.util.arrayFromVolume(result).copy()
    folder = tmp_path / "saved"
    folder.mkdir()
    path = str(folder / f"scene{suffix}")
    assert slicer.util.saveScene(path)

    scene.Clear()
    assert (panel.parameters.seed, panel.parameters.weight) == (0, 1.0)
    assert panel.widgets["seed"].value == 0 and panel.parameters.inputVolume is None
    slicer.util.loadScene(path, {"clear": True})

    assert (panel.parameters.seed, panel.parameters.weight, panel.parameters.method) == (7, 0.25, "gradient")
    assert (panel.widgets["seed"].value, panel.widgets["weight"].value, panel.widgets["noise"].value) == (7, 0.25, 1.5)
    low, result = nodes.first_input(scene), synthetic(scene)
    assert panel.parameters.inputVolume is low and panel.widgets["inputVolume"].currentNode() is low
    assert result.GetName() == name and nodes.is_synthetic(result)
    assert nodes.provenance_of(result) == provenance
    assert result.GetNodeReference(nodes.INPUT_REFERENCE) is low
    assert (slicer.util.arrayFromVolume(result) == voxels).all()
    assert panel.ui.applyButton.enabled
    assert run(panel) is not None


def test_provenance_gives_the_request_again(panel: Any) -> None:
    select(panel, add_volume())
    panel.parameters.seed, panel.parameters.samples = 7, 2
    result = run(panel)
    again = request_from_provenance(result.GetAttribute(nodes.PROVENANCE))
    assert (again.seed, again.settings, again.pack) == (7, panel._captured().settings, "quick")


def test_input_that_a_script_sets_is_shown(panel: Any) -> None:
    low = add_volume()
    panel._get_parameter_node().inputVolume = low  # through a wrapper of its own, as in Slicer's Python console
    assert panel.parameters.inputVolume is low and panel.widgets["inputVolume"].currentNode() is low
    assert panel.ui.applyButton.enabled


def test_settings_of_another_version_become_the_defaults(panel: Any, scene: Any) -> None:
    node = panel.parameters.parameterNode
    panel._unbind()
    node.SetParameter("weight", "17.0")
    node.SetParameter("method", '"telepathy"')
    panel.enter()
    assert panel.parameters.weight == 1.0 and panel.parameters.method == "projection"


def test_clearing_the_scene_again_and_again_leaves_one_binding(panel: Any, scene: Any) -> None:
    for _ in range(3):
        scene.Clear()
    select(panel, add_volume())
    assert panel.ui.applyButton.enabled
    assert len(panel.Observations) == 3  # the scene twice, the parameter node once
