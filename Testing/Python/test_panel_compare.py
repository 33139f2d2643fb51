"""Compare: a result beside a real image, with figures of the worker, a difference, plots, and ways to look."""

from __future__ import annotations

import csv
import json
import threading
import unittest
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import qt
import slicer
import slicer.util
from MRDiffusionPanel import charts, comparison, grids, nodes, views
from MRDiffusionPanel.swipe import Swipe
from panel_support import add_volume, run, select, wait_for
from scipy.spatial.transform import Rotation
from test_panel_run import oblique, set_affine
from test_panel_transforms import moved_by, rigid

from MRDiffusionLib.errors import UserError

pytest_plugins = ["panel_fixtures"]


@pytest.fixture
def result(panel: Any) -> Any:
    low = add_volume("brain")
    set_affine(low, oblique(True))
    select(panel, low)
    return run(panel)


@pytest.fixture
def reference(result: Any) -> Any:
    """A real image on the result's grid."""
    node = add_volume("truth", (3, 16, 16))
    set_affine(node, grids.affine(result))
    return node


def compare(panel: Any, reference: Any) -> list[tuple[str, ...]]:
    """Press Compare and wait; gives the table."""
    panel.compare.reference.setCurrentNode(reference)
    panel.compare.buttons["compare"].click()
    wait_for(lambda: not panel.comparison.busy)
    return table(panel)


def press(panel: Any, name: str) -> None:
    """Press a button and wait for what it computes."""
    assert panel.compare.buttons[name].enabled
    panel.compare.buttons[name].click()
    wait_for(lambda: not panel.compare._computing)


def table(panel: Any) -> list[tuple[str, ...]]:
    shown = panel.compare.table
    return [tuple(shown.item(row, column).text() for column in range(3)) for row in range(shown.rowCount)]


