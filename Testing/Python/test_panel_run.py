"""The panel's runs: from Apply to a node, cancel, and everything that can happen in between."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import slicer.util
import vtk
from MRDiffusionPanel import nodes
from MRDiffusionPanel.logic import State
from panel_support import add_volume, longest_block, make_panel, run, select, slowness, wait_for

pytest_plugins = ["panel_fixtures"]


def affine(node: Any) -> np.ndarray:
    """IJK to RAS, (4, 4)."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def set_affine(node: Any, values: np.ndarray) -> None:
    matrix = vtk.vtkMatrix4x4()
    slicer.util.updateVTKMatrixFromArray(matrix, values)
    node.SetIJKToRASMatrix(matrix)


def oblique(left_handed: bool) -> np.ndarray:
    """A rotated, anisotropic grid."""
    rotation = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    if (np.linalg.det(rotation) < 0) != left_handed:
        rotation[:, 0] *= -1
    values = np.eye(4)
    values[:3, :3] = rotation * (1.7, 0.6, 5.0)
    values[:3, 3] = (12.5, -40.0, 7.25)
    return values


def worker_process(panel: Any) -> int:
    return panel.logic.worker._process.processId()


def volumes(scene: Any) -> list[str]:
    return [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode", scene)]


def start_slow(panel: Any) -> Any:
    """A run that has begun and would last for some seconds."""
    low = add_volume()
    panel.parameters.steps = 50
    select(panel, low, "slow")
    panel.ui.applyButton.click()
    assert panel.logic.state == State.STARTING
    wait_for(lambda: panel.logic.state == State.RUNNING)
    return low


def can_run_again(panel: Any) -> bool:
    panel.parameters.steps = 2
    select(panel, add_volume("again"))
    return run(panel) is not None


def test_result_is_named_marked_and_traceable(panel: Any) -> None:
    low = add_volume()
    panel.parameters.seed, panel.parameters.weight = 7, 0.25
    select(panel, low)
    result = run(panel)
    assert panel.logic.state == State.DONE
    assert result.GetName() == "SYNTHETIC SR of low; 16x16, lambda 0.25, projection; seed 7"
    assert result.GetAttribute("MRDiffusion.Synthetic") == "1"
    provenance = nodes.provenance_of(result)
    assert provenance["synthetic"] and provenance["request"]["seed"] == 7
    assert provenance["request"]["settings"]["weight"] == 0.25
    assert provenance["request"]["inputs"] == {"low_resolution": "low"}
    assert result.GetNodeReference(nodes.INPUT_REFERENCE) is low
    assert result.GetStorageNode() is None
    assert nodes.provenance_of(low) is None


def test_input_is_left_as_it_was(panel: Any) -> None:
    low = add_volume()
    before = slicer.util.arrayFromVolume(low).copy(), affine(low), low.GetName(), low.GetAttributeNames()
    select(panel, low)
    run(panel)
    after = slicer.util.arrayFromVolume(low), affine(low), low.GetName(), low.GetAttributeNames()
    for one, other in zip(before, after):
        np.testing.assert_array_equal(one, other)
    assert low.GetStorageNode() is None


@pytest.mark.parametrize("left_handed", [False, True])
def test_result_lies_where_the_input_lies(panel: Any, left_handed: bool) -> None:
    low = add_volume(size=(3, 8, 10))
    set_affine(low, oblique(left_handed))
    panel.parameters.pack, panel.parameters.rows = "quick", 16
    panel.parameters.inputVolume = low
    result = run(panel)
    old, new = slicer.util.arrayFromVolume(low), slicer.util.arrayFromVolume(result)
    # The centre of each fine voxel, seen from the patient, lies in the coarse voxel whose value it must have.
    index = np.stack(np.meshgrid(*map(np.arange, new.shape), indexing="ij"), axis=-1).reshape(-1, 3)
    ras = index[:, ::-1] @ affine(result)[:3, :3].T + affine(result)[:3, 3]
    there = np.linalg.inv(affine(low))
    coarse = np.rint(ras @ there[:3, :3].T + there[:3, 3]).astype(int)
    np.testing.assert_array_equal(new[tuple(index.T)], old[tuple(coarse[:, ::-1].T)])
    assert new.shape == (3, 16, 16) and coarse.min() == 0
    assert (np.linalg.det(affine(result)[:3, :3]) < 0) == left_handed


def test_result_takes_over_transform_display_and_place(panel: Any, scene: Any) -> None:
    low = add_volume()
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
    low.SetAndObserveTransformNodeID(transform.GetID())
    display = low.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevel(50.0, 30.0)
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeInvertedGrey")
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "study")
    hierarchy.CreateItem(study, low)
    colours = slicer.vtkMRMLColorTableNode()
    colours.SetTypeToWarm1()
    colours.SetSingletonTag("FileInferno.txt")  # the application has it from a file,
    colours.SaveWithSceneOff()  # and leaves it out of saved scenes; a singleton also outlives this test
    scene.AddNode(colours)
    given = low.GetDisplayNode()
    given.SetInterpolate(0)
    given.SetThreshold(3.0, 90.0)
    given.ApplyThresholdOn()
    panel.parameters.samples = 2
    select(panel, low)
    result = run(panel)
    deviation = panel.logic.results["standard_deviation"]
    for node in (result, deviation):
        assert node.GetTransformNodeID() == transform.GetID()
        folder = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node))
        assert "SYNTHETIC" in hierarchy.GetItemName(folder)
        assert hierarchy.GetItemParent(folder) == study
    copied = result.GetDisplayNode()
    assert (copied.GetWindow(), copied.GetLevel(), copied.GetAutoWindowLevel()) == (50.0, 30.0, 0)
    assert copied.GetColorNodeID() == "vtkMRMLColorTableNodeInvertedGrey" and copied.GetInterpolate() == 0
    assert (copied.GetApplyThreshold(), copied.GetLowerThreshold(), copied.GetUpperThreshold()) == (1, 3.0, 90.0)
    assert deviation.GetDisplayNode() is not copied and deviation.GetDisplayNode().GetWindow() != 50.0
    assert deviation.GetDisplayNode().GetColorNode() is colours
    assert "SYNTHETIC" in deviation.GetName() and "standard deviation" in deviation.GetName()


