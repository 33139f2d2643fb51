"""The list of results: what it shows, and that each can be told, saved, exported and made again."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import qt
import slicer
import slicer.util
import vtk
from MRDiffusionPanel import comparison, nodes, results
from MRDiffusionPanel.logic import State
from panel_support import add_volume, run, select, select_roles, wait_for
from test_panel_run import oblique, set_affine, start_slow

from MRDiffusionLib.imaging import read_volume, sha256_of

pytest_plugins = ["panel_fixtures"]


def listed(panel: Any) -> list[tuple[str, str]]:
    slicer.app.processEvents()
    table = panel.results.table
    return [tuple(table.item(row, column).text() for column in (0, 1)) for row in range(table.rowCount)]


def press(panel: Any, name: str) -> None:
    assert panel.results.buttons[name].enabled
    panel.results.buttons[name].click()
    wait_for(lambda: not panel.results.busy)


@pytest.fixture
def result(panel: Any) -> Any:
    low = add_volume("brain")
    set_affine(low, oblique(True))
    panel.parameters.seed, panel.parameters.samples = 7, 2
    select(panel, low)
    return run(panel)


def test_results_are_listed_newest_first_and_the_last_is_chosen(panel: Any, result: Any) -> None:
    assert listed(panel) == [("SR of brain", "16x16, lambda 1.0, projection; seed 7, 2 samples")]
    assert panel.results.current is result
    panel.parameters.seed = 8
    second = run(panel)
    assert [made.split("seed ")[1][0] for _what, made in listed(panel)] == ["8", "7"]
    assert panel.results.current is second
    panel.results.choose(result)
    slicer.mrmlScene.RemoveNode(second)
    assert len(listed(panel)) == 1 and panel.results.current is result
    slicer.mrmlScene.Clear()
    assert listed(panel) == [] and panel.results.current is None
    assert not any(button.enabled for button in panel.results.buttons.values())


def test_names_and_figures_are_followed(panel: Any, result: Any) -> None:
    """The list says what a person has called a result, and how it compared with a real image."""
    slicer.app.processEvents()
    assert panel.results.table.isColumnHidden(2)
    result.SetName("SYNTHETIC my best; so far")
    wait_for(lambda: listed(panel)[0][0] == "my best; so far")
    assert listed(panel)[0][1] == "16x16, lambda 1.0, projection; seed 7, 2 samples"
    assert panel.results.table.item(0, 2).text() == ""
    result.SetAttribute(comparison.FIGURES, json.dumps({"with": "truth", "whole": {"psnr_db": 31.256}}))
    wait_for(lambda: panel.results.table.item(0, 2).text() == "31.26")
    assert not panel.results.table.isColumnHidden(2)
    assert panel.results.current is result
    result.RemoveAttribute(nodes.MADE_WITH)  # as of a file that was loaded
    result.SetName("SYNTHETIC SR of brain; 16x16; seed 7")
    assert results.titles(result)[:2] == ("SR of brain", "16x16; seed 7")
    result.SetName("the best")
    what, chosen, _psnr = results.titles(result)
    assert what == "the best" and "Data weight 1" in chosen and "seed 7" in chosen
    slicer.mrmlScene.RemoveNode(result)
    wait_for(lambda: listed(panel) == [])
    assert all(each[0] is not result for each in panel.results._watch.Observations)


def test_inputs_and_previews_are_no_results(panel: Any) -> None:
    select(panel, add_volume())
    panel.ui.previewButton.click()
    wait_for(lambda: panel.logic.state == State.DONE)
    assert listed(panel) == []


def test_what_made_a_result_is_told_in_words(panel: Any, result: Any) -> None:
    text = panel.results.text.text
    for part in (
        "Not for diagnosis",
        "from brain (low resolution) by the model",
        "Data weight 1;",
        "Samples 2",
        "seed 7",
    ):
        assert part in text, (part, text)
    provenance = nodes.provenance_of(result)
    provenance["pack"] = {"name": "p", "version": "2", "weights_sha256": "ab" * 32, "training_data": "hearts."}
    result.SetAttribute(nodes.PROVENANCE, json.dumps(provenance))
    told = " ".join(results.story(result))
    assert (
        "by the model p 2." in told
        and "Computed" not in told
        and "was trained on: hearts." in told
        and "Weights abababababab" in told
    )


def test_time_device_and_role_are_told_as_a_person_says_them(panel: Any, result: Any, monkeypatch) -> None:
    provenance = nodes.provenance_of(result)
    provenance["created"] = "2026-03-01T23:30:00+00:00"
    provenance["request"].update(device="cuda:0", inputs={"image": "knee"})
    result.SetAttribute(nodes.PROVENANCE, json.dumps(provenance))
    monkeypatch.setenv("TZ", "XYZ-5")  # east of Greenwich
    time.tzset()
    try:
        told = " ".join(results.story(result))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert "Made from knee by the model" in told
    assert "Computed: 2026-03-02 04:30 local time, graphics card (cuda:0)." in told
    provenance["request"]["device"], provenance["created"] = "cpu", ""
    result.SetAttribute(nodes.PROVENANCE, json.dumps(provenance))
    assert "Computed: processor (cpu)." in " ".join(results.story(result))


def save(panel: Any, place: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Press Save and choose a place; gives what the panel says."""
    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", lambda *_: str(place))
    press(panel, "save")
    return panel.results.text.text


