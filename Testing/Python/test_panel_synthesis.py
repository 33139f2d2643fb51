"""The task Synthesize in the panel: its rows, what it warns of, what it sends, what becomes of a result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import qt
import slicer
import slicer.util
from MRDiffusionPanel import nodes, roles, views
from MRDiffusionPanel.logic import State
from MRDiffusionPanel.sentences import pack_text
from MRDiffusionPanel.tasks import SECTIONS
from panel_support import (
    MODULE,
    add_volume,
    pack_info,
    panel_module,
    row,
    run,
    select,
    select_roles,
    shown_roles,
    synthesis_pack,
    wait_for,
)
from test_panel_run import affine, oblique, set_affine

from MRDiffusionLib.packs import read_info
from MRDiffusionLib.request import request_from_provenance
from MRDiffusionLib.settings import DEFAULT_SCALE

pytest_plugins = ["panel_fixtures"]


SHEARED = ((1.0, 0.2, 0, 0), (0, 1.0, 0, 0), (0, 0, 1.0, 0), (0, 0, 0, 1.0))


def heart(name: str = "cine", spacing: float = 2.0, size: tuple[int, int, int] = (3, 8, 8)) -> Any:
    return add_volume(name, size, spacing)


def notes(panel: Any) -> str:
    return panel.ui.warningText.text


# The task.


def test_one_panel_shows_the_rows_of_the_chosen_task(panel: Any) -> None:
    panel.widget.show()
    for task in ("synthesis", "superresolution"):
        panel.taskButtons[task].click()
        assert panel.parameters.task == task
        assert [name for name, button in panel.taskButtons.items() if button.checked] == [task]
        for name, forms in panel._forms.items():
            assert forms[0].widget.visible == (name == task)
    titles = [panel.taskButtons[section.task].text for section in SECTIONS]
    assert titles == ["Synthesize", "Super-resolve", "Degrade", "Enhance"]


def test_each_task_offers_its_own_models(panel: Any) -> None:
    select_roles(panel, "brain")
    assert panel.ui.packList.currentText == "Test pack brain" and panel.ui.packList.count == 3
    panel.taskButtons["superresolution"].click()
    assert panel.ui.packList.currentText == "Test pack quick" and panel.ui.packList.count == 7
    assert (panel.parameters.pack, panel.parameters.synthesisPack) == ("quick", "brain")


def test_the_model_of_the_sample_is_chosen_first(panel: Any) -> None:
    panel._list_packs = lambda: [synthesis_pack("brain", ("T1", "T2", "FLAIR")), synthesis_pack("cardiac")]
    panel.parameters.synthesisPack = ""
    panel.enter()
    assert panel.parameters.synthesisPack == "cardiac"
    panel._list_packs = lambda: [synthesis_pack("brain", ("T1", "T2", "FLAIR"))]
    panel.parameters.synthesisPack = ""
    panel.enter()
    assert panel.parameters.synthesisPack == "brain"


def test_no_model_for_the_task_is_said(panel: Any) -> None:
    panel._list_packs = lambda: [pack_info("quick")]
    panel.parameters.synthesisPack = ""
    panel.enter()
    panel.taskButtons["synthesis"].click()
    assert "no model for this task is installed" in panel.ui.stateText.text and not panel.ui.applyButton.enabled
    assert shown_roles(panel) == [] and "can be wrong, missing or invented" in notes(panel)


def test_no_sentence_is_said_twice() -> None:
    limits = ("Its T2 was simulated.", "It knows nothing else.")
    text = pack_text(replace(pack_info("cardiac"), limits=limits), ["Lesions can be wrong.", limits[0]])
    assert limits[0] not in text and limits[1] in text


# The rows.


def test_rows_follow_the_pack_and_the_target(panel: Any) -> None:
    select_roles(panel)
    targets = panel.sections["synthesis"]._target.widget
    assert shown_roles(panel) == ["bSSFP", "T2"] and targets.currentText == "LGE"
    targets.setCurrentIndex(targets.findText("T2"))
    assert panel.parameters.synthesisTarget == "T2" and shown_roles(panel) == ["bSSFP", "LGE"]
    panel.ui.packList.setCurrentIndex(panel.ui.packList.findText("Test pack brain"))
    assert shown_roles(panel) == ["T1", "FLAIR"] and targets.currentText == "T2"
    assert [targets.itemText(n) for n in range(targets.count)] == ["T1", "T2", "FLAIR"]


def test_sequences_keep_their_volume_and_scale(panel: Any) -> None:
    cine, t2 = heart(), heart("t2")
    select_roles(panel, bSSFP=cine, T2=t2)
    row(panel, "T2").scale.value = 2.5
    panel.parameters.synthesisPack = "brain"
    assert (row(panel, "T2").selector.currentNode(), row(panel, "T2").scale.value) == (t2, 2.5)
    assert row(panel, "T1").selector.currentNode() is None and row(panel, "T1").scale.value == DEFAULT_SCALE
    panel.parameters.synthesisPack = "cardiac"
    assert row(panel, "bSSFP").selector.currentNode() is cine
    assert panel._captured().settings.scales == (("bSSFP", DEFAULT_SCALE), ("T2", 2.5))


def test_scale_of_what_is_not_given_is_grey(panel: Any) -> None:
    select_roles(panel, bSSFP=heart())
    assert row(panel, "bSSFP").scale.enabled and not row(panel, "T2").scale.enabled
    assert (row(panel, "T2").scale.minimum, row(panel, "T2").scale.maximum) == (0.0, 10.0)


def test_sampling_starts_from_noise_an_estimate_or_a_given_sequence(panel: Any) -> None:
    select_roles(panel, bSSFP=heart())
    starts, strength = panel.sections["synthesis"]._start.widget, panel.widgets["synthesisStrength"]
    assert [starts.itemText(n) for n in range(starts.count)][2:] == ["bSSFP", "T2"]
    assert panel._captured().settings.start == "regression" and strength.enabled
    starts.setCurrentIndex(3)
    assert "starts from T2, which is not given" in panel.ui.stateText.text and not panel.ui.applyButton.enabled
    starts.setCurrentIndex(0)
    assert panel._captured().settings.start == "noise" and not strength.enabled and panel.ui.applyButton.enabled


def test_pack_without_regression_starts_from_noise(panel: Any) -> None:
    panel._list_packs = lambda: [synthesis_pack("plain", network={"regression": None})]
    panel.enter()
    select_roles(panel, "plain", bSSFP=heart())
    assert panel._captured().settings.start == "noise"
    assert panel.sections["synthesis"]._start.widget.findText("regression") == -1


@pytest.mark.parametrize("role", ["T1 post Gd", "T2*-ish:a;b", "R2'"])
def test_any_name_of_a_sequence_is_kept(scene: Any, role: str) -> None:
    node, volume = scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode"), heart()
    roles.set_volume(node, role, volume)
    roles.set_scale(node, role, 2.5)
    assert (roles.volume_of(node, role), roles.scale_of(node, role)) == (volume, 2.5)
    assert roles.volume_of(node, role + "b") is None and roles.scale_of(node, role + "b") == DEFAULT_SCALE


# Not ready.


def test_nothing_given_says_so(panel: Any) -> None:
    select_roles(panel)
    assert panel.ui.stateText.text == "Not ready: choose at least one volume to make LGE from"
    assert panel.ui.applyButton.toolTip and not panel.ui.applyButton.enabled


def test_reasons_are_said_in_words(panel: Any, scene: Any) -> None:
    cine = heart()
    select_roles(panel, bSSFP=cine, T2=cine)
    assert "cine is chosen as bSSFP and as T2" in panel.ui.stateText.text
    t2 = heart("t2")
    row(panel, "T2").selector.setCurrentNode(t2)
    assert panel.ui.applyButton.enabled
    moved = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
    moved.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.array(SHEARED)))
    t2.SetAndObserveTransformNodeID(moved.GetID())
    panel.enter()
    assert "T2 is warped or sheared against bSSFP; harden" in panel.ui.stateText.text
    moved.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.diag([-1.0, -1, 1, 1])))
    panel.enter()
    assert panel.ui.applyButton.enabled
    t2.SetAndObserveTransformNodeID(None)
    t2.SetOrigin(500.0, 0.0, 0.0)
    panel.enter()
    assert "T2 and bSSFP show different places" in panel.ui.stateText.text
    empty = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    row(panel, "T2").selector.setCurrentNode(empty)
    assert "empty holds no image" in panel.ui.stateText.text and not panel.ui.applyButton.enabled


def test_ready_says_what_would_happen(panel: Any) -> None:
    select_roles(panel, bSSFP=heart(), T2=heart("t2"))
    ready, hint = panel.ui.stateText.text.splitlines()
    assert ready == "Ready: LGE is made from bSSFP and T2: 3 slices of 16 x 16"
    assert hint == "A preview tells how long Apply will take."


# What a person should know.


def test_lesions_and_simulated_training_are_always_warned_of(panel: Any) -> None:
    select_roles(panel)
    assert "A lesion in a synthetic LGE can be wrong, missing or invented, above all without T1 images." in notes(panel)
    assert "This model has learnt from: real bSSFP; T2 and LGE are simulated." in notes(panel)
    panel.parameters.synthesisPack = "brain"
    assert "A lesion in a synthetic FLAIR can be wrong" in notes(panel)
    assert "without T1" not in notes(panel) and "simulated" not in notes(panel)


def test_what_is_not_given_is_told(panel: Any) -> None:
    select_roles(panel, bSSFP=heart())
    assert "T2 is not given: the result is made without it, and less certain." in notes(panel)
    row(panel, "T2").selector.setCurrentNode(heart("t2"))
    assert "not given" not in notes(panel)


def test_another_geometry_is_told(panel: Any) -> None:
    select_roles(panel, bSSFP=heart(), T2=heart("t2"))
    assert "geometry" not in notes(panel)
    other = heart("shifted")
    other.SetOrigin(0.7, 0.0, 0.0)
    row(panel, "T2").selector.setCurrentNode(other)
    assert "T2 has another geometry than bSSFP and will be resampled onto it." in notes(panel)
    row(panel, "T2").selector.setCurrentNode(heart("finer", 1.0, (3, 16, 16)))
    assert "will be resampled" in notes(panel) and panel.ui.applyButton.enabled


def test_plane_pixels_and_field_of_view_that_the_pack_has_not_seen(panel: Any) -> None:
    packs = [synthesis_pack("axial", domain={"plane": "axial", "median": {}})]
    panel._list_packs = lambda: packs
    panel.enter()
    upright = heart(size=(3, 32, 32))
    upright.SetIJKToRASDirections(1, 0, 0, 0, 0, 1, 0, -1, 0)
    select_roles(panel, "axial", bSSFP=upright)
    assert "turned by 90 degrees" in notes(panel)
    assert "64 x 64 mm" in notes(panel) and "pixels of 2.00 mm" in notes(panel)


def test_brightness_that_the_pack_has_not_seen_is_asked_about(panel: Any) -> None:
    packs = [synthesis_pack("dim", domain={"plane": "any", "median": {"bSSFP": [0.01, 0.05], "T2": [0.0, 1.0]}})]
    panel._list_packs = lambda: packs
    panel.enter()
    select_roles(panel, "dim", bSSFP=heart(), T2=heart("t2"))
    assert "bSSFP is not as bright" in notes(panel) and "T2 is not as bright" not in notes(panel)
    assert panel.ui.applyButton.enabled
    # New voxels are looked at anew.
    slicer.util.arrayFromVolume(row(panel, "T2").selector.currentNode())[:] = 0
    slicer.util.arrayFromVolume(row(panel, "bSSFP").selector.currentNode())[:] = 0
    for role in ("bSSFP", "T2"):
        slicer.util.arrayFromVolumeModified(row(panel, role).selector.currentNode())
    panel.parameters.parameterNode.Modified()
    assert "not as bright" not in notes(panel)


def test_synthetic_input_is_told(panel: Any) -> None:
    volume = heart()
    volume.SetAttribute(nodes.SYNTHETIC, "1")
    select_roles(panel, bSSFP=volume)
    assert "cine is itself SYNTHETIC" in notes(panel)


# Runs.


@pytest.fixture
def drawn(scene: Any) -> Iterator[Any]:
    """The slice views with their mark."""
    slicer.app.make_views()
    mark = views.SyntheticMark(scene, slicer.app.layoutManager())
    yield slicer.app.layoutManager().sliceWidget("Red")
    mark.remove()
    slicer.util.setSliceViewerLayers(background=None, foreground=None)


def amber(view: Any) -> int:
    pixels = view.pixels().astype(int)
    return int(((pixels[..., 0] > 150) & (pixels[..., 2] < 100)).sum())


def test_result_is_named_marked_shown_and_traceable(panel: Any, drawn: Any) -> None:
    cine, t2 = heart(), heart("t2")
    cine.GetDisplayNode().AutoWindowLevelOff()
    cine.GetDisplayNode().SetWindowLevel(3.0, 2.0)
    select_roles(panel, bSSFP=cine, T2=t2)
    row(panel, "T2").scale.value = 1.0
    panel.parameters.synthesisGuidance, panel.parameters.seed = "nested", 7
    result = run(panel)
    chosen = "bSSFP 1.5, T2 1.0, nested, regression 0.6; seed 7, 4 samples"
    assert result.GetName() == f"SYNTHETIC LGE of cine; {chosen}"
    deviation = panel.logic.results["standard_deviation"]
    assert deviation.GetName() == f"SYNTHETIC LGE standard deviation of cine; {chosen}"
    assert nodes.is_synthetic(result) and nodes.is_synthetic(deviation)
    request = nodes.provenance_of(result)["request"]
    assert request["task"] == "synthesis" and request["inputs"] == {"bSSFP": "cine", "T2": "t2"}
    assert request_from_provenance(result.GetAttribute(nodes.PROVENANCE)).settings == panel._captured().settings
    count = result.GetNumberOfNodeReferences(nodes.INPUT_REFERENCE)
    assert [result.GetNthNodeReference(nodes.INPUT_REFERENCE, n) for n in range(count)] == [cine, t2]
    composite = drawn.mrmlSliceCompositeNode()
    assert (composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID()) == (result.GetID(), cine.GetID())
    assert amber(drawn) > 100
    display = result.GetDisplayNode()  # no input has the target's contrast
    low, high = np.percentile(slicer.util.arrayFromVolume(result), (0.1, 99.9))
    assert (display.GetWindow(), display.GetLevel()) == pytest.approx((high - low, (high + low) / 2))


def test_widgets_do_not_change_a_request_that_runs(panel: Any) -> None:
    cine, t2 = heart(), heart("t2")
    select_roles(panel, "slow-cardiac", bSSFP=cine, T2=t2)
    panel.ui.applyButton.click()
    targets = panel.sections["synthesis"]._target.widget
    row(panel, "T2").scale.value = 9.0
    row(panel, "T2").selector.setCurrentNode(None)
    row(panel, "bSSFP").selector.setCurrentNode(heart("other"))
    targets.setCurrentIndex(targets.findText("T2"))
    panel.ui.packList.setCurrentIndex(2)
    panel.taskButtons["superresolution"].click()
    assert not panel.ui.applyButton.enabled and panel.ui.cancelButton.enabled
    assert panel.ui.stateText.text == panel.logic.message
    wait_for(lambda: not panel.logic.busy)
    assert panel.logic.state == State.DONE
    result = panel.logic.results["result"]
    assert result.GetName().startswith("SYNTHETIC LGE of cine; bSSFP 1.5, T2 1.5, averaged")
    assert nodes.provenance_of(result)["request"]["inputs"] == {"bSSFP": "cine", "T2": "t2"}
    select(panel, heart("low"))
    assert run(panel).GetName().startswith("SYNTHETIC SR of low")


def test_deleting_any_input_stops_the_run(panel: Any, scene: Any) -> None:
    t2 = heart("t2")
    select_roles(panel, "slow-cardiac", bSSFP=heart(), T2=t2)
    panel.ui.applyButton.click()
    wait_for(lambda: panel.logic.state == State.RUNNING)
    scene.RemoveNode(t2)
    wait_for(lambda: not panel.logic.busy)
    assert "t2 was deleted" in panel.ui.stateText.text and panel.logic.results == {}
    assert roles.volume_of(panel.parameters.parameterNode, "T2") is None and panel.ui.applyButton.enabled


def test_run_section_shows_without_scrolling(panel: Any) -> None:
    select_roles(panel, bSSFP=heart(), T2=heart("t2"))
    panel.widget.resize(440, 560)  # what the application leaves of a window of 940 pixels
    panel.widget.show()
    panel.ui.samplingSection.collapsed = False
    slicer.app.processEvents()
    for widget in (panel.ui.applyButton, panel.ui.cancelButton, panel.ui.stateText):
        assert widget.visible and widget.geometry.bottom() < panel.widget.height
    assert panel.ui.settingsArea.widget() is panel.ui.settingsBox


def test_the_state_is_not_cut_off_in_slicers_own_scroll_area(panel: Any) -> None:
    """Slicer shows a module in a scroll area, which asks for the height that the panel would like to have."""
    select_roles(panel, bSSFP=heart(), T2=heart("t2"))
    for section in ("samplingSection", "resultsSection", "compareSection"):
        getattr(panel.ui, section).collapsed = False
    panel.logic.message = " ".join(40 * ["words"])
    panel._update()
    area, frame = qt.QScrollArea(), qt.QWidget()
    layout = qt.QVBoxLayout(frame)
    layout.addWidget(qt.QPushButton("Help && Acknowledgement"))
    layout.addWidget(panel.widget, 1)
    area.setWidgetResizable(True)
    area.setWidget(frame)
    area.resize(580, 400)
    area.show()
    slicer.app.processEvents()
    assert area.verticalScrollBar().maximum == 0
    for widget in (panel.ui.applyButton, panel.ui.stateText):
        bottom = widget.mapTo(area, widget.rect.bottomLeft()).y()
        assert 0 < bottom < area.height and widget.height >= widget.heightForWidth(widget.width)
    assert panel.ui.settingsArea.height > 120  # which gets what is left
    panel.widget.setParent(None)
    area.deleteLater()


# The scene.


@pytest.mark.parametrize("suffix", [".mrb", ".mrml"])
def test_saved_scene_brings_the_choices_back(panel: Any, scene: Any, tmp_path: Path, suffix: str) -> None:
    select_roles(panel, bSSFP=heart("cine"), T2=heart("t2"))
    row(panel, "bSSFP").scale.value = 2.5
    panel.parameters.synthesisStart, panel.parameters.synthesisStrength = "bSSFP", 0.25
    before = panel._captured().settings
    folder = tmp_path / "saved"
    folder.mkdir()
    assert slicer.util.saveScene(str(folder / f"scene{suffix}"))

    scene.Clear()
    assert panel.parameters.task == "superresolution" and panel.taskButtons["superresolution"].checked
    slicer.util.loadScene(str(folder / f"scene{suffix}"), {"clear": True})

    assert panel.taskButtons["synthesis"].checked
    assert panel._captured().settings == before
    assert (row(panel, "bSSFP").selector.currentNode().GetName(), row(panel, "bSSFP").scale.value) == ("cine", 2.5)
    assert row(panel, "T2").selector.currentNode().GetName() == "t2"
    assert panel.widgets["synthesisStrength"].value == 0.25 and panel.ui.applyButton.enabled
    assert run(panel) is not None


def test_scene_of_the_first_version_opens_as_it_was(panel: Any, scene: Any) -> None:
    """It knew one task and none of the new parameters."""
    node = panel.parameters.parameterNode
    panel._unbind()
    for name in node.GetParameterNames():
        if name in ("task", "device") or name.startswith("synthesis"):
            node.UnsetParameter(name)
    node.SetParameter("weight", "0.25")
    panel.enter()
    assert panel.parameters.task == "superresolution" and panel.widgets["weight"].value == 0.25


# The sample and the real worker.


def test_sample_comes_with_one_click_and_the_truth_is_not_an_input(panel: Any) -> None:
    select_roles(panel, "brain")  # which the sample does not suit
    panel.ui.sampleButton.click()
    assert panel.parameters.synthesisPack == "cardiac"
    assert row(panel, "bSSFP").selector.currentNode().GetName() == "cardiac-bssfp"
    assert row(panel, "T2").selector.currentNode().GetName() == "cardiac-t2 (simulated)"
    assert panel.parameters.synthesisTarget == "LGE" and panel.ui.applyButton.enabled
    (truth,) = [n for n in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if "simulated truth" in n.GetName()]
    assert truth not in panel._captured().inputs.values()
    assert panel.compare.reference.currentNode() is truth


def test_sample_button_is_hidden_where_the_files_are_missing(panel: Any, tmp_path: Path) -> None:
    panel.widget.show()
    panel.taskButtons["synthesis"].click()
    assert panel.ui.sampleButton.visible
    panel._samples = tmp_path
    panel.enter()
    assert not panel.ui.sampleButton.visible


@pytest.mark.torch
def test_synthesis_with_the_real_worker(
    scene: Any, tiny_synthesis_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from MRDiffusion import MRDiffusionLogic

    monkeypatch.setenv("MRDIFFUSION_PACKS", str(tiny_synthesis_pack.parent))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    packs = [read_info(tiny_synthesis_pack)]
    panel = panel_module().Panel(MRDiffusionLogic().getParameterNode, MODULE.parent / "Resources", None, lambda: packs)
    try:
        cine, t2 = heart(size=(3, 36, 40)), heart("t2", 2.5, (3, 36, 40))
        for volume in (cine, t2):
            set_affine(volume, oblique(left_handed=False) @ np.diag([2 / 1.7, 2 / 0.6, 8 / 5, 1]))
        t2.SetSpacing(2.5, 2.5, 8.0)
        select_roles(panel, packs[0].name, bSSFP=cine, T2=t2)
        panel.parameters.synthesisSteps, panel.parameters.synthesisSamples = 2, 2
        assert "T2 has another geometry than bSSFP and will be resampled onto it." in notes(panel)
        result = run(panel)
        assert result is not None, panel.ui.stateText.text
        assert "was resampled onto it" in panel.ui.stateText.text
        values = slicer.util.arrayFromVolume(result)
        assert values.shape == (3, 32, 32) and values.min() >= 0 and values.max() <= 1000
        # In RAS the result lies on the slices of the first volume, around what that shows.
        mine, its = affine(result), affine(cine)
        np.testing.assert_allclose(mine[:3, :3], its[:3, :3], atol=1e-6)
        offset = np.linalg.inv(its) @ mine @ [15.5, 15.5, 1.0, 1.0]
        np.testing.assert_allclose(offset[:3], [19.5, 17.5, 1.0], atol=1.0)
        assert nodes.provenance_of(result)["pack"]["name"] == packs[0].name
        assert result.GetName() == (
            "SYNTHETIC LGE of cine; bSSFP 1.5, T2 1.5, averaged, regression 0.6; seed 0, 2 samples"
        )
        assert slicer.util.arrayFromVolume(panel.logic.results["standard_deviation"]).max() > 0
    finally:
        panel.cleanup()
    assert list(tmp_path.iterdir()) == []
