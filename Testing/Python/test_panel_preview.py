"""The preview of the slice in view: where it lies, when it is computed again, and what it gives way to."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import slicer
import slicer.util
from MRDiffusionPanel import grids, live_preview, nodes, views
from MRDiffusionPanel.logic import State
from panel_support import add_volume, run, select, select_roles, wait_for
from test_panel_run import oblique, set_affine

pytest_plugins = ["panel_fixtures"]


@pytest.fixture
def red(scene: Any) -> Iterator[Any]:
    """The view whose plane is axial, as the slices of the tests' volumes are."""
    slicer.app.make_views()
    yield slicer.app.layoutManager().sliceWidget("Red")
    slicer.util.setSliceViewerLayers(background=None, foreground=None)


def volumes() -> list[str]:
    return [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")]


def previews() -> list[Any]:
    found = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    return [node for node in found if "preview" in node.GetName()]


def preview(panel: Any) -> Any:
    """Press the button and wait for the image."""
    assert panel.ui.previewButton.enabled
    panel.ui.previewButton.click()
    return resting(panel)


def resting(panel: Any) -> Any:
    """The preview when all that was asked for is done."""
    again = panel.preview._timer
    wait_for(lambda: not panel.logic.busy and not again.active)
    (node,) = previews()
    return node


def show(panel: Any, red: Any, slice_number: int, pack: str = "quick", size: tuple[int, int, int] = (5, 8, 8)) -> Any:
    """An input in the views, at one of its slices."""
    low = add_volume(size=size)
    select(panel, low, pack)
    views.show_input(low)
    red.mrmlSliceNode().SetSliceOffset(5.0 * slice_number)
    return low


def test_preview_is_the_slice_in_view_behind_its_faded_input(panel: Any, red: Any) -> None:
    low = show(panel, red, 3)
    panel.parameters.samples, panel.parameters.steps = 4, 50
    node = preview(panel)
    shown = slicer.util.arrayFromVolume(node)
    whole = slicer.util.arrayFromVolume(low)[3]
    np.testing.assert_array_equal(shown, [whole.repeat(2, 0).repeat(2, 1)])
    assert node.GetOrigin()[2] == low.GetOrigin()[2] + 3 * 5.0
    composite = red.mrmlSliceCompositeNode()
    assert (composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID()) == (node.GetID(), low.GetID())
    assert composite.GetForegroundOpacity() == 0.0
    green = slicer.app.layoutManager().sliceWidget("Green").mrmlSliceCompositeNode()
    assert (green.GetBackgroundVolumeID(), green.GetForegroundVolumeID()) == (low.GetID(), None)
    assert node.GetName().startswith("SYNTHETIC preview of slice 4, SR of low; 16x16") and nodes.is_synthetic(node)
    request = nodes.provenance_of(node)["request"]
    assert request["slices"] == [3]
    assert (request["settings"]["samples"], request["settings"]["steps"]) == (1, 10)
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    assert not hierarchy.GetItemChildWithName(hierarchy.GetSceneItemID(), nodes.FOLDER)
    assert "slice 4, 10 steps, one sample" in panel.ui.stateText.text


def test_preview_follows_settings_and_slice_and_there_is_one(panel: Any, red: Any) -> None:
    show(panel, red, 1)
    display = preview(panel).GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevel(33.0, 11.0)
    panel.widgets["weight"].value = 0.25
    changed = resting(panel)
    assert "lambda 0.25" in changed.GetName() and len(volumes()) == 2
    assert (changed.GetDisplayNode().GetWindow(), changed.GetDisplayNode().GetLevel()) == (33.0, 11.0)
    red.mrmlSliceNode().SetSliceOffset(20.0)
    assert red.mrmlSliceCompositeNode().GetForegroundOpacity() == 1.0  # the input, until there is another preview
    assert "slice 5" in resting(panel).GetName()
    assert red.mrmlSliceCompositeNode().GetForegroundOpacity() == 0.0


def forming() -> list[Any]:
    return [node for node in previews() if "forming" in node.GetName()]


def test_steps_of_the_denoising_are_seen(panel: Any, red: Any) -> None:
    low = show(panel, red, 3, "slow")
    panel.parameters.steps = 10
    panel.ui.previewButton.click()
    composite = red.mrmlSliceCompositeNode()
    wait_for(lambda: bool(forming()))
    (node,) = forming()
    assert composite.GetBackgroundVolumeID() == node.GetID() and nodes.is_synthetic(node)
    assert composite.GetForegroundOpacity() == 0.0 and node.GetOrigin()[2] == low.GetOrigin()[2] + 3 * 5.0
    whole = slicer.util.arrayFromVolume(low)[3]
    first = slicer.util.arrayFromVolume(node)[0] - whole
    wait_for(lambda: (slicer.util.arrayFromVolume(node)[0] - whole).max() > first.max() + 0.5)
    made = resting(panel)
    assert forming() == [] and composite.GetBackgroundVolumeID() == made.GetID()


def test_newer_wish_stops_the_older_one(panel: Any, red: Any) -> None:
    show(panel, red, 1, "slow")
    before = preview(panel)
    panel.preview._timer.setInterval(20)
    panel.parameters.steps = 10
    wait_for(lambda: bool(forming()))
    composite = red.mrmlSliceCompositeNode()
    seen: list[Any] = []
    panel.logic.changed.connect(lambda: seen.append((panel.logic.state, composite.GetBackgroundVolumeID())))
    panel.widgets["weight"].value = 0.25
    assert "lambda 0.25" in resting(panel).GetName()
    stopped = [shown for state, shown in seen if state == State.IDLE]
    assert State.CANCELLING in [state for state, _shown in seen] and stopped[-1] == before.GetID()


def test_forming_image_that_fails_gives_way_to_what_was_there(panel: Any, red: Any) -> None:
    low = show(panel, red, 1, "slow")
    panel.parameters.steps = 10
    panel.ui.previewButton.click()
    wait_for(lambda: bool(forming()))
    panel.logic.worker.kill()
    wait_for(lambda: panel.logic.state == State.FAILED)
    assert previews() == [] and red.mrmlSliceCompositeNode().GetBackgroundVolumeID() == low.GetID()
    panel.widgets["weight"].value = 0.25
    resting(panel)


def test_forming_image_lies_where_the_worker_says(panel: Any, red: Any) -> None:
    low = show(panel, red, 3, "slow")
    set_affine(low, oblique(True))
    panel.parameters.steps = 10
    panel.ui.previewButton.click()
    wait_for(lambda: bool(forming()))
    (node,) = forming()
    number = views.slice_in_view(low)
    expected = grids.affine(low)
    expected[:3, 3] += number * expected[:3, 2]
    np.testing.assert_allclose(grids.affine(node), expected, atol=1e-4)
    resting(panel)


def test_second_thoughts_within_the_pause_show_the_preview_again(panel: Any, red: Any) -> None:
    show(panel, red, 1)
    node = preview(panel)
    composite = red.mrmlSliceCompositeNode()
    red.mrmlSliceNode().SetSliceOffset(10.0)
    assert composite.GetForegroundOpacity() == 1.0
    red.mrmlSliceNode().SetSliceOffset(5.0)
    assert composite.GetForegroundOpacity() == 0.0
    assert resting(panel) is node


def test_preview_that_comes_when_the_view_has_moved_on_does_not_hide_the_input(panel: Any, red: Any) -> None:
    show(panel, red, 1, "slow")
    panel.ui.previewButton.click()
    wait_for(lambda: panel.logic.state == State.RUNNING)
    red.mrmlSliceNode().SetSliceOffset(15.0)
    seen: list[float] = []
    panel.logic.finished.connect(lambda _results: seen.append(red.mrmlSliceCompositeNode().GetForegroundOpacity()))
    assert "slice 4" in resting(panel).GetName()
    assert seen == [1.0, 0.0]


def test_fading_and_what_is_compared_stay_while_settings_change(panel: Any, red: Any) -> None:
    show(panel, red, 1)
    preview(panel)
    composite, truth = red.mrmlSliceCompositeNode(), add_volume("truth")
    composite.SetForegroundOpacity(0.3)
    panel.widgets["weight"].value = 0.5
    resting(panel)
    assert composite.GetForegroundOpacity() == 0.3
    composite.SetForegroundVolumeID(truth.GetID())
    place = red.mrmlSliceNode().GetSliceOffset()
    panel.widgets["weight"].value = 0.25
    node = resting(panel)
    assert views.Layers.of(composite) == views.Layers(node.GetID(), truth.GetID(), 0.3)
    assert red.mrmlSliceNode().GetSliceOffset() == place


def test_name_tells_the_seed_that_was_used(panel: Any, red: Any) -> None:
    """Also where the last name is the beginning of the next, and where nothing that the name tells has changed."""
    show(panel, red, 1)
    panel.parameters.seed = 1
    assert preview(panel).GetName().endswith("; seed 1")
    panel.parameters.seed = 12
    assert resting(panel).GetName().endswith("; seed 12")
    panel.parameters.steps = 3
    node = resting(panel)
    assert node.GetName().endswith("; seed 12") and nodes.provenance_of(node)["request"]["settings"]["steps"] == 3


def test_window_is_not_carried_to_another_input(panel: Any, red: Any) -> None:
    show(panel, red, 1)
    display = preview(panel).GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevel(33.0, 11.0)
    panel.parameters.inputVolume = add_volume("other")
    assert resting(panel).GetDisplayNode().GetWindow() != 33.0


def test_unturned_view_is_turned_and_stays_where_it_is(panel: Any, red: Any) -> None:
    """Without the turn the preview of an oblique stack would be a strip on black."""
    low = add_volume(size=(5, 8, 8))
    low.SetIJKToRASDirections(0.8, 0.0, 0.6, 0.0, 1.0, 0.0, -0.6, 0.0, 0.8)
    select(panel, low)
    for name in slicer.app.layoutManager().sliceViewNames():
        slicer.app.layoutManager().sliceWidget(name).mrmlSliceNode().SetOrientationToDefault()
    slicer.util.setSliceViewerLayers(background=low, foreground=None, fit=True)
    place = views.slice_in_view(low)
    node = preview(panel)
    assert f"slice {place + 1}," in node.GetName() and views.slice_in_view(low) == place
    across = [red.mrmlSliceNode().GetSliceToRAS().GetElement(row, 2) for row in range(3)]
    np.testing.assert_allclose(np.abs(across), (0.6, 0.0, 0.8), atol=1e-6)


def test_another_sequence_of_the_same_place_stays_in_the_other_views(panel: Any, red: Any) -> None:
    bssfp, t2 = add_volume("bssfp", (5, 8, 8)), add_volume("t2", (5, 8, 8))
    select_roles(panel, bSSFP=bssfp, T2=t2)
    views.show_input(t2)
    red.mrmlSliceNode().SetSliceOffset(20.0)
    assert "slice 5" in preview(panel).GetName()
    panel.ui.previewButton.click()
    assert views.Layers.of(red.mrmlSliceCompositeNode()) == views.Layers(t2.GetID(), None, 0.0)
    assert red.mrmlSliceNode().GetSliceOffset() == 20.0


def test_view_that_is_not_in_the_layout_is_not_chosen(red: Any, scene: Any) -> None:
    low = add_volume()
    views.show_input(low)
    assert views.most_parallel_view(low) is red
    red.mrmlSliceNode().SetMappedInLayout(0)
    try:
        assert views.most_parallel_view(low) is not red
    finally:
        red.mrmlSliceNode().SetMappedInLayout(1)


def test_slider_that_is_dragged_is_followed_when_it_rests(panel: Any, red: Any) -> None:
    show(panel, red, 1)
    before = measured(preview(panel))
    for value in (0.9, 0.8, 0.7, 0.6):
        panel.widgets["weight"].value = value
        end = time.monotonic() + 0.1
        wait_for(lambda end=end: time.monotonic() > end)
    node = resting(panel)
    assert "lambda 0.6" in node.GetName() and measured(node) == before + 1


def measured(node: Any) -> int:
    """How many runs the worker has done by then."""
    import json

    runs: int = json.loads(node.GetAttribute(nodes.MEASUREMENTS))["runs"]
    return runs


def test_nothing_is_computed_twice(panel: Any, red: Any) -> None:
    show(panel, red, 1)
    node = preview(panel)
    panel.enter()
    red.mrmlSliceNode().SetFieldOfView(5.0, 5.0, 1.0)  # a zoom
    wait_for(lambda: not panel.preview._timer.active)
    assert resting(panel) is node


def test_a_slider_that_the_mouse_lets_go_is_followed_at_once(panel: Any, red: Any, monkeypatch) -> None:
    show(panel, red, 1)
    first = preview(panel).GetName()
    assert not live_preview.mouse_held()
    monkeypatch.setattr(live_preview, "mouse_held", lambda: True)
    panel.preview._timer.setInterval(10**6)  # so nothing comes of a pause
    for value in (0.25, 0.5, 0.75):
        panel.widgets["weight"].value = value
        slicer.app.processEvents()
    time.sleep(0.05)
    slicer.app.processEvents()
    assert not panel.logic.busy and previews()[0].GetName() == first
    monkeypatch.setattr(live_preview, "mouse_held", lambda: False)
    wait_for(lambda: panel.logic.busy)
    panel.preview._timer.setInterval(20)
    assert "lambda 0.75" in resting(panel).GetName()
    assert not panel.preview._release.active


def test_released_button_takes_the_preview_away(panel: Any, red: Any) -> None:
    show(panel, red, 1)
    preview(panel)
    panel.ui.previewButton.click()
    assert volumes() == ["low"] and panel.preview.Observations == []
    assert panel.ui.stateText.text.startswith("Ready: ")
    panel.widgets["weight"].value = 0.25
    assert not panel.preview._timer.active


def test_released_button_brings_back_what_was_in_view(panel: Any, red: Any) -> None:
    low = show(panel, red, 1)
    result = run(panel)
    preview(panel)
    assert "preview" in slicer.mrmlScene.GetNodeByID(red.mrmlSliceCompositeNode().GetBackgroundVolumeID()).GetName()
    panel.ui.previewButton.click()
    shown = views.Layers(result.GetID(), low.GetID(), 0.0)
    assert views.Layers.of(red.mrmlSliceCompositeNode()) == shown
    other = add_volume("other")
    views.show_input(other)
    preview(panel)
    panel.ui.previewButton.click()
    assert views.Layers.of(red.mrmlSliceCompositeNode()).back == other.GetID()
    other.SetOrigin(1000.0, 0.0, 0.0)
    preview(panel)  # nobody has seen its place yet
    panel.ui.previewButton.click()
    assert views.Layers.of(red.mrmlSliceCompositeNode()).back == low.GetID()


def test_another_input_is_previewed_and_stays(panel: Any, red: Any) -> None:
    """Whoever loads a sample while previews go on sees the sample, and so when they end."""
    show(panel, red, 1)
    preview(panel)
    other = add_volume("other")
    views.show_input(other)
    panel.parameters.inputVolume = other
    assert "SR of other" in resting(panel).GetName()
    third = add_volume("third")  # chosen and not shown
    panel.parameters.inputVolume = third
    assert "SR of third" in resting(panel).GetName()
    assert views.Layers.of(red.mrmlSliceCompositeNode()).front == third.GetID()
    panel.parameters.inputVolume = other
    resting(panel)
    panel.ui.previewButton.click()
    assert views.Layers.of(red.mrmlSliceCompositeNode()) == views.Layers(other.GetID(), None, 0.0)


def test_apply_does_not_wait_for_a_preview(panel: Any, red: Any) -> None:
    show(panel, red, 1, "slow")
    panel.ui.previewButton.click()
    wait_for(lambda: panel.logic.state == State.RUNNING)
    assert panel.logic.previewing and panel.ui.applyButton.enabled and not panel.ui.progressBar.visible
    assert "Previewing" in panel.ui.stateText.text
    panel.ui.applyButton.click()
    assert not panel.ui.previewButton.checked and not panel.ui.applyButton.enabled
    wait_for(lambda: panel.logic.state == State.DONE)
    assert volumes()[0] == "low" and volumes()[1].startswith("SYNTHETIC SR of low") and len(volumes()) == 2
    composite = red.mrmlSliceCompositeNode()
    assert composite.GetBackgroundVolumeID() == panel.logic.results["result"].GetID()


def test_what_apply_captured_is_forgotten_by_cancel(panel: Any, red: Any) -> None:
    show(panel, red, 1, "slow")
    panel.ui.previewButton.click()
    wait_for(lambda: panel.logic.state == State.RUNNING)
    panel.ui.applyButton.click()
    panel.ui.cancelButton.click()
    wait_for(lambda: not panel.logic.busy)
    assert volumes() == ["low"] and panel.ui.applyButton.enabled


@pytest.mark.parametrize("how", ["close", "delete"])
def test_what_apply_captured_goes_with_the_scene_or_its_input(panel: Any, red: Any, scene: Any, how: str) -> None:
    bssfp, t2 = add_volume("bssfp"), add_volume("t2")
    select_roles(panel, "slow-cardiac", bSSFP=bssfp, T2=t2)
    panel.ui.previewButton.click()
    wait_for(lambda: panel.logic.state == State.RUNNING)
    panel.ui.applyButton.click()
    assert panel.logic.busy and not panel.ui.previewButton.enabled
    scene.Clear() if how == "close" else scene.RemoveNode(t2)
    wait_for(lambda: not panel.logic.busy)
    assert panel.logic.results == {} and panel.logic._job is None
    if how == "delete":
        assert "t2 is no longer in the scene" in panel.ui.stateText.text
    select(panel, add_volume("again"))
    panel.taskButtons["superresolution"].click()
    assert run(panel) is not None


def test_previews_end_when_the_person_leaves_the_panel(panel: Any, red: Any) -> None:
    show(panel, red, 1)
    preview(panel)
    panel.exit()
    assert not panel.ui.previewButton.checked and volumes() == ["low"]


def test_worker_is_not_asked_for_pictures_of_a_run(panel: Any, red: Any) -> None:
    sent: list[dict[str, Any]] = []
    send = panel.logic.worker.send
    panel.logic.worker.send = lambda message: (sent.append(message), send(message))
    show(panel, red, 1)
    run(panel)
    assert [message["previews"] for message in sent] == [False]


def test_cancel_ends_previews(panel: Any, red: Any) -> None:
    show(panel, red, 1, "slow")
    panel.ui.previewButton.click()
    wait_for(lambda: panel.logic.state == State.RUNNING)
    panel.ui.cancelButton.click()
    wait_for(lambda: not panel.logic.busy)
    assert not panel.ui.previewButton.checked and volumes() == ["low"]


def test_no_preview_during_a_run(panel: Any, red: Any) -> None:
    show(panel, red, 1, "slow")
    panel.ui.applyButton.click()
    assert not panel.ui.previewButton.enabled
    wait_for(lambda: not panel.logic.busy)
    assert panel.ui.previewButton.enabled


def test_failure_is_shown_and_not_tried_again_by_itself(panel: Any, red: Any) -> None:
    show(panel, red, 1, "error")
    panel.ui.previewButton.click()
    wait_for(lambda: panel.logic.state == State.FAILED)
    wait_for(lambda: not panel.preview._timer.active)
    assert panel.logic.state == State.FAILED and "is odd" in panel.ui.stateText.text
    panel.parameters.pack = "quick"
    assert resting(panel) is not None


def test_killed_worker_is_started_by_the_next_change(panel: Any, red: Any) -> None:
    show(panel, red, 1)
    preview(panel)
    os.kill(panel.logic.worker._process.processId(), signal.SIGKILL)
    wait_for(lambda: panel.logic.worker._process is None)
    panel.widgets["weight"].value = 0.25
    assert "lambda 0.25" in resting(panel).GetName()


def test_closed_scene_ends_previews(panel: Any, red: Any, scene: Any) -> None:
    show(panel, red, 1)
    preview(panel)
    scene.Clear()
    assert not panel.ui.previewButton.checked and volumes() == []
    select(panel, add_volume("again"))
    assert run(panel) is not None


def test_deleted_preview_and_deleted_input(panel: Any, red: Any, scene: Any) -> None:
    low = show(panel, red, 1)
    scene.RemoveNode(preview(panel))
    panel.widgets["weight"].value = 0.25
    assert "lambda 0.25" in resting(panel).GetName()
    scene.RemoveNode(low)
    wait_for(lambda: not panel.preview._timer.active)
    assert "Not ready" in panel.ui.stateText.text
    panel.ui.previewButton.click()
    assert volumes() == [] and not panel.ui.previewButton.enabled


def test_preview_of_a_synthesis_has_its_own_contrast(panel: Any, red: Any) -> None:
    bssfp, t2 = add_volume("bssfp"), add_volume("t2")
    select_roles(panel, bSSFP=bssfp, T2=t2)
    bssfp.GetDisplayNode().AutoWindowLevelOff()
    bssfp.GetDisplayNode().SetWindowLevel(5.0, 3.0)
    node = preview(panel)
    assert node.GetName().startswith("SYNTHETIC preview of slice") and "LGE of bssfp" in node.GetName()
    assert node.GetDisplayNode().GetWindow() != 5.0


GRIDS = {
    "axial": np.diag([1.0, 1.0, 5.0]),
    "left-handed": np.diag([1.0, 1.0, -5.0]),
    "sagittal": np.array([[0.0, 0.0, 5.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]),
    "oblique": np.array([[0.8, 0.0, 3.0], [0.0, 1.0, 0.0], [-0.6, 0.0, 4.0]]),
}


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("moved", [False, True])
def test_slice_in_view_is_the_one_that_is_shown(red: Any, scene: Any, grid: str, moved: bool) -> None:
    volume = add_volume(size=(7, 8, 8))
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = GRIDS[grid], (12.0, -30.0, 7.0)
    volume.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix))
    if moved:
        transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        shift = np.eye(4)
        shift[:3, 3] = (40.0, 50.0, 60.0)
        transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(shift))
        volume.SetAndObserveTransformNodeID(transform.GetID())
        matrix = shift @ matrix
    views.show_input(volume)
    manager = slicer.app.layoutManager()
    for number in (0, 2, 6):
        for name in manager.sliceViewNames():
            place = matrix @ (3.5, 3.5, number + 0.2, 1.0)
            manager.sliceWidget(name).mrmlSliceNode().JumpSliceByOffsetting(*place[:3])
        assert views.slice_in_view(volume) == number


def test_slice_beside_the_volume_is_its_nearest_and_without_views_its_middle(
    red: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = add_volume(size=(7, 8, 8))
    views.show_input(volume)
    for offset, expected in ((-100.0, 0), (1000.0, 6)):
        red.mrmlSliceNode().SetSliceOffset(offset)
        assert views.slice_in_view(volume) == expected
    with monkeypatch.context() as without_views:
        without_views.setattr(slicer.app, "_layout", None)
        assert views.slice_in_view(volume) == 3