def test_a_saved_result_has_its_provenance_beside_it(
    panel: Any, result: Any, told: list[str], tmp_path: Path, monkeypatch
) -> None:
    place = tmp_path / "lge.nrrd"
    assert "beside it in lge.json" in save(panel, place, monkeypatch)
    written = json.loads((tmp_path / "lge.json").read_text())
    assert written["synthetic"] is True and written["request"] == nodes.provenance_of(result)["request"]
    assert written["outputs"] == {
        "result": {"file": "lge.nrrd", "sha256": sha256_of(read_volume(place).array)},
    }
    # Also when it is saved by other means; nothing lies beside what is not synthetic.
    slicer.util.saveNode(result, str(tmp_path / "other.nii.gz"), {})
    slicer.util.saveNode(nodes.input_of(result), str(tmp_path / "input.nrrd"), {})
    assert (tmp_path / "other.json").exists() and not (tmp_path / "input.json").exists()
    assert told == []
    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", lambda *_: "")
    press(panel, "save")
    monkeypatch.setattr(slicer.util, "saveNode", lambda *_: False)
    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", lambda *_: "/nowhere/x.nrrd")
    press(panel, "save")
    assert "/nowhere/x.nrrd cannot be written" in panel.results.text.text


def test_what_others_have_written_is_not_overwritten(
    panel: Any, result: Any, told: list[str], tmp_path: Path, monkeypatch
) -> None:
    """As the JSON of BIDS, which has the name of the image."""
    bids, second, place = tmp_path / "t1.json", tmp_path / "t1.nii.gz.json", tmp_path / "t1.nii.gz"
    bids.write_text('{"EchoTime": 0.03}')
    for _ in range(2):  # the second time it replaces its own
        assert "beside it in t1.nii.gz.json" in save(panel, place, monkeypatch)
        assert json.loads(second.read_text())["outputs"]["result"]["file"] == "t1.nii.gz"
    save(panel, tmp_path / "t1.nrrd", monkeypatch)
    assert json.loads((tmp_path / "t1.nrrd.json").read_text())["synthetic"] and told == []
    second.write_text("mine")
    assert "but not what made it" in save(panel, place, monkeypatch)
    assert "t1.json and t1.nii.gz.json belong to other data" in told[0] and result.GetName() in told[0]
    assert (bids.read_text(), second.read_text()) == ('{"EchoTime": 0.03}', "mine")


