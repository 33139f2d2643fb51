"""What the panel shows, and when Apply can be pressed."""

from __future__ import annotations

import itertools
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import qt
import slicer
import slicer.util
from MRDiffusionPanel import nodes
from panel_support import add_volume, pack_info, panel_module, run, select, select_roles

from MRDiffusionLib.settings import TASKS, SuperResolutionSettings, SynthesisSettings, info_of

pytest_plugins = ["panel_fixtures"]


def empty_volume() -> Any:
    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")


def constant_volume() -> Any:
    node = add_volume("flat")
    slicer.util.updateVolumeFromArray(node, np.full((3, 8, 8), 5.0, np.float32))
    return node


def colour_volume() -> Any:
    node = add_volume("colour")
    image = node.GetImageData()
    image.AllocateScalars(image.GetScalarType(), 3)
    return node


def label_map() -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    slicer.util.updateVolumeFromArray(node, np.eye(8, dtype=np.int16)[None].repeat(3, 0))
    return node


REASONS = {
    "choose a low-resolution volume": lambda: None,
    "empty holds no image": empty_volume,
    "flat is 5 everywhere": constant_volume,
    "colour is a colour or vector image": colour_volume,
    "labels is a label map": label_map,
    "low has slices of 4 x 8 pixels, too small": lambda: add_volume(size=(3, 4, 8)),
    "16 x 16 is smaller than the input's 17 x 8": lambda: add_volume(size=(3, 17, 8)),
}


@pytest.mark.parametrize("reason", REASONS)
def test_apply_is_grey_with_its_reason_shown(panel: Any, reason: str) -> None:
    select(panel, REASONS[reason]())
    assert not panel.ui.applyButton.enabled
    assert panel.ui.stateText.text.startswith("Not ready: ") and reason in panel.ui.stateText.text
    assert reason in panel.ui.applyButton.toolTip


def test_ready_says_what_would_happen(panel: Any) -> None:
    select(panel, add_volume())
    assert panel.ui.applyButton.enabled and not panel.ui.cancelButton.enabled
    assert panel.ui.stateText.text.startswith("Ready: 3 slices of 8 x 8 become 16 x 16\n")


def test_target_matrix_must_be_the_packs(panel: Any) -> None:
    select(panel, add_volume())
    panel.widgets["columns"].value = 20
    assert not panel.ui.applyButton.enabled
    assert "the target matrix is 16 x 20; this model makes 16 x 16" in panel.ui.stateText.text


def test_pack_that_is_not_here_is_named_and_not_replaced(panel: Any) -> None:
    select(panel, add_volume(), "of-a-colleague")
    panel.enter()
    assert panel.parameters.pack == "of-a-colleague" and panel.ui.packList.currentIndex == -1
    assert "model of-a-colleague is not installed" in panel.ui.stateText.text


def test_choosing_a_pack_sets_its_matrix_and_shows_what_it_is(panel: Any) -> None:
    other = pack_info("other", matrix=(32, 24), training_data="Phantoms & co.")
    panel._list_packs = lambda: [pack_info("quick"), other, pack_info("baseline", task="regression")]
    panel.enter()
    assert panel.ui.packList.count == 2
    panel.ui.packList.setCurrentIndex(1)
    assert (panel.parameters.pack, panel.parameters.rows, panel.parameters.columns) == ("other", 32, 24)
    text = panel.ui.packText.text
    assert "Phantoms &amp; co." in text and "It knows &lt;nothing&gt;." in text and "Not for diagnosis" in text
    assert (other.folder / "README.md").as_uri() in text


def test_pixel_size_that_the_pack_has_not_seen_is_a_warning(panel: Any) -> None:
    select(panel, add_volume(spacing=2.0))
    assert " mm" not in panel.ui.warningText.text
    panel.parameters.inputVolume.SetSpacing(1.4, 2.0, 5.0)
    panel.enter()
    assert "1 x 0.7 mm" in panel.ui.warningText.text and "detail may be invented" in panel.ui.warningText.text
    assert panel.ui.applyButton.enabled


