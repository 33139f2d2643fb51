"""The part of the panel in which a run is made over values of one or two settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer

from MRDiffusionLib.errors import UserError

from . import contact_sheet, nodes, sweep, views
from .form import Form, drop_down
from .parameters import Parameters
from .scene_watch import SceneWatch
from .text import _

NONE = ""


class SweepSection:
    """Two settings with their values, a button to run, and what can be done with the runs.

    Args:
        box: the widget that holds all of it.
        runs: does the sweeps.
        ready: gives the choices of the panel, or None where no run can start.
        reference_for: gives the image that results of a volume are compared with, or None.
        estimate: says how long some runs take (`Estimates.sentence`).
    """

    def __init__(
        self,
        box: Any,
        runs: sweep.Sweep,
        ready: Callable[[], Parameters | None],
        reference_for: Callable[[Any], Any],
        estimate: Callable[..., str],
    ) -> None:
        self._runs, self._ready, self._reference_for, self._estimate = runs, ready, reference_for, estimate
        self._keys: dict[str, str] = {}
        self._told = ""
        self._rows: list[tuple[Any, Any]] = []
        self._slots: list[Any] = []
        self._build(box)
        self._watch = SceneWatch(self.refresh)
        runs.changed.connect(self.refresh)
        self.refresh()

    def _build(self, box: Any) -> None:
        form = Form(box)
        for title in (_("Setting"), _("by")):
            setting, values = drop_down(), qt.QLineEdit()
            slot = lambda *_arguments, setting=setting, values=values: self._on_setting(setting, values)  # noqa: E731
            self._slots.append(slot)
            setting.currentIndexChanged.connect(slot)
            values.textChanged.connect(self.refresh)
            form.row(title, _("A setting, and the values that it takes, such as 0.5, 1, 2"), setting, values)
            self._rows.append((setting, values))
        self.onlySlice = qt.QCheckBox(_("slice in view only"))
        self.onlySlice.checked = True
        self.onlySlice.toggled.connect(self.refresh)
        form.row("", _("Compute one slice for each pair of values: much faster"), self.onlySlice)
        self.runButton = qt.QPushButton(_("Run sweep"))
        self.runButton.toolTip = _("Run all values, one after the other; with a reference under Compare, judge each")
        self.runButton.clicked.connect(self._on_run)
        box.layout().addWidget(self.runButton)
        self.results = drop_down()
        self.results.toolTip = _("The runs of the last sweep")
        self.keepButton, self.saveButton = qt.QPushButton(_("Keep")), qt.QPushButton(_("Save picture..."))
        self.keepButton.toolTip = _("Take this result as a volume of its own")
        self.saveButton.toolTip = _("Save all results at a glance as a PNG file")
        self.keepButton.clicked.connect(self._on_keep)
        self.saveButton.clicked.connect(self._on_save)
        row = qt.QHBoxLayout()
        for widget in (self.results, self.keepButton, self.saveButton):
            row.addWidget(widget)
        row.setStretch(0, 1)
        box.layout().addLayout(row)
        self.text = qt.QLabel()
        self.text.wordWrap = True
        box.layout().addWidget(self.text)

    def remove(self) -> None:
        """Listen no more."""
        self._watch.remove()
        self._runs.changed.disconnect(self.refresh)

    def refresh(self, *_arguments: Any) -> None:
        """Bring everything up to date: another task, a sweep that goes on or has ended."""
        chosen = self._ready()
        if chosen is not None:
            self._offer(sweep.settings_of(chosen))
        self.runButton.enabled = chosen is not None and not self._runs.busy
        labels = [] if self._sequence() is None or self._runs.busy else sweep.labels_of(self._sequence())
        if [self.results.itemText(number) for number in range(self.results.count)] != labels:
            self.results.clear()
            self.results.addItems(labels)
        self.keepButton.enabled = self.saveButton.enabled = bool(labels)
        self.text.text = "\n".join(filter(None, [self._runs.message, self._told, self._expected(chosen)]))

    def _expected(self, chosen: Parameters | None) -> str:
        """How long it will take, where that is known, and by what it is judged."""
        if chosen is None or self._runs.busy:
            return ""
        try:
            points = sweep.points_of(self._seen(chosen), self._axes())
        except UserError:  # told when it is run
            return ""
        reference = self._reference_for(chosen.first)
        judged = "" if reference is None else _("Each result is compared with {name}.").format(name=reference.GetName())
        return "\n".join(filter(None, [self._estimate(*(point.parameters for point in points)), judged]))

    def _seen(self, chosen: Parameters) -> Parameters:
        return chosen.of_slice(views.slice_in_view(chosen.first)) if self.onlySlice.checked else chosen

    def _sequence(self) -> Any:
        return sweep.newest(slicer.mrmlScene)

    def _offer(self, keys: dict[str, str]) -> None:
        if keys == self._keys:
            return
        self._keys = keys
        for number, (setting, values) in enumerate(self._rows):
            setting.blockSignals(True)
            setting.clear()
            setting.addItems([*([] if number == 0 else [_("nothing")]), *keys.values()])
            setting.currentIndex = 0
            setting.blockSignals(False)
            self._on_setting(setting, values)

    def _key(self, setting: Any) -> str:
        labels = {label: key for key, label in self._keys.items()}
        return labels.get(setting.currentText, NONE)

    def _on_setting(self, setting: Any, values: Any) -> None:
        chosen, key = self._ready(), self._key(setting)
        values.enabled = bool(key)
        values.text = sweep.usual_values(chosen, key) if chosen is not None and key else ""

    def _axes(self) -> list[sweep.Axis]:
        chosen = [(self._key(setting), values.text) for setting, values in self._rows]
        return [sweep.Axis(key, self._keys[key], sweep.read_values(text)) for key, text in chosen if key]

    def _on_run(self, *_arguments: Any) -> None:
        chosen = self._ready()
        if chosen is None:
            return
        try:
            self._told = ""
            self._runs.start(self._seen(chosen), self._axes(), self._reference_for(chosen.first))
        except UserError as error:
            self._told = _("Failed: {message}").format(message=error)
        self.refresh()

    def _on_keep(self, *_arguments: Any) -> None:
        try:
            node = sweep.keep(self._sequence(), self.results.currentText)
        except UserError as error:
            self._told = _("Failed: {message}").format(message=error)
        else:
            source = nodes.input_of(node)
            views.show_result(source if source is not None else node, node)
            self._told = _("Kept as {name}").format(name=node.GetName())
        self.refresh()

    def _on_save(self, *_arguments: Any) -> None:
        file = qt.QFileDialog.getSaveFileName(None, _("Save the picture"), "sweep.png", "*.png")
        file = file[0] if isinstance(file, tuple) else file
        if not file:
            return
        try:
            contact_sheet.save(self._sheet(), Path(file))
            self._told = _("Saved to {file}.").format(file=file)
        except UserError as error:
            self._told = _("Failed: {message}").format(message=error)
        self.refresh()

    def _sheet(self) -> Any:
        sequence = self._sequence()
        count = sequence.GetNumberOfNodeReferences(nodes.SWEEP)
        made = [sequence.GetNthNodeReference(nodes.SWEEP, number) for number in range(count)]
        found = [node for node in made if node is not None and node.IsA("vtkMRMLScalarVolumeNode")]
        if not found:
            raise UserError(_("the picture of the sweep has been deleted"), _("Run the sweep again"))
        return found[0]