def test_a_saved_result_is_known_when_it_is_loaded_again(
    panel: Any, result: Any, told: list[str], tmp_path: Path, monkeypatch
) -> None:
    place, kept = tmp_path / "patient-7.nii.gz", tmp_path / "kept.nrrd"
    save(panel, place, monkeypatch)
    save(panel, kept, monkeypatch)
    names = nodes.ROLE, nodes.PROVENANCE, nodes.MEASUREMENTS, nodes.RUN, nodes.SYNTHETIC, nodes.CHANGED
    before = {name: result.GetAttribute(name) for name in names}
    slicer.mrmlScene.Clear()
    loaded = slicer.util.loadVolume(str(place))
    assert loaded.GetName() == "SYNTHETIC patient-7"
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    folder = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(loaded))
    assert hierarchy.GetItemName(folder) == nodes.FOLDER
    read = {name: loaded.GetAttribute(name) for name in names}
    for name in (nodes.PROVENANCE, nodes.MEASUREMENTS):
        assert json.loads(read.pop(name)) == json.loads(before.pop(name))
    assert read == before
    panel.enter()
    assert panel.parameters.inputVolume is None and nodes.first_input(slicer.mrmlScene) is None
    assert listed(panel)[0][0] == "patient-7"
    panel.results.choose(loaded)
    assert "brain (low resolution)" in panel.results.text.text and "seed 7" in panel.results.text.text
    # Of a file that is another one by now only that is said.
    slicer.util.saveNode(add_volume("other"), str(kept), {})
    changed = slicer.util.loadVolume(str(kept))
    assert nodes.is_synthetic(changed) and "has been changed since" in " ".join(results.story(changed))


def test_a_standard_deviation_is_saved_with_its_result(
    panel: Any, result: Any, told: list[str], tmp_path: Path, monkeypatch
) -> None:
    text = save(panel, tmp_path / "sr.nii.gz", monkeypatch)
    place = tmp_path / "sr_standard_deviation.nii.gz"
    assert place.is_file() and "sr_standard_deviation.json" in text
    made = slicer.util.loadVolume(str(place))
    assert made.GetAttribute(nodes.ROLE) == "standard_deviation"
    assert made.GetAttribute(nodes.RUN) == result.GetAttribute(nodes.RUN)
    theirs = tmp_path / "t_standard_deviation.nrrd"
    slicer.util.saveNode(add_volume("theirs"), str(theirs), {})
    before = theirs.read_bytes()
    assert "is there already" in save(panel, tmp_path / "t.nrrd", monkeypatch)
    assert theirs.read_bytes() == before and told == []


@pytest.mark.parametrize(
    "text", ["", "[]", '{"synthetic": true}', '{"synthetic": true, "outputs": {"a": {"file": "x"}}}']
)
def test_json_that_says_nothing_of_a_file_does_not_mark_it(
    panel: Any, told: list[str], tmp_path: Path, text: str
) -> None:
    slicer.util.saveNode(add_volume("scan"), str(tmp_path / "scan.nrrd"), {})
    (tmp_path / "scan.json").write_text(text)
    assert not nodes.is_synthetic(slicer.util.loadVolume(str(tmp_path / "scan.nrrd")))


def test_files_of_the_command_line_are_known_and_belong_together(panel: Any, told: list[str], tmp_path: Path) -> None:
    files = {"result": "sr.nrrd", "standard_deviation": "sr_standard_deviation.nrrd"}
    for file in files.values():
        slicer.util.saveNode(add_volume("made"), str(tmp_path / file), {})
    outputs = {role: {"file": file, "sha256": "0"} for role, file in files.items()}
    written = {"synthetic": True, "request": {}, "outputs": outputs, "measurements": {}, "warnings": []}
    (tmp_path / "sr.json").write_text(json.dumps(written))
    result, deviation = (slicer.util.loadVolume(str(tmp_path / file)) for file in files.values())
    assert nodes.is_synthetic(result) and results.parts_of(result) == [deviation]


class Database:
    """Of ctkDICOMDatabase."""

    def __init__(self, files: dict[str, str]) -> None:
        self._files = files

    def fileForInstance(self, uid: str) -> str:
        return self._files.get(uid, "")


def with_pack(result: Any) -> None:
    provenance = nodes.provenance_of(result)
    provenance["pack"] = {"name": "quick", "version": "2", "weights_sha256": "ab" * 32, "training_data": "hearts"}
    result.SetAttribute(nodes.PROVENANCE, json.dumps(provenance))


