"""Many images with one click: the frames of a cine, some volumes, the files of a folder."""

from __future__ import annotations

import csv
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import qt
import slicer
import slicer.util
from MRDiffusionPanel import folder_batch, grids, nodes, results, views
from MRDiffusionPanel import sequences as sequence_nodes
from panel_support import add_volume, save_scene_as_older_slicers, select, select_roles, wait_for

pytest_plugins = ["panel_fixtures"]


def add_cine(name: str, frames: int = 3, size: tuple[int, int, int] = (2, 8, 8), spacing: float = 2.0) -> Any:
    """A sequence whose frames are told by their brightest voxel; gives the volume that its browser shows."""
    scene = slicer.mrmlScene
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", name)
    sequence.SetIndexName("trigger delay")
    sequence.SetIndexUnit("ms")
    for number in range(frames):
        volume = slicer.vtkMRMLScalarVolumeNode()
        values = np.random.default_rng(number).uniform(1, 50, size).astype(np.float32)
        values[0, 0, 0] = 100 + number
        slicer.util.updateVolumeFromArray(volume, values)
        volume.SetSpacing(spacing, spacing, 5.0)
        sequence.SetDataNodeAtValue(volume, str(40 * number))
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", f"{name} browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    shown = browser.GetProxyNode(sequence)
    shown.CreateDefaultDisplayNodes()
    return shown


def choose(panel: Any, text: str) -> None:
    names = [panel.many.what.widget.itemText(number) for number in range(panel.many.what.widget.count)]
    panel.many.what.widget.currentIndex = next(n for n, name in enumerate(names) if text in name)


def run(panel: Any) -> str:
    assert panel.many.runButton.enabled, panel.many.runButton.toolTip
    panel.many.runButton.click()
    wait_for(lambda: not panel.many.busy and not panel.logic.busy)
    return panel.many.text.text


def peak(volume: Any) -> float:
    return float(slicer.util.arrayFromVolume(volume).max())


def sequences() -> dict[str, Any]:
    return {node.GetName(): node for node in slicer.util.getNodesByClass("vtkMRMLSequenceNode")}


