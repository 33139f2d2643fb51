"""`python -m MRDiffusionLib check` in a process of its own, so that the panel never waits for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import qt

from MRDiffusionLib.errors import UserError
from MRDiffusionLib.worker import protocol
from MRDiffusionLib.worker.check import as_text

from ..signals import Signal
from ..text import _
from ..worker import KILLED_MS, as_bytes, kill_tree, process_environment, python_executable
from . import remembered

LIMIT_MS = 180000
"""How long a check may take. The libraries load in some 20 s on a slow disk; another computer must be reached first."""


def fixes() -> dict[str, str]:
    """What to do in Slicer, by what a problem is about; for others `MRDiffusionLib.worker.check` has the words."""
    install = _("Press Install in this panel")
    return {
        "libraries": install,
        "broken": _("Restart Slicer. If that does not help, remove its folder from Slicer's Python, and press Install"),
        "cpu build": _(
            "Open the module PyTorch Utils, press Uninstall PyTorch, restart Slicer, and press Install in this panel: "
            "the build for this graphics card is chosen then. Or go on with the CPU, which is slower"
        ),
    }


class Check:
    """One check after another.

    Args:
        command: what to start; by default the check by Slicer's Python.

    Attributes:
        finished: emits the text of the report, or of what went wrong.
    """

    def __init__(self, command: Sequence[str] | None = None) -> None:
        self.finished = Signal()
        self._command = command
        self._process: Any = None
        self._past_process: Any = None
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(LIMIT_MS)
        self._timer.timeout.connect(self.kill)

    @property
    def running(self) -> bool:
        return self._process is not None

    def start(self) -> None:
        """Begin a check, unless one is under way."""
        if self.running:
            return
        own = [python_executable(), "-m", "MRDiffusionLib", "check", "--json"]
        command = [*(self._command or own), *remembered.other_computer()]
        if not command[0]:
            self.finished.emit(_("PythonSlicer was not found. Install Slicer again."))
            return
        process = self._process = qt.QProcess()
        process.setProcessEnvironment(process_environment())
        process.finished.connect(self._on_finished)
        process.errorOccurred.connect(self._on_error)
        self._timer.start()
        process.start(command[0], list(command[1:]))

    def kill(self) -> None:
        """End it; `finished` tells."""
        if self._process is not None:
            kill_tree(self._process.processId())

    def close(self) -> None:
        """End it without a word."""
        process, self._process = self._process, None
        self._timer.stop()
        if process is not None:
            process.finished.disconnect(self._on_finished)
            process.errorOccurred.disconnect(self._on_error)
            kill_tree(process.processId())
            process.waitForFinished(KILLED_MS)

    def _on_error(self, error: Any) -> None:
        if error == qt.QProcess.FailedToStart:  # no `finished` follows
            self._end(_("The check cannot be started: {text}").format(text=self._process.errorString()))

    def _on_finished(self, *_arguments: Any) -> None:
        printed = as_bytes(self._process.readAllStandardOutput())
        said = as_bytes(self._process.readAllStandardError()).decode(errors="replace").strip()
        code = self._process.exitCode()
        try:
            self._end(self._text(protocol.decode(printed)))
        except (UserError, KeyError):
            # A library that crashes while it is loaded takes the whole check along.
            text = _("The check ended without a report (code {code}).").format(code=code)
            self._end("\n".join(part for part in (text, said[-2000:]) if part))

    def _text(self, report: dict[str, Any]) -> str:
        words = {} if remembered.other_computer() else fixes()
        for problem in report["problems"]:
            problem["fix"] = words.get(problem["about"], problem["fix"])
        return as_text(report)

    def _end(self, text: str) -> None:
        self._timer.stop()
        # Called from the process's own signal, which must return before it may be deleted.
        self._past_process, self._process = self._process, None
        self.finished.emit(text)
