"""The computing process over Qt: started on first use, warm between runs, never waited for by the main thread."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import qt
import slicer

from MRDiffusionLib.errors import UserError
from MRDiffusionLib.worker import protocol
from MRDiffusionLib.worker.folder import remove_stale

from .installation import remembered
from .signals import Signal
from .text import _

GRACE_MS = 8000
"""How long a cancelled run may take to stop. A step of a large batch on a slow CPU takes some seconds."""

CLOSE_MS = 500
"""How long a worker may take to end when the panel goes, which waits for it; an idle one takes some 20 ms."""

KILLED_MS = 2000
"""How long a killed process may take to go. It goes at once where the machine is not overloaded."""


class WorkerProcess:
    """A worker for `logic.Logic`.

    Args:
        command: what to start; by default `python -m MRDiffusionLib worker` with Slicer's Python, and from there over
            ssh where the person has chosen another computer.

    Attributes:
        rehearsal: whether the next message goes to a worker that needs no PyTorch, as it computes nothing.
    """

    def __init__(self, command: Sequence[str] | None = None, grace_ms: int = GRACE_MS) -> None:
        self.message, self.ended = Signal(), Signal()
        self._command = command
        self.rehearsal = False
        self._process: Any = None
        self._started: list[str] = []
        self._leaving: list[Any] = []
        """Processes that were told to end, and one that has just ended."""
        self._waiting: set[str] = set()
        """Runs and comparisons that were sent and have not ended."""
        self._unread, self._log = b"", deque[str](maxlen=200)
        self._cancelled, self._killed = "", False
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(grace_ms)
        self._timer.timeout.connect(self.kill)
        self._patience = qt.QTimer()
        self._patience.setSingleShot(True)
        self._patience.setInterval(grace_ms)
        self._patience.timeout.connect(self._kill_leaving)

    @property
    def idle(self) -> bool:
        """Whether nobody waits for anything."""
        return not self._waiting

    def send(self, message: dict[str, Any]) -> None:
        if message["type"] != "cancel" and self._process is not None and self._started != self._wanted():
            self._replace()
        if self._process is None and not self._start():
            return
        if message["type"] in ("run", "evaluate"):
            self._waiting.add(message["id"])
        self._process.write(protocol.encode(message))

    def cancel(self, run_id: str) -> None:
        if run_id not in self._waiting:  # it has ended: no answer would come, and the worker be killed for it
            return
        self._cancelled = run_id
        self._timer.start()
        self.send({"type": "cancel", "id": run_id})

    def kill(self) -> None:
        """End the process and everything that it started, at once."""
        if self._process is not None:
            self._killed = True
            kill_tree(self._process.processId())

    def close(self) -> None:
        """End everything; waits for it, but not for long."""
        self._patience.stop()
        self._dismiss()
        for process in self._leaving:
            if process.state() != qt.QProcess.NotRunning and not process.waitForFinished(CLOSE_MS):
                kill_tree(process.processId())
                process.waitForFinished(KILLED_MS)
        self._leaving = []
        remove_stale(Path(tempfile.gettempdir()))  # a worker that was killed leaves its folder

    def _replace(self) -> None:
        """Another computer was chosen, or a rehearsal: what is under way on the old one ends with a message."""
        stopped, self._waiting = self._waiting, set()
        self._dismiss()
        self._patience.start()
        text, hint = _("Stopped, because another computer was chosen"), _("Run it again there")
        for run_id in sorted(stopped):
            self.message.emit(protocol.error(run_id, "device", text, hint))

    def _dismiss(self) -> None:
        """Tell the process to end, and listen to it no more."""
        self._timer.stop()
        process, self._process = self._process, None
        if process is None:
            return
        process.readyReadStandardOutput.disconnect(self._on_output)
        process.readyReadStandardError.disconnect(self._on_log)
        process.finished.disconnect(self._on_finished)
        process.errorOccurred.disconnect(self._on_error)
        process.write(protocol.encode({"type": "shutdown"}))
        process.closeWriteChannel()
        self._leave(process)

    def _leave(self, process: Any) -> None:
        """Keep a process until another one goes: in its own signal it may not be deleted."""
        self._leaving = [each for each in self._leaving if each.state() != qt.QProcess.NotRunning] + [process]

    def _kill_leaving(self) -> None:
        for process in self._leaving:
            if process.state() != qt.QProcess.NotRunning:
                kill_tree(process.processId())

    def _wanted(self) -> list[str]:
        own = protocol.worker_command(python_executable())
        if self.rehearsal:
            return [*own, "--rehearsal"]
        return list(self._command or [*own, *remembered.other_computer()])

    def _start(self) -> bool:
        command = self._started = self._wanted()
        if not command[0]:
            self.ended.emit(_("PythonSlicer was not found"), _("Install Slicer again"), "")
            return False
        process = self._process = qt.QProcess()
        self._unread, self._killed = b"", False
        self._log.clear()
        process.setProcessEnvironment(process_environment())
        process.readyReadStandardOutput.connect(self._on_output)
        process.readyReadStandardError.connect(self._on_log)
        process.finished.connect(self._on_finished)
        process.errorOccurred.connect(self._on_error)
        process.start(command[0], command[1:])
        return self._process is not None

    def _on_output(self) -> None:
        *lines, self._unread = (self._unread + as_bytes(self._process.readAllStandardOutput())).split(b"\n")
        for line in lines:
            try:
                message = protocol.decode(line)
            except UserError:
                self._log.append(line.decode(errors="replace"))
                continue
            if message.get("type") == "error" and message.get("id") is None:
                self._log.append(f"{message['message']}\n")
            if message["type"] in protocol.ENDS:
                self._waiting.discard(message.get("id"))
                if message.get("id") == self._cancelled:
                    self._timer.stop()
            self.message.emit(message)

    def _on_log(self) -> None:
        self._log.append(as_bytes(self._process.readAllStandardError()).decode(errors="replace"))

    def _on_error(self, error: Any) -> None:
        if error == qt.QProcess.FailedToStart:  # no `finished` follows
            text = self._process.errorString()
            self._forget()
            self.ended.emit(_("The worker cannot be started: {text}").format(text=text), "", "")

    def _on_finished(self, *_arguments: Any) -> None:
        code = self._process.exitCode()
        self._on_output()
        self._on_log()
        self._forget()
        self.ended.emit(*_cause(code, self._killed), "".join(self._log))

    def _forget(self) -> None:
        self._timer.stop()
        self._waiting.clear()
        self._leave(self._process)
        self._process = None


def _cause(code: int, by_us: bool) -> tuple[str, str]:
    """Why a worker has ended that was not asked to, and what to do about it.

    Args:
        code: of its end; of a signal its number, or 128 more where a launcher passes it on.
        by_us: whether it was killed here.
    """
    again = _("The next run starts it again")
    if by_us:
        return _("The worker did not stop when it was asked to, and was ended"), again
    if code in (9, 128 + 9):
        hint = _("Close other programs, draw fewer samples, or use another computer. {again}")
        return _("The worker was killed by the system, most often because the memory is full"), hint.format(again=again)
    hint = _("{again}; if it comes back, report it with the details")
    return _("The worker ended unexpectedly (code {code})").format(code=code), hint.format(again=again)


def process_environment() -> Any:
    """The variables for a process of the library (`protocol.worker_environment`)."""
    environment = qt.QProcessEnvironment()
    for name, value in protocol.worker_environment().items():
        environment.insert(name, value)
    return environment


def python_executable() -> str:
    """Slicer's Python, which sets the paths of its libraries; outside Slicer this one. Empty if it is not found."""
    found = shutil.which("PythonSlicer")
    if found:
        return found
    home = getattr(getattr(slicer, "app", None), "slicerHome", "")
    if not home:
        return sys.executable
    # `sys.executable` may be Slicer itself there.
    places = [Path(home) / "bin" / name for name in ("PythonSlicer", "PythonSlicer.exe")]
    return next((str(place) for place in places if place.is_file()), "")


