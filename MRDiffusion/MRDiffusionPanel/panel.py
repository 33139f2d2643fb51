"""The widgets: they show the parameter node and the logic's state, and pass clicks on."""

from __future__ import annotations

import html
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer
import slicer.util
import vtk
from slicer.util import VTKObservationMixin

from MRDiffusionLib.errors import SettingError
from MRDiffusionLib.packs import PackInfo, list_packs
from MRDiffusionLib.settings import SuperResolutionSettings, info_of

from . import dependencies, nodes, views
from .logic import Logic, State
from .parameter_node import ESTIMATED, LARGEST_SEED, capture
from .parameters import Parameters
from .text import _
from .worker import WorkerProcess

SAMPLE = "SampleData/brain-t1-low-resolution.nii.gz"

BOUND = {
    "inputVolume": "inputSelector",
    "rows": "rowsBox",
    "columns": "columnsBox",
    "weight": "weightSlider",
    "method": "methodList",
    "sampler": "samplerList",
    "steps": "stepsBox",
    "eta": "etaSlider",
    "strength": "strengthSlider",
    "noise": "noiseBox",
    "samples": "samplesBox",
    "seed": "seedBox",
    "newSeed": "newSeedBox",
    "device": "deviceList",
}
"""Parameter to the widget that is bound to it both ways."""

EXPLAINED = {
    "matrix": ("matrixLabel", "rowsBox", "columnsBox"),
    "weight": ("weightLabel", "weightSlider"),
    "method": ("methodLabel", "methodList"),
    "sampler": ("samplerLabel", "samplerList"),
    "steps": ("stepsLabel", "stepsBox"),
    "eta": ("etaLabel", "etaSlider"),
    "strength": ("strengthLabel", "strengthSlider"),
    "noise": ("noiseLabel", "noiseBox"),
    "samples": ("samplesLabel", "samplesBox"),
}
"""Setting to its label and widgets, which get the setting's name and tool tip."""


