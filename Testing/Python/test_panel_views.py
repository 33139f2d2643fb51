"""What the slice views show, drawn by Slicer's own pipeline off screen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import slicer.util
from MRDiffusionPanel import nodes, sequences, views
from panel_support import add_volume, run, select

pytest_plugins = ["panel_fixtures"]


@pytest.fixture
def marked(scene: Any) -> Iterator[Any]:
    """The slice views, with the mark that the module makes when Slicer has started."""
    slicer.app.make_views()
    mark = views.SyntheticMark(scene, slicer.app.layoutManager())
    yield mark
    mark.remove()
    slicer.util.setSliceViewerLayers(background=None, foreground=None)


def red() -> Any:
    return slicer.app.layoutManager().sliceWidget("Red")


def space() -> Any:
    return slicer.app.layoutManager().threeDWidget(0)


def amber_pixels(view: Any = None) -> int:
    """How much of the word can be seen, in the red slice view or in another one."""
    pixels = (view or red()).pixels().astype(int)
    return int(((pixels[..., 0] > 150) & (pixels[..., 2] < 100)).sum())


def synthetic(volume: Any) -> Any:
    volume.SetAttribute(nodes.SYNTHETIC, "1")
    return volume


def test_result_lies_behind_its_faded_input_and_is_marked(marked: Any, panel: Any) -> None:
    low = add_volume()
    select(panel, low)
    views.show_input(low)
    assert amber_pixels() == 0
    result = run(panel)
    composite = red().mrmlSliceCompositeNode()
    assert (composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID()) == (result.GetID(), low.GetID())
    assert composite.GetForegroundOpacity() == 0.0
    assert amber_pixels() > 100
    composite.SetForegroundOpacity(1.0)  # the input alone
    assert amber_pixels() == 0
    assert "fade to the input" in panel.ui.stateText.text


def test_no_layer_that_lets_a_result_through_hides_the_mark(marked: Any) -> None:
    """Slicer's other ways to blend layers, a threshold on what is in front, and layers over the foreground."""
    back, front = synthetic(add_volume("made")), add_volume("real")
    for volume in (back, front):
        volume.CreateDefaultDisplayNodes()
    slicer.util.setSliceViewerLayers(background=back, foreground=front, foregroundOpacity=1.0, fit=True)
    composite = red().mrmlSliceCompositeNode()
    assert amber_pixels() == 0  # the real image alone
    for blend in (composite.Add, composite.Subtract, composite.ReverseAlpha):
        composite.SetCompositing(blend)
        assert amber_pixels() > 100, blend
    composite.SetCompositing(composite.Alpha)
    assert amber_pixels() == 0
    front.GetDisplayNode().ApplyThresholdOn()
    assert amber_pixels() > 100
    front.GetDisplayNode().ApplyThresholdOff()
    assert amber_pixels() == 0
    if hasattr(composite, "SetNthLayerVolumeID"):
        over = composite.Layer_Last
        composite.SetNthLayerVolumeID(over, back.GetID())
        composite.SetNthLayerOpacity(over, 0.5)
        assert amber_pixels() > 100
        composite.SetNthLayerOpacity(over, 0.0)
        assert amber_pixels() == 0
        composite.SetNthLayerVolumeID(over, None)


@pytest.fixture
def inferno(scene: Any) -> Iterator[Any]:
    """Colours of Slicer's own files, which slicer-core lacks; they would outlive the closing of the scene."""
    colours = slicer.vtkMRMLColorTableNode()
    colours.SetSingletonTag("FileInferno.txt")
    yield scene.AddNode(colours)
    scene.RemoveNode(scene.GetNodeByID(nodes.DEVIATION_COLOURS))


def test_the_standard_deviation_is_shown_over_the_result(marked: Any, panel: Any, inferno: Any) -> None:
    low, box = add_volume(), panel.results.deviation
    select(panel, low)
    run(panel)
    assert box.isHidden()  # of one sample
    panel.parameters.samples = 2
    result = run(panel)
    deviation = panel.logic.results["standard_deviation"]
    assert not box.isHidden() and not box.checked
    composite = red().mrmlSliceCompositeNode()
    box.click()
    assert (composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID()) == (result.GetID(), deviation.GetID())
    assert 0 < composite.GetForegroundOpacity() < 1 and box.checked
    assert deviation.GetDisplayNode().GetColorNodeID() == nodes.DEVIATION_COLOURS and amber_pixels() > 100
    deviation.GetDisplayNode().SetAndObserveColorNodeID(nodes.GREY)  # as that of a file
    box.click()
    assert composite.GetForegroundVolumeID() == low.GetID() and not box.checked
    box.click()
    panel.results.buttons["show"].click()
    assert not box.checked
    box.click()
    views.show_input(low)  # somebody shows something else; the next click shows it, whatever the box says
    box.click()
    assert composite.GetForegroundVolumeID() == deviation.GetID() and box.checked
    assert deviation.GetDisplayNode().GetColorNodeID() == nodes.DEVIATION_COLOURS
    panel.results.buttons["remove"].click()
    slicer.app.processEvents()
    assert deviation.GetScene() is None and not composite.GetForegroundVolumeID() and box.isHidden()


