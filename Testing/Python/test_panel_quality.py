"""Degrade and Enhance in the panel: rows, what is captured, results and their difference."""

from __future__ import annotations

import html
import re
from typing import Any

import numpy as np
import pytest
import slicer
import slicer.util
from MRDiffusionPanel import nodes
from MRDiffusionPanel.logic import State
from panel_support import add_volume, longest_block, run, slowness, wait_for

pytest_plugins = ["panel_fixtures"]


@pytest.fixture
def degrade(panel: Any) -> Any:
    """The panel at the task Degrade with a volume."""
    panel.taskButtons["degradation"].click()
    panel.parameters.degradationVolume = add_volume("brain", spacing=1.0)
    panel.parameters.degradationSteps = 3
    return panel


@pytest.fixture
def enhance(panel: Any) -> Any:
    """The panel at the task Enhance with a volume."""
    panel.taskButtons["enhancement"].click()
    panel.parameters.enhancementVolume = add_volume("brain", spacing=1.0)
    return panel


def shown(names: Any) -> list[str]:
    return [names.widget.itemText(i) for i in range(names.widget.count)]


def request_of(node: Any) -> dict[str, Any]:
    return nodes.provenance_of(node)["request"]


# Degrade.


def test_large_volume_does_not_block_the_main_thread(degrade: Any):
    """Slices of 256 x 256 pixels that go out as a file, come back and are shown; on a busy machine the first try may be
    disturbed."""
    degrade.parameters.degradationVolume = add_volume("large", (15, 256, 256), spacing=1.0)
    run(degrade)
    tries = (longest_block(degrade.ui.applyButton.click, lambda: not degrade.logic.busy) for _ in range(3))
    assert any(block < 0.05 * slowness() for block in tries)
    assert slicer.util.arrayFromVolume(degrade.logic.results["result"]).shape == (15, 256, 256)


def test_kinds_on_offer_are_those_of_the_packs_and_choose_them(degrade: Any):
    kind = degrade.sections["degradation"]._kind
    assert shown(kind) == ["noisy scan (noise)", "fast scan (blur)"]
    assert degrade.parameters.degradationPack == "noisy" and kind.widget.currentIndex == 0
    kind.widget.currentIndex = 1
    assert degrade.parameters.degradationPack == "fast" and degrade.ui.packList.currentText == "Test pack fast"
    degrade.ui.packList.currentIndex = 0
    assert kind.widget.currentIndex == 0


def test_the_meaning_of_the_level_follows_the_slider(degrade: Any):
    note = degrade.sections["degradation"]._meaning
    degrade.widgets["degradationLevel"].value = 0.5
    assert note.text == "signal-to-noise ratio 35% of the image's, as with 1 of 8 averages"
    degrade.sections["degradation"]._kind.widget.currentIndex = 1
    assert note.text == "2 times as fast a scan"
    degrade.widgets["degradationLevel"].value = 0.0
    assert note.text == "as the image is"


def test_a_degraded_volume_is_named_marked_and_shown_as_its_input(degrade: Any):
    degrade.widgets["degradationLevel"].value = 0.75
    node = run(degrade)
    assert node.GetName() == "SYNTHETIC low quality of brain; noise 0.75; seed 0" and nodes.is_synthetic(node)
    settings = request_of(node)["settings"]
    assert settings == {"kind": "noise", "level": 0.75, "steps": 3} and request_of(node)["pack"] == "noisy"
    display, given = (each.GetDisplayNode() for each in (node, nodes.input_of(node)))
    assert (display.GetWindow(), display.GetLevel()) == (given.GetWindow(), given.GetLevel())


def test_a_preview_has_few_steps(degrade: Any, scene: Any):
    degrade.parameters.degradationSteps = 50
    degrade.ui.previewButton.click()
    wait_for(lambda: not degrade.logic.busy and "preview" in degrade.logic.results)
    node = degrade.logic.results["preview"]
    assert request_of(node)["settings"]["steps"] == 10
    assert re.fullmatch(r"SYNTHETIC preview of slice \d, low quality of brain; noise 0.5; seed 0", node.GetName())


# Enhance.


def test_the_level_is_estimated_unless_a_person_sets_it(enhance: Any):
    section, level = enhance.sections["enhancement"], enhance.widgets["enhancementLevel"]
    assert not level.enabled and section._meaning.text == ""
    assert request_of(run(enhance))["settings"] == {"kind": "noise", "level": None}
    enhance.widgets["enhancementEstimated"].checked = False
    level.value = 1.0
    assert level.enabled and "as with 1 of 64 averages" in section._meaning.text
    section._kind.widget.currentIndex = 1
    node = run(enhance)
    assert request_of(node)["settings"] == {"kind": "blur", "level": 1.0}
    assert node.GetName() == "SYNTHETIC enhanced brain; blur, level 1.0"


def test_the_caution_stands_there_before_a_run(enhance: Any):
    assert "smoothed away or made up" in enhance.ui.warningText.text