def test_export_to_dicom(panel: Any, result: Any, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(qt.QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path))
    press(panel, "dicom")
    assert "does not say what made it" in panel.results.text.text
    with_pack(result)
    press(panel, "dicom")
    panel.results.buttons["dicom"].click()  # again, into another folder
    assert "Writing DICOM images to" in panel.results.text.text
    panel.results.buttons["again"].click()
    assert "still being exported" in panel.results.text.text
    wait_for(lambda: not panel.results.busy)
    assert "3 DICOM images are in" in panel.results.text.text
    files = sorted((tmp_path / "SYNTHETIC_SR_of_brain").iterdir())
    assert len(files) == 3 and len(list((tmp_path / "SYNTHETIC_SR_of_brain-2").iterdir())) == 3
    made = pydicom.dcmread(files[1])
    assert made.SeriesDescription.startswith("SYNTHETIC SR of brain") and made.PatientID == ""
    # Where the scanner's patient lies, LPS.
    lps = np.diag([-1.0, -1, 1, 1]) @ slicer.util.arrayFromVTKMatrix(matrix_of(result))
    np.testing.assert_allclose(made.ImagePositionPatient, (lps @ (0, 0, 1, 1))[:3], atol=1e-4)
    # Of the patient whose images it was made from.
    made.PatientID, made.SOPInstanceUID = "P-17", "1.2.3"
    made.save_as(tmp_path / "source.dcm")
    nodes.input_of(result).SetAttribute("DICOM.instanceUIDs", "1.2.3 1.2.4")
    monkeypatch.setattr(slicer, "dicomDatabase", Database({"1.2.3": str(tmp_path / "source.dcm")}), raising=False)
    (exported, *_others) = results.export_dicom(result, tmp_path / "third")()
    assert pydicom.dcmread(exported).PatientID == "P-17"
    moved = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    result.SetAndObserveTransformNodeID(moved.GetID())
    press(panel, "dicom")
    assert "Harden the transform" in panel.results.text.text


def matrix_of(volume: Any) -> Any:
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return matrix


def test_a_result_is_made_again_with_what_made_it(panel: Any) -> None:
    cine, t2 = add_volume("cine"), add_volume("t2")
    select_roles(panel, "cardiac", bSSFP=cine, T2=t2)
    panel.parameters.seed = 11
    first = run(panel)
    provenance = nodes.provenance_of(first)
    provenance["pack"] = {"name": "cardiac", "weights_sha256": panel._pack().weights_sha256}
    first.SetAttribute(nodes.PROVENANCE, json.dumps(provenance))
    panel.taskButtons["superresolution"].click()  # whatever the panel shows now
    panel.parameters.seed = 12
    panel.results.choose(first)
    press(panel, "again")
    wait_for(lambda: not panel.logic.busy)
    again = panel.logic.results["result"]
    assert again is not first
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(again), slicer.util.arrayFromVolume(first))
    assert nodes.provenance_of(again)["request"] == provenance["request"]
    assert nodes.inputs_of(again) == [cine, t2]
    # Not where an input is gone or another, or the model is.
    provenance["inputs"] = {"T2": {"sha256": sha256_of(slicer.util.arrayFromVolume(t2))}}
    first.SetAttribute(nodes.PROVENANCE, json.dumps(provenance))
    panel.results.choose(first)
    press(panel, "again")
    wait_for(lambda: not panel.logic.busy)
    panel.results.choose(first)
    voxels = slicer.util.arrayFromVolume(t2).copy()
    slicer.util.arrayFromVolume(t2)[0] += 1
    press(panel, "again")
    assert "t2 has been changed since" in panel.results.text.text and not panel.logic.busy
    slicer.util.arrayFromVolume(t2)[:] = voxels
    installed, panel._installed = panel._installed, [pack for pack in panel._installed if pack.name != "cardiac"]
    press(panel, "again")
    assert "model cardiac with the weights of this result is not installed" in panel.results.text.text
    panel._installed = installed
    slicer.mrmlScene.RemoveNode(t2)
    press(panel, "again")
    assert "no longer in the scene" in panel.results.text.text