VALUES: dict[str, tuple[Any, str, Any]] = {
    "rows": (24, "value", 48),
    "columns": (24, "value", 48),
    "weight": (0.25, "value", 0.5),
    "method": ("gradient", "currentIndex", 1),
    "sampler": ("dpmpp_2m", "currentIndex", 1),
    "steps": (7, "value", 9),
    "eta": (0.25, "value", 0.5),
    "strength": (0.25, "value", 0.5),
    "noise": (1.5, "value", 2.5),
    "samples": (2, "value", 3),
    "seed": (7, "value", 8),
    "newSeed": (True, "checked", False),
    "device": ("cpu", "currentIndex", 2),
}


@pytest.mark.parametrize("name", VALUES)
def test_parameter_and_widget_follow_each_other(panel: Any, name: str) -> None:
    to_node, attribute, to_widget = VALUES[name]
    widget = panel.widgets[name]
    setattr(panel.parameters, name, to_node)
    shown = getattr(widget, attribute)
    assert shown == (widget.findText(to_node) if attribute == "currentIndex" else to_node)
    setattr(widget, attribute, to_widget)
    expected = widget.itemText(to_widget) if attribute == "currentIndex" else to_widget
    assert getattr(panel.parameters, name) == expected


@pytest.mark.parametrize("settings", [SuperResolutionSettings, SynthesisSettings])
def test_every_setting_has_its_row_with_name_range_and_tip(panel: Any, settings: type) -> None:
    task = next(name for name, kind in TASKS.items() if kind is settings)
    labels = {label.text: label.toolTip for form in panel._forms[task] for label in form.labels}
    section = panel.sections[task]
    for name in (f.name for f in fields(settings) if f.name != "scales"):
        info = info_of(settings, name)
        assert info.tip in labels[info.label]
        for choice, meaning in info.choices:
            assert f"{choice}: {meaning}" in labels[info.label]
        widget = panel.widgets.get(section.parameter(name))
        if widget is None:
            assert name in ("matrix", "target", "start")
            continue
        assert widget.toolTip == labels[info.label]
        assert all(widget.findText(choice) >= 0 for choice, _meaning in info.choices)
        if hasattr(widget, "singleStep"):
            assert widget.singleStep == info.step
        if info.maximum is not None:
            assert (widget.minimum, widget.maximum) == (info.minimum, info.maximum)


def test_defaults_are_those_of_the_settings(panel: Any) -> None:
    panel.parameters.steps = SuperResolutionSettings().steps  # the fixture has made it quicker
    panel.parameters.rows, panel.parameters.columns = SuperResolutionSettings().matrix
    assert panel._captured().settings == SuperResolutionSettings()


def test_noise_below_zero_is_shown_and_sent_as_estimated(panel: Any) -> None:
    assert panel.widgets["noise"].text == "estimated" and panel._captured().settings.noise is None
    panel.widgets["noise"].value = 0.0
    assert panel._captured().settings.noise == 0.0


def test_folds_are_kept_in_the_scene(panel: Any, scene: Any) -> None:
    sampling, inputs = panel.ui.samplingSection, panel.ui.inputsSection
    assert sampling.collapsed and not inputs.collapsed
    sampling.collapsed = False
    assert panel.parameters.samplingFolded is False
    panel.parameters.inputsFolded = True
    assert inputs.collapsed
    scene.Clear()  # another scene, with nothing said
    assert sampling.collapsed and not inputs.collapsed


def test_new_seed_is_drawn_shown_and_kept(panel: Any) -> None:
    select(panel, add_volume())
    panel.widgets["newSeed"].checked = True
    seeds = []
    for _ in range(2):
        result = run(panel)
        seeds.append(nodes.provenance_of(result)["request"]["seed"])
        assert panel.widgets["seed"].value == seeds[-1]
    assert seeds[0] != seeds[1]