class Panel(VTKObservationMixin):
    """The panel.

    Args:
        get_parameter_node: gives the scene's typed parameter node, the same object in Slicer's sense: one in a scene.
        resources: the module's folder of resources.
        logic: runs; by default with the computing process.
        packs: lists the packs on offer; by default those that are installed.
    """

    def __init__(
        self,
        get_parameter_node: Callable[[], Any],
        resources: Path,
        logic: Logic | None = None,
        packs: Callable[[], list[PackInfo]] | None = None,
    ) -> None:
        super().__init__()
        self._get_parameter_node, self._list_packs = get_parameter_node, packs or list_packs
        self._sample = resources / SAMPLE
        self.logic = logic or Logic(WorkerProcess())
        self.widget = slicer.util.loadUI(str(resources / "UI" / "MRDiffusion.ui"))
        self.ui = slicer.util.childWidgetVariables(self.widget)
        self.parameters: Any = None
        self._binding: Any = None
        self._packs: list[PackInfo] = []
        self._missing: list[str] = []
        self._explain()
        self._connect()
        self.enter()

    # The scene

    def enter(self) -> None:
        """The person comes to the panel: packs and libraries may have changed, and an input is suggested."""
        self._missing = dependencies.missing()
        self._fill_packs()
        self._follow_parameter_node()
        if self.parameters.inputVolume is None:
            self.parameters.inputVolume = nodes.first_input(slicer.mrmlScene)
        self._update()

    def cleanup(self) -> None:
        """Leave nothing behind: no process, no observer, no file."""
        self.logic.changed.disconnect(self._update)
        self.logic.finished.disconnect(self._show_results)
        self.logic.close()
        self._unbind()
        self.removeObservers()
        self.ui.inputSelector.setMRMLScene(None)

    def _connect(self) -> None:
        ui, scene = self.ui, slicer.mrmlScene
        ui.inputSelector.setMRMLScene(scene)
        ui.packList.currentIndexChanged.connect(self._on_pack)
        ui.sampleButton.clicked.connect(self._on_sample)
        ui.applyButton.clicked.connect(self._on_apply)
        ui.cancelButton.clicked.connect(self._on_cancel)
        ui.installButton.clicked.connect(self._on_install)
        self.logic.changed.connect(self._update)
        self.logic.finished.connect(self._show_results)
        self.addObserver(scene, scene.EndCloseEvent, self._on_scene_changed)
        self.addObserver(scene, scene.EndImportEvent, self._on_scene_changed)

    def _on_scene_changed(self, *_arguments: Any) -> None:
        self._follow_parameter_node()
        # While a scene was read the parameter node could come before the volume that it names.
        self.parameters.parameterNode.Modified()

    def _follow_parameter_node(self) -> None:
        """Bind the widgets to the scene's parameter node, once for each node: Slicer's binding outlives its undoing."""
        parameters = self._get_parameter_node()
        if self.parameters is None or parameters.parameterNode is not self.parameters.parameterNode:
            self._unbind()
            self.parameters = parameters
            self._binding = parameters.connectParametersToGui({n: getattr(self.ui, w) for n, w in BOUND.items()})
            self.addObserver(parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self._update)
        if not self.parameters.pack and self._packs:
            self._choose(self._packs[0])

    def _unbind(self) -> None:
        if self.parameters is not None:
            self.removeObserver(self.parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self._update)
            self.parameters.disconnectGui(self._binding)
            self.parameters = None

    # What the person does

    def _on_sample(self, *_arguments: Any) -> None:
        volume = slicer.util.loadVolume(str(self._sample))
        self.parameters.inputVolume = volume
        views.show_input(volume)

    def _on_pack(self, *_arguments: Any) -> None:
        index = self.ui.packList.currentIndex
        if 0 <= index < len(self._packs) and self._packs[index].name != self.parameters.pack:
            self._choose(self._packs[index])

    def _choose(self, pack: PackInfo) -> None:
        with slicer.util.NodeModify(self.parameters.parameterNode):
            self.parameters.pack = pack.name
            self.parameters.rows, self.parameters.columns = pack.matrix

    def _on_apply(self, *_arguments: Any) -> None:
        if self.parameters.newSeed:
            self.parameters.seed = random.randint(0, LARGEST_SEED)
        self.logic.start(self._captured())

    def _on_cancel(self, *_arguments: Any) -> None:
        self.logic.cancel()

    def _on_install(self, *_arguments: Any) -> None:
        if not slicer.util.confirmOkCancelDisplay(dependencies.explanation(self._missing)):
            return
        with slicer.util.tryWithErrorDisplay(_("The installation failed."), waitCursor=True):
            dependencies.install(self._missing)
        self.enter()

    def _show_results(self, results: dict[str, Any]) -> None:
        result = results["result"]
        volume = result.GetNodeReference(nodes.INPUT_REFERENCE)
        views.show_result(volume, result)

    # What the person sees

    def _explain(self) -> None:
        """Names, tool tips and choices of the settings."""
        for name, (label, *widgets) in EXPLAINED.items():
            info = info_of(SuperResolutionSettings, name)
            tip = "\n".join([_(info.tip), *(f"{choice}: {_(meaning)}" for choice, meaning in info.choices)])
            getattr(self.ui, label).text = _(info.label)
            for widget in (label, *widgets):
                getattr(self.ui, widget).toolTip = tip
                if widget.endswith("Slider"):  # Slicer logs a warning of a step that the parameter node names
                    getattr(self.ui, widget).singleStep = info.step
        self.ui.noiseBox.specialValueText = _("estimated")
        self.ui.noiseBox.minimum = ESTIMATED
        self.ui.sampleButton.visible = self._sample.is_file()

    def _fill_packs(self) -> None:
        self._packs = [pack for pack in self._list_packs() if pack.task == "superresolution"]
        self.ui.packList.blockSignals(True)
        self.ui.packList.clear()
        self.ui.packList.addItems([pack.title for pack in self._packs])
        self.ui.packList.blockSignals(False)

    def _captured(self) -> Parameters:
        return capture(self.parameters, self._packs)

    def _update(self, *_arguments: Any) -> None:
        """Bring everything that is not bound to a parameter up to date."""
        if self.parameters is None:
            return
        try:
            chosen = self._captured()
            problem = self._missing_text() or chosen.problem()
        except SettingError as error:
            chosen, problem = None, str(error)
        self._show_pack(chosen)
        self._show_state(chosen, problem)

    def _show_pack(self, chosen: Parameters | None) -> None:
        pack = chosen.pack if chosen else None
        self.ui.packList.blockSignals(True)
        self.ui.packList.currentIndex = self._packs.index(pack) if pack in self._packs else -1
        self.ui.packList.blockSignals(False)
        self.ui.packText.text = pack_text(pack) if pack else ""

    def _show_state(self, chosen: Parameters | None, problem: str) -> None:
        logic, ui = self.logic, self.ui
        ui.applyButton.enabled = not problem and not logic.busy
        ui.applyButton.toolTip = problem or _("Compute the result as a new volume")
        ui.cancelButton.enabled = logic.busy and logic.state != State.CANCELLING
        ui.installButton.visible = bool(self._missing)
        ui.progressBar.visible = logic.busy
        ui.progressBar.value = int(100 * logic.fraction)
        ui.warningText.text = "" if problem or chosen is None else chosen.warning()
        ui.warningText.visible = bool(ui.warningText.text)
        ui.stateText.text = logic.message if logic.busy else self._resting_text(chosen, problem)
        ui.detailsSection.visible = bool(logic.details)
        if ui.detailsText.plainText != logic.details:
            ui.detailsText.setPlainText(logic.details)

    def _resting_text(self, chosen: Parameters | None, problem: str) -> str:
        """The state between runs: how the last one ended, and what the next one needs."""
        lines = [self.logic.message] if self.logic.message else []
        if self.logic.state == State.DONE:
            lines.append(_("Hold Ctrl and drag up or down in a slice view to fade to the input."))
        if problem:
            lines.append(_("Not ready: {problem}").format(problem=problem))
        elif not lines and chosen is not None:
            lines.append(_("Ready: {summary}").format(summary=chosen.summary()))
        return "\n".join(lines)

    def _missing_text(self) -> str:
        if not self._missing:
            return ""
        return _("Slicer's Python lacks {names}; press Install").format(names=", ".join(self._missing))


def pack_text(pack: PackInfo) -> str:
    """What a pack was trained on, its limits, and a link to its model card; rich text."""
    trained = html.escape(pack.training_data.rstrip(". "))
    limits = "".join(f"<li>{html.escape(limit)}</li>" for limit in pack.limits)
    card = (pack.folder / "README.md").as_uri()
    return (
        f"<b>{_('Not for diagnosis.')}</b> {_('Trained on')}: {trained}."
        f"<ul style='margin:0px 0px 0px 16px; -qt-list-indent:0'>{limits}</ul><a href='{card}'>{_('Model card')}</a>"
    )