def test_runs_share_one_warm_worker_and_get_names_of_their_own(panel: Any) -> None:
    select(panel, add_volume())
    first, second = run(panel), run(panel)
    assert nodes.provenance_of(first)["process"] == nodes.provenance_of(second)["process"]
    assert first is not second and first.GetName() != second.GetName()


def test_what_was_captured_at_apply_is_what_runs(panel: Any) -> None:
    low = add_volume()
    panel.parameters.seed = 1
    select(panel, low, "slow")
    panel.ui.applyButton.click()
    panel.widgets["seed"].value = 2
    panel.widgets["weight"].value = 0.5
    low.SetName("renamed")
    panel.parameters.inputVolume = add_volume("other")
    wait_for(lambda: not panel.logic.busy)
    result = panel.logic.results["result"]
    assert result.GetName() == "SYNTHETIC SR of low; 16x16, lambda 1.0, projection; seed 1"
    assert result.GetNodeReference(nodes.INPUT_REFERENCE) is low


def test_progress_is_shown_with_the_time_left(panel: Any) -> None:
    start_slow(panel)
    wait_for(lambda: panel.logic.fraction > 0.02)
    assert "slice 1 of 3" in panel.ui.stateText.text and "1 s left" in panel.ui.stateText.text
    assert panel.ui.progressBar.value == int(100 * panel.logic.fraction) > 0
    assert not panel.ui.applyButton.enabled and panel.ui.cancelButton.enabled


def test_cancel_stops_and_keeps_the_worker(panel: Any, scene: Any) -> None:
    start_slow(panel)
    process = worker_process(panel)
    panel.ui.cancelButton.click()
    assert panel.logic.state == State.CANCELLING and not panel.ui.cancelButton.enabled
    wait_for(lambda: not panel.logic.busy)
    assert volumes(scene) == ["low"] and panel.logic.results == {}
    assert panel.ui.stateText.text == "Cancelled" and panel.ui.applyButton.enabled
    assert can_run_again(panel) and worker_process(panel) == process


