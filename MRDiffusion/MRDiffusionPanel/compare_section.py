"""The part of the panel that puts a result beside a real image."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import qt
import slicer
import slicer.util

from MRDiffusionLib.errors import UserError

from . import charts, comparison, nodes, views
from .arrangement import Arrangement
from .background import Background
from .difference import Difference
from .form import Form, drop_down, selector
from .swipe import Swipe
from .text import _

FLICKER_MS = 500
LOOKS = ("beside", "flicker", "swipe")
"""Ways to look from one image to the other; one at a time."""
PLOTS = ("bland_altman", "histogram", "spectrum")
EDGE_STEPS = 100


class CompareSection:
    """Reference, segment, figures, difference, plots, and two ways to look from one image to the other.

    Args:
        box: the widget that holds all of it.
        compare: does the comparisons.
        result: gives the result that is judged, or None.
    """

    def __init__(self, box: Any, compare: comparison.Comparison, result: Callable[[], Any]) -> None:
        self._compare, self._result = compare, result
        self._segments: list[tuple[Any, str] | None] = []
        self._rows: list[comparison.Row] = []
        self._slots: list[Any] = []
        self._told, self._looking = "", ""
        self._followed: Any = None
        """The result for which a reference was suggested last."""
        self._seen: tuple[Any, Any] = (None, None)
        """Result and reference that are looked at."""
        self._before: Any = None
        self._background, self._computing = Background(), False
        self._swipe = Swipe(self._show_edge, self._end_look)
        self._build(box)
        self._timer = qt.QTimer()
        self._timer.setInterval(FLICKER_MS)
        self._timer.timeout.connect(self._flick)
        compare.changed.connect(self.refresh)
        self._show_edge()
        self.refresh()

    def _build(self, box: Any) -> None:
        form = Form(box)
        self.label = qt.QLabel()
        self.label.wordWrap = True
        form.row(_("Result"), _("The result that is chosen in the list above"), self.label)
        self.reference = selector(_("Select a real image"))
        tip = _("A real image of the same sequence and place; it is resampled onto the result where it has to be")
        form.row(_("Reference"), tip, self.reference)
        self.segment = drop_down()
        form.row(_("Within"), _("Judge also inside a segment"), self.segment)
        self.matched = qt.QCheckBox(_("Match brightness"))
        tip = _("Multiply the result so that it is as bright as the reference: units of MR images are arbitrary")
        form.row("", tip, self.matched)
        self.buttons: dict[str, Any] = {}
        self._row_of_buttons(
            box,
            ("compare", _("Compare"), _("Compute figures of image quality"), self._on_compare),
            ("difference", _("Difference"), _("Show the result less the reference, in colours"), self._on_difference),
        )
        self._row_of_buttons(
            box,
            ("beside", _("Side by side"), _("Both in two views that move together; press again to end"), self._look),
            ("flicker", _("Flicker"), _("One after the other in the same place; press again to end"), self._look),
            (
                "swipe",
                _("Swipe"),
                _("The result left of an edge that you drag, the reference right of it; press again to end"),
                self._look,
            ),
        )
        for name in LOOKS:
            self.buttons[name].checkable = True
        self.edge = qt.QSlider(qt.Qt.Horizontal)
        self.edge.maximum = EDGE_STEPS
        self.edge.toolTip = _("Move the edge; it can be dragged in the views, too")
        self.edge.valueChanged.connect(self._on_edge)
        box.layout().addWidget(self.edge)
        self._row_of_buttons(
            box,
            ("bland_altman", _("Bland-Altman"), _("Plot the difference of voxels over their mean"), self._on_plot),
            ("histogram", _("Histogram"), _("Plot how often each intensity occurs"), self._on_plot),
            (
                "spectrum",
                _("Spectrum"),
                _("Plot power over spatial frequency; beyond the measured band detail is invented"),
                self._on_plot,
            ),
        )
        self.table = qt.QTableWidget()
        self.table.setColumnCount(3)
        self.table.setHorizontalHeaderLabels([_("Measure"), _("Whole"), _("Segment")])
        self.table.horizontalHeader().setStretchLastSection(True)
        self.table.verticalHeader().hide()
        self.table.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
        box.layout().addWidget(self.table)
        self._row_of_buttons(
            box,
            ("copy", _("Copy"), _("Copy the table"), self._on_copy),
            ("csv", _("Save table..."), _("Save the table as a CSV file"), self._on_csv),
        )
        self.text = qt.QLabel()
        self.text.wordWrap = True
        box.layout().addWidget(self.text)
        self.reference.currentNodeChanged.connect(self._on_choice)

    def _row_of_buttons(self, box: Any, *described: tuple[str, str, str, Callable[[str], str | None]]) -> None:
        row = qt.QHBoxLayout()
        for name, text, tip, slot in described:
            button = self.buttons[name] = qt.QPushButton(text)
            button.toolTip = tip
            wrapped = lambda *_arguments, name=name, slot=slot: self._act(name, slot)  # noqa: E731
            self._slots.append(wrapped)
            button.clicked.connect(wrapped)
            row.addWidget(button)
        box.layout().addLayout(row)

    def remove(self) -> None:
        """Let go of scene and comparison."""
        self._end_look()
        self._background.close()
        self._compare.changed.disconnect(self.refresh)
        self.reference.setMRMLScene(None)
        self._segments, self._followed = [], None

    def reference_for(self, volume: Any) -> Any:
        """What to compare with that which is made of a volume: what a person has chosen, or a sample's own truth."""
        chosen = self.reference.currentNode()
        return nodes.truth_of(volume) if chosen is None or nodes.is_truth(chosen) else chosen

    def suggest(self, volume: Any) -> None:
        """Choose `reference_for` a volume: a truth of one sample says nothing of another one's results."""
        self.reference.setCurrentNode(self.reference_for(volume))

    def follow(self, result: Any) -> None:
        """A result has been chosen, or none."""
        if result is not self._followed:
            self._followed = result
            if result is not None and nodes.input_of(result) is not None:
                self.suggest(nodes.input_of(result))
        self.refresh()

    def refresh(self, *_arguments: Any) -> None:
        """Bring everything up to date: another result, another reference, new figures."""
        result, reference = self._result(), self.reference.currentNode()
        self.label.text = result.GetName() if result is not None else _("choose one in the list of results")
        self._fill_segments()
        self._rows = comparison.all_rows(result) if result is not None else []
        self.table.setRowCount(len(self._rows))
        for number, row in enumerate(self._rows):
            for column, text in enumerate(row):
                self.table.setItem(number, column, qt.QTableWidgetItem(text))
        self.table.visible = bool(self._rows)
        self.table.setFixedHeight(self.table.verticalHeader().defaultSectionSize * (len(self._rows) + 1) + 6)
        problem = "" if result is None or reference is None else comparison.pair_problem(result, reference)
        both = result is not None and reference is not None and not problem
        idle = not self._computing
        for name, button in self.buttons.items():
            button.enabled = bool(self._rows) if name in ("copy", "csv") else both
        for name in ("difference", *PLOTS):
            self.buttons[name].enabled = both and idle
        self.buttons["compare"].enabled = both and not self._compare.busy
        alone = result is not None and charts.measured_band(result) is not None
        self.buttons["spectrum"].enabled = (both or alone) and idle
        if self._looking and (not both or self._seen != (result, reference)):
            self._end_look()
        notes = self._compare.figures.get("notes", []) if self._compare.figures else []
        measured = comparison.k_space_note(result) if result is not None else ""
        self.text.text = "\n".join(filter(None, [problem, self._told or self._compare.message, *notes, measured]))

    def _fill_segments(self) -> None:
        names, found = [_("the whole image")], [None]
        for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
            segmentation = node.GetSegmentation()
            for number in range(segmentation.GetNumberOfSegments()):
                identifier = segmentation.GetNthSegmentID(number)
                names.append(f"{node.GetName()}: {segmentation.GetSegment(identifier).GetName()}")
                found.append((node, identifier))
        if [self.segment.itemText(n) for n in range(self.segment.count)] != names:
            self.segment.clear()
            self.segment.addItems(names)
        self._segments = found

    def _on_choice(self, *_arguments: Any) -> None:
        self._told = ""
        self.refresh()

    def _act(self, name: str, slot: Callable[[str], str | None]) -> None:
        try:
            self._told = slot(name) or ""
        except UserError as error:
            self._told = _("Failed: {message}").format(message=error)
        self.refresh()

    def _on_compare(self, _name: str) -> None:
        index = self.segment.currentIndex
        segment = self._segments[index] if 0 <= index < len(self._segments) else None
        self._compare.start(self._result(), self._reference(), segment, self.matched.checked)

    def _on_difference(self, _name: str) -> str:
        result, reference = self._result(), self._reference()
        pair = comparison.pair_of(result, reference)

        def show(found: Difference) -> str:
            views.show_result(reference, comparison.add_difference(result, reference, found))
            return ""

        return self._compute(functools.partial(pair.difference, self.matched.checked), show, result, reference)

    def _compute(self, work: Callable[[], Any], show: Callable[[Any], str], *volumes: Any) -> str:
        """Do some work outside of the main thread, and show what it gives, if the volumes are still there then."""

        def then(done: Future[Any]) -> None:
            self._computing = False
            try:
                found = done.result()
                self._told = show(found) if all(volume.GetScene() is not None for volume in volumes) else ""
            except UserError as error:
                self._told = _("Failed: {message}").format(message=error)
            self.refresh()

        self._computing = True
        self._background.run(work, then)
        return _("Computing")

    def _look(self, name: str) -> None:
        """One of the ways to look from one image to the other begins, which ends the one before; or it ends."""
        wanted = self.buttons[name].checked
        self._end_look()
        if not wanted:
            return
        result, reference = self._seen = (self._result(), self._reference())
        self._looking, self.buttons[name].checked = name, True
        if name == "beside":
            self._before = Arrangement()
            views.show_beside(result, reference)
        elif name == "flicker":
            views.show_result(reference, result)
            self._timer.start()
        else:
            self._swipe.start(result, reference)
            self._show_edge()

    def _end_look(self) -> None:
        looking, self._looking = self._looking, ""
        if looking == "beside":
            self._before.restore(views.BESIDE)
        elif looking == "flicker":
            self._timer.stop()
            views.fade(self._seen[1], 0.0)
        elif looking == "swipe":
            self._swipe.stop()
        self._seen = (None, None)
        for name in LOOKS:
            self.buttons[name].checked = False
        self._show_edge()

    def _flick(self) -> None:
        """The reference in front of the result appears, or goes."""
        shown = views.opacity_of(self._seen[1])
        if shown is None:  # somebody shows something else
            self._end_look()
        else:
            views.fade(self._seen[1], 0.0 if shown > 0 else 1.0)

    def _show_edge(self) -> None:
        self.edge.visible = self._swipe.active
        self.edge.blockSignals(True)
        self.edge.value = round(self._swipe.fraction * EDGE_STEPS)
        self.edge.blockSignals(False)

    def _on_edge(self, value: int) -> None:
        self._swipe.move(value / EDGE_STEPS)

    def _on_plot(self, name: str) -> str:
        result, reference, matched = self._result(), self._reference(), self.matched.checked
        work: Callable[[], Callable[[], charts.Drawing]]
        if name == "spectrum":
            usable = reference is not None and not comparison.pair_problem(result, reference)
            pair = comparison.pair_of(result, reference) if usable else None
            band, made = charts.measured_band(result), comparison.voxels_of(result)
            work = functools.partial(charts.spectrum, made, band, pair, matched)
        else:
            work = functools.partial(getattr(charts, name), comparison.pair_of(result, reference), matched)

        def show(drawing: Callable[[], charts.Drawing]) -> str:
            chart = charts.add(result, name, drawing())
            charts.show(chart)
            return str(chart.GetTitle())

        return self._compute(work, show, result)

    def _on_copy(self, _name: str) -> str:
        table = comparison.table_of(self._result())
        slicer.app.clipboard().setText("\n".join("\t".join(row) for row in table))
        return _("The table is on the clipboard.")

    def _on_csv(self, _name: str) -> str | None:
        file = qt.QFileDialog.getSaveFileName(None, _("Save the table"), "comparison.csv", "*.csv")
        file = file[0] if isinstance(file, tuple) else file
        if not file:
            return None
        try:
            Path(file).write_text(comparison.as_csv(comparison.table_of(self._result())), encoding="utf-8")
        except OSError as error:
            raise UserError(
                _("{file} cannot be written ({reason})").format(file=file, reason=error.strerror)
            ) from error
        return _("Saved to {file}.").format(file=file)

    def _reference(self) -> Any:
        return self.reference.currentNode()