def kill_tree(number: int) -> None:
    """End a process and its descendants: PythonSlicer is a launcher, and its child is the worker."""
    if os.name == "nt":
        subprocess.run(["taskkill", "/F", "/T", "/PID", str(number)], capture_output=True, check=False)
        return
    for each in [*descendants(number), number]:
        _kill(each)


def descendants(number: int) -> list[int]:
    """The processes that a process has started, and theirs. On Windows `kill_tree` leaves that to the system."""
    if os.name == "nt":
        return []
    parents, found, generation = _parents(), [], [number]
    while generation:
        generation = [child for child, parent in parents.items() if parent in generation]
        found += generation
    return found


def _parents() -> dict[int, int]:
    """Process to parent, of all processes."""
    if Path("/proc/self/stat").exists():
        return dict(filter(None, (_from_proc(folder) for folder in Path("/proc").glob("[0-9]*"))))
    listing = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=False).stdout
    return {int(pid): int(parent) for pid, parent in (line.split() for line in listing.splitlines())}


def _from_proc(folder: Path) -> tuple[int, int] | None:
    try:
        # The name of the program, in brackets, may hold spaces.
        return int(folder.name), int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:  # it has just ended
        return None


def _kill(number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(number, signal.SIGKILL)


def as_bytes(array: Any) -> bytes:
    """What a process has printed; PythonQt's QByteArray gives text or bytes."""
    data = array.data()
    return data.encode() if isinstance(data, str) else bytes(data)