def test_cancel_kills_a_worker_that_does_not_listen(panel: Any, scene: Any) -> None:
    panel.logic.worker._timer.setInterval(100)
    select(panel, add_volume(), "hang")
    panel.ui.applyButton.click()
    wait_for(lambda: panel.logic.state == State.RUNNING)
    process = worker_process(panel)
    panel.ui.cancelButton.click()
    wait_for(lambda: not panel.logic.busy)
    assert panel.ui.stateText.text == "Cancelled"
    assert not Path(f"/proc/{process}").exists()
    assert can_run_again(panel)


def test_closing_the_scene_stops_the_run(panel: Any, scene: Any) -> None:
    start_slow(panel)
    scene.Clear()
    assert panel.logic.state == State.CANCELLING
    wait_for(lambda: not panel.logic.busy)
    assert volumes(scene) == []
    assert "scene was closed" in panel.ui.stateText.text and "choose a low-resolution volume" in panel.ui.stateText.text
    assert can_run_again(panel)


def test_result_that_is_gone_is_no_longer_announced(panel: Any, scene: Any) -> None:
    select(panel, add_volume())
    run(panel)
    assert panel.ui.stateText.text.startswith("Done in")
    scene.Clear()
    assert panel.ui.stateText.text.startswith("Not ready: choose a low-resolution volume")


def test_deleting_the_input_stops_the_run(panel: Any, scene: Any) -> None:
    low = start_slow(panel)
    scene.RemoveNode(low)
    wait_for(lambda: not panel.logic.busy)
    assert "low was deleted" in panel.ui.stateText.text
    assert volumes(scene) == [] and can_run_again(panel)


def test_deleting_another_node_does_not_stop_the_run(panel: Any, scene: Any) -> None:
    other = add_volume("other")
    select(panel, add_volume(), "slow")
    panel.ui.applyButton.click()
    scene.RemoveNode(other)
    wait_for(lambda: not panel.logic.busy)
    assert panel.logic.state == State.DONE


def test_killed_worker_costs_one_message(panel: Any, scene: Any) -> None:
    start_slow(panel)
    os.kill(worker_process(panel), signal.SIGKILL)
    wait_for(lambda: not panel.logic.busy)
    assert panel.logic.state == State.FAILED
    told = panel.ui.stateText.text
    assert "killed by the system, most often because the memory is full. Close other programs" in told
    assert volumes(scene) == ["low"] and panel.ui.applyButton.enabled
    assert can_run_again(panel)


def test_crash_shows_the_last_words(panel: Any) -> None:
    select(panel, add_volume(), "crash")
    assert run(panel) is None
    assert panel.logic.state == State.FAILED and "ended unexpectedly (code 3)" in panel.ui.stateText.text
    panel.widget.show()
    assert panel.ui.detailsSection.visible and "last words" in panel.ui.detailsText.plainText
    assert can_run_again(panel)
    assert panel.ui.detailsText.plainText == "" and not panel.ui.detailsSection.visible


def test_a_worker_that_memory_kills_in_mid_run_is_told_as_such(panel: Any) -> None:
    select(panel, add_volume(), "killed")
    assert run(panel) is None
    assert "most often because the memory is full" in panel.ui.stateText.text
    assert can_run_again(panel)


def test_every_change_for_lack_of_memory_is_told_when_it_happens(panel: Any) -> None:
    select(panel, add_volume(), "large")
    panel.ui.applyButton.click()
    wait_for(lambda: "step 1 of 4" in panel.ui.stateText.text)
    lines = panel.ui.stateText.text.splitlines()
    assert [line.partition(": computed ")[2] for line in lines[1:]] == ["16 at a time.", "on the CPU instead."]
    wait_for(lambda: not panel.logic.busy)


