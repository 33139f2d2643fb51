"""Rows of widgets. Names, tool tips, steps and choices come from `MRDiffusionLib.settings`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import ctk
import qt
import slicer

from MRDiffusionLib.settings import Info, info_of

from .text import _, of_setting


class Form:
    """A column of rows.

    Attributes:
        widget: holds the rows.
        bound: parameter to the widget that shows it; the parameter node wrapper keeps the two alike.
        labels: of the rows.
    """

    def __init__(self, parent: Any) -> None:
        self.widget = qt.QWidget()
        parent.layout().addWidget(self.widget)
        self._layout = qt.QFormLayout(self.widget)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self.bound: dict[str, Any] = {}
        self.labels: list[Any] = []

    def row(self, text: str, tip: str, *widgets: Any) -> None:
        """A label and what stands beside it; the last widget takes the room that is left."""
        label = qt.QLabel(text)
        self.labels.append(label)
        for widget in (label, *widgets):
            widget.toolTip = tip
        if len(widgets) == 1:
            self._layout.addRow(label, widgets[0])
            return
        beside = qt.QHBoxLayout()
        for widget in widgets:
            beside.addWidget(widget)
        beside.setStretch(len(widgets) - 1, 1)
        self._layout.addRow(label, beside)

    def setting(self, settings: type, name: str, parameter: str) -> Any:
        """A row for a setting; gives its widget."""
        info = info_of(settings, name)
        widget = self.bound[parameter] = _widget(info, next(f.default for f in fields(settings) if f.name == name))
        self.row(of_setting(info.label), tip_of(info), widget)
        return widget

    def pair(self, settings: type, name: str, parameters: tuple[str, str]) -> None:
        """A row for a setting of two whole numbers."""
        info, boxes = info_of(settings, name), [qt.QSpinBox(), qt.QSpinBox()]
        self.bound.update(zip(parameters, boxes))
        unit = qt.QLabel(of_setting(info.unit))
        self.row(of_setting(info.label), tip_of(info), boxes[0], qt.QLabel("x"), boxes[1], unit)

    def volume(self, text: str, tip: str, parameter: str) -> None:
        """A row for a volume."""
        self.bound[parameter] = selector(_("Select a volume"))
        self.row(text, tip, self.bound[parameter])

    def check(self, label: str, text: str, tip: str, parameter: str) -> None:
        """A row for yes or no."""
        self.bound[parameter] = qt.QCheckBox(text)
        self.row(label, tip, self.bound[parameter])

    def names(self, settings: type, name: str, chosen: Callable[[str], None]) -> NameList:
        """A row for a setting whose choices are not known before."""
        info, names = info_of(settings, name), NameList(chosen)
        self.row(of_setting(info.label), tip_of(info), names.widget)
        return names

    def add(self, widget: Any) -> None:
        """A widget over the whole width."""
        self._layout.addRow(widget)

    def note(self) -> Any:
        """A line of text below a row, beside no label."""
        label = qt.QLabel()
        label.wordWrap = True
        self._layout.addRow(qt.QLabel(), label)
        return label

    def remove(self) -> None:
        """Let go of the scene."""
        for widget in self.bound.values():
            if hasattr(widget, "setMRMLScene"):
                widget.setMRMLScene(None)


class NameList:
    """A list of names, each with a text for a person. `chosen` is told what a person chooses."""

    def __init__(self, chosen: Callable[[str], None]) -> None:
        self.widget, self._chosen = drop_down(), chosen
        self._items: list[tuple[str, str]] = []
        self.widget.currentIndexChanged.connect(self._on_index)

    def fill(self, items: list[tuple[str, str]], current: str) -> None:
        """Show these (name, text) and one of them."""
        self.widget.blockSignals(True)
        if items != self._items:
            self._items = items
            self.widget.clear()
            self.widget.addItems([text for _name, text in items])
        names = [name for name, _text in items]
        self.widget.currentIndex = names.index(current) if current in names else -1
        self.widget.blockSignals(False)

    def _on_index(self, *_arguments: Any) -> None:
        index = self.widget.currentIndex
        if 0 <= index < len(self._items):
            self._chosen(self._items[index][0])


def tip_of(info: Info) -> str:
    """What a setting does, what its choices mean, and its range with the unit."""
    choices = (f"{choice}: {of_setting(meaning)}" for choice, meaning in info.choices)
    return "\n".join(filter(None, [of_setting(info.tip), *choices, range_of(info)]))


def range_of(info: Info) -> str:
    """The range of a setting with its unit, in words; empty for what is no number."""
    if info.minimum is None:
        return ""
    low, unit = f"{info.minimum:g}", of_setting(info.unit)
    if info.maximum is None:
        text = _("Range: {low} or more, {unit}") if unit else _("Range: {low} or more")
    else:
        text = _("Range: {low} to {high} {unit}") if unit else _("Range: {low} to {high}")
    return text.format(low=low, high=f"{info.maximum or 0:g}", unit=unit)


def align(*forms: Form) -> None:
    """Give the labels of several forms one width, so that they look like one."""
    labels = [label for form in forms for label in form.labels]
    widest = max(label.fontMetrics().horizontalAdvance(label.text) for label in labels)
    for label in labels:
        label.minimumWidth = widest


def drop_down() -> Any:
    """A list that a long name does not make wide."""
    widget = qt.QComboBox()
    widget.setSizeAdjustPolicy(qt.QComboBox.AdjustToMinimumContentsLengthWithIcon)
    widget.minimumContentsLength = 8
    widget.setSizePolicy(qt.QSizePolicy.Expanding, qt.QSizePolicy.Fixed)
    return widget


def selector(nothing: str) -> Any:
    """A list of the scene's scalar volumes.

    Args:
        nothing: what it shows for none.
    """
    widget = slicer.qMRMLNodeComboBox()
    # Or it would be as wide as the longest name in the scene, and with it the panel.
    widget.sizeAdjustPolicy = qt.QComboBox.AdjustToMinimumContentsLengthWithIcon
    widget.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    widget.showChildNodeTypes = False
    widget.noneEnabled = True
    widget.noneDisplay = nothing
    widget.addEnabled = widget.removeEnabled = widget.renameEnabled = False
    widget.setSizePolicy(qt.QSizePolicy.Expanding, qt.QSizePolicy.Fixed)
    widget.setMRMLScene(slicer.mrmlScene)
    return widget


def _widget(info: Info, default: Any) -> Any:
    """What suits a setting; its range comes with the parameter that it is bound to."""
    if info.choices:
        return drop_down()
    if isinstance(default, int):
        return qt.QSpinBox()
    widget = ctk.ctkSliderWidget() if info.maximum is not None else qt.QDoubleSpinBox()
    widget.singleStep = info.step  # Slicer logs a warning of a step that the parameter node names
    return widget
