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

from . import nodes, results, views
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

    def __init__(self, box: Any, run_again: Callable[[Any], None]) -> None:
        self.chosen = Signal()
        self._run_again = run_again
        self._listed: list[tuple[Any, tuple[str, ...]]] = []
        self._watch = SceneWatch(self.refresh)
        self._build(box)

    def _build(self, box: Any) -> None:
        self.table = qt.QTableWidget()
        self.table.setColumnCount(3)
        self.table.setHorizontalHeaderLabels([_("Result"), _("Made with"), _("PSNR (dB)")])
        self.table.horizontalHeader().setStretchLastSection(True)
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
            ("save", _("Save..."), _("Save the volume, and beside it a file that says what made it"), self._save),
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
        self.text = qt.QLabel()
        self.text.wordWrap = True
        self.text.setTextInteractionFlags(qt.Qt.TextSelectableByMouse)
        box.layout().addWidget(self.text)

    def remove(self) -> None:
        """Let go of the scene."""
        self._watch.remove()
        self._listed = []

    @property
    def current(self) -> Any:
        """The chosen result, or None."""
        row = self.table.currentRow()
        node = self._listed[row][0] if 0 <= row < len(self._listed) and self.table.selectedItems() else None
        return node if node is not None and node.GetScene() is not None else None

    def refresh(self) -> None:
        """Bring the table up to date, if there is something to be done."""
        found = [(node, results.titles(node)) for node in reversed(results.results_of(slicer.mrmlScene))]
        if found == self._listed:
            return
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
        rows = max(1, min(len(found), ROWS_SHOWN))
        self.table.setFixedHeight(self.table.verticalHeader().defaultSectionSize * (rows + 1) + 6)
        self.table.blockSignals(False)
        self.choose(before)

    def choose(self, node: Any) -> None:
        """Choose a result; None for no one."""
        nodes_listed = [each for each, _titles in self._listed]
        if node is not None and node in nodes_listed:
            self.table.selectRow(nodes_listed.index(node))
        self._on_selection()

    def _on_selection(self) -> None:
        node = self.current
        for name, button in self.buttons.items():
            button.enabled = bool(self._listed) if name == "undo" else node is not None
        self._tell(results.story(node) if node is not None else [])
        self.chosen.emit(node)

    def _tell(self, sentences: list[str]) -> None:
        self.text.text = "<br>".join(html.escape(sentence) for sentence in sentences)
        self.text.visible = bool(sentences)

    def _act(self, slot: Callable[[Any], str | None]) -> None:
        node = self._newest() if slot == self._undo else self.current
        if node is None:
            return
        try:
            told = slot(node)
        except UserError as error:
            told = _("Failed: {message}").format(message=error)
        if told:
            self._tell([told, *(results.story(node) if node.GetScene() is not None else [])])

    def _show(self, node: Any) -> None:
        source = nodes.input_of(node)
        views.show_result(source if source is not None else node, node)

    def _again(self, node: Any) -> None:
        self._run_again(node)

    def _save(self, node: Any) -> str | None:
        file = qt.QFileDialog.getSaveFileName(
            None,
            _("Save the result"),
            f"{slicer.mrmlScene.GetRootDirectory()}/{node.GetName()}.nrrd",
            "*.nrrd *.nii.gz",
        )
        file = file[0] if isinstance(file, tuple) else file
        if not file:
            return None
        # The sidecar is written by whoever listens to files being saved (`sidecars`).
        if not slicer.util.saveNode(node, file, {}):  # the default is one object for all calls
            raise UserError(_("{file} cannot be written").format(file=file), _("Choose another place"))
        return _("Saved to {file}, with what made it beside it.").format(file=file)

    def _dicom(self, node: Any) -> str | None:
        place = qt.QFileDialog.getExistingDirectory(None, _("Folder in which the series gets a folder of its own"))
        if not place:
            return None
        what = results.titles(node)[0]
        stem = "".join(c if c.isalnum() or c in "-_" else "_" for c in f"{nodes.WORD} {what}")
        folder, number = Path(place) / stem, 1
        while folder.exists():
            number += 1
            folder = Path(place) / f"{stem}-{number}"
        files = results.export_dicom(node, folder)
        return _("{count} DICOM images are in {folder}.").format(count=len(files), folder=folder)

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