def test_volume_is_suggested_on_entering_but_never_changed(panel: Any) -> None:
    low = add_volume()
    assert panel.parameters.inputVolume is None  # the selector takes nothing by itself, as in Slicer
    panel.enter()
    assert panel.parameters.inputVolume is low and panel.widgets["inputVolume"].currentNode() is low
    other = add_volume("other")
    panel.parameters.inputVolume = other
    panel.enter()
    assert panel.parameters.inputVolume is other


def test_results_are_not_suggested_as_input(panel: Any, scene: Any) -> None:
    low = add_volume()
    select(panel, low)
    run(panel)
    scene.RemoveNode(low)
    panel.enter()
    assert panel.parameters.inputVolume is None


def test_removing_the_input_makes_the_panel_wait(panel: Any, scene: Any) -> None:
    low = add_volume()
    select(panel, low)
    assert panel.ui.applyButton.enabled
    scene.RemoveNode(low)
    assert panel.parameters.inputVolume is None and not panel.ui.applyButton.enabled


def test_sample_comes_with_one_click(panel: Any) -> None:
    panel.ui.sampleButton.click()
    volume = panel.parameters.inputVolume
    assert slicer.util.arrayFromVolume(volume).shape[1:] == (64, 64)


def test_long_names_do_not_make_the_panel_wide(panel: Any) -> None:
    volume = add_volume("a name " * 30)
    panel._list_packs = lambda: [pack_info("quick", title="a title " * 30)]
    panel.enter()
    panel.parameters.inputVolume = volume
    panel.widget.show()
    panel.ui.samplingSection.collapsed = False
    wide = 65 * panel.widget.fontMetrics().horizontalAdvance("some words ") / len("some words ")
    assert panel.widget.minimumSizeHint.width() < wide
    panel.ui.sweepSection.collapsed = False
    panel.sweep._told = "some words " * 40
    panel.sweep.refresh()
    panel.widget.show()
    slicer.app.processEvents()
    assert panel.ui.settingsBox.layout().minimumSize().width() < wide
    # In Slicer itself a list is as wide as its longest name by default.
    shortened = qt.QComboBox.AdjustToMinimumContentsLengthWithIcon
    assert panel.widgets["inputVolume"].sizeAdjustPolicy == shortened


@pytest.mark.parametrize("task", ["superresolution", "synthesis", "degradation", "enhancement"])
def test_the_tab_key_goes_from_top_to_bottom(panel: Any, task: str) -> None:
    """Also through rows that are made when a pack is chosen, long after the buttons below them."""
    if task == "synthesis":
        select_roles(panel, "cardiac", bSSFP=add_volume("cine"), T2=add_volume("t2"))
    panel.taskButtons[task].click()
    for part in panel_module().FOLDS.values():
        getattr(panel.ui, part).collapsed = False
    panel.widget.resize(600, 4000)
    panel.widget.show()
    slicer.app.processEvents()
    first = next(iter(panel.taskButtons.values()))
    chain, widget = [first], first.nextInFocusChain()
    while widget is not first:
        # As Qt does: what stands for another widget, such as the line in a spin box, is passed over.
        reached = int(widget.focusPolicy) & int(qt.Qt.TabFocus) and widget.focusProxy() is None
        if panel.widget.isAncestorOf(widget) and widget.visible and reached:
            chain.append(widget)
        widget = widget.nextInFocusChain()
    assert len(chain) > 40
    assert {panel.ui.applyButton, panel.ui.packList, panel.compare.buttons["swipe"], panel.many.runButton} <= set(chain)
    rectangles = []
    for widget in chain:
        corner = widget.mapTo(panel.widget, widget.rect.topLeft())
        rectangles.append((corner.x(), corner.y(), corner.y() + widget.height, widget))
    for (left, top, bottom, one), (next_left, next_top, next_bottom, other) in itertools.pairwise(rectangles):
        below, beside = next_top >= bottom, next_bottom > top and next_left >= left
        assert below or beside, (one, one.toolTip, other, other.toolTip)
