"""The list of results in the panel, and what can be done with the chosen one."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer
import slicer.util

from MRDiffusionLib.errors import UserError

from . import nodes, results, sequences, sidecars, views
from .background import Background
from .scene_watch import SceneWatch
from .signals import Signal
from .text import _

ROWS_SHOWN = 5


class ResultsSection:
    """A table of the scene's results, the newest first, with buttons below it.

    Args:
        box: the widget that holds all of it.
        run_again: makes a result again.

    Attributes:
        chosen: emits the chosen result, or None.
    """

    def __init__(self, box: Any, run_again: Callable[[Any, list[Any]], None]) -> None:
        self.chosen = Signal()
        self._run_again = run_again
        self._listed: list[tuple[Any, tuple[str, str, str]]] = []
        self._background = Background()
        self._watch = SceneWatch(self.refresh)
        self._build(box)

    def _build(self, box: Any) -> None:
        self.table = qt.QTableWidget()
        self.table.setColumnCount(3)
        self.table.setHorizontalHeaderLabels([_("Result"), _("Made with"), _("PSNR (dB)")])
        self.table.horizontalHeader().setSectionResizeMode(1, qt.QHeaderView.Stretch)
        self.table.verticalHeader().hide()
        self.table.setSelectionBehavior(qt.QAbstractItemView.SelectRows)
        self.table.setSelectionMode(qt.QAbstractItemView.SingleSelection)
        self.table.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
        self.table.toolTip = _("All synthetic volumes of this scene; choose one to see what made it")
        self.table.itemSelectionChanged.connect(self._on_selection)
        box.layout().addWidget(self.table)
        row = qt.QHBoxLayout()
        self.buttons: dict[str, Any] = {}
        self._slots: list[Any] = []
        for name, text, tip, slot in (
            ("show", _("Show"), _("Show the result where its input lies"), self._show),
            ("again", _("Run again"), _("Make the result again exactly: same model, settings and seed"), self._again),
            ("save", _("Save..."), _("Save it with its standard deviation, and what made it beside it"), self._save),
            ("dicom", _("DICOM..."), _("Write a DICOM series that is marked as synthetic"), self._dicom),
            ("remove", _("Delete"), _("Take the result and its standard deviation out of the scene"), self._remove),
            ("undo", _("Undo"), _("Take the newest result out of the scene, and show its input again"), self._undo),
        ):
            button = self.buttons[name] = qt.QPushButton(text)
            button.toolTip, button.enabled = tip, False
            wrapped = lambda *_arguments, slot=slot: self._act(slot)  # noqa: E731
            self._slots.append(wrapped)
            button.clicked.connect(wrapped)
            row.addWidget(button)
        box.layout().addLayout(row)
        self.deviation = qt.QCheckBox(_("Standard deviation over the result"))
        self.deviation.toolTip = _("Show in colours how much the samples differ: where they do, the model is unsure")
        self.deviation.clicked.connect(self._on_deviation)
        box.layout().addWidget(self.deviation)
        self.text = qt.QLabel()
        self.text.wordWrap = True
        self.text.setTextInteractionFlags(qt.Qt.TextSelectableByMouse)
        box.layout().addWidget(self.text)

    def remove(self) -> None:
        """Let go of the scene."""
        self._background.close()
        self._watch.remove()
        self._listed = []

    @property
    def busy(self) -> bool:
        """Whether a result is being exported, or checked before it is made again."""
        return self._background.busy

    @property
    def current(self) -> Any:
        """The chosen result, or None."""
        row = self.table.currentRow()
        node = self._listed[row][0] if 0 <= row < len(self._listed) and self.table.selectedItems() else None
        return node if node is not None and node.GetScene() is not None else None

    def refresh(self) -> None:
        """Bring the table up to date, if there is something to be done."""
        if self._fill():
            self._on_selection()

    def _fill(self) -> bool:
        """List the results with the same one chosen as before; gives whether anything has changed."""
        found = [(node, results.titles(node)) for node in reversed(results.results_of(slicer.mrmlScene))]
        if found == self._listed:
            return False
        before = self.current
        self._listed = found
        self._watch.follow([node for node, _titles in found])
        self.table.blockSignals(True)
        self.table.clearSelection()
        self.table.setRowCount(len(found))
        for number, (node, texts) in enumerate(found):
            for column, text in enumerate(texts):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(node.GetName())
                self.table.setItem(number, column, item)
        self.table.resizeColumnToContents(0)
        self.table.setColumnHidden(2, not any(psnr for _node, (_what, _chosen, psnr) in found))
        rows = max(1, min(len(found), ROWS_SHOWN))
        self.table.setFixedHeight(self.table.verticalHeader().defaultSectionSize * (rows + 1) + 6)
        self.table.blockSignals(False)
        self._select(before)
        return True

    def choose(self, node: Any) -> None:
        """Choose a result, which may be new; None for no one. It is told once, as the whole panel follows."""
        self._fill()
        self._select(node)
        self._on_selection()

    def _select(self, node: Any) -> None:
        nodes_listed = [each for each, _titles in self._listed]
        if node is not None and node in nodes_listed:
            self.table.blockSignals(True)
            self.table.selectRow(nodes_listed.index(node))
            self.table.blockSignals(False)

    def _on_selection(self) -> None:
        node = self.current
        for name, button in self.buttons.items():
            button.enabled = bool(self._listed) if name == "undo" else node is not None
        self._follow_deviation(node)
        self._tell(results.story(node) if node is not None else [])
        self.chosen.emit(node)

    def _follow_deviation(self, node: Any) -> None:
        deviation = None if node is None else results.deviation_of(node)
        self.deviation.visible = deviation is not None
        self.deviation.checked = bool(views.opacity_of(deviation))

    def _on_deviation(self, *_arguments: Any) -> None:
        node = self.current
        deviation = None if node is None else results.deviation_of(node)
        # What the views show decides, not the mark in the box: other buttons and modules change them as well.
        if deviation is not None and not views.opacity_of(deviation):
            deviation.CreateDefaultDisplayNodes()
            nodes.give_colours(deviation)  # grey where it comes from a file
            views.show_over(node, deviation)
        elif node is not None:
            self._show(node)
        self._follow_deviation(node)

    def _tell(self, sentences: list[str]) -> None:
        self.text.text = "<br>".join(html.escape(sentence) for sentence in sentences)
        self.text.visible = bool(sentences)

    def _act(self, slot: Callable[[Any], str | None]) -> None:
        node = self._newest() if slot == self._undo else self.current
        if node is None:
            return
        self._report(node, lambda: slot(node))

    def _later(self, node: Any, work: Callable[[], Any], then: Callable[[Any], str | None]) -> None:
        """Do some work in another thread, and something with what it gives. Raises UserError."""
        if self.busy:
            raise UserError(_("a result is still being exported or looked at"), _("Wait for it"))
        self._background.run(work, lambda future: self._report(node, lambda: then(future.result())))

    def _report(self, node: Any, act: Callable[[], str | None]) -> None:
        """Do something with a result, and tell what has become of it."""
        try:
            told = act()
        except UserError as error:
            told = _("Failed: {message}").format(message=error)
        if told:
            self._tell([told, *(results.story(node) if node.GetScene() is not None else [])])

    def _show(self, node: Any) -> None:
        source = nodes.input_of(node)
        views.show_result(source if source is not None else node, node)
        self._follow_deviation(node)

    def _again(self, node: Any) -> None:
        self._later(node, results.find_inputs(node), lambda volumes: self._run_again(node, volumes))

    def _save(self, node: Any) -> str | None:
        suffixes = (".nrrd", ".nii.gz") if sequences.sequence_of(node) is None else (".seq.nrrd",)
        file = qt.QFileDialog.getSaveFileName(
            None,
            _("Save the result"),
            f"{slicer.mrmlScene.GetRootDirectory()}/{node.GetName()}{suffixes[0]}",
            " ".join(f"*{suffix}" for suffix in suffixes),
        )
        file = file[0] if isinstance(file, tuple) else file
        if not file:
            return None
        told, deviation = [self._save_as(node, Path(file))], results.deviation_of(node)
        if deviation is not None:
            place = sidecars.place_of_deviation(Path(file))
            if place.exists() and sidecars.find(place) is None:
                told.append(_("Its standard deviation was not saved: {file} is there already.").format(file=place))
            else:
                told.append(self._save_as(deviation, place))
        return " ".join(told)

    def _save_as(self, node: Any, place: Path) -> str:
        sequence = sequences.sequence_of(node)  # not the frame alone that is seen of it
        # The sidecar is written by whoever listens to files being saved (`sidecars`).
        if not slicer.util.saveNode(
            node if sequence is None else sequence, str(place), {}
        ):  # the default is one object for all calls
            raise UserError(_("{file} cannot be written").format(file=place), _("Choose another place"))
        beside = sidecars.find(place)
        if beside is None:
            return _("Saved to {file}, but not what made it.").format(file=place)
        return _("Saved to {file}, with what made it beside it in {name}.").format(file=place, name=beside.name)

    def _dicom(self, node: Any) -> str | None:
        results.check_exportable(node)
        place = qt.QFileDialog.getExistingDirectory(None, _("Folder in which the series gets a folder of its own"))
        if not place:
            return None
        what = results.titles(node)[0]
        stem = "".join(c if c.isalnum() or c in "-_" else "_" for c in f"{nodes.WORD} {what}")
        folder, number = Path(place) / stem, 1
        while folder.exists():
            number += 1
            folder = Path(place) / f"{stem}-{number}"
        text = _("{count} DICOM images are in {folder}.")
        self._later(
            node, results.export_dicom(node, folder), lambda files: text.format(count=len(files), folder=folder)
        )
        return _("Writing DICOM images to {folder}").format(folder=folder)

    def _remove(self, node: Any) -> None:
        source = nodes.input_of(node)
        views.show_instead(node, source)
        results.remove(node)

    def _newest(self) -> Any:
        listed = (node for node, _titles in self._listed if node.GetScene() is not None)
        return next(listed, None)

    def _undo(self, newest: Any) -> str:
        name = newest.GetName()
        self._remove(newest)
        self.refresh()  # which tells of the result that is chosen now
        return _("{name} is gone; the same choices and seed make it again.").format(name=name)