def add_segmentation(grid: Any, values: np.ndarray) -> Any:
    """A segment of these voxels of a volume's grid."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "outlines")
    node.SetReferenceImageGeometryParameterFromVolumeNode(grid)
    labels = slicer.vtkMRMLLabelMapVolumeNode()
    labels.CopyOrientation(grid)
    slicer.util.updateVolumeFromArray(labels, values.astype(np.uint8))
    image = slicer.vtkSlicerSegmentationsModuleLogic.CreateOrientedImageDataFromVolumeNode(labels)
    node.AddSegmentFromBinaryLabelmapRepresentation(image, "wall")
    return node


def test_the_truth_of_a_sample_judges_only_what_is_made_of_it(panel: Any) -> None:
    panel.taskButtons["superresolution"].click()
    panel.ui.sampleButton.click()
    assert panel.compare.reference.currentNode().GetName() == "brain-t1-reference"
    assert panel.parameters.inputVolume.GetName() == "brain-t1-low-resolution (simulated)"
    panel.taskButtons["enhancement"].click()
    panel.ui.sampleButton.click()
    brain = panel.compare.reference.currentNode()
    assert brain.GetName() == "brain-t1-fine"
    of_brain = run(panel)
    panel.taskButtons["synthesis"].click()
    panel.ui.sampleButton.click()
    assert panel.results.current is of_brain and panel.compare.reference.currentNode() is brain
    heart = panel.compare.reference_for(panel._captured().first)  # as for a sweep
    assert heart.GetName() == "cardiac-lge (simulated truth)"
    of_heart = run(panel)
    assert panel.results.current is of_heart and panel.compare.reference.currentNode() is heart
    panel.results.choose(of_brain)
    assert panel.compare.reference.currentNode() is brain
    # A volume without a truth is judged by none of another one's, and by what a person chooses.
    panel.taskButtons["superresolution"].click()
    select(panel, add_volume("own"))
    assert panel.compare.reference_for(panel.parameters.inputVolume) is None
    of_own = run(panel)
    assert panel.results.current is of_own and panel.compare.reference.currentNode() is None
    chosen = add_volume("chosen", (3, 16, 16))
    panel.compare.reference.setCurrentNode(chosen)
    panel.results.choose(of_brain)
    assert panel.compare.reference.currentNode() is chosen
    assert panel.compare.reference_for(nodes.input_of(of_brain)) is chosen
    panel.results.choose(of_own)
    panel.compare.reference.setCurrentNode(None)
    panel.results.choose(of_own)  # the same one again
    assert panel.compare.reference.currentNode() is None


def test_figures_of_the_worker_are_shown_and_kept(panel: Any, result: Any, reference: Any) -> None:
    assert not panel.compare.buttons["compare"].enabled and table(panel) == []
    error = np.abs(slicer.util.arrayFromVolume(result) - slicer.util.arrayFromVolume(reference)).mean()
    assert compare(panel, reference) == [("SSIM", "0.5000", ""), ("MAE", f"{error:.4g}", ""), ("voxels", "768", "")]
    assert "Compared with truth" in panel.compare.text.text and "the reference was looked at" in panel.compare.text.text
    assert comparison.figures_of(result)["with"] == "truth"
    # Of another result there are none yet; of this one they are there again.
    panel.parameters.seed = 3
    run(panel)
    assert table(panel) == []
    panel.results.choose(result)
    assert len(table(panel)) == 3


def test_brightness_is_matched_where_it_is_wanted(panel: Any, result: Any, reference: Any) -> None:
    slicer.util.updateVolumeFromArray(reference, 3.0 * slicer.util.arrayFromVolume(result))
    pair = comparison.pair_of(result, reference)
    assert pair.brightness() == pytest.approx(3.0)
    assert dict(row[:2] for row in compare(panel, reference))["MAE"] != "0"
    panel.compare.matched.checked = True
    assert float(dict(row[:2] for row in compare(panel, reference))["MAE"]) < 1e-4
    assert max(map(abs, pair.difference(True).image.GetScalarRange())) < 1e-3
    assert np.abs(charts.bland_altman(pair, True)().lines[0][2]).max() < 1e-3
    slicer.util.updateVolumeFromArray(reference, -slicer.util.arrayFromVolume(result))
    pair = comparison.Pair(comparison.voxels_of(result), comparison.voxels_of(reference), None)
    assert pair.brightness() == 1.0


def test_a_segment_is_judged_on_the_results_grid(panel: Any, result: Any, reference: Any) -> None:
    inside = np.zeros((3, 16, 16))
    inside[1, 4:8, 2:10] = 1
    node = add_segmentation(reference, inside)
    panel.compare.refresh()
    assert [panel.compare.segment.itemText(n) for n in (0, 1)] == ["the whole image", "outlines: wall"]
    panel.compare.segment.currentIndex = 1
    rows = compare(panel, reference)
    assert ("SSIM", "0.5000", "0.2500") in rows and ("voxels", "768", "32") in rows
    slicer.mrmlScene.RemoveNode(node)
    add_segmentation(add_volume("far", (3, 16, 16), 90.0), np.eye(16)[None].repeat(3, 0) * (np.arange(16) > 12))
    panel.compare.refresh()
    panel.compare.segment.currentIndex = 1
    panel.compare.buttons["compare"].click()
    assert "the segment wall lies outside of" in panel.compare.text.text and not panel.comparison.busy


def test_what_cannot_be_compared_is_said(panel: Any, result: Any, reference: Any) -> None:
    panel.compare.reference.setCurrentNode(result)
    assert "is the result itself" in panel.compare.text.text and not panel.compare.buttons["compare"].enabled
    far = add_volume("far")
    far.SetOrigin(500.0, 0.0, 0.0)
    panel.compare.reference.setCurrentNode(far)
    assert "far and the result show different places" in panel.compare.text.text
    slicer.util.arrayFromVolume(reference)[:] += 2e6
    compare(panel, reference)
    assert "far too bright. Choose another" in panel.compare.text.text and table(panel) == []
    slicer.mrmlScene.RemoveNode(result)
    slicer.app.processEvents()
    assert "choose one in the list" in panel.compare.label.text
    slicer.mrmlScene.Clear()


def test_a_worker_that_dies_ends_the_comparison(panel: Any, result: Any, reference: Any) -> None:
    panel.compare.reference.setCurrentNode(reference)
    panel.compare.buttons["compare"].click()
    wait_for(lambda: not panel.logic.worker.idle)
    panel.logic.worker.kill()
    wait_for(lambda: not panel.comparison.busy)
    assert "Failed: The worker" in panel.compare.text.text
    assert len(compare(panel, reference)) == 3


@pytest.mark.parametrize("moved", [False, True])
def test_reference_is_sampled_where_the_results_voxels_are_shown(scene: Any, moved: bool) -> None:
    """A linear function of the place is known everywhere."""
    test, reference = add_volume("test", (3, 9, 7)), add_volume("reference", (6, 30, 30))
    set_affine(test, oblique(True))
    matrix = np.eye(4)
    matrix[:3, :3] *= (4.0, 3.0, 5.0)
    matrix[:3, 3] = (-45.0, -90.0, -10.0)
    set_affine(reference, matrix)
    if moved:
        turned = np.eye(4)
        turned[:3, :3] = Rotation.from_euler("xyz", [5, -8, 12], degrees=True).as_matrix()
        moved_by(scene, test, rigid(1))
        moved_by(scene, reference, turned, rigid(1))
    slope = np.array([0.5, -0.25, 2.0])

    def place(volume: Any) -> np.ndarray:
        index = np.stack(np.meshgrid(*(np.arange(n) for n in grids.size(volume)), indexing="ij")).reshape(3, -1)
        world = grids.affine_to_world(volume) @ np.vstack([index, np.ones(index.shape[1])])
        return (slope @ world[:3]).reshape(grids.size(volume)).T

    slicer.util.updateVolumeFromArray(reference, place(reference).astype(np.float32))
    found = comparison.pair_of(test, reference).true()
    seen = np.isfinite(found)
    assert found.shape == (3, 9, 7) and seen.any()
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grids.size(test)), indexing="ij")).reshape(3, -1)
    there = (
        np.linalg.inv(grids.affine_to_world(reference))
        @ grids.affine_to_world(test)
        @ np.vstack([index, np.ones(index.shape[1])])
    )[:3]
    limit = np.array(grids.size(reference))[:, None] - 1
    within = ((there >= 0) & (there <= limit)).all(0).reshape(grids.size(test)).T
    np.testing.assert_allclose(found[within], place(test)[within], rtol=1e-4, atol=1e-2)
    outside = ((there < -0.5) | (there > limit + 0.5)).any(0).reshape(grids.size(test)).T
    np.testing.assert_array_equal(seen, ~outside)


def test_the_difference_is_a_synthetic_node_in_colours(panel: Any, result: Any, reference: Any) -> None:
    colours = slicer.vtkMRMLColorTableNode()  # as Slicer has it, from a file
    colours.SetTypeToIron()
    colours.SetSingletonTag("FileDivergingBlueRed.txt")
    colours = slicer.mrmlScene.AddNode(colours)
    panel.compare.reference.setCurrentNode(reference)
    press(panel, "difference")
    node = slicer.util.getNode("SYNTHETIC difference, SR of brain less truth")
    wanted = slicer.util.arrayFromVolume(result) - slicer.util.arrayFromVolume(reference)
    np.testing.assert_allclose(slicer.util.arrayFromVolume(node), wanted, rtol=1e-6)
    assert nodes.is_synthetic(node) and node.GetDisplayNode().GetLevel() == 0.0
    assert colours.GetID() == comparison.DIVERGING and node.GetDisplayNode().GetColorNode() is colours
    assert node not in [each for each, _titles in panel.results._listed]
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    folders = [hierarchy.GetItemParent(hierarchy.GetItemByDataNode(each)) for each in (node, result)]
    assert folders[0] == folders[1] and hierarchy.GetItemName(folders[0]) == nodes.FOLDER
    slicer.mrmlScene.RemoveNode(colours)


def test_where_the_reference_shows_nothing_there_is_no_difference(scene: Any) -> None:
    """0 there would read as agreement."""
    slicer.app.make_views()
    test = flat("SYNTHETIC test", 100, (3, 20, 20), np.diag([1.0, 1, 5, 1]))
    half = flat("half", 60, (3, 20, 10), np.diag([1.0, 1, 5, 1]))  # the other columns are outside of it
    found = comparison.pair_of(test, half).difference()
    views.show_input(half)
    node = comparison.add_difference(test, half, found)
    values = slicer.util.arrayFromVolume(node)
    assert np.isnan(values[:, :, 10:]).all() and (values[1:, :, :10] == 40).all()
    slicer.util.setSliceViewerLayers(background=test, foreground=node, foregroundOpacity=1.0, fit=True)
    grey = slicer.app.layoutManager().sliceWidget("Red").pixels()[160, :, 0]
    there, beyond = grey[165:], grey[:155]  # columns begin at the right of the view
    assert (there[5:] == 255).all() and (beyond[:-10] == 100).all()  # there the volume behind is seen
    # Nothing of the result is in the reference: not a difference of nothing, but a message.
    away = np.diag([1.0, 1, 5, 1])
    away[0, 3] = 20.4
    far = flat("far", 140, (3, 20, 10), away)
    with pytest.raises(UserError, match="different places"):
        comparison.pair_of(test, far).difference()


def test_plots_hold_the_numbers(panel: Any, result: Any, reference: Any) -> None:
    panel.compare.reference.setCurrentNode(reference)
    made, true = (slicer.util.arrayFromVolume(node).astype(float) for node in (result, reference))
    pair = comparison.pair_of(result, reference)
    chart = charts.add(result, "bland_altman", charts.bland_altman(pair)())
    shown = (true > 0.05 * np.percentile(true, 99)) | (made > 0.05 * np.percentile(true, 99))
    difference = (made - true)[shown]
    bias = chart.GetNthPlotSeriesNode(0)
    assert bias.GetName() == "bias"
    assert bias.GetTableNode().GetTable().GetValue(0, 1).ToDouble() == pytest.approx(difference.mean(), rel=1e-5)
    upper = chart.GetNthPlotSeriesNode(1).GetTableNode().GetTable().GetValue(0, 1).ToDouble()
    assert upper == pytest.approx(difference.mean() + 1.96 * difference.std(ddof=1), rel=1e-5)
    assert chart.GetNthPlotSeriesNode(3).GetTableNode().GetTable().GetNumberOfRows() == shown.sum()
    assert (
        chart.GetTitle().startswith("SYNTHETIC Bland-Altman")
        and chart.GetName() == "Bland-Altman, SYNTHETIC SR of brain"
    )
    assert charts.histogram(pair)().lines[0][2].sum() == shown.sum()
    charts.remove(chart)
    assert chart.GetScene() is None and slicer.util.getNodesByClass("vtkMRMLPlotSeriesNode") == []


def test_a_plot_takes_the_place_of_the_one_before(panel: Any, result: Any, reference: Any) -> None:
    panel.compare.reference.setCurrentNode(reference)
    kinds = ("vtkMRMLPlotChartNode", "vtkMRMLPlotSeriesNode", "vtkMRMLTableNode")
    counts = []
    for _round in range(3):
        for name in ("bland_altman", "histogram", "spectrum"):
            press(panel, name)
            assert "SYNTHETIC" in panel.compare.text.text
        counts.append([len(slicer.util.getNodesByClass(kind)) for kind in kinds])
    assert counts[0][0] == 3 and counts[1] == counts[2] == counts[0]
    run(panel)  # of another result they stay
    press(panel, "histogram")
    assert len(slicer.util.getNodesByClass("vtkMRMLPlotChartNode")) == 4


def test_plots_are_computed_beside_the_main_thread(panel: Any, result: Any, reference: Any, monkeypatch) -> None:
    threads = []
    for name in ("true", "values"):
        method = getattr(comparison.Pair, name)

        def noted(self: Any, *arguments: Any, method: Any = method) -> Any:
            threads.append(threading.current_thread() is threading.main_thread())
            return method(self, *arguments)

        monkeypatch.setattr(comparison.Pair, name, noted)
    panel.compare.reference.setCurrentNode(reference)
    panel.compare.matched.checked = True
    for name in ("difference", "bland_altman", "histogram", "spectrum"):
        press(panel, name)
    compare(panel, reference)
    assert len(threads) > 5 and not any(threads)
    # A result that has gone meanwhile gets no plot.
    panel.compare.buttons["histogram"].click()
    before = len(slicer.util.getNodesByClass("vtkMRMLPlotChartNode"))
    slicer.mrmlScene.RemoveNode(result)
    wait_for(lambda: not panel.compare._computing)
    assert len(slicer.util.getNodesByClass("vtkMRMLPlotChartNode")) == before


def test_what_was_measured_and_what_was_invented_needs_no_reference(panel: Any, result: Any) -> None:
    assert panel.compare.reference.currentNode() is None and not panel.compare.buttons["histogram"].enabled
    press(panel, "spectrum")
    (chart,) = slicer.util.getNodesByClass("vtkMRMLPlotChartNode")
    series = [chart.GetNthPlotSeriesNode(number) for number in range(chart.GetNumberOfPlotSeriesNodes())]
    assert "Measured and invented" in chart.GetTitle()
    assert [each.GetName() for each in series] == ["measured", "invented", "end of the measured band"]
    edge = series[2].GetTableNode().GetTable().GetValue(0, 0).ToDouble()
    assert edge == pytest.approx(0.5 / max(nodes.input_of(result).GetSpacing()[:2]))
    slicer.mrmlScene.RemoveNode(nodes.input_of(result))
    panel.compare.refresh()
    assert not panel.compare.buttons["spectrum"].enabled


def test_the_spectrum_parts_a_wave_below_from_one_above_the_band() -> None:
    x = np.arange(64) * 0.5
    low, high = np.sin(2 * np.pi * 0.25 * x), 0.1 * np.sin(2 * np.pi * 0.75 * x)
    image = np.tile(low + high, (2, 64, 1))
    drawing = charts.spectrum(comparison.Voxels(image, (0.5, 0.5, 3.0)), (0.5, 0.5))()
    (_m, at, power), (_i, above, invented), (_e, edge, _heights) = drawing.lines
    assert at[np.argmax(power)] == pytest.approx(0.25) and above[np.argmax(invented)] == pytest.approx(0.75)
    assert power.max() - invented.max() == pytest.approx(20.0 + 10 * np.log10(3), abs=0.6)  # rings three times as long
    assert edge[0] == 0.5


def test_the_reference_keeps_its_finest_detail_in_the_spectrum(scene: Any) -> None:
    """Sampled half a pixel away it would lose all of it."""
    size, fine = (2, 32, 32), 64
    test, reference = add_volume("test", size, 1.0), add_volume("reference", (2, fine, fine), 1.0)
    for node, shift in ((test, 0.0), (reference, -10.5)):
        affine = np.diag([1.0, 1.0, 5.0, 1.0])
        affine[:2, 3] = shift
        set_affine(node, affine)
    pair = comparison.pair_of(test, reference)
    own = pair.own_reference()
    assert own is not None and own.array.shape in ((2, 32, 32), (2, 33, 33))
    lines = {name: power for name, _frequency, power in charts.spectrum(pair.made, None, pair)().lines}
    noise = slicer.util.arrayFromVolume(reference).std()
    assert lines["reference"][-4:].mean() == pytest.approx(20 * np.log10(noise), abs=1.0)
    # The same image with pixels of another size has the same density of power.
    coarse = slicer.util.arrayFromVolume(test)
    first = charts.spectrum(comparison.Voxels(coarse, (1.0, 1.0, 5.0)))().lines[0]
    second = charts.spectrum(comparison.Voxels(_zoomed(coarse), (0.5, 0.5, 5.0)))().lines[0]
    np.testing.assert_allclose(second[2][:10], first[2][:10], atol=0.01)
    # Turned against the result it has to be resampled, and the line says so.
    turned = np.eye(4)
    turned[:3, :3] = Rotation.from_euler("z", 20, degrees=True).as_matrix()
    set_affine(reference, turned)
    assert [line[0] for line in charts.spectrum(pair.made, None, comparison.pair_of(test, reference))().lines][1] == (
        "reference, resampled"
    )


def _zoomed(stack: np.ndarray) -> np.ndarray:
    """The same images with pixels of half the size, and no finer detail."""
    slices, rows, columns = stack.shape
    k_space = np.fft.fft2(stack)
    finer = np.zeros((slices, 2 * rows, 2 * columns), complex)
    y, x = (np.rint(np.fft.fftfreq(n) * n).astype(int) for n in (rows, columns))
    finer[:, y[:, None], x[None]] = 4 * k_space
    return np.fft.ifft2(finer).real


@pytest.mark.parametrize(
    ("ratio", "told"), [(1.2, ""), (0.7, ""), (8.0, "far above 1"), (0.05, "far below 1"), (None, "")]
)
def test_a_residual_far_from_the_noise_is_flagged(panel: Any, result: Any, ratio: float | None, told: str) -> None:
    measured = {**nodes.measurements_of(result), "residual_over_noise": ratio, "energy_outside": 0.02}
    result.SetAttribute(nodes.MEASUREMENTS, json.dumps(measured))
    panel.compare.refresh()
    rows = dict(row[:2] for row in table(panel))
    assert rows.get("k-space residual / noise") == (None if ratio is None else f"{ratio:.2f}")
    assert rows["energy outside the measured band"] == "2.0%"  # without any reference
    assert ("far" in panel.compare.text.text) == bool(told) and told in panel.compare.text.text


def test_the_table_is_copied_and_saved(panel: Any, result: Any, reference: Any, tmp_path: Path, monkeypatch) -> None:
    inside = np.zeros((3, 16, 16))
    inside[1, 4:8, 2:10] = 1
    add_segmentation(reference, inside)
    panel.compare.refresh()
    panel.compare.segment.currentIndex = 1
    rows = [(result.GetName(), "truth", "wall", *row) for row in compare(panel, reference)]
    titles = ("result", "reference", "segment", "measure", "whole", "inside the segment")
    panel.compare.buttons["copy"].click()
    assert slicer.app.clipboard().text() == "\n".join("\t".join(row) for row in [titles, *rows])
    place = tmp_path / "table.csv"
    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", lambda *_: (str(place), "*.csv"))
    panel.compare.buttons["csv"].click()
    with place.open(newline="") as stream:
        assert [tuple(row) for row in csv.reader(stream)] == [titles, *rows]
    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", lambda *_: str(tmp_path / "missing" / "table.csv"))
    panel.compare.buttons["csv"].click()
    assert "cannot be written" in panel.compare.text.text


def test_both_are_shown_in_turn(panel: Any, result: Any, reference: Any) -> None:
    slicer.app.make_views()
    panel.compare.reference.setCurrentNode(reference)
    panel.compare.buttons["flicker"].click()
    seen = set()
    panel.compare._timer.setInterval(5)
    wait_for(lambda: seen.add(views.opacity_of(reference)) or seen == {0.0, 1.0})
    panel.compare.buttons["flicker"].click()
    assert views.opacity_of(reference) == 0.0 and not panel.compare._timer.active
    panel.compare.buttons["flicker"].click()
    views.show_input(reference)
    wait_for(lambda: not panel.compare.buttons["flicker"].checked)
    assert not panel.compare._timer.active


def state_of_views() -> list[Any]:
    """What the slice views show, and how they lie."""
    manager = slicer.app.layoutManager()
    found = [manager.layout]
    for name in manager.sliceViewNames():
        composite, node = manager.sliceWidget(name).mrmlSliceCompositeNode(), manager.sliceWidget(name).mrmlSliceNode()
        plane = slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS()).round(4).tolist()
        place = np.round([*node.GetFieldOfView()[:2], *node.GetXYZOrigin()], 4).tolist()
        found.append((views.Layers.of(composite), composite.GetLinkedControl(), plane, place))
    return found


def test_both_are_shown_side_by_side(panel: Any, result: Any, reference: Any) -> None:
    slicer.app.make_views()
    manager = slicer.app.layoutManager()
    views.show_input(add_volume("something else"))
    manager.sliceWidget("Yellow").mrmlSliceCompositeNode().SetLinkedControl(True)
    manager.sliceWidget("Red").mrmlSliceNode().SetFieldOfView(30.0, 30.0, 1.0)
    manager.sliceWidget("Red").mrmlSliceNode().SetXYZOrigin(3.0, 2.0, 0.0)
    before = state_of_views()
    panel.compare.reference.setCurrentNode(reference)
    panel.compare.buttons["beside"].click()
    assert manager.layout == slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView
    red, yellow = (manager.sliceWidget(name) for name in ("Red", "Yellow"))
    assert red.mrmlSliceCompositeNode().GetBackgroundVolumeID() == result.GetID()
    assert yellow.mrmlSliceCompositeNode().GetBackgroundVolumeID() == reference.GetID()
    planes = [slicer.util.arrayFromVTKMatrix(each.mrmlSliceNode().GetSliceToRAS())[:3, 2] for each in (red, yellow)]
    assert abs(planes[0] @ planes[1]) > 0.999
    assert all(each.mrmlSliceCompositeNode().GetLinkedControl() for each in (red, yellow))
    panel.compare.buttons["beside"].click()
    assert state_of_views() == before and not panel.compare.buttons["beside"].checked
    # A layout that the person has chosen meanwhile stays; the views no longer hang together.
    panel.compare.buttons["beside"].click()
    manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    panel.compare.buttons["beside"].click()
    assert manager.layout == slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView
    assert not red.mrmlSliceCompositeNode().GetLinkedControl()


def flat(name: str, value: float, size: tuple[int, int, int], affine: np.ndarray) -> Any:
    """A volume of one grey level, drawn as that."""
    node = add_volume(name, size)
    values = np.full(size, value, np.float32)
    values[0, 0, 0] += 1  # what is the same everywhere is no image
    slicer.util.updateVolumeFromArray(node, values)
    set_affine(node, affine)
    node.GetDisplayNode().AutoWindowLevelOff()
    node.GetDisplayNode().SetWindowLevel(255.0, 127.5)
    return node


def colours_of(pixels: np.ndarray) -> set[int]:
    """Grey levels of the two volumes and of nothing in a part of a view."""
    return {int(value) for value in np.unique(pixels[..., 0])} & {0, 100, 200}


@pytest.fixture
def pair(scene: Any) -> tuple[Any, Any]:
    """An oblique volume of grey level 100, and a smaller one of 200 inside of it whose axes are those of the body."""
    slicer.app.make_views()
    turned = np.eye(4)
    turned[:3, :3] = Rotation.from_euler("xyz", [12, -8, 25], degrees=True).as_matrix() * (1.0, 1.5, 2.0)
    turned[:3, 3] = -turned[:3, :3] @ (50, 40, 30)
    small = np.eye(4)
    small[:3, 3] = (-20, -15, -25)
    return flat("large", 100, (60, 80, 100), turned), flat("small", 200, (50, 30, 40), small)


def test_a_title_beside_the_edge_keeps_its_beginning(pair: tuple[Any, Any]) -> None:
    """A narrow view cut SYNTHETIC, which comes first, off."""
    large, small = pair
    large.SetName("SYNTHETIC LGE of a heart with a long name; seed 7")
    swipe = Swipe(lambda: None, lambda: None)
    swipe.start(large, small)
    written = [[text.GetInput() for text in edge._texts] for edge in swipe._edges]
    width = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode().GetDimensions()[0]
    for left, right in written:
        assert left.startswith("SYNTHETIC") and left.endswith("...") and len(left) * 7 < width / 2, left
        assert right == "small"
    swipe.move(0.0)
    assert {edge._texts[0].GetInput() for edge in swipe._edges} == {""}
    swipe.stop()


@pytest.mark.parametrize("oblique_view", [False, True])
def test_an_edge_divides_every_view_whatever_the_fields_of_view(pair: tuple[Any, Any], oblique_view: bool) -> None:
    large, small = pair
    views.show_input(large)
    widget = slicer.app.layoutManager().sliceWidget("Red")
    if oblique_view:
        turn = np.eye(4)
        turn[:3, :3] = Rotation.from_euler("xyz", [30, 40, 10], degrees=True).as_matrix()
        widget.mrmlSliceNode().GetSliceToRAS().DeepCopy(slicer.util.vtkMatrixFromArray(turn))
        widget.mrmlSliceNode().UpdateMatrices()
    before, plain = state_of_views(), widget.pixels()
    swipe = Swipe(lambda: None, lambda: None)
    swipe.start(large, small)
    for fraction in (0.5, 0.4, 0.6):
        swipe.move(fraction)
        for name in ("Red", "Yellow", "Green"):
            drawn = slicer.app.layoutManager().sliceWidget(name).pixels()[:270]  # below the names
            edge = round(fraction * drawn.shape[1])
            # Right of the edge nothing of the large one is seen, though it is there where the small one is not.
            assert colours_of(drawn[60:, : edge - 2]) == {0, 100}, name
            assert colours_of(drawn[60:, edge + 2 :]) == {0, 200}, name
            assert drawn[:, edge - 1 : edge + 2, 0].max(1).min() > 60  # a line from top to bottom
    swipe.stop()
    assert state_of_views() == before
    np.testing.assert_array_equal(widget.pixels(), plain)


def test_the_edge_is_dragged_and_leaves_no_trace(panel: Any, result: Any, reference: Any) -> None:
    slicer.app.make_views()
    widget = slicer.app.layoutManager().sliceWidget("Red")
    views.show_input(nodes.input_of(result))
    before = state_of_views()
    interactor, renderer = widget.renderWindow().GetInteractor(), widget._renderer
    props, other = renderer.GetViewProps().GetNumberOfItems(), []
    tag = interactor.AddObserver("MouseMoveEvent", lambda *_: other.append(1))
    panel.compare.reference.setCurrentNode(reference)
    assert panel.compare.edge.isHidden()
    panel.compare.buttons["swipe"].click()
    assert panel.compare.edge.value == 50 and not panel.compare.edge.isHidden()

    def mouse(event: str, x: int) -> None:
        interactor.SetEventInformation(x, 100)
        interactor.InvokeEvent(event)

    mouse("LeftButtonPressEvent", 20)  # far from the edge: the view's own
    mouse("MouseMoveEvent", 40)
    mouse("LeftButtonReleaseEvent", 40)
    assert panel.compare.edge.value == 50 and len(other) == 1
    mouse("LeftButtonPressEvent", 155)
    mouse("MouseMoveEvent", 80)
    mouse("LeftButtonReleaseEvent", 80)
    mouse("MouseMoveEvent", 200)
    assert panel.compare.edge.value == 25 and len(other) == 2
    panel.compare.edge.value = 75
    assert panel.compare._swipe.fraction == 0.75
    panel.compare.buttons["swipe"].click()
    assert state_of_views() == before and renderer.GetViewProps().GetNumberOfItems() == props
    assert panel.compare._swipe.Observations == [] and panel.compare.edge.isHidden()
    layers = widget.sliceLogic().GetForegroundLayer(), widget.sliceLogic().GetBackgroundLayer()
    assert all(layer.GetReslice().GetInputConnection(1, 0) is None for layer in layers)
    mouse("LeftButtonPressEvent", 160)
    mouse("MouseMoveEvent", 20)
    assert panel.compare._swipe.fraction == 0.75 and len(other) == 3
    interactor.RemoveObserver(tag)


@pytest.mark.parametrize("how", ["other volume", "deleted", "other reference", "closed", "another look", "new result"])
def test_the_edge_goes_when_something_else_is_shown(panel: Any, result: Any, reference: Any, how: str) -> None:
    slicer.app.make_views()
    panel.compare.reference.setCurrentNode(reference)
    panel.compare.buttons["swipe"].click()
    other = add_volume("other")
    if how == "other volume":
        views.show_input(other)
    elif how == "deleted":
        slicer.mrmlScene.RemoveNode(reference)
    elif how == "other reference":
        panel.compare.reference.setCurrentNode(other)
    elif how == "closed":
        slicer.mrmlScene.Clear()
    elif how == "another look":
        panel.compare.buttons["flicker"].click()
    else:
        made = run(panel)
    assert not panel.compare._swipe.active and not panel.compare.buttons["swipe"].checked
    widget = slicer.app.layoutManager().sliceWidget("Red")
    assert widget.sliceLogic().GetForegroundLayer().GetReslice().GetInputConnection(1, 0) is None
    if how == "other volume":
        assert widget.mrmlSliceCompositeNode().GetBackgroundVolumeID() == other.GetID()
    if how == "new result":
        assert widget.mrmlSliceCompositeNode().GetBackgroundVolumeID() == made.GetID()


def test_the_self_test_divides_the_views_of_the_application(scene: Any) -> None:
    """As `Testing/check-in-slicer` does in the real one."""
    from MRDiffusionPanel import self_test

    class Case(unittest.TestCase):
        def delayDisplay(self, _text: str) -> None:
            slicer.app.processEvents()

    slicer.app.make_views()
    self_test.swipe(Case())