def test_place_and_zoom_stay_where_the_person_looks(marked: Any, panel: Any) -> None:
    low = add_volume()
    select(panel, low)
    views.show_input(low)
    node = red().mrmlSliceNode()
    node.SetFieldOfView(5.0, 5.0, 1.0)
    run(panel)
    assert node.GetFieldOfView()[:2] == (5.0, 5.0)
    run(panel)  # the input is in front by now
    assert node.GetFieldOfView()[:2] == (5.0, 5.0)


def test_input_that_was_not_in_view_is_brought_into_it(marked: Any, panel: Any) -> None:
    select(panel, add_volume())
    views.show_input(add_volume("other"))
    result = run(panel)
    bounds = np.zeros(6)
    result.GetRASBounds(bounds)
    assert red().mrmlSliceNode().GetFieldOfView()[0] >= bounds[1] - bounds[0]


def test_views_are_turned_to_oblique_slices(marked: Any) -> None:
    volume = add_volume()
    volume.SetIJKToRASDirections(0.8, 0.0, 0.6, 0.0, 1.0, 0.0, -0.6, 0.0, 0.8)
    views.show_input(volume)
    across = [red().mrmlSliceNode().GetSliceToRAS().GetElement(row, 2) for row in range(3)]
    np.testing.assert_allclose(np.abs(across), (0.6, 0.0, 0.8), atol=1e-6)


def test_an_earlier_volume_does_not_decide_the_planes_of_the_next(marked: Any) -> None:
    """Views that were turned by it could all be closest to one plane, and none would show the slices."""
    tilted, heart = add_volume("tilted"), add_volume("heart")
    c, s = np.cos(0.7), np.sin(0.7)
    tilted.SetIJKToRASDirections(c, -s, 0.0, s, c, 0.0, 0.0, 0.0, 1.0)
    heart.SetIJKToRASDirections(0.71, -0.31, -0.63, 0.7, 0.27, 0.66, -0.03, -0.91, 0.41)
    manager = slicer.app.layoutManager()

    def planes() -> list[list[float]]:
        nodes = [manager.sliceWidget(name).mrmlSliceNode() for name in manager.sliceViewNames()]
        return [[node.GetSliceToRAS().GetElement(row, 2) for row in range(3)] for node in nodes]

    views.show_input(heart)
    alone = planes()
    views.show_input(tilted)
    views.show_input(heart)
    np.testing.assert_allclose(planes(), alone, atol=1e-9)


def test_result_has_the_inputs_brightness(marked: Any, panel: Any) -> None:
    """The same window and level: an upsampled volume looks as its input does."""
    low = add_volume(size=(3, 16, 16), spacing=1.0)
    select(panel, low)
    views.show_input(low)
    before = red().pixels()[100:220, 100:220].mean()
    run(panel)
    assert abs(red().pixels()[100:220, 100:220].mean() - before) < 1


def test_mark_follows_what_is_shown(marked: Any) -> None:
    result, other = synthetic(add_volume("result")), add_volume("other")
    slicer.util.setSliceViewerLayers(background=result, fit=True)
    assert amber_pixels() > 100
    slicer.util.setSliceViewerLayers(background=other, foreground=result, foregroundOpacity=0.5)
    assert amber_pixels() > 100
    slicer.util.setSliceViewerLayers(foregroundOpacity=0.0)
    assert amber_pixels() == 0


def test_mark_stays_while_any_of_the_result_can_be_seen(marked: Any) -> None:
    """An input in front hides a result only where there is input."""
    result, small = synthetic(add_volume("result", size=(3, 16, 16))), add_volume("small", size=(3, 8, 8))
    same = add_volume("same", size=(3, 16, 16))
    slicer.util.setSliceViewerLayers(background=result, foreground=small, foregroundOpacity=1.0, fit=True)
    assert amber_pixels() > 100
    slicer.util.setSliceViewerLayers(foreground=same, foregroundOpacity=0.9)
    assert amber_pixels() > 100
    slicer.util.setSliceViewerLayers(foregroundOpacity=1.0)
    assert amber_pixels() == 0
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    same.SetAndObserveTransformNodeID(transform.GetID())
    marked._update_all()
    assert amber_pixels() > 100


def test_a_slice_in_the_3d_view_is_marked(marked: Any) -> None:
    result, other = synthetic(add_volume("result")), add_volume("other")
    slicer.util.setSliceViewerLayers(background=result, fit=True)
    assert amber_pixels(space()) == 0
    slice_node = red().mrmlSliceNode()
    slice_node.SetSliceVisible(True)
    assert amber_pixels(space()) > 100
    slicer.util.setSliceViewerLayers(background=other)
    assert amber_pixels(space()) == 0
    slicer.util.setSliceViewerLayers(background=result)
    slice_node.AddThreeDViewID("vtkMRMLViewNodeOther")  # in another view only
    assert amber_pixels(space()) == 0
    slice_node.RemoveAllThreeDViewIDs()
    assert amber_pixels(space()) > 100
    slice_node.SetSliceVisible(False)
    assert amber_pixels(space()) == 0