def test_a_result_that_was_loaded_is_made_again_from_the_same_voxels(
    panel: Any, result: Any, told: list[str], tmp_path: Path
) -> None:
    source, provenance = nodes.input_of(result), nodes.provenance_of(result)
    provenance["pack"] = {"name": "quick", "weights_sha256": panel._pack().weights_sha256}
    provenance["inputs"] = {"low_resolution": {"sha256": sha256_of(slicer.util.arrayFromVolume(source))}}
    result.SetAttribute(nodes.PROVENANCE, json.dumps(provenance))
    voxels = slicer.util.arrayFromVolume(result).copy()
    slicer.util.saveNode(result, str(tmp_path / "sr.nrrd"), {})
    results.remove(result)
    other = add_volume("brain")  # of the same name
    slicer.util.arrayFromVolume(other)[0] += 1
    loaded = slicer.util.loadVolume(str(tmp_path / "sr.nrrd"))
    slicer.app.processEvents()
    panel.results.choose(loaded)
    press(panel, "again")
    wait_for(lambda: not panel.logic.busy)
    again = panel.logic.results["result"]
    assert nodes.inputs_of(again) == [source]
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(again), voxels)
    slicer.mrmlScene.RemoveNode(source)
    panel.results.choose(loaded)
    press(panel, "again")
    assert "no longer in the scene; it had brain" in panel.results.text.text and not panel.logic.busy


def test_nothing_is_made_again_while_a_run_is_under_way(panel: Any, result: Any) -> None:
    panel.parameters.newSeed = False
    start_slow(panel)
    panel.results.choose(result)
    press(panel, "again")
    assert "a run is under way" in panel.results.text.text
    panel.ui.cancelButton.click()
    wait_for(lambda: not panel.logic.busy)


def test_delete_takes_the_standard_deviation_along(panel: Any, result: Any) -> None:
    deviation = panel.logic.results["standard_deviation"]
    panel.parameters.seed = 9
    other = run(panel)
    panel.results.choose(result)
    press(panel, "remove")
    assert result.GetScene() is None and deviation.GetScene() is None and other.GetScene() is not None


def test_delete_leaves_copies_and_runs_that_are_alike(panel: Any, result: Any) -> None:
    """Also where all that made them is the same, as when a run is made again within the second."""
    deviation = panel.logic.results["standard_deviation"]
    other = run(panel)
    other_deviation = panel.logic.results["standard_deviation"]
    for node in (other, other_deviation):
        node.SetAttribute(nodes.PROVENANCE, result.GetAttribute(nodes.PROVENANCE))
    copy = slicer.vtkMRMLScalarVolumeNode()
    copy.Copy(result)
    copy = slicer.mrmlScene.AddNode(copy)
    slicer.app.processEvents()
    panel.results.choose(result)
    press(panel, "remove")
    assert result.GetScene() is None
    assert all(node.GetScene() is not None for node in (copy, deviation, other, other_deviation))
    slicer.app.processEvents()
    panel.results.choose(copy)
    press(panel, "remove")
    assert copy.GetScene() is None and deviation.GetScene() is None
    assert all(node.GetScene() is not None for node in (other, other_deviation))


def test_undo_takes_the_newest_result_and_shows_its_input(panel: Any, result: Any) -> None:
    source = nodes.input_of(result)
    composite = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    kept = add_volume("kept")
    other.SetBackgroundVolumeID(kept.GetID())
    other.SetForegroundVolumeID(result.GetID())
    composite.SetBackgroundVolumeID(result.GetID())
    panel.results.table.clearSelection()
    name = result.GetName()
    press(panel, "undo")
    assert slicer.mrmlScene.GetFirstNodeByName(name) is None and name in panel.results.text.text
    assert composite.GetBackgroundVolumeID() == source.GetID()
    assert (other.GetBackgroundVolumeID(), other.GetForegroundVolumeID()) == (kept.GetID(), None)
    slicer.app.processEvents()
    assert not panel.results.buttons["undo"].enabled and name in panel.results.text.text
    assert "Done" not in panel.ui.stateText.text


def test_many_results_cost_little(panel: Any) -> None:
    """The table is made once for all that changes at a time, and not again where nothing has changed."""
    made: list[int] = []
    count = panel.results.table.setRowCount
    panel.results.table.__dict__["setRowCount"] = lambda rows: (made.append(rows), count(rows))
    for number in range(200):
        node = add_volume(f"SYNTHETIC LGE of heart; seed {number}", (1, 4, 4))
        nodes.mark(node, "result", {"request": {}}, {}, nodes.new_run())
    assert len(listed(panel)) == 200
    panel.enter()
    slicer.app.processEvents()
    assert made == [200]