def test_the_text_after_a_run_says_where_it_was_computed(panel: Any, scene: Any) -> None:
    select(panel, add_volume())
    run(panel)
    first = panel.ui.stateText.text.splitlines()[0]
    assert first.startswith("Done in ") and " s on CPU: SYNTHETIC SR of low" in first


def test_worker_that_dies_at_rest_is_started_again(panel: Any) -> None:
    select(panel, add_volume())
    run(panel)
    os.kill(worker_process(panel), signal.SIGKILL)
    wait_for(lambda: panel.logic.worker._process is None)
    assert panel.logic.state == State.DONE
    assert can_run_again(panel)


def test_error_names_the_thing_and_the_way_out_until_the_next_run(panel: Any) -> None:
    select(panel, add_volume(), "error")
    assert run(panel) is None
    panel.parameters.seed = 3
    assert panel.ui.stateText.text == "Failed: the low-resolution volume is odd. Choose another"
    assert can_run_again(panel) and "odd" not in panel.ui.stateText.text


@pytest.mark.parametrize("command", ["/nonexistent/python", ""])
def test_worker_that_cannot_start_is_a_failure(scene: Any, command: str) -> None:
    panel = make_panel([command])
    select(panel, add_volume())
    panel.ui.applyButton.click()
    wait_for(lambda: not panel.logic.busy)
    assert panel.logic.state == State.FAILED
    assert ("cannot be started" if command else "PythonSlicer was not found") in panel.ui.stateText.text
    panel.cleanup()


def test_temporary_folder_that_is_gone_is_a_failure(panel: Any, scene: Any) -> None:
    select(panel, add_volume())
    run(panel)
    parent = panel.logic._folder.path
    shutil.rmtree(parent)
    panel.ui.applyButton.click()
    assert panel.logic.state == State.FAILED and str(parent) in panel.ui.stateText.text
    assert panel.logic._job is None and panel.ui.applyButton.enabled
    parent.mkdir()
    assert can_run_again(panel)


def test_unreadable_result_is_a_failure(panel: Any, scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise KeyError("role")

    monkeypatch.setattr(nodes, "add_results", fail)
    select(panel, add_volume())
    assert run(panel) is None
    assert panel.logic.state == State.FAILED and "KeyError" in panel.logic.details
    assert volumes(scene) == ["low"]


def test_cleanup_in_mid_run_leaves_nothing(panel: Any, scene: Any) -> None:
    start_slow(panel)
    process = worker_process(panel)
    panel.cleanup()  # the fixture looks for files, observers and processes
    assert not Path(f"/proc/{process}").exists()
    scene.Clear()


def test_a_run_can_be_undone(panel: Any, scene: Any) -> None:
    low = add_volume()
    select(panel, low)
    scene.SetUndoOn()
    try:
        run(panel)
        assert len(volumes(scene)) == 2
        scene.Undo()
        assert volumes(scene) == ["low"]
    finally:
        scene.ClearUndoStack()
        scene.ClearRedoStack()
        scene.SetUndoOff()


def test_main_thread_is_never_blocked(panel: Any) -> None:
    select(panel, add_volume(size=(20, 16, 16), spacing=1.0))
    panel.parameters.rows = panel.parameters.columns = 16
    run(panel)  # Python's imports and Qt's first drawing are not the run's
    # On a busy machine one try may be disturbed.
    tries = (longest_block(panel.ui.applyButton.click, lambda: not panel.logic.busy) for _ in range(3))
    assert any(block < 0.05 * slowness() for block in tries)


def test_kill_reaches_what_a_launcher_has_started(tmp_path: Path) -> None:
    """PythonSlicer is a launcher: killing it alone would leave the worker running."""
    import subprocess

    from MRDiffusionPanel.worker import descendants, kill_tree

    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    launcher = subprocess.Popen([sys.executable, "-c", code])
    wait_for(lambda: len(descendants(launcher.pid)) == 1)
    (child,) = descendants(launcher.pid)
    kill_tree(launcher.pid)
    launcher.wait(5)
    wait_for(lambda: not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2])
