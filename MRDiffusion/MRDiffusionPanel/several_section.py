"""The part of the panel in which one run is made for many images: frames of a cine, volumes, files of a folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import qt
import slicer
import slicer.util

from MRDiffusionLib.errors import UserError

from . import nodes
from .folder_batch import FolderBatch
from .form import Form, NameList
from .parameters import Parameters, image_problem
from .scene_watch import SceneWatch
from .sequences import browser_of
from .several import Several, outstanding
from .text import _

FRAMES, VOLUMES, FOLDER = "frames", "volumes", "folder"
ROWS_SHOWN = 5


class SeveralSection:
    """What to run, and a button that runs and stops.

    Args:
        box: the widget that holds all of it.
        several: runs frames and volumes.
        folders: runs files.
        ready: gives the choices of the panel, or None where no run can start.
        choices: gives them also where only an input is missing, or None.
        stop: ends the run under way.
        estimate: says how long some runs take (`Estimates.sentence`).
    """

    def __init__(
        self,
        box: Any,
        several: Several,
        folders: FolderBatch,
        ready: Callable[[], Parameters | None],
        choices: Callable[[], Parameters | None],
        stop: Callable[[], None],
        estimate: Callable[..., str],
    ) -> None:
        self._several, self._folders, self._stop, self._estimate = several, folders, stop, estimate
        self._ready, self._choices = ready, choices
        self._what, self._told, self._frames = VOLUMES, "", 0
        self._listed: list[tuple[str, str]] = []
        self._slots: list[Any] = []
        self._build(box)
        self._watch = SceneWatch(self.refresh)
        several.changed.connect(self._on_news)
        folders.changed.connect(self._on_news)
        self.refresh()

    def _build(self, box: Any) -> None:
        form = Form(box)
        self.what = NameList(self._on_what)
        form.row(_("Run"), _("What the run is made for; all choices above are the same for each"), self.what.widget)
        self.volumes = qt.QListWidget()
        self.volumes.toolTip = _("Tick the volumes that are wanted")
        self.volumes.itemChanged.connect(self.refresh)
        form.add(self.volumes)
        self._folderForm = Form(box)
        self.places = {}
        for name, title, tip in (
            ("source", _("From"), _("A folder with volumes; for Synthesize with a folder for each case")),
            ("out", _("Into"), _("A folder for the results; results that are there already are not made again")),
        ):
            line, button = qt.QLineEdit(), qt.QPushButton("...")
            button.maximumWidth = 40
            slot = lambda *_arguments, line=line, title=title: self._choose_folder(line, title)  # noqa: E731
            self._slots.append(slot)
            button.clicked.connect(slot)
            line.textChanged.connect(self.refresh)
            self.places[name] = line
            self._folderForm.row(title, tip, button, line)
        self.runButton = qt.QPushButton(_("Run all"))
        self.runButton.clicked.connect(self._on_run)
        box.layout().addWidget(self.runButton)
        self.text = qt.QLabel()
        self.text.wordWrap = True
        self.text.setTextInteractionFlags(qt.Qt.TextSelectableByMouse)
        box.layout().addWidget(self.text)

    def remove(self) -> None:
        """Listen no more."""
        self._watch.remove()
        self._several.changed.disconnect(self._on_news)
        self._folders.changed.disconnect(self._on_news)

    @property
    def busy(self) -> bool:
        """Whether something is under way."""
        return self._several.busy or self._folders.busy

    def refresh(self, *_arguments: Any) -> None:
        """Bring everything up to date: another task, other volumes, a run that goes on or has ended."""
        chosen = self._ready()
        self._offer(chosen)
        self._list_volumes()
        self.volumes.visible = self._what == VOLUMES
        self._folderForm.widget.visible = self._what == FOLDER
        problem = self._problem(chosen)
        self.runButton.text = _("Stop") if self.busy else _("Run all")
        self.runButton.enabled = self.busy or not problem
        self.runButton.toolTip = problem or _("In turn; what is done stays if you stop, and is not made again")
        expected = "" if problem or self.busy else self._expected(chosen)
        self.text.text = "\n".join(filter(None, [self._told, expected]))
        self.text.visible = bool(self.text.text)

    def _expected(self, chosen: Parameters | None) -> str:
        """How long it will take, where that is known."""
        if chosen is None or self._what == FOLDER or (self._what == VOLUMES and len(chosen.inputs) > 1):
            return ""
        runs = [chosen] * self._frames
        if self._what == VOLUMES:
            role = next(iter(chosen.inputs))
            usable = [volume for volume in outstanding(chosen, self.ticked()) if not image_problem(volume)]
            runs = [replace(chosen, inputs={role: volume}) for volume in usable]
        return self._estimate(*runs)

    def _offer(self, chosen: Parameters | None) -> None:
        offered = [(VOLUMES, _("volumes of this scene")), (FOLDER, _("files of a folder"))]
        browsers = [browser_of(volume) for volume in chosen.inputs.values()] if chosen is not None else []
        moving = [browser for browser in browsers if browser is not None]
        self._frames = moving[0].GetNumberOfItems() if moving else 0
        if moving:
            text = _("all {count} frames of {name}")
            name = moving[0].GetMasterSequenceNode().GetName()
            offered.insert(0, (FRAMES, text.format(count=self._frames, name=name)))
        if self._what not in dict(offered):
            self._what = VOLUMES
        self.what.fill(offered, self._what)

    def _list_volumes(self) -> None:
        found = []
        for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
            if node.GetClassName() == "vtkMRMLScalarVolumeNode" and not nodes.is_synthetic(node):
                found.append((node.GetID(), node.GetName()))
        if found == self._listed:
            return
        ticked = {node.GetID() for node in self.ticked()}
        self._listed = found
        self.volumes.blockSignals(True)
        self.volumes.clear()
        for identifier, name in found:
            item = qt.QListWidgetItem(name)
            item.setCheckState(qt.Qt.Checked if identifier in ticked else qt.Qt.Unchecked)
            self.volumes.addItem(item)
        self.volumes.blockSignals(False)
        rows = max(1, min(len(found), ROWS_SHOWN))
        self.volumes.setFixedHeight(rows * (self.volumes.fontMetrics().height() + 6) + 6)

    def ticked(self) -> list[Any]:
        """The volumes that are wanted, in the order of the list."""
        wanted = [
            identifier
            for number, (identifier, _name) in enumerate(self._listed)
            if number < self.volumes.count and self.volumes.item(number).checkState() == qt.Qt.Checked
        ]
        found = (slicer.mrmlScene.GetNodeByID(identifier) for identifier in wanted)
        return [node for node in found if node is not None]

    def _problem(self, chosen: Parameters | None) -> str:
        """Why nothing can be run; empty if it can."""
        if self._what == FOLDER:
            if self._choices() is None:
                return _("choose a model first")
            return "" if all(line.text.strip() for line in self.places.values()) else _("choose both folders")
        if chosen is None:
            return _("the choices above are not complete")
        return "" if self._what == FRAMES or self.ticked() else _("no volume is ticked")

    def _on_what(self, name: str) -> None:
        self._what = name
        self.refresh()

    def _choose_folder(self, line: Any, title: str) -> None:
        place = qt.QFileDialog.getExistingDirectory(None, title, line.text)
        if place:
            line.text = place

    def _on_run(self, *_arguments: Any) -> None:
        if self._folders.busy:
            self._folders.stop()
            return
        if self._several.busy:
            self._stop()
            return
        try:
            self._start()
        except UserError as error:
            self._told = _("Failed: {message}").format(message=error)
        self.refresh()

    def _start(self) -> None:
        if self._what == FOLDER:
            chosen = self._choices()
            source, out = (Path(self.places[name].text.strip()) for name in ("source", "out"))
            if chosen is not None:
                self._folders.start(chosen, source, out)
            return
        chosen = self._ready()
        if chosen is None:
            return
        if self._what == FRAMES:
            self._several.start_frames(chosen)
        else:
            self._several.start_volumes(chosen, self.ticked())

    def _on_news(self) -> None:
        source = self._folders if self._what == FOLDER and not self._several.busy else self._several
        self._told = source.message
        self.refresh()