def test_every_frame_of_a_cine_gives_a_frame_of_a_sequence(panel: Any) -> None:
    shown = add_cine("cine")
    browser = sequence_nodes.browser_of(shown)
    browser.SetSelectedItemNumber(1)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    shown.SetAndObserveTransformNodeID(transform.GetID())
    shown.GetDisplayNode().AutoWindowLevelOff()
    shown.GetDisplayNode().SetWindowLevel(33.0, 11.0)
    select(panel, shown)
    panel.parameters.samples = 2
    choose(panel, "all 3 frames of cine")
    text = run(panel)
    assert "3 of 3 frames play as SYNTHETIC" in text
    made = {name: node for name, node in sequences().items() if name != "cine"}
    assert len(made) == 2 and all(
        nodes.is_synthetic(node) and name.startswith("SYNTHETIC") for name, node in made.items()
    )
    result = next(node for name, node in made.items() if "deviation" not in name)
    assert (result.GetIndexName(), result.GetIndexUnit()) == ("trigger delay", "ms")
    assert [result.GetNthIndexValue(number) for number in range(3)] == ["0", "40", "80"]
    for number in range(3):
        frame = result.GetNthDataNode(number)
        assert peak(frame) == 100 + number and nodes.is_synthetic(frame)
        assert nodes.provenance_of(frame)["request"]["inputs"] == {"low_resolution": "cine"}
    # They play together, and the cine stands where it stood.
    proxy = browser.GetProxyNode(result)
    assert browser.GetSelectedItemNumber() == 1 and peak(proxy) == 101 and peak(shown) == 101
    browser.SetSelectedItemNumber(2)
    assert peak(proxy) == 102 and peak(shown) == 102 and nodes.is_synthetic(proxy)
    assert proxy.GetTransformNodeID() == transform.GetID()
    display = shown.GetDisplayNode()
    assert (proxy.GetDisplayNode().GetWindow(), proxy.GetDisplayNode().GetLevel()) == (33.0, 11.0)
    assert proxy.GetDisplayNode() is not display
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    assert hierarchy.GetItemName(hierarchy.GetItemParent(hierarchy.GetItemByDataNode(proxy))) == nodes.FOLDER
    volumes = [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")]
    assert len(volumes) == 3  # the cine and what shows the two sequences; nothing of single frames
    slicer.app.processEvents()
    assert [node for node, _name in panel.results._listed] == [proxy]  # one result, whatever frame is seen


def test_the_scene_may_close_before_a_cine_plays(panel: Any) -> None:
    waiting: list[Any] = []
    panel.several._later = waiting.append
    select(panel, add_cine("cine"))
    choose(panel, "all 3 frames of cine")
    panel.many.runButton.click()
    wait_for(lambda: bool(waiting))
    assert panel.several.busy
    slicer.mrmlScene.Clear(0)
    waiting.pop()()
    assert not panel.several.busy and "scene was closed" in panel.several.message


@pytest.fixture
def played(panel: Any) -> Any:
    """The volume that shows the result of a cine; it has a standard deviation."""
    select(panel, add_cine("cine"))
    panel.parameters.samples = 2
    choose(panel, "all 3 frames of cine")
    run(panel)
    slicer.app.processEvents()
    ((node, _name),) = panel.results._listed
    assert panel.results.current is node
    return node


def test_a_cine_is_one_result_with_its_story(panel: Any, played: Any) -> None:
    browser = sequence_nodes.browser_of(played)
    for number in range(3):
        browser.SetSelectedItemNumber(number)
        slicer.app.processEvents()
        assert [node for node, _name in panel.results._listed] == [played] and panel.results.current is played
        assert nodes.inputs_of(played) == [panel.parameters.inputVolume]
        told = " ".join(results.story(played))
        assert "one of 3 frames" in told and "from cine (low resolution)" in told and "seed 0" in told
    deviation = results.deviation_of(played)
    assert sequence_nodes.sequence_of(deviation).GetNumberOfDataNodes() == 3
    panel.results.deviation.click()
    assert "one of 3 frames" in panel.results.text.text
    for name in ("again", "dicom"):
        panel.results.buttons[name].click()
        assert "is a sequence" in panel.results.text.text


@pytest.mark.parametrize("button", ["remove", "undo"])
def test_a_cine_goes_as_a_whole(panel: Any, played: Any, button: str) -> None:
    source, browser = panel.parameters.inputVolume, sequence_nodes.browser_of(played)
    panel.results.buttons[button].click()
    slicer.app.processEvents()
    assert set(sequences()) == {"cine"} and panel.results._listed == []
    assert slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") == [source]
    assert browser.GetScene() is not None and sequence_nodes.browser_of(source) is browser
    browser.SetSelectedItemNumber(2)
    assert peak(source) == 102


def test_a_cine_is_saved_whole_and_known_again(
    panel: Any, played: Any, told: list[str], tmp_path: Path, monkeypatch
) -> None:
    place = tmp_path / "sr.seq.nrrd"
    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", lambda *_: str(place))
    panel.results.buttons["save"].click()
    assert (tmp_path / "sr_standard_deviation.seq.nrrd").is_file() and told == []
    assert "sr.json" in panel.results.text.text and "sr_standard_deviation.json" in panel.results.text.text
    frames = sequence_nodes.frames_of(sequence_nodes.sequence_of(played))
    assert json.loads((tmp_path / "sr.json").read_text())["frames"] == frames and list(frames) == ["0", "40", "80"]
    slicer.mrmlScene.Clear()
    loaded = slicer.util.loadNodeFromFile(str(place), "SequenceFile")
    loaded.RemoveAttribute(sequence_nodes.FRAMES)  # as in the file of another program
    slicer.app.processEvents()
    ((shown, _name),) = panel.results._listed
    assert sequence_nodes.sequence_of(shown) is loaded and nodes.is_synthetic(shown)
    assert "one of 3 frames" in " ".join(results.story(shown))
    panel.enter()
    assert panel.parameters.inputVolume is None  # it is not suggested as an input
    panel.results.choose(shown)
    panel.results.buttons["remove"].click()
    assert sequences() == {} and slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode") == []


@pytest.mark.parametrize("suffix", [".mrml", ".mrb"])
def test_a_cine_in_a_saved_scene_is_as_it_was(
    panel: Any, played: Any, told: list[str], tmp_path: Path, suffix: str
) -> None:
    name, sequence = played.GetName(), sequence_nodes.sequence_of(played)
    before = [nodes.provenance_of(sequence.GetNthDataNode(number)) for number in range(3)]
    file = tmp_path / "saved" / f"scene{suffix}"
    save_scene_as_older_slicers(sequence, file)
    slicer.mrmlScene.Clear()
    slicer.util.loadScene(str(file), {"clear": True})
    slicer.app.processEvents()
    ((shown, _name),) = panel.results._listed
    assert shown.GetName() == name and nodes.input_of(shown).GetName() == "cine"
    browser, loaded = sequence_nodes.browser_of(shown), sequence_nodes.sequence_of(shown)
    for number in range(3):
        browser.SetSelectedItemNumber(number)
        assert peak(shown) == 100 + number and nodes.is_synthetic(shown)
        assert nodes.provenance_of(shown) == nodes.provenance_of(loaded.GetNthDataNode(number)) == before[number]
    assert sequence_nodes.sequence_of(results.deviation_of(shown)) is not None
    panel.results.choose(shown)
    panel.results.buttons["remove"].click()
    slicer.app.processEvents()
    assert set(sequences()) == {"cine"}


def test_two_cines_go_together_and_a_volume_stays(panel: Any) -> None:
    first, second, still = add_cine("bssfp"), add_cine("t2"), add_volume("lge", (2, 8, 8))
    select_roles(panel, "cardiac", bSSFP=first, T2=second)
    seen = []
    panel.logic.changed.connect(lambda: seen.append((peak(first), peak(second))))
    choose(panel, "all 3 frames of bssfp")
    assert "3 of 3 frames" in run(panel)
    assert {pair for pair in seen if pair[0] == 102} == {(102.0, 102.0)}
    result = next(node for name, node in sequences().items() if name.startswith("SYNTHETIC"))
    assert [peak(result.GetNthDataNode(number)) for number in range(3)] == [100, 101, 102]
    select_roles(panel, "cardiac", T2=still)
    assert "3 of 3 frames" in run(panel)


def test_cines_of_different_lengths_are_refused(panel: Any) -> None:
    select_roles(panel, "cardiac", bSSFP=add_cine("bssfp", 3), T2=add_cine("t2", 2))
    choose(panel, "frames of bssfp")
    assert "bssfp has 3 frames, t2 has 2 frames" in run(panel)
    assert set(sequences()) == {"bssfp", "t2"}


def test_a_sequence_without_frames_is_refused(panel: Any) -> None:
    shown = add_cine("cine", 1)
    select(panel, shown)
    choose(panel, "all 1 frames")
    next(iter(sequences().values())).RemoveAllDataNodes()
    assert "has no frames" in run(panel)


def test_a_folder_batch_without_temporary_folder_names_it(panel: Any, folders: tuple[Path, Path]) -> None:
    _source, out = folders
    assert "3 computed" in run(panel)
    gone = panel.folders._folder.path
    shutil.rmtree(gone)
    panel.parameters.steps = 3
    text = run(panel)
    assert "0 computed" in text and str(gone) in text and len(list(out.glob("*.nrrd"))) == 3


def test_a_stop_keeps_the_frames_that_are_done(panel: Any) -> None:
    shown = add_cine("cine", 4)
    select(panel, shown, "slow")
    panel.parameters.steps = 8
    choose(panel, "all 4 frames")
    panel.many.runButton.click()
    assert panel.many.runButton.text == "Stop"
    wait_for(lambda: any(name.startswith("SYNTHETIC") for name in sequences()))
    panel.many.runButton.click()
    wait_for(lambda: not panel.many.busy and not panel.logic.busy)
    assert "Cancelled" in panel.many.text.text and "1 of 4 frames" in panel.many.text.text
    result = next(node for name, node in sequences().items() if name.startswith("SYNTHETIC"))
    assert result.GetNumberOfDataNodes() == 1 and panel.many.runButton.text == "Run all"


def test_a_scene_closed_in_mid_cine_ends_in_a_message(panel: Any) -> None:
    select(panel, add_cine("cine", 4), "slow")
    choose(panel, "all 4 frames")
    panel.many.runButton.click()
    wait_for(lambda: panel.logic.fraction > 0)
    slicer.mrmlScene.Clear()
    wait_for(lambda: not panel.many.busy and not panel.logic.busy)
    assert "the scene was closed" in panel.many.text.text and sequences() == {}
    low = add_volume()
    select(panel, low)
    assert panel.ui.applyButton.enabled


def test_ticked_volumes_are_run_one_after_the_other(panel: Any) -> None:
    first, other, colour = add_volume("first"), add_volume("other"), add_volume("constant")
    slicer.util.updateVolumeFromArray(colour, np.ones((3, 8, 8), np.float32))
    select(panel, first)
    choose(panel, "volumes of this scene")
    assert panel.many.runButton.toolTip == "no volume is ticked" and not panel.many.runButton.enabled
    for number in range(3):
        panel.many.volumes.item(number).setCheckState(qt.Qt.Checked)
    assert panel.many.ticked() == [first, other, colour]
    text = run(panel)
    assert "2 computed, 0 there before, 1 failed, of 3" in text and "constant: Failed: constant is 1 everywhere" in text
    results = [titles[0] for _node, titles in panel.results._listed]
    assert sorted(results) == ["SR of first", "SR of other"]
    add_volume("new")
    slicer.app.processEvents()
    assert panel.many.ticked() == [first, other, colour] and panel.many.volumes.count == 4
    panel.many.volumes.item(0).setCheckState(qt.Qt.Unchecked)
    assert panel.many.ticked() == [other, colour]


def test_a_list_of_volumes_goes_on_where_it_was_stopped(panel: Any, tmp_path: Path) -> None:
    for name in ("first", "second", "third"):
        add_volume(name)
    select(panel, slicer.util.getNode("first"), "slow")
    panel.parameters.steps = 8
    choose(panel, "volumes of this scene")
    for number in range(3):
        panel.many.volumes.item(number).setCheckState(qt.Qt.Checked)
    panel.many.runButton.click()
    wait_for(lambda: "Volume 2 of 3" in panel.many.text.text and panel.logic.fraction > 0)
    panel.many.runButton.click()
    wait_for(lambda: not panel.many.busy and not panel.logic.busy)
    assert "goes on from here" in panel.many.text.text and "1 computed" in panel.many.text.text
    assert "The 2 runs take" in panel.many.text.text  # those that are left
    kept = panel.results._listed[0][0]
    text = run(panel)
    assert "2 computed, 1 there before, 0 failed, of 3" in text and "take" not in text
    assert kept.GetScene() is not None and panel.results.table.rowCount == 3
    assert sorted(nodes.input_of(node).GetName() for node, _t in panel.results._listed) == ["first", "second", "third"]
    # Other choices are other results, and one that was deleted is made again.
    panel.parameters.steps = 4
    assert "3 computed, 0 there before" in run(panel)
    slicer.mrmlScene.RemoveNode(panel.results._listed[0][0])
    assert "1 computed, 2 there before" in run(panel)
    # Also in a scene that was saved.
    slicer.util.saveScene(str(tmp_path / "scene.mrml"))
    slicer.mrmlScene.Clear()
    slicer.util.loadScene(str(tmp_path / "scene.mrml"), {"clear": True})
    slicer.app.processEvents()
    for number in range(3):
        panel.many.volumes.item(number).setCheckState(qt.Qt.Checked)
    assert "0 computed, 3 there before" in run(panel)


@pytest.mark.parametrize(("task", "pack"), [("degradation", "noisy"), ("enhancement", "better")])
def test_a_cine_is_degraded_and_enhanced(panel: Any, task: str, pack: str) -> None:
    shown = add_cine("cine")
    panel.taskButtons[task].click()
    setattr(panel.parameters, f"{task}Volume", shown)
    setattr(panel.parameters, f"{task}Pack", pack)
    choose(panel, "all 3 frames of cine")
    assert "3 of 3 frames play as SYNTHETIC" in run(panel)
    (result,) = (node for name, node in sequences().items() if name.startswith("SYNTHETIC"))
    # The worker of these tests doubles its input.
    assert [peak(result.GetNthDataNode(number)) for number in range(3)] == [200, 202, 204]
    frames = [result.GetNthDataNode(number) for number in range(3)]
    assert all(nodes.provenance_of(frame)["request"]["task"] == task and nodes.is_synthetic(frame) for frame in frames)
    browser = sequence_nodes.browser_of(shown)
    proxy = browser.GetProxyNode(result)
    browser.SetSelectedItemNumber(2)
    assert (peak(shown), peak(proxy)) == (102, 204)
    assert [peak(next(iter(sequences().values())).GetNthDataNode(n)) for n in range(3)] == [100, 101, 102]


def test_volumes_that_are_done_leave_the_views_alone(panel: Any) -> None:
    slicer.app.make_views()
    first, _other, looked_at = add_volume("first"), add_volume("other"), add_volume("looked at")
    select(panel, first)
    choose(panel, "volumes of this scene")
    for number in range(2):
        panel.many.volumes.item(number).setCheckState(qt.Qt.Checked)
    views.show_input(looked_at)
    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    before = views.Layers.of(composite)
    assert "2 computed" in run(panel)
    assert views.Layers.of(composite) == before and panel.results.table.rowCount == 2
    panel.ui.applyButton.click()  # a run alone is shown
    wait_for(lambda: not panel.logic.busy)
    assert views.Layers.of(composite) != before


def test_volumes_are_refused_where_a_result_needs_several(panel: Any) -> None:
    first = add_volume("bssfp")
    select_roles(panel, "cardiac", bSSFP=first, T2=add_volume("t2"))
    choose(panel, "volumes of this scene")
    panel.many.volumes.item(0).setCheckState(qt.Qt.Checked)
    assert "several volumes for each result" in run(panel)


@pytest.fixture
def folders(panel: Any, tmp_path: Path) -> tuple[Path, Path]:
    """Three volumes as files, and a folder for the results; chosen in the panel."""
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for number in range(3):
        volume = add_volume(f"case-{number}")
        slicer.util.saveNode(volume, str(source / f"case-{number}.nrrd"), {})
        slicer.mrmlScene.RemoveNode(volume)
    panel.taskButtons["superresolution"].click()
    panel.parameters.pack = "quick"
    choose(panel, "files of a folder")
    assert panel.many.runButton.toolTip == "choose both folders"
    panel.many.places["source"].text, panel.many.places["out"].text = str(source), str(out)
    return source, out


def states(out: Path) -> list[str]:
    with (out / "batch.csv").open(newline="", encoding="utf-8") as stream:
        return [row["state"] for row in csv.DictReader(stream)]


def test_files_of_a_folder_go_to_files(panel: Any, folders: tuple[Path, Path]) -> None:
    source, out = folders
    before = {path: path.read_bytes() for path in source.iterdir()}
    assert "3 computed, 0 there before, 0 failed, of 3" in run(panel)
    assert sorted(path.name for path in out.glob("*.nrrd")) == [f"SYNTHETIC-case-{number}.nrrd" for number in range(3)]
    written = json.loads((out / "SYNTHETIC-case-0.json").read_text())
    assert (
        written["outputs"]["result"]["file"] == "SYNTHETIC-case-0.nrrd"
        and len(written["outputs"]["result"]["sha256"]) == 64
    )
    assert written["asked"]["request"]["settings"]["steps"] == panel.parameters.steps
    made = slicer.util.loadVolume(str(out / "SYNTHETIC-case-0.nrrd"))
    given = slicer.util.loadVolume(str(source / "case-0.nrrd"))
    assert peak(made) == peak(given) and not nodes.is_synthetic(given)
    assert {path: path.read_bytes() for path in before} == before and states(out) == ["done"] * 3
    assert "0 computed, 3 there before" in run(panel)
    panel.parameters.steps = 3
    (out / "SYNTHETIC-case-1.nrrd").unlink()
    assert "3 computed" in run(panel)
    assert [path.name for path in panel.folders._folder.path.iterdir()] == ["lock"]


def test_a_folder_is_stopped_and_goes_on(panel: Any, folders: tuple[Path, Path]) -> None:
    _source, out = folders
    panel.parameters.pack = "slow"
    panel.many.runButton.click()
    wait_for(lambda: (out / "SYNTHETIC-case-0.json").exists())
    wait_for(lambda: "Case 2 of 3" in panel.many.text.text)
    panel.many.runButton.click()
    wait_for(lambda: not panel.many.busy)
    assert "Stopped" in panel.many.text.text and states(out) == ["done"]
    assert "2 computed, 1 there before" in run(panel)


@pytest.fixture
def storing(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Whether the files of a case are being stored, which waits until it may go on."""
    begun, may_go_on = threading.Event(), threading.Event()
    store = folder_batch._store

    def slowly(*arguments: Any) -> Any:
        begun.set()
        assert may_go_on.wait(30)
        return store(*arguments)

    monkeypatch.setattr(folder_batch, "_store", slowly)
    yield begun, may_go_on
    may_go_on.set()


def test_a_stop_while_a_case_is_stored_leaves_the_worker_alone(
    panel: Any, folders: tuple[Path, Path], storing: tuple[threading.Event, threading.Event]
) -> None:
    begun, may_go_on = storing
    panel.many.runButton.click()
    wait_for(begun.is_set)
    panel.many.runButton.click()
    assert not panel.logic.worker._timer.isActive()  # which would kill it, with all that others have it compute
    may_go_on.set()
    wait_for(lambda: not panel.many.busy)
    assert "Stopped" in panel.many.text.text and states(folders[1]) == ["done"]


def test_a_worker_that_dies_while_a_case_is_stored_costs_no_case(
    panel: Any, folders: tuple[Path, Path], storing: tuple[threading.Event, threading.Event]
) -> None:
    begun, may_go_on = storing
    ended: list[str] = []
    panel.logic.worker.ended.connect(lambda message, *_: ended.append(message))
    panel.many.runButton.click()
    wait_for(begun.is_set)
    panel.logic.worker.kill()
    wait_for(lambda: ended)
    may_go_on.set()
    wait_for(lambda: not panel.many.busy)
    assert states(folders[1]) == ["done"] * 3 and len(list(folders[1].glob("*.nrrd"))) == 3


@pytest.mark.parametrize("pack", ["error", "crash"])
def test_files_that_fail_are_named(panel: Any, folders: tuple[Path, Path], pack: str) -> None:
    _source, out = folders
    panel.parameters.pack = pack
    text = run(panel)
    assert "case-0: " in text and "0 computed" in text
    # A process that dies twice is not started for the rest of a large folder.
    assert states(out) == ["failed"] * (3 if pack == "error" else 2)
    assert not list(out.glob("*.nrrd"))
    panel.parameters.pack = "quick"
    assert "3 computed" in run(panel)


def test_folders_that_cannot_be_used_are_named(panel: Any, folders: tuple[Path, Path]) -> None:
    source, _out = folders
    panel.many.places["out"].text = str(source)
    assert "lies in" in run(panel)
    shutil.rmtree(source)
    assert "cannot be read" in run(panel)


def test_cases_with_several_sequences_are_folders(panel: Any, tmp_path: Path) -> None:
    for case, roles in (("a", ("bSSFP", "T2")), ("b", ("T2",))):
        (tmp_path / "in" / case).mkdir(parents=True)
        for role in roles:
            volume = add_volume(role)
            slicer.util.saveNode(volume, str(tmp_path / "in" / case / f"{role}.nii.gz"), {})
            slicer.mrmlScene.RemoveNode(volume)
    select_roles(panel, "cardiac")
    choose(panel, "files of a folder")
    panel.many.places["source"].text, panel.many.places["out"].text = str(tmp_path / "in"), str(tmp_path / "out")
    assert "2 computed" in run(panel)
    assert (tmp_path / "out" / "SYNTHETIC-a.nii.gz").is_file()
    asked = json.loads((tmp_path / "out" / "SYNTHETIC-b.json").read_text())["asked"]["request"]
    assert list(asked["inputs"]) == ["T2"] and list(asked["settings"]["scales"]) == ["T2"]


def test_the_panel_goes_in_the_midst_of_a_folder(panel: Any, folders: tuple[Path, Path]) -> None:
    panel.parameters.pack = "slow"
    panel.many.runButton.click()
    wait_for(lambda: "Case 1 of 3, slice" in panel.many.text.text or "slice" in panel.many.text.text)
    panel.cleanup()
    panel.parameters = None


def test_a_frame_in_view_is_previewed_like_any_volume(panel: Any) -> None:
    shown = add_cine("cine")
    select(panel, shown)
    panel.ui.previewButton.click()
    wait_for(lambda: "preview" in panel.logic.results and not panel.preview._timer.active)
    wait_for(lambda: not panel.logic.busy)
    preview = panel.logic.results["preview"]
    index, number = np.linalg.inv(grids.affine(shown)) @ grids.affine(preview)[:, 3], views.slice_in_view(shown)
    assert index[2] == pytest.approx(number) and f"preview of slice {number + 1}" in preview.GetName()
    assert slicer.util.arrayFromVolume(preview).shape[0] == 1
    panel.ui.previewButton.click()