def test_stepping_through_slices_does_not_search_the_scene(marked: Any, monkeypatch) -> None:
    slicer.util.setSliceViewerLayers(background=synthetic(add_volume("result")), fit=True)
    node = red().mrmlSliceNode()
    node.SetSliceVisible(True)
    searched: list[str] = []
    find = slicer.util.getNodesByClass
    monkeypatch.setattr(
        slicer.util, "getNodesByClass", lambda kind, *more: (searched.append(kind), find(kind, *more))[1]
    )
    for step in range(5):
        node.SetSliceOffset(step)
    assert searched == []
    node.SetSliceVisible(False)
    assert searched


def test_a_rendered_volume_is_marked(marked: Any) -> None:
    result, other = synthetic(add_volume("result")), add_volume("other")

    def rendered(volume: Any) -> Any:
        display = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLGPURayCastVolumeRenderingDisplayNode")
        volume.AddAndObserveDisplayNodeID(display.GetID())
        display.Modified()
        return display

    rendered(other)
    assert amber_pixels(space()) == 0
    display = rendered(result)
    assert amber_pixels(space()) > 100
    display.SetVisibility(False)
    assert amber_pixels(space()) == 0
    display.SetVisibility(True)
    assert amber_pixels(space()) > 100
    slicer.mrmlScene.RemoveNode(display)
    assert amber_pixels(space()) == 0
    rendered(result)
    slicer.mrmlScene.RemoveNode(result)
    assert amber_pixels(space()) == 0
    rendered(synthetic(add_volume("next")))
    slicer.mrmlScene.Clear()
    assert amber_pixels(space()) == 0


def test_what_is_loaded_from_files_is_marked(marked: Any, told: list[str], tmp_path: Path) -> None:
    """A volume and a sequence, whose frames come only after it."""
    made = add_volume("made")
    nodes.mark(made, "result", {"synthetic": True, "request": {}}, {}, nodes.new_run())
    sequence = sequences.new(slicer.mrmlScene, "cine", nodes.FRAME, [])
    sequences.add(sequence, made, "0", {"frame": 1})
    for node, name in ((made, "made.nrrd"), (sequence, "cine.seq.nrrd")):
        assert slicer.util.saveNode(node, str(tmp_path / name), {})
    slicer.mrmlScene.Clear()
    slicer.util.setSliceViewerLayers(background=slicer.util.loadVolume(str(tmp_path / "made.nrrd")), fit=True)
    assert amber_pixels() > 100
    slicer.mrmlScene.Clear()
    loaded = slicer.util.loadNodeFromFile(str(tmp_path / "cine.seq.nrrd"), "SequenceFile")
    loaded.RemoveAttribute(sequences.FRAMES)
    shown = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")[0]
    for attribute in shown.GetAttributeNames():
        loaded.GetNthDataNode(0).RemoveAttribute(attribute)
        shown.RemoveAttribute(attribute)
    slicer.util.setSliceViewerLayers(background=shown, fit=True)
    assert amber_pixels() == 0
    slicer.app.processEvents()
    assert amber_pixels() > 100 and told == []


def test_mark_comes_and_goes_with_the_module(scene: Any) -> None:
    slicer.app.make_views()
    slicer.util.setSliceViewerLayers(background=synthetic(add_volume("result")), fit=True)
    mark = views.SyntheticMark(scene, slicer.app.layoutManager())
    assert amber_pixels() > 100
    mark.remove()
    assert amber_pixels() == 0 and mark.Observations == []


def test_legend_is_seen_while_its_volume_is(scene: Any) -> None:
    slicer.app.make_views()
    if not scene.IsNodeClassRegistered(views.LEGEND):  # the application's module Colors does it
        scene.RegisterNodeClass(slicer.vtkMRMLColorLegendDisplayNode())
    volume = add_volume("SYNTHETIC deviation")
    legend = scene.AddNewNodeByClass(views.LEGEND)
    volume.AddAndObserveDisplayNodeID(legend.GetID())
    mark = views.SyntheticMark(scene, slicer.app.layoutManager())
    try:
        other = add_volume("other")
        slicer.util.setSliceViewerLayers(background=other)
        assert not legend.GetVisibility()
        slicer.util.setSliceViewerLayers(background=volume)
        assert legend.GetVisibility()
        legend.SetVisibility(False)  # by a person
        slicer.util.setSliceViewerLayers(background=volume, foreground=other)
        assert not legend.GetVisibility()
        slicer.util.setSliceViewerLayers(background=other, foreground=None)
        slicer.util.setSliceViewerLayers(background=volume)
        assert legend.GetVisibility()
    finally:
        mark.remove()
        slicer.util.setSliceViewerLayers(background=None, foreground=None)
