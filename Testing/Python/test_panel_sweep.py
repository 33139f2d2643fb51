"""Sweeps: the runs of all values, as a sequence, a table, a chart and a picture; one of them kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import qt
import slicer
import slicer.util
from MRDiffusionPanel import contact_sheet, nodes, results, sequences, sweep, views
from panel_support import add_volume, save_scene_as_older_slicers, select, select_roles, wait_for
from PIL import Image
from test_panel_run import volumes

from MRDiffusionLib.errors import SettingError, UserError

pytest_plugins = ["panel_fixtures"]


def choose(panel: Any, number: int, label: str, values: str) -> None:
    setting, line = panel.sweep._rows[number]
    setting.currentIndex = [setting.itemText(n) for n in range(setting.count)].index(label)
    line.text = values


def run(panel: Any) -> Any:
    assert panel.sweep.runButton.enabled
    panel.sweep.runButton.click()
    wait_for(lambda: not panel.sweeps.busy and not panel.logic.busy)
    return panel.sweeps.sequence


@pytest.fixture
def heart(panel: Any) -> Any:
    cine = add_volume("cine")
    select_roles(panel, "cardiac", bSSFP=cine, T2=add_volume("t2"))
    return cine


def test_settings_of_the_task_can_be_swept(panel: Any, heart: Any) -> None:
    setting = panel.sweep._rows[0][0]
    offered = [setting.itemText(number) for number in range(setting.count)]
    assert offered[:2] == ["scale of bSSFP", "scale of T2"] and {"Strength", "Steps", "Seed"} <= set(offered)
    assert panel.sweep._rows[0][1].text == "0, 1, 2, 4" and not panel.sweep._rows[1][1].enabled
    panel.taskButtons["superresolution"].click()
    select(panel, heart)
    offered = [setting.itemText(number) for number in range(setting.count)]
    assert "Data weight" in offered and "scale of bSSFP" not in offered


def test_two_settings_make_a_grid(panel: Any, heart: Any) -> None:
    choose(panel, 0, "scale of bSSFP", "0, 1, 2")
    choose(panel, 1, "Seed", "5, 6")
    seen = views.slice_in_view(heart)
    sequence = run(panel)
    assert sequence.GetName() == "SYNTHETIC sweep, LGE of cine" and nodes.is_synthetic(sequence)
    labels = sweep.labels_of(sequence)
    assert labels[:3] == ["scale of bSSFP 0, Seed 5", "scale of bSSFP 0, Seed 6", "scale of bSSFP 1, Seed 5"]
    for label, (scale, seed) in zip(labels, [(s, d) for s in (0, 1, 2) for d in (5, 6)]):
        data = sequence.GetDataNodeAtValue(label)
        request = nodes.provenance_of(data)["request"]
        assert (request["settings"]["scales"]["bSSFP"], request["seed"]) == (scale, seed)
        assert request["slices"] == [seen]
        assert nodes.is_synthetic(data) and data.GetName().startswith("SYNTHETIC LGE of cine")
        assert json.loads(data.GetAttribute(nodes.SWEEP)) == {"scale of bSSFP": scale, "Seed": seed}
    # Nothing of the runs is left beside it, but what shows them.
    name = "SYNTHETIC sweep, LGE of cine"
    assert volumes(slicer.mrmlScene) == ["cine", "t2", f"{name} contact sheet", name]
    assert nodes.is_synthetic(slicer.util.getFirstNodeByClassByName("vtkMRMLScalarVolumeNode", name))
    (browser,) = slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode")
    assert browser.GetMasterSequenceNode() is sequence
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    item = hierarchy.GetItemByDataNode(browser.GetProxyNode(sequence))
    assert hierarchy.GetItemName(hierarchy.GetItemParent(item)) == nodes.FOLDER
    table = slicer.util.getNode("SYNTHETIC sweep, LGE of cine table").GetTable()
    assert [table.GetColumnName(n) for n in range(table.GetNumberOfColumns())] == [
        *("scale of bSSFP", "Seed", "difference from the first (%)")
    ]
    assert table.GetNumberOfRows() == 6
    assert "6 results are in the sequence" in panel.sweep.text.text


def test_figures_against_a_reference_are_charted(panel: Any, heart: Any) -> None:
    truth = add_volume("truth", (3, 16, 16), 1.0)
    panel.compare.reference.setCurrentNode(truth)
    panel.sweep.onlySlice.checked = False
    choose(panel, 0, "Strength", "0.2, 0.8")
    choose(panel, 1, "scale of T2", "1, 2")
    assert "Each result is compared with truth." in panel.sweep.text.text
    sequence = run(panel)
    table = slicer.util.getNode(f"{sequence.GetName()} table").GetTable()
    titles = [table.GetColumnName(n) for n in range(table.GetNumberOfColumns())]
    assert titles == ["Strength", "scale of T2", "Seed", "SSIM", "MAE", "difference from the first (%)"]
    assert [table.GetValueByName(row, "SSIM").ToDouble() for row in range(4)] == [0.5] * 4
    (chart, _mae, _change) = slicer.util.getNodesByClass("vtkMRMLPlotChartNode")
    assert (
        chart.GetTitle() == "SYNTHETIC SSIM" and chart.GetXAxisTitle() == "Strength" and chart.GetYAxisTitle() == "SSIM"
    )
    names = [chart.GetNthPlotSeriesNode(n).GetName() for n in range(chart.GetNumberOfPlotSeriesNodes())]
    assert names == ["scale of T2 1", "scale of T2 2"]
    assert slicer.util.arrayFromVolume(sequence.GetNthDataNode(0)).shape[0] == 3


def test_without_a_reference_the_change_is_charted(panel: Any, heart: Any, monkeypatch) -> None:
    """How far each result is from the first one, which needs no truth."""
    made = iter((1.0, 1.5, 0.9))
    take = sweep.Sweep._take

    def scaled(self: Any, results: dict[str, Any]) -> None:
        slicer.util.arrayFromVolume(results["result"])[:] *= next(made)
        take(self, results)

    monkeypatch.setattr(sweep.Sweep, "_take", scaled)
    choose(panel, 0, "Seed", "1, 2, 3")
    sequence = run(panel)
    table = slicer.util.getNode(f"{sequence.GetName()} table").GetTable()
    found = [table.GetValueByName(row, "difference from the first (%)").ToDouble() for row in range(3)]
    assert found == pytest.approx([0.0, 50.0, 10.0], rel=1e-4)
    (chart,) = slicer.util.getNodesByClass("vtkMRMLPlotChartNode")
    assert (chart.GetXAxisTitle(), chart.GetYAxisTitle()) == ("Seed", "difference from the first (%)")
    assert not chart.GetLegendVisibility()  # it would lie over the only line


def test_one_is_kept_and_can_be_made_again(panel: Any, heart: Any) -> None:
    choose(panel, 0, "Seed", "5, 6, 7")
    sequence = run(panel)
    panel.sweep.results.currentIndex = 1
    panel.sweep.keepButton.click()
    slicer.app.processEvents()
    (kept,) = results.results_of(slicer.mrmlScene)
    assert "seed 6" in kept.GetName() and nodes.inputs_of(kept)[0] is heart
    assert nodes.provenance_of(kept)["request"]["seed"] == 6 and panel.results.table.rowCount == 1
    np.testing.assert_array_equal(
        slicer.util.arrayFromVolume(kept), slicer.util.arrayFromVolume(sequence.GetDataNodeAtValue("Seed 6"))
    )
    assert not kept.GetName().endswith("_1")
    provenance = nodes.provenance_of(kept)
    provenance["pack"] = {"name": "cardiac", "weights_sha256": panel._pack().weights_sha256}
    kept.SetAttribute(nodes.PROVENANCE, json.dumps(provenance))
    panel.results.choose(kept)
    panel.results.buttons["again"].click()
    wait_for(lambda: not panel.results.busy and not panel.logic.busy)
    again = panel.logic.results["result"]
    assert nodes.provenance_of(again)["request"] == provenance["request"]  # its seed and its slice
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(again), slicer.util.arrayFromVolume(kept))
    panel.results.choose(again)
    panel.results.buttons["remove"].click()
    panel.sweep.keepButton.click()  # once more
    slicer.app.processEvents()
    first, second = results.results_of(slicer.mrmlScene)
    assert first is kept
    before = volumes(slicer.mrmlScene)
    panel.results.choose(second)
    panel.results.buttons["remove"].click()  # neither the first one nor what shows the sweep goes with it
    assert volumes(slicer.mrmlScene) == [name for name in before if name != second.GetName()]
    assert results.results_of(slicer.mrmlScene) == [first]
    with pytest.raises(UserError, match="has no Seed 99"):
        sweep.keep(sequence, "Seed 99")


@pytest.mark.parametrize("suffix", [".mrml", ".mrb"])
def test_a_sweep_in_a_saved_scene_is_as_it_was(
    panel: Any, heart: Any, told: list[str], tmp_path: Path, monkeypatch, suffix: str
) -> None:
    """Also where the file of the sequence has lost names and attributes of the frames, as with older Slicers."""
    choose(panel, 0, "Seed", "5, 6")
    sequence = run(panel)
    made = [slicer.util.arrayFromVolume(sequence.GetNthDataNode(number)).copy() for number in range(2)]
    before = [nodes.provenance_of(sequence.GetNthDataNode(number)) for number in range(2)]
    (name,) = {sequence.GetNthDataNode(number).GetName().replace("seed 5", "seed 6") for number in range(2)}
    file = tmp_path / "saved" / f"scene{suffix}"
    save_scene_as_older_slicers(sequence, file)
    slicer.mrmlScene.Clear()
    slicer.app.processEvents()
    assert panel.sweep.results.count == 0 and not panel.sweep.keepButton.enabled
    slicer.util.loadScene(str(file), {"clear": True})
    slicer.app.processEvents()
    loaded = sweep.newest(slicer.mrmlScene)
    frames = [loaded.GetNthDataNode(number) for number in range(2)]
    assert [nodes.provenance_of(frame) for frame in frames] == before
    assert all(nodes.is_synthetic(frame) and frame.GetAttribute(nodes.ROLE) == "result" for frame in frames)
    assert json.loads(frames[1].GetAttribute(nodes.SWEEP)) == {"Seed": 6} and frames[1].GetName() == name
    assert results.results_of(slicer.mrmlScene) == []  # what the browser shows is none
    assert [panel.sweep.results.itemText(number) for number in range(2)] == ["Seed 5", "Seed 6"]
    panel.sweep.results.currentIndex = 1
    panel.sweep.keepButton.click()
    (kept,) = results.results_of(slicer.mrmlScene)
    assert nodes.provenance_of(kept) == before[1] and kept.GetName().split("_")[0] == name
    assert nodes.inputs_of(kept) == [
        panel.parameters.parameterNode.GetNodeReference("volume_bSSFP"),
        slicer.util.getNode("t2"),
    ]
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(kept), made[1])
    place = tmp_path / "sweep.png"
    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", lambda *_: str(place))
    panel.sweep.saveButton.click()
    assert np.asarray(Image.open(place)).max() > 100
    slicer.mrmlScene.RemoveNode(loaded)
    slicer.app.processEvents()
    assert not panel.sweep.keepButton.enabled


def test_a_sweep_that_is_loaded_from_its_file_is_known(panel: Any, heart: Any, told: list[str], tmp_path: Path) -> None:
    choose(panel, 0, "Seed", "5, 6")
    sequence = run(panel)
    before = {value: frame["provenance"] for value, frame in sequences.frames_of(sequence).items()}
    place = tmp_path / "sweep.seq.nrrd"
    assert slicer.util.saveNode(sequence, str(place), {})
    written = json.loads((tmp_path / "sweep.json").read_text())
    assert written["synthetic"] is True and written["outputs"]["result"]["file"] == "sweep.seq.nrrd"
    assert {value: frame["provenance"] for value, frame in written["frames"].items()} == before
    for lost in (False, True):  # in the file of another program, say
        slicer.mrmlScene.Clear()
        loaded = slicer.util.loadNodeFromFile(str(place), "SequenceFile")
        if lost:
            for attribute in (sequences.FRAMES, nodes.SYNTHETIC, nodes.SWEEP, nodes.ROLE):
                loaded.RemoveAttribute(attribute)
        slicer.app.processEvents()
        assert loaded.GetName() == ("SYNTHETIC sweep" if lost else "sweep") and nodes.is_synthetic(loaded)
        frames = [loaded.GetNthDataNode(number) for number in range(2)]
        assert [nodes.provenance_of(frame) for frame in frames] == list(before.values())
        assert panel.sweep.keepButton.enabled
        panel.sweep.keepButton.click()
        assert "Kept as" in panel.sweep.text.text
    assert told == []


def test_cancel_keeps_what_was_computed(panel: Any, heart: Any) -> None:
    select_roles(panel, "slow-cardiac")
    panel.parameters.synthesisSteps = 10
    choose(panel, 0, "Seed", "1, 2, 3, 4, 5, 6")
    panel.sweep.runButton.click()
    assert not panel.sweep.runButton.enabled and not panel.sweep.keepButton.enabled
    wait_for(lambda: "Run 3 of 6" in panel.sweep.text.text and panel.ui.cancelButton.enabled)
    panel.ui.cancelButton.click()
    wait_for(lambda: not panel.sweeps.busy)
    assert len(sweep.labels_of(panel.sweeps.sequence)) == 2
    assert "Cancelled. 2 results are in the sequence" in panel.sweep.text.text
    assert panel.sweep.keepButton.enabled


@pytest.mark.parametrize("how", ["fails", "closed", "cancelled"])
def test_a_sweep_that_gives_nothing_leaves_nothing(panel: Any, heart: Any, how: str) -> None:
    panel.taskButtons["superresolution"].click()
    select(panel, heart, "error" if how == "fails" else "slow")
    panel.parameters.steps = 50
    choose(panel, 0, "Seed", "1, 2")
    panel.sweep.runButton.click()
    if how != "fails":
        wait_for(lambda: panel.logic.fraction > 0)
        slicer.mrmlScene.Clear() if how == "closed" else panel.ui.cancelButton.click()
    wait_for(lambda: not panel.sweeps.busy and not panel.logic.busy)
    assert panel.sweeps.sequence is None
    assert slicer.util.getNodesByClass("vtkMRMLSequenceNode") == []
    assert {"fails": "is odd", "closed": "closed", "cancelled": "Cancelled"}[how] in panel.sweep.text.text


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ("0.5, x", "is no list of numbers"),
        ("", "names no value"),
        ("1, 1", "or one twice"),
        ("1.5", "is no whole number"),
        ("-1", "Steps"),
        (", ".join(map(str, range(1, 66))), "these are 65 runs"),
    ],
)
def test_values_that_cannot_be_are_said(panel: Any, heart: Any, values: str, told: str) -> None:
    choose(panel, 0, "Steps", values)
    panel.sweep.runButton.click()
    assert told.lower() in panel.sweep.text.text.lower() and not panel.sweeps.busy


def test_the_scene_may_close_before_the_summary_is_made(panel: Any, heart: Any) -> None:
    waiting: list[Any] = []
    panel.sweeps._later = waiting.append
    choose(panel, 0, "Seed", "5, 6")
    panel.sweep.runButton.click()
    wait_for(lambda: bool(waiting))
    assert panel.sweeps.busy and not panel.sweep.runButton.enabled
    slicer.mrmlScene.Clear(0)
    waiting.pop()()
    assert not waiting and not panel.sweeps.busy and panel.sweeps.sequence is None
    assert "scene was closed" in panel.sweeps.message


def test_an_accident_in_the_summary_does_not_bar_the_next_sweep(
    panel: Any, heart: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting: list[Any] = []
    panel.sweeps._later = waiting.append
    choose(panel, 0, "Seed", "5, 6")
    panel.sweep.runButton.click()
    wait_for(lambda: bool(waiting))

    def fail(*_arguments: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(sweep.contact_sheet, "draw", fail)
    with pytest.raises(MemoryError):
        waiting.pop()()
    assert not panel.sweeps.busy and "could not be made" in panel.sweep.text.text
    monkeypatch.undo()
    panel.sweeps._later = lambda act: act()
    assert run(panel).GetNumberOfDataNodes() == 2


def test_a_setting_is_not_swept_twice(panel: Any, heart: Any) -> None:
    chosen = panel._captured()
    axis = sweep.Axis("seed", "Seed", (1.0, 2.0))
    with pytest.raises(SettingError, match="chosen twice"):
        sweep.points_of(chosen, [axis, axis])
    assert sweep.with_value(chosen, "scales.T2", 3.0).settings.scales == (("bSSFP", 1.5), ("T2", 3.0))


def test_the_picture_shows_all_with_their_settings(panel: Any, heart: Any, tmp_path: Path, monkeypatch) -> None:
    choose(panel, 0, "Seed", "1, 2")
    choose(panel, 1, "Strength", "0.2, 0.4, 0.6")
    sequence = run(panel)
    sheet = slicer.util.getNode("*contact sheet")
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    assert hierarchy.GetItemName(hierarchy.GetItemParent(hierarchy.GetItemByDataNode(sheet))) == nodes.FOLDER
    picture = slicer.util.arrayFromVolume(sheet)[0]
    line, side, gap = contact_sheet.LINE, contact_sheet.LARGEST, contact_sheet.GAP
    assert picture.shape == (line + 2 * (side + line + gap), 3 * (side + gap))
    assert picture[:line].max() > 100 and picture[line : 2 * line].max() > 100  # the word, the settings
    middle = slicer.util.arrayFromVolume(sequence.GetNthDataNode(0))[0]
    tile = picture[2 * line : 2 * line + side, :side].astype(float)
    small = tile.reshape(16, side // 16, 16, side // 16).mean((1, 3))
    assert np.corrcoef(small.ravel(), middle.ravel())[0, 1] > 0.95
    place = tmp_path / "sweep.png"
    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", lambda *_: str(place))
    panel.sweep.saveButton.click()
    np.testing.assert_array_equal(np.asarray(Image.open(place).convert("L")), picture)
    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", lambda *_: str(tmp_path / "missing" / "sweep.png"))
    panel.sweep.saveButton.click()
    assert "cannot be written" in panel.sweep.text.text
    slicer.mrmlScene.RemoveNode(sheet)
    panel.sweep.saveButton.click()
    assert "has been deleted" in panel.sweep.text.text