def test_a_synthetic_input_is_told_in_every_task(degrade: Any):
    assert "is itself SYNTHETIC" not in degrade.ui.warningText.text
    made = run(degrade)
    for task, parameter in (
        ("enhancement", "enhancementVolume"),
        ("degradation", "degradationVolume"),
        ("superresolution", "inputVolume"),
    ):
        degrade.taskButtons[task].click()
        setattr(degrade.parameters, parameter, made)
        assert f"{made.GetName()} is itself SYNTHETIC" in html.unescape(degrade.ui.warningText.text), task


# Both.


@pytest.mark.parametrize("task", ["degradation", "enhancement"])
def test_nothing_is_asked_twice(panel: Any, scene: Any, task: str):
    """The scene's first volume is suggested, and the first model."""
    add_volume("brain", spacing=1.0)
    panel.taskButtons[task].click()
    assert panel.ui.applyButton.enabled, panel.ui.stateText.text
    assert getattr(panel.parameters, f"{task}Volume").GetName() == "brain"


@pytest.mark.parametrize("task", ["degradation", "enhancement"])
def test_the_sample_is_one_click(panel: Any, scene: Any, task: str):
    panel.taskButtons[task].click()
    assert "choose a volume, or load the sample" in panel.ui.stateText.text
    panel.ui.sampleButton.click()
    assert panel.ui.applyButton.enabled, panel.ui.stateText.text


def test_unusual_input_is_told(degrade: Any):
    volume = degrade.parameters.degradationVolume
    volume.SetSpacing(3.0, 1.0, 5.0)
    volume.SetIJKToRASDirections(1, 0, 0, 0, 0, -1, 0, 1, 0)
    degrade._update()
    told = degrade.ui.warningText.text
    assert "1 x 3 mm" in told and "turned by 90 degrees" in told


def test_every_task_says_what_its_result_is_not(panel: Any):
    """Whatever is chosen: a result that looks real must not be taken for it."""
    told = {"superresolution": "invented", "degradation": "not what a scanner would have measured"}
    told |= {"synthesis": "wrong, missing or invented", "enhancement": "smoothed away or made up"}
    assert set(told) == set(panel.taskButtons)
    for task, words in told.items():
        panel.taskButtons[task].click()
        assert words in panel.ui.warningText.text, task


def test_the_difference_is_the_result_less_its_input(degrade: Any, scene: Any):
    degrade.widget.show()
    assert not degrade.ui.differenceButton.visible
    node = run(degrade)
    assert degrade.ui.differenceButton.visible
    degrade.ui.differenceButton.click()
    wait_for(lambda: not degrade._background.busy)
    (difference,) = [
        each for each in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if "difference" in each.GetName()
    ]
    given = nodes.input_of(node)
    # The worker of these tests doubles its input.
    np.testing.assert_allclose(slicer.util.arrayFromVolume(difference), slicer.util.arrayFromVolume(given), rtol=1e-6)
    assert nodes.is_synthetic(difference) and difference.GetName().startswith(
        "SYNTHETIC difference, low quality of brain"
    )
    assert difference.GetDisplayNode().GetLevel() == 0.0
    np.testing.assert_allclose(difference.GetSpacing(), node.GetSpacing())
    np.testing.assert_allclose(difference.GetOrigin(), node.GetOrigin())


def test_the_difference_is_that_of_the_chosen_result(degrade: Any, scene: Any):
    degrade.widget.show()
    first = run(degrade)
    degrade.taskButtons["superresolution"].click()
    degrade.parameters.inputVolume, degrade.parameters.pack = add_volume("low"), "quick"
    run(degrade)
    assert not degrade.ui.differenceButton.visible
    degrade.results.choose(first)
    assert degrade.ui.differenceButton.visible
    degrade.ui.differenceButton.click()
    wait_for(lambda: not degrade._background.busy)
    slicer.util.getNode("SYNTHETIC difference, low quality of brain*")


def test_a_difference_whose_result_goes_meanwhile_is_not_shown(degrade: Any, scene: Any):
    degrade.widget.show()
    node = run(degrade)
    degrade.ui.differenceButton.click()
    assert not degrade.ui.differenceButton.enabled
    nodes.remove(node)
    wait_for(lambda: not degrade._background.busy)
    names = [each.GetName() for each in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")]
    assert names == ["brain"] and not degrade.ui.differenceButton.visible


def test_no_difference_without_the_input(degrade: Any, scene: Any):
    degrade.widget.show()
    node = run(degrade)
    assert degrade.ui.differenceButton.visible
    scene.RemoveNode(nodes.input_of(node))
    degrade._update()
    assert not degrade.ui.differenceButton.visible and degrade.logic.state == State.DONE


def test_super_resolution_has_no_difference(panel: Any, scene: Any):
    panel.widget.show()
    panel.taskButtons["superresolution"].click()
    panel.parameters.inputVolume = add_volume("low")
    run(panel)
    assert not panel.ui.differenceButton.visible


def test_a_task_without_a_model_has_no_button(panel: Any):
    panel.widget.show()
    assert all(button.visible for button in panel.taskButtons.values())
    panel._list_packs = lambda: [pack for pack in panel._installed if pack.task != "degradation"]
    panel.enter()
    assert [name for name, button in panel.taskButtons.items() if not button.visible] == ["degradation"]
    panel._list_packs = lambda: []
    panel.enter()
    assert all(button.visible for button in panel.taskButtons.values())
