"""The frame of the panel: scene, tasks, models, state and run. The rows of a task are in `tasks`."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import qt
import slicer
import slicer.util
import vtk
from slicer.util import VTKObservationMixin

from MRDiffusionLib.errors import SettingError
from MRDiffusionLib.packs import PackInfo, list_packs

from . import difference, nodes, results, views
from .background import Background, Turns
from .compare_section import CompareSection
from .comparison import Comparison
from .estimates import Estimates
from .folder_batch import FolderBatch
from .form import Form, align
from .in_turn import InTurn
from .installation.section import InstallationSection
from .live_preview import LivePreview
from .logic import Logic, State
from .parameter_node import FOLDS, LARGEST_SEED, release
from .parameters import Parameters
from .results_section import ResultsSection
from .sentences import notes_text, pack_text
from .several import Several
from .several_section import SeveralSection
from .sweep import Sweep
from .sweep_section import SweepSection
from .tab_order import follow_reading
from .tasks import SECTIONS
from .tasks.section import Section
from .text import _
from .warming import Warming
from .worker import WorkerProcess


class Panel(VTKObservationMixin):
    """The panel.

    Args:
        get_parameter_node: gives the scene's typed parameter node, the same object in Slicer's sense: one in a scene.
        resources: the module's folder of resources.
        logic: runs; by default with the computing process.
        packs: lists the packs on offer; by default those that are installed.

    Attributes:
        ui: widgets of the .ui file by name.
        widgets: widgets that are bound to a parameter, by its name.
        sections: task to its rows.
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
        self._samples = resources / "SampleData"
        self.logic = logic or Logic(WorkerProcess(), Background())
        self.widget = slicer.util.loadUI(str(resources / "UI" / "MRDiffusion.ui"))
        self.ui = slicer.util.childWidgetVariables(self.widget)
        self.sections: dict[str, Section] = {}
        self.widgets: dict[str, Any] = {}
        self.taskButtons: dict[str, Any] = {}
        self._forms: dict[str, tuple[Form, Form]] = {}
        self.parameters: Any = None
        self._binding: Any = None
        self._installed: list[PackInfo] = []
        self._offered: list[PackInfo] = []
        self._missing: list[str] = []
        self._next: Parameters | None = None
        self.estimates = Estimates(slicer.app.userSettings())
        self._build()
        follow_reading(self.widget)
        self._connect()
        self.enter()

    # The widgets

    def _build(self) -> None:
        for kind in SECTIONS:
            section = self.sections[kind.task] = kind()
            forms = self._forms[kind.task] = Form(self.ui.inputsBox), Form(self.ui.samplingBox)
            section.build(*forms, lambda: self.parameters)
            button = self.taskButtons[kind.task] = qt.QPushButton(section.title)
            button.toolTip, button.checkable, button.autoExclusive = section.tip, True, True
            self.ui.taskBox.layout().addWidget(button)
        common = self._common = Form(self.ui.samplingBox)
        seed, new, device = qt.QSpinBox(), qt.QCheckBox(_("new for each run")), qt.QComboBox()
        common.bound.update(seed=seed, newSeed=new, device=device)
        common.row(_("Seed"), _("The same seed and settings give the same result"), seed, new)
        new.toolTip = _("Draw another seed at each Apply: every result is another sample")
        common.row(_("Device"), _("Where to compute; auto takes the graphics card if it can be used"), device)
        for form in self._all_forms():
            self.widgets.update(form.bound)
        align(common, *(sampling for _inputs, sampling in self._forms.values()))
        self.results = ResultsSection(self.ui.resultsBox, self._run_again)
        self.comparison = Comparison(self.logic.worker)
        self.compare = CompareSection(self.ui.compareBox, self.comparison, lambda: self.results.current)
        self.results.chosen.connect(self.compare.follow)
        self.results.chosen.connect(self._update)  # a result that is gone is no longer announced
        self._turns, self._background = Turns(), Background()
        self.turn = InTurn(self.logic, self._turns)
        self.sweeps = Sweep(self.turn, self.comparison, self._turns)
        self.several = Several(self.turn, self._turns)
        self.several.played.connect(self.results.choose)
        self.folders = FolderBatch(self.logic.worker)
        estimate, reference_for = self.estimates.sentence, self.compare.reference_for
        self.sweep = SweepSection(self.ui.sweepBox, self.sweeps, self._ready, reference_for, estimate)
        self.compare.reference.currentNodeChanged.connect(self.sweep.refresh)
        self.many = SeveralSection(
            self.ui.severalBox, self.several, self.folders, self._ready, self._choices, self._on_cancel, estimate
        )

    def _all_forms(self) -> list[Form]:
        return [form for forms in self._forms.values() for form in forms] + [self._common]

    def _connect(self) -> None:
        ui, scene = self.ui, slicer.mrmlScene
        self._choosers = {task: lambda *_, task=task: self._on_task(task) for task in self.taskButtons}
        for task, button in self.taskButtons.items():
            button.clicked.connect(self._choosers[task])
        self._folders = {name: lambda folded, name=name: self._on_fold(name, folded) for name in FOLDS}
        for name, part in FOLDS.items():
            getattr(ui, part).contentsCollapsed.connect(self._folders[name])
        ui.settingsArea.verticalScrollBar().rangeChanged.connect(self._on_layout)
        ui.packList.currentIndexChanged.connect(self._on_pack)
        ui.sampleButton.clicked.connect(self._on_sample)
        ui.applyButton.clicked.connect(self._on_apply)
        ui.cancelButton.clicked.connect(self._on_cancel)
        self.preview = LivePreview(ui.previewButton, self.logic, self._ready)
        ui.differenceButton.clicked.connect(self._on_difference)
        self.installation = InstallationSection(ui.settingsBox, ui.installButton)
        self.installation.changed.connect(self.enter)
        self.logic.changed.connect(self._update)
        self.logic.changed.connect(self._start_next)
        self.logic.finished.connect(self._show_results)
        self.logic.measured.connect(self.estimates.learn)
        self.warming = Warming(self.logic, self.estimates, self._update)
        self.comparison.changed.connect(self._update)
        for event in (scene.EndCloseEvent, scene.EndImportEvent):
            # After the selectors, of which some are made later: they must know the scene's new nodes by then.
            self.addObserver(scene, event, self._on_scene_changed, priority=-1.0)

    def cleanup(self) -> None:
        """Leave nothing behind: no process, no observer, no file."""
        self._next = None
        self.warming.remove()
        self.ui.settingsArea.verticalScrollBar().rangeChanged.disconnect(self._on_layout)
        self.preview.remove()
        self.installation.changed.disconnect(self.enter)
        self.installation.remove()
        self.logic.changed.disconnect(self._update)
        self.logic.changed.disconnect(self._start_next)
        self.logic.finished.disconnect(self._show_results)
        self.logic.measured.disconnect(self.estimates.learn)
        self.comparison.changed.disconnect(self._update)
        self.turn.close()
        self._turns.close()
        self._background.close()
        self.sweeps.close()
        self.folders.close()
        self.comparison.close()
        self.logic.close()
        self._unbind()
        self.removeObservers()
        for part in (*self._all_forms(), *self.sections.values(), self.results, self.compare, self.sweep, self.many):
            part.remove()

    # The scene

    @property
    def section(self) -> Section:
        """Of the chosen task."""
        return self.sections[self.parameters.task]

    def enter(self) -> None:
        """The person comes to the panel: packs and libraries may have changed, and an input is suggested."""
        self._missing = [] if self.logic.worker.rehearsal else self.installation.enter()
        self._installed = self._list_packs()
        self._follow_parameter_node()
        self.section.suggest(self.parameters, slicer.mrmlScene)
        self.results.refresh()
        self._update()

    def exit(self) -> None:
        """The person leaves the panel: in other modules the views are theirs."""
        self.preview.stop()

    def _on_scene_changed(self, *_arguments: Any) -> None:
        self._next = None
        self.preview.stop()
        self._follow_parameter_node()
        # While a scene was read the parameter node could come before the volume that it names.
        self.parameters.parameterNode.Modified()

    def _follow_parameter_node(self) -> None:
        """Bind the widgets to the scene's parameter node, once for each node: Slicer's binding outlives its undoing."""
        parameters = self._get_parameter_node()
        if self.parameters is None or parameters.parameterNode is not self.parameters.parameterNode:
            self._unbind()
            self.parameters = parameters
            self._binding = parameters.connectParametersToGui(self.widgets)
            self.addObserver(parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self._update)
        for task, section in self.sections.items():
            offered = [pack for pack in self._installed if pack.task == task]
            section.offer(offered)
            if offered and not getattr(self.parameters, section.parameter("pack")):
                self._choose(section, section.preferred(offered))

    def _unbind(self) -> None:
        if self.parameters is not None:
            self.removeObserver(self.parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self._update)
            self.parameters.disconnectGui(self._binding)
            release(self.parameters.parameterNode)
            self.parameters = None

    # What the person does

    def _on_task(self, task: str) -> None:
        self.parameters.task = task
        self.section.suggest(self.parameters, slicer.mrmlScene)

    def _on_fold(self, name: str, folded: bool) -> None:
        if getattr(self.parameters, name) != folded:
            setattr(self.parameters, name, folded)

    def _on_sample(self, *_arguments: Any) -> None:
        volume = self.section.load_sample(self.parameters, self._samples, self._offered)
        views.show_input(volume)
        if self.results.current is None:
            self.compare.suggest(volume)

    def _on_pack(self, *_arguments: Any) -> None:
        index = self.ui.packList.currentIndex
        if 0 <= index < len(self._offered):
            self._choose(self.section, self._offered[index])

    def _choose(self, section: Section, pack: PackInfo) -> None:
        name = section.parameter("pack")
        if pack.name != getattr(self.parameters, name):
            with slicer.util.NodeModify(self.parameters.parameterNode):
                setattr(self.parameters, name, pack.name)
                section.on_pack(self.parameters, pack)

    def _on_apply(self, *_arguments: Any) -> None:
        if self.parameters.newSeed:
            self.parameters.seed = random.randint(0, LARGEST_SEED)
        self._run(self._captured())

    def _run_again(self, result: Any, volumes: list[Any]) -> None:
        """Make a result again exactly of the volumes that were found for it. Raises UserError."""
        if self._next is not None or (self.logic.busy and not self.logic.previewing):
            raise SettingError(_("a run is under way"), _("Wait for it, or press Cancel"))
        task = nodes.provenance_of(result)["request"]["task"]
        self._run(results.again(result, volumes, self.sections[task].captures, self._installed))

    def _run(self, chosen: Parameters) -> None:
        self._next = chosen
        self.preview.stop()
        self._start_next()

    def _start_next(self) -> None:
        """Begin what Apply has captured; a preview may still have to stop."""
        if self._next is not None and not self.logic.busy:
            chosen, self._next = self._next, None
            self.logic.start(chosen)

    def _on_cancel(self, *_arguments: Any) -> None:
        self._next = None
        self.preview.stop()
        self.turn.cancel()
        self.comparison.cancel()
        self.logic.cancel()
        self._update()

    def _on_difference(self, *_arguments: Any) -> None:
        result = self.results.current
        self._background.run(difference.of_run(result), functools.partial(self._show_difference, result))
        self._update()

    def _show_difference(self, result: Any, found: Future[difference.Difference]) -> None:
        if difference.comparable(result):  # neither it nor its input is gone meanwhile
            views.show_result(nodes.input_of(result), difference.add_difference(result, found.result()))
        self._update()

    def _show_results(self, made: dict[str, Any]) -> None:
        result = made.get("result")
        if result is not None and result.GetScene() is not None:
            if self.turn.took is made:
                self.results.refresh()
                return  # the views stay with the person
            self.results.choose(result)  # which ends a comparison of another result in the views
            views.show_result(nodes.input_of(result), result)

    # What the person sees

    def _on_layout(self, *_arguments: Any) -> None:
        """The rows have changed: a scroll area is not as wide as what it shows unless it is told."""
        bar = self.ui.settingsArea.verticalScrollBar()
        self.ui.settingsArea.setMinimumWidth(self.ui.settingsBox.minimumSizeHint.width() + bar.width)

    def _pack(self) -> PackInfo | None:
        """The chosen one, if it is installed."""
        name = getattr(self.parameters, self.section.parameter("pack"))
        return next((pack for pack in self._installed if (pack.task, pack.name) == (self.section.task, name)), None)

    def _captured(self) -> Parameters:
        """The choices as they are now. Raises SettingError."""
        common = {
            "pack": self._pack(),
            "pack_name": getattr(self.parameters, self.section.parameter("pack")),
            "seed": self.parameters.seed,
            "device": self.parameters.device,
        }
        return self.section.captured(self.parameters, common)

    def _checked(self) -> tuple[Parameters | None, str]:
        """The choices as they are now, None where they contradict each other; and why a run cannot start."""
        try:
            chosen = self._captured()
            return chosen, self._missing_text() or chosen.problem()
        except SettingError as error:
            return None, str(error)

    def _ready(self) -> Parameters | None:
        """The choices as they are now, where a run can start."""
        chosen, problem = self._checked() if self.parameters is not None else (None, "")
        return None if problem else chosen

    def _choices(self) -> Parameters | None:
        """The choices as they are now, also without an input; None where there is no model, or something is missing."""
        try:
            chosen = self._captured() if self.parameters is not None and not self._missing else None
        except SettingError:
            return None
        return None if chosen is None or chosen.pack_problem() else self.section.for_cases(self.parameters, chosen)

    def _update(self, *_arguments: Any) -> None:
        """Bring everything that is not bound to a parameter up to date."""
        if self.parameters is None:
            return
        self._show_task()
        self._show_pack(self._pack())
        if self.section.show(self.parameters, self._pack()):
            follow_reading(self.widget)
        chosen, problem = self._checked()
        self._show_state(chosen, problem)
        self.warming.refresh(None if chosen is None or self._missing or chosen.pack_problem() else chosen)
        self.sweep.refresh()
        self.many.refresh()
        self.preview.refresh()

    def _show_task(self) -> None:
        chosen = self.section.task
        for name, part in FOLDS.items():
            getattr(self.ui, part).collapsed = getattr(self.parameters, name)
        with_pack = {pack.task for pack in self._installed}
        for task, button in self.taskButtons.items():
            button.checked = task == chosen
            # In a dark style a pressed button looks much as the others.
            button.styleSheet = "font-weight: bold" if button.checked else ""
            button.visible = task in with_pack or task == chosen or not with_pack
            for form in self._forms[task]:
                form.widget.visible = task == chosen
        self.ui.sampleButton.visible = all((self._samples / name).is_file() for name in self.section.sample)

    def _show_pack(self, pack: PackInfo | None) -> None:
        box, offered = self.ui.packList, [pack for pack in self._installed if pack.task == self.section.task]
        box.blockSignals(True)
        if offered != self._offered or box.count != len(offered):
            self._offered = offered
            box.clear()
            box.addItems([each.title for each in offered])
        box.currentIndex = offered.index(pack) if pack in offered else -1
        box.blockSignals(False)

    def _show_state(self, chosen: Parameters | None, problem: str) -> None:
        logic, ui = self.logic, self.ui
        running = logic.busy and not logic.previewing
        ui.applyButton.enabled = not problem and not running and self._next is None
        can_preview = not running and self._next is None
        ui.previewButton.enabled = can_preview and (not problem or ui.previewButton.checked)
        ui.applyButton.toolTip = problem or _("Compute the result as a new volume")
        stoppable = logic.busy and (logic.state != State.CANCELLING or self._next is not None)
        ui.cancelButton.enabled = stoppable or self.comparison.busy or (self.turn.busy and not logic.busy)
        ui.installButton.visible = bool(self._missing)
        ui.differenceButton.visible = not logic.busy and difference.comparable(self.results.current)
        ui.differenceButton.enabled = not self._background.busy
        ui.progressBar.visible = running  # a preview is over before a bar could be read
        ui.progressBar.value = int(100 * logic.fraction)
        notes = chosen.cautions() if chosen else []
        pack = self._pack()
        ui.packText.text = pack_text(pack, notes) if pack else ""
        ui.warningText.text = notes_text(notes if problem or chosen is None else [*notes, *chosen.warnings()])
        ui.warningText.visible = bool(ui.warningText.text)
        ui.stateText.text = logic.message if logic.busy else self._resting_text(chosen, problem)
        ui.detailsSection.visible = bool(logic.details)
        if ui.detailsText.plainText != logic.details:
            ui.detailsText.setPlainText(logic.details)

    def _resting_text(self, chosen: Parameters | None, problem: str) -> str:
        """The state between runs: how the last one ended, and what the next one needs."""
        done = self.logic.state == State.DONE
        gone = done and next(iter(self.logic.results.values())).GetScene() is None  # a closed scene took it along
        lines = [self.logic.message] if self.logic.message and not gone else []
        if done and not gone:
            lines.append(_("Hold Ctrl and drag up or down in a slice view to fade to the input."))
        if problem:
            lines.append(_("Not ready: {problem}").format(problem=problem))
        elif not lines and chosen is not None:
            lines.append(_("Ready: {summary}").format(summary=chosen.summary()))
        if not problem and chosen is not None:
            known = self.estimates.text(chosen)
            if known:
                lines.append(_("Apply takes {time}.").format(time=known))
            elif not self.logic.message:
                lines.append(_("A preview tells how long Apply will take."))
        return "\n".join(lines)

    def _missing_text(self) -> str:
        if not self._missing:
            return ""
        return _("Slicer's Python lacks {names}; press Install").format(names=", ".join(self._missing))
