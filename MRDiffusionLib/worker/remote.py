"""A relay to a worker at another computer, which whoever talks to it takes for a worker here.

It reads the ordinary messages (`protocol`), sends the volumes along, and puts what comes back where it was asked for.
It connects at the start and, after a failure, again with the next run.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, NoReturn

from .. import __version__
from ..errors import DeviceError, StorageError, UserError
from . import frames, process, protocol
from .arrivals import Arrivals
from .connection import PYTHON, Remote
from .streamed import ALIVE

GRACE = 8.0
"""Seconds that the worker there gets to stop and clean up when this end closes."""


class Relay:
    """Serves one panel.

    Args:
        host, python: of the other computer (`connection.Remote`).
        requests: messages to the worker, lines of a binary stream.
        answers: binary stream for those from it.
        folder: private folder for what comes.
    """

    def __init__(self, host: str, python: str, requests: Iterable[bytes], answers: frames.Writes, folder: Path) -> None:
        self._host, self._python = host, python
        self._requests, self._answers, self._arrivals = requests, answers, Arrivals(folder)
        self._changed = threading.Condition()
        self._queue: deque[tuple[protocol.Task | protocol.Cancel, dict[str, Any]]] = deque()
        self._tasks: dict[str, protocol.Task] = {}
        self._ending = False
        self._connecting: Remote | None = None  # the last one that was started
        self._remote: Remote | None = None  # the same, where it has answered and still runs
        self._sending = threading.Lock()

    def serve(self) -> None:
        """Read messages until the end, then end the worker there."""
        sender = threading.Thread(target=self._send_all, daemon=True)
        sender.start()
        try:
            for line in self._requests:
                if line.strip() and not self._take(line):
                    break
        finally:
            with self._changed:
                self._ending, remote = True, self._connecting
                self._changed.notify_all()
            # A sender that is in the middle of a volume is cut off: the worker there ends then as well.
            sender.join(0.2)
            if remote is not None:
                remote.close(GRACE if not sender.is_alive() else 0.0)

    def _take(self, line: bytes) -> bool:
        """Take one message; False to end."""
        try:
            message, raw = protocol.parse(line), protocol.decode(line)
            if isinstance(message, protocol.Run) and not os.path.isdir(message.output):
                error = StorageError(f"the output folder {message.output} does not exist", "Make it first")
                self._answer(protocol.user_error(message.id, error))
                return True
        except protocol.ProtocolError as problem:
            self._answer(protocol.user_error(None if problem.id in self._tasks else problem.id, problem))
            return True
        if isinstance(message, protocol.Shutdown):
            return False
        with self._changed:
            if isinstance(message, protocol.Cancel):
                waiting = [each for each in self._queue if each[0].id == message.id]
                if waiting:
                    self._queue.remove(waiting[0])
                    self._tasks.pop(message.id, None)
                    self._answer(protocol.cancelled(message.id))
                    return True
            elif message.id in self._tasks:
                text, hint = f"run {message.id} is queued or running already", "Give every run its own id"
                self._answer(protocol.error(None, "input", text, hint))
                return True
            else:
                self._tasks[message.id] = message
            self._queue.append((message, raw))
            self._changed.notify_all()
        return True

    # The thread that sends

    def _send_all(self) -> None:
        self._connect()
        while True:
            with self._changed:
                if not self._queue and not self._ending:
                    self._changed.wait(ALIVE)
                if self._ending:
                    break
                if self._remote is not None:
                    task, message = self._queue.popleft() if self._queue else (None, {"type": "alive"})
            if self._remote is not None:
                self._send(task, message)
            elif self._tasks:  # they stay in the queue, where a cancel finds them
                self._connect()
        with contextlib.suppress(OSError):
            if self._remote is not None and self._remote.process.stdin is not None:
                self._remote.process.stdin.close()

    def _send(self, task: protocol.Task | protocol.Cancel | None, message: dict[str, Any]) -> None:
        remote = self._remote
        if remote is None or remote.process.stdin is None:
            return
        try:
            frames.send(remote.process.stdin, message, _volumes(task))
        except StorageError as problem:
            self._end_task(message["id"], protocol.user_error(message["id"], problem))
        except (OSError, ValueError):
            pass  # the reader sees the end too, and tells

    def _connect(self) -> None:
        """Start the worker there and wait for its first word; what goes wrong is told to all who wait."""
        remote = None
        try:
            remote = Remote(self._host, self._python, "worker", "--stream")
            with self._changed:
                self._connecting = remote
                if self._ending:
                    remote.close()
            hello = self._hello(remote)
            if hello is None:
                raise remote.problem(begun=False)
            if hello != __version__:
                text = f"MRDiffusion on {self._host} is version {hello}, here it is {__version__}"
                raise DeviceError(text, "Install the same version there as here")
            with self._changed:
                self._remote = remote
        except UserError as problem:
            if remote is not None:
                remote.close()
            self._fail(problem, remote)
            return
        threading.Thread(target=self._read, args=(remote,), daemon=True).start()

    def _hello(self, remote: Remote) -> str | None:
        """The version there. What a login shell prints before is passed over."""
        assert remote.process.stdout is not None
        for line in remote.process.stdout:
            with contextlib.suppress(protocol.ProtocolError):
                message = protocol.decode(line)
                if message.get("type") == "hello":
                    return str(message.get("version"))
        return None

    # The thread that reads

    def _read(self, remote: Remote) -> None:
        stream = remote.process.stdout
        assert stream is not None
        while True:
            try:
                message = frames.receive(stream, self._arrivals.place)
            except frames.UnplacedError as problem:
                self._arrivals.forget()
                run_id = str(problem.received.get("id"))
                self._end_task(run_id, protocol.user_error(run_id, problem))
                continue
            except (UserError, OSError, ValueError):
                message = None
            if message is None:
                break
            self._pass_on(message)
        self._fail(remote.problem(begun=True), remote)

    def _pass_on(self, message: dict[str, Any]) -> None:
        run_id, kind = message.get("id"), message["type"]
        task = self._tasks.get(run_id) if isinstance(run_id, str) else None
        message = self._arrivals.stored(message, task.output if isinstance(task, protocol.Run) else "")
        if kind == "error" and message["kind"] not in ("input", "setting"):  # of that computer, not of the request
            message = {**message, "message": f"on {self._host}: {message['message']}"}
        if kind in protocol.ENDS and run_id is not None:
            self._end_task(run_id, message)
        else:
            self._answer(message)

    # Both

    def _fail(self, problem: UserError, remote: Remote | None) -> None:
        """The line is cut: every run that waits ends with that."""
        with self._changed:
            self._remote = None
            ids: list[str | None] = [*self._tasks] or [None]
            self._tasks.clear()
            self._queue.clear()
        for run_id in () if self._ending else ids:
            self._answer({**protocol.user_error(run_id, problem), "details": remote.said if remote else ""})

    def _end_task(self, run_id: str, message: dict[str, Any]) -> None:
        with self._changed:
            self._tasks.pop(run_id, None)
        self._answer(message)

    def _answer(self, message: dict[str, Any]) -> None:
        with self._sending, contextlib.suppress(OSError, ValueError):
            frames.send(self._answers, message)


def _volumes(task: protocol.Task | protocol.Cancel | None) -> list[str]:
    """The files of a task, each once."""
    if isinstance(task, protocol.Run):
        return list(dict.fromkeys(task.request.inputs.values()))
    if isinstance(task, protocol.Evaluate):
        return list(dict.fromkeys(path for path in (task.reference, task.test, task.mask) if path))
    return []


def main(host: str, python: str = PYTHON) -> NoReturn:
    """Be a relay on this process's standard streams, then end the process (`process.serve`)."""

    def make(requests: IO[bytes], answers: IO[bytes], folder: Path) -> Relay:
        return Relay(host, python, requests, answers, folder)

    process.serve(make)
