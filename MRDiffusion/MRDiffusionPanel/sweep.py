"""The same run over values of one or two settings: a sequence to browse, a table, a chart, and all at a glance."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import Any

import numpy as np
import slicer
import slicer.util
import vtk

from MRDiffusionLib.errors import SettingError, UserError
from MRDiffusionLib.settings import info_of, kind_of, settings_from, settings_to

from . import charts, comparison, contact_sheet, nodes, sequences, views
from .comparison import Comparison
from .in_turn import InTurn, Series
from .parameters import Parameters
from .signals import Signal
from .text import _, of_setting

SEED, SCALE = "seed", "scales."
MOST = 64
"""Runs of a sweep."""
METRICS = ("psnr_db", "ssim", "haarpsi", "mae")
OWN = ("residual_over_noise", "energy_outside", "level")
"""Measurements of a run that are worth a column."""
CHANGE = "change"
"""How far a result is from that of the first run, of which one knows without any reference."""


@dataclass(frozen=True)
class Axis:
    """A setting and the values that it takes.

    Attributes:
        key: of `settings_of`.
        label: for a person.
    """

    key: str
    label: str
    values: tuple[float, ...]


@dataclass
class Point:
    """One run of a sweep."""

    values: tuple[float, ...]
    parameters: Parameters
    label: str
    figures: dict[str, float]


def settings_of(chosen: Parameters) -> dict[str, str]:
    """The settings of a run that can be swept: key to label."""
    kind, found = type(chosen.settings), {}
    for field in fields(kind):
        info = info_of(kind, field.name)
        if info.by_role:
            found.update({f"{SCALE}{role}": _("scale of {role}").format(role=role) for role in chosen.inputs})
        elif kind_of(kind, field.name) in (int, float):
            found[field.name] = of_setting(info.label)
    return {**found, SEED: _("Seed")}


def usual_values(chosen: Parameters, key: str) -> str:
    """Values to begin with, as a person would write them."""
    if key == SEED:
        return ", ".join(str(chosen.seed + number) for number in range(4))
    info = info_of(type(chosen.settings), key.split(".")[0])
    if key.startswith(SCALE):
        return "0, 1, 2, 4"
    if info.minimum is not None and info.maximum is not None and info.maximum <= 1:
        return ", ".join(f"{info.minimum + (info.maximum - info.minimum) * n / 4:g}" for n in range(5))
    value = getattr(chosen.settings, key)
    return f"{value:g}" if value is not None else "0"


def read_values(text: str) -> tuple[float, ...]:
    """'0.5, 1, 2' to numbers. Raises SettingError."""
    try:
        values = tuple(float(part) for part in text.replace(";", ",").split(",") if part.strip())
    except ValueError as error:
        raise SettingError(_("{text} is no list of numbers").format(text=text), _("Write them as 0.5, 1, 2")) from error
    if not values or len(set(values)) != len(values):
        raise SettingError(_("{text} names no value, or one twice").format(text=text), _("Write them as 0.5, 1, 2"))
    return values


def with_value(chosen: Parameters, key: str, value: float) -> Parameters:
    """The same run with one setting changed. Raises SettingError for a value outside its range."""
    if key == SEED:
        if value != int(value) or value < 0:
            raise SettingError(_("seed {value:g} is no whole number from 0").format(value=value))
        return replace(chosen, seed=int(value))
    values = settings_to(chosen.settings)
    if key.startswith(SCALE):
        values["scales"] = {**values["scales"], key[len(SCALE) :]: value}
    else:
        whole = kind_of(type(chosen.settings), key) is int
        if whole and value != int(value):
            raise SettingError(_("{key} {value:g} is no whole number").format(key=key, value=value))
        values[key] = int(value) if whole else value
    return replace(chosen, settings=settings_from(chosen.task, values))


def points_of(chosen: Parameters, axes: list[Axis]) -> list[Point]:
    """All runs of a sweep, the first setting changing last. Raises SettingError."""
    if len({axis.key for axis in axes}) != len(axes):
        raise SettingError(_("{label} is chosen twice").format(label=axes[0].label), _("Choose another second setting"))
    points = []
    for values in product(*(axis.values for axis in axes)):
        parameters = chosen
        for axis, value in zip(axes, values):
            parameters = with_value(parameters, axis.key, value)
        label = ", ".join(f"{axis.label} {value:g}" for axis, value in zip(axes, values))
        points.append(Point(values, parameters, label, {}))
    if len(points) > MOST:
        raise SettingError(_("these are {count} runs").format(count=len(points)), _("At most {n}").format(n=MOST))
    return points


class Sweep:
    """Runs one sweep at a time.

    Args:
        turn: does the runs.
        compare: judges each result where there is a reference.
        later: does something in a turn of its own (`background.Turns`), or at once.

    Attributes:
        message: what happens, for a person.
        sequence: of the last sweep, with what has been computed; None before.
        changed: emits when one of these has changed.
    """

    def __init__(
        self, turn: InTurn, compare: Comparison, later: Callable[[Callable[[], Any]], None] = lambda act: act()
    ) -> None:
        self.message, self.sequence, self.changed = "", None, Signal()
        self._turn, self._compare, self._later = turn, compare, later
        self._points: list[Point] = []
        self._axes: list[Axis] = []
        self._done, self._reference, self._first = 0, None, None
        self._made: dict[str, Any] = {}
        self._scene: Any = None
        compare.changed.connect(self._on_compared)

    @property
    def busy(self) -> bool:
        """Whether a sweep is under way."""
        return bool(self._points)

    def start(self, chosen: Parameters, axes: list[Axis], reference: Any = None) -> None:
        """Begin; returns at once.

        Args:
            chosen: what all runs have in common.
            axes: one or two settings.
            reference: a real image that each result is compared with.

        Raises:
            UserError: values that cannot be, or a run under way.
        """
        if self.busy or self._turn.busy:
            raise UserError(_("a series of runs is under way"), _("Wait for it, or press Cancel"))
        points = points_of(chosen, axes)
        series = Series(len(points), self._begin, self._take, self._end)
        self._points, self._axes = points, axes
        self._done, self._reference, self._scene, self._first = 0, reference, chosen.first.GetScene(), None
        self.sequence = _new_sequence(self._scene, chosen)
        try:
            self._turn.start(series)
        except UserError as error:
            self._end(str(error))
            raise

    def close(self) -> None:
        """Leave nothing behind."""
        self._points = []
        self._compare.changed.disconnect(self._on_compared)

    def _begin(self, number: int) -> Parameters:
        point, text = self._points[number], _("Run {number} of {count}: {label}")
        self._become(text.format(number=number + 1, count=len(self._points), label=point.label))
        return point.parameters

    def _take(self, made: dict[str, Any]) -> None:
        self._made, node, point = made, made["result"], self._points[self._done]
        measured = nodes.measurements_of(node)
        point.figures = {name: measured[name] for name in OWN if measured.get(name) is not None}
        array = slicer.util.arrayFromVolume(node)
        self._first = array.copy() if self._first is None else self._first
        point.figures[CHANGE] = _change(array, self._first)
        if self._reference is None or self._reference.GetScene() is None:
            self._keep()
            return
        try:
            self._compare.start(node, self._reference)
        except UserError as error:
            self._reference = None
            self._become(_("Not compared: {message}").format(message=error))
            self._keep()

    def _on_compared(self) -> None:
        if self.busy and self._made and not self._compare.busy:
            whole = self._compare.figures.get("whole", {})
            found = {name: whole[name] for name in METRICS if whole.get(name) is not None}
            self._points[self._done].figures.update(found)
            self._keep()

    def _keep(self) -> None:
        """The result goes into the sequence, and out of the scene."""
        made, self._made = self._made, {}
        node, point = made["result"], self._points[self._done]
        if node.GetScene() is None or self.sequence.GetScene() is None:
            self._turn.stop(_("Stopped, because the scene was closed"))
            return
        sequences.add(self.sequence, node, point.label, dict(zip((axis.label for axis in self._axes), point.values)))
        for each in made.values():
            if each.GetScene() is not None:
                nodes.remove(each)
        self._done += 1
        self._turn.go_on()

    def _end(self, reason: str) -> None:
        made, self._made, self._first = self._made, {}, None
        for each in made.values():  # stopped while it was compared
            if each.GetScene() is not None:
                nodes.remove(each)
        if self._done:
            self._go_on(self._summarise(reason))
        else:
            self._forget(reason)

    def _go_on(self, steps: Iterator[None]) -> None:
        """Each step in a turn of its own: together they would hold the panel up."""
        if self.sequence.GetScene() is None:
            self._forget(_("Stopped, because the scene was closed"))
            return
        try:
            ended = next(steps, steps) is steps
        except BaseException:
            self._points = []  # or no sweep could begin any more
            told = _("The results are in the sequence {name}; their table, picture and charts could not be made")
            self._become(told.format(name=self.sequence.GetName()))
            raise
        if not ended:
            self._later(lambda: self._go_on(steps))

    def _forget(self, reason: str) -> None:
        if self.sequence.GetScene() is not None:
            self._scene.RemoveNode(self.sequence)
        self.sequence, self._points = None, []
        self._become(reason)

    def _summarise(self, reason: str) -> Iterator[None]:
        points, axes, sequence = self._points[: self._done], self._axes, self.sequence
        made = [_table(sequence, axes, points)]
        yield
        made.append((yield from contact_sheet.add(sequence, len(axes[-1].values) if len(axes) > 1 else len(points))))
        charts_made = []
        for name in _names(points):
            yield
            charts_made.append(_chart(sequence, axes, points, name))
        yield
        _browse(sequence)
        charts_made = [node for node in charts_made if node.GetScene() is not None]  # or deleted between two steps
        for node in (*made, *charts_made):
            sequence.AddNodeReferenceID(nodes.SWEEP, node.GetID())
        if charts_made:
            charts.show(charts_made[0])
        self._points = []
        told = _("{count} results are in the sequence {name}").format(count=len(points), name=sequence.GetName())
        self._become(f"{reason}. {told}" if reason else told)

    def _become(self, message: str) -> None:
        self.message = message
        self.changed.emit()


def keep(sequence: Any, label: str) -> Any:
    """A result of a sweep as a node of its own, beside its input. Raises UserError where it is not there.

    It is a result like that of a run of its own: deleting it leaves the sweep and what else was kept of it.
    """
    sequences.restore(sequence)
    scene, data = sequence.GetScene(), sequence.GetDataNodeAtValue(label)
    if data is None:
        raise UserError(_("the sequence {name} has no {label}").format(name=sequence.GetName(), label=label))
    made = slicer.vtkMRMLScalarVolumeNode()
    made.Copy(data)
    made.RemoveAttribute(nodes.SWEEP)
    made.SetAttribute(nodes.RUN, nodes.new_run())
    made.SetName(nodes.free_name(scene, data.GetName()))
    made.SetUndoEnabled(True)
    node = scene.AddNode(made)
    count = sequence.GetNumberOfNodeReferences(nodes.INPUT_REFERENCE)
    inputs = [sequence.GetNthNodeReference(nodes.INPUT_REFERENCE, number) for number in range(count)]
    node.RemoveNodeReferenceIDs(nodes.INPUT_REFERENCE)
    for volume in inputs:
        if volume is not None:
            node.AddNodeReferenceID(nodes.INPUT_REFERENCE, volume.GetID())
    node.RemoveNodeReferenceIDs("display")
    node.CreateDefaultDisplayNodes()
    if inputs and inputs[0] is not None:
        node.SetAndObserveTransformNodeID(inputs[0].GetTransformNodeID())
        nodes.file_in_folder(scene, node, inputs[0])
    return node


def newest(scene: Any) -> Any:
    """The sequence of the last sweep in a scene, also of one that was saved; None without."""
    found = slicer.util.getNodesByClass(sequences.SEQUENCE, scene)
    return next((node for node in reversed(found) if node.GetAttribute(nodes.SWEEP) is not None), None)


def labels_of(sequence: Any) -> list[str]:
    """The results of a sweep, in order."""
    return [sequence.GetNthIndexValue(number) for number in range(sequence.GetNumberOfDataNodes())]


def _new_sequence(scene: Any, chosen: Parameters) -> Any:
    what = chosen.result_name("result", chosen.first.GetName()).split("; ")[0].replace(nodes.WORD, "").strip()
    sequence = sequences.new(scene, f"{nodes.WORD} sweep, {what}", nodes.SWEEP, chosen.inputs.values())
    sequence.SetIndexName(_("settings"))
    sequence.SetIndexUnit("")
    sequence.SetIndexTypeFromString("text")
    return sequence


def _browse(sequence: Any) -> None:
    """Give a sequence a browser and show its first volume; its input where Slicer lacks its module Sequences."""
    scene, source, shown = sequence.GetScene(), sequence.GetNodeReference(nodes.INPUT_REFERENCE), None
    if scene.IsNodeClassRegistered("vtkMRMLSequenceBrowserNode"):
        browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", f"{sequence.GetName()} browser")
        browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
        shown = browser.GetProxyNode(sequence)
    if source is not None and shown is not None:
        nodes.file_in_folder(scene, shown, source)
        views.show_result(source, shown)
    elif source is not None:
        views.show_input(source)


def _names(points: list[Point]) -> list[str]:
    """Of the figures that all runs have."""
    return [name for name in (*METRICS, *OWN, CHANGE) if points and all(name in point.figures for point in points)]


def _title(name: str) -> str:
    """Of a figure."""
    own = {
        "residual_over_noise": _("k-space residual / noise"),
        "energy_outside": _("energy outside the measured band"),
        "level": _("level"),
        CHANGE: _("difference from the first (%)"),
    }
    return own.get(name) or {each: title for each, title, _form in comparison.MEASURES}[name]


def _change(array: Any, first: Any) -> float:
    """Root mean square of the difference from the first result, in percent of that of the first result itself."""
    power = change = 0.0
    # The panel waits, so a slice at a time, ten times as fast as whole volumes; and without `vdot`, whose threads wait
    # for each other, for 0.2 s where others are at work.
    for one, other in zip(array, first):
        power += float(np.square(other, dtype=np.float64).sum())
        change += float(np.square(np.subtract(one, other, dtype=np.float64)).sum())
    return 100.0 * math.sqrt(change / max(power, 1e-30))


def _table(sequence: Any, axes: list[Axis], points: list[Point]) -> Any:
    """A row for each run: its settings, its seed and its figures."""
    node = sequence.GetScene().AddNewNodeByClass("vtkMRMLTableNode", f"{sequence.GetName()} table")
    columns: list[tuple[str, list[float]]] = [
        (axis.label, [point.values[number] for point in points]) for number, axis in enumerate(axes)
    ]
    if all(axis.key != SEED for axis in axes):
        columns.append((_("Seed"), [float(point.parameters.seed) for point in points]))
    columns += [(_title(name), [point.figures[name] for point in points]) for name in _names(points)]
    for title, values in columns:
        column = vtk.vtkDoubleArray()
        column.SetName(title)
        for value in values:
            column.InsertNextValue(value)
        node.AddColumn(column)
    return node


def _chart(sequence: Any, axes: list[Axis], points: list[Point], name: str) -> Any:
    """A figure over the first setting, a line for each value of the second."""
    title = _title(name)
    groups: dict[tuple[float, ...], list[Point]] = {}
    for point in points:
        groups.setdefault(point.values[1:], []).append(point)
    lines = []
    for rest, own in groups.items():
        own = sorted(own, key=lambda point: point.values[0])
        label = ", ".join(f"{axis.label} {value:g}" for axis, value in zip(axes[1:], rest)) or title
        lines.append((label, [point.values[0] for point in own], [point.figures[name] for point in own]))
    name, shown = f"{sequence.GetName()}, {title}", f"{nodes.WORD} {title}"
    return charts.make(sequence.GetScene(), name, shown, (axes[0].label, title), lines)
