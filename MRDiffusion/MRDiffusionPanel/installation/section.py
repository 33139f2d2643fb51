"""The part of the panel about installation: what is missing, where to compute, and a check of it all."""

from __future__ import annotations

from typing import Any

import ctk
import qt
import slicer
import slicer.util

from ..form import Form
from ..signals import Signal
from ..text import _
from . import plan, remembered, steps
from .check import Check
from .plan import InstallationError

REPORT_LINES = 16


class InstallationSection:
    """A folded section at the end of the panel, and the button that installs.

    Args:
        box: the widget to whose layout it is added, before the space at its end.
        install_button: of the panel; it is shown where something is missing.
        check: the process behind 'Check installation'.

    Attributes:
        changed: emits when libraries were installed or another computer was chosen.
        widget: the section.
    """

    def __init__(self, box: Any, install_button: Any, check: Check | None = None) -> None:
        self.changed = Signal()
        self._check = check or Check()
        self._asked = False
        self._install_button = install_button
        self.widget = ctk.ctkCollapsibleButton()
        self.widget.setSizePolicy(qt.QSizePolicy.Preferred, qt.QSizePolicy.Preferred)
        self.widget.text = _("Installation")
        qt.QVBoxLayout(self.widget)
        self._build(Form(self.widget))
        self.widget.collapsed = True
        box.layout().insertWidget(box.layout().count() - 1, self.widget)
        # A question in the middle of entering the module would come before the panel is shown.
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(0)
        self._timer.timeout.connect(self._go_on)
        self._check.finished.connect(self._on_checked)

    def _build(self, form: Form) -> None:
        self.computer = self._line(
            form,
            _("Computer"),
            remembered.COMPUTER,
            _("this one"),
            _(
                "Where to compute: empty for this computer, or another one with MRDiffusion as user@host. "
                "Images are sent there over SSH and removed when the run ends; log in once with a key before"
            ),
        )
        self.python = self._line(
            form,
            _("Python there"),
            remembered.PYTHON_THERE,
            "python3",
            _("The Python of the other computer that has MRDiffusion, such as ~/MRDiffusion/.venv/bin/python"),
        )
        choose = qt.QPushButton(_("Choose..."))
        choose.setSizePolicy(qt.QSizePolicy.Maximum, qt.QSizePolicy.Fixed)
        self.wheels = self._line(
            form,
            _("Wheel folder"),
            remembered.WHEELS,
            _("none: from the Internet"),
            _(
                "For a computer without Internet: a folder of wheels to install from; "
                "docs/installation.md tells how it is made"
            ),
            choose,
        )
        self.check_button, self.copy_button = qt.QPushButton(_("Check installation")), qt.QPushButton(_("Copy"))
        form.row("", "", self.check_button, self.copy_button)
        self.check_button.toolTip = _("Device, versions, memory and models, and what to do where something is wrong")
        self.copy_button.toolTip = _("Copy the text below, for a question or a report")
        self.text = qt.QPlainTextEdit()
        self.text.readOnly = True
        self.text.setMinimumHeight(REPORT_LINES * self.text.fontMetrics().height())
        form.add(self.text)
        choose.clicked.connect(self._on_choose)
        self.check_button.clicked.connect(self._on_check)
        self.copy_button.clicked.connect(self._on_copy)
        self._install_button.clicked.connect(self._on_install)

    def _line(self, form: Form, label: str, name: str, nothing: str, tip: str, *beside: Any) -> Any:
        """A row for a text that the application keeps."""
        line = qt.QLineEdit()
        line.text, line.placeholderText = remembered.recall(name), nothing
        form.row(label, tip, line, *beside)
        line.editingFinished.connect(self._on_edited)
        return line

    def enter(self) -> list[str]:
        """Look again, and go on with an installation that was begun before a restart.

        Returns:
            Names of the libraries that a run lacks.
        """
        missing = plan.missing()
        if remembered.recall(remembered.BEGUN) and not self._asked:
            if missing:
                self._asked = True  # once is enough; the button stays
                self._timer.start()
            else:
                remembered.keep(remembered.BEGUN, "")
        return missing

    def remove(self) -> None:
        """No question and no process may come after this."""
        self._timer.stop()
        self._check.finished.disconnect(self._on_checked)
        self._check.close()

    def _go_on(self) -> None:
        self._ask(_("The installation that was begun before goes on."))

    def _on_install(self, *_arguments: Any) -> None:
        self._ask("")

    def _ask(self, before: str) -> None:
        wanted, wheels = plan.wanting(), self.wheels.text
        text = "\n\n".join(part for part in (before, plan.explanation(wanted, wheels)) if part)
        if not wanted or not slicer.util.confirmOkCancelDisplay(text):
            remembered.keep(remembered.BEGUN, "")
            return
        slicer.app.setOverrideCursor(qt.Qt.WaitCursor)
        try:
            restart = steps.install(wanted, wheels)
        except InstallationError as error:
            restart = False
            self._show(str(error) + ".")
        else:
            self._show(_("Installed: {names}.").format(names=", ".join(each.name for each in wanted)))
        finally:
            slicer.app.restoreOverrideCursor()
        self.changed.emit()
        if restart and slicer.util.confirmYesNoDisplay(
            _("An older version is still loaded in this Slicer. Restart it now? Save your scene before.")
        ):
            slicer.util.restart()

    def _show(self, text: str) -> None:
        self.text.setPlainText(text)
        self.widget.collapsed = False

    def _on_edited(self, *_arguments: Any) -> None:
        lines = (
            (remembered.COMPUTER, self.computer),
            (remembered.PYTHON_THERE, self.python),
            (remembered.WHEELS, self.wheels),
        )
        texts = {name: line.text.strip() for name, line in lines}
        changed = {name: text for name, text in texts.items() if text != remembered.recall(name)}
        for name, text in changed.items():
            remembered.keep(name, text)
        if changed:
            self.changed.emit()

    def _on_choose(self, *_arguments: Any) -> None:
        folder = qt.QFileDialog.getExistingDirectory(self.widget, _("Wheel folder"), self.wheels.text)
        if folder:
            self.wheels.text = folder
            self._on_edited()

    def _on_check(self, *_arguments: Any) -> None:
        self.check_button.enabled = False
        self.text.setPlainText(_("Checking: the libraries are being loaded"))
        self._check.start()

    def _on_checked(self, text: str) -> None:
        self.check_button.enabled = True
        self._show(text)

    def _on_copy(self, *_arguments: Any) -> None:
        qt.QApplication.clipboard().setText(self.text.plainText)
