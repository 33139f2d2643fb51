"""The other end of a worker, for a program without an event loop of its own. No torch.

with WorkerClient() as worker:
    message = worker.run(request, "/folder")
    volume = message["volumes"]["result"]
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import UserError
from ..request import Request
from . import protocol

OnMessage = Callable[[dict[str, Any]], None]


class WorkerError(UserError):
    """What a worker said went wrong, or that it is gone. `kind` as in `protocol.KINDS`."""

    def __init__(self, message: str, hint: str = "", kind: str = "internal", details: str = "") -> None:
        super().__init__(message, hint)
        self.kind, self.details = kind, details


class WorkerDied(WorkerError):
    """The worker's process has ended although nobody asked it to. `details` are its last words on standard error."""


class RunCancelled(Exception):
    """The run was cancelled."""


class WorkerClient:
    """One worker process.

    Args:
        command: what to start; by default a worker under this Python.
        environment: its variables; by default this process's, made fit by `protocol.worker_environment`.
    """

    def __init__(self, command: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            list(command or protocol.worker_command()),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=protocol.worker_environment(environment),
            # Its own group: Ctrl-C in the client's terminal is the client's to handle, and `kill` reaches all of it.
            start_new_session=True,
        )
        self._messages: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._stderr: deque[str] = deque(maxlen=200)
        self._readers = [threading.Thread(target=t, daemon=True) for t in (self._read_messages, self._read_stderr)]
        for reader in self._readers:
            reader.start()
        self._count = 0

    @property
    def stderr(self) -> str:
        """The last lines that the worker wrote to standard error."""
        return "".join(self._stderr)

    def send(self, message: Mapping[str, Any]) -> None:
        """Send any message. Raises WorkerDied."""
        self.send_line(protocol.encode(message))

    def send_line(self, line: bytes) -> None:
        """Send bytes as they are. Raises WorkerDied."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line)
            self.process.stdin.flush()
        except (OSError, ValueError) as error:
            raise self._death() from error

    def receive(self, timeout: float = 60.0) -> dict[str, Any]:
        """The next message. Raises WorkerDied, or TimeoutError after `timeout` seconds without one."""
        try:
            message = self._messages.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError(f"the worker has said nothing for {timeout:g} s") from None
        if message is None:
            self._messages.put(None)
            raise self._death()
        return message

    def wait_ready(self, timeout: float = 120.0) -> dict[str, Any]:
        """The ready message. Raises WorkerError if the worker cannot start."""
        while (message := self.receive(timeout))["type"] != "ready":
            if message["type"] == "error":
                raise _as_error(message)
        return message

    def submit(self, request: Request, output: str | os.PathLike[str]) -> str:
        """Queue a request; returns the id of the run."""
        self._count += 1
        run_id = str(self._count)
        self.send({"type": "run", "id": run_id, "request": request.to_json(), "output": os.fspath(output)})
        return run_id

    def cancel(self, run_id: str) -> None:
        """Ask a run to stop; `wait` then raises RunCancelled, unless the result came first."""
        self.send({"type": "cancel", "id": run_id})

    def wait(self, run_id: str, on_message: OnMessage | None = None, timeout: float = 600.0) -> dict[str, Any]:
        """The result message of a run. Runs end in the order in which they were sent, so wait for them in that order.

        Args:
            on_message: gets every other message that comes meanwhile (progress, preview).
            timeout: seconds without any message.

        Raises:
            WorkerError: with the kind, message and hint of the run's error.
            RunCancelled, WorkerDied, TimeoutError.
        """
        while True:
            message = self.receive(timeout)
            if message.get("id") == run_id and message["type"] in protocol.ENDS:
                break
            if on_message is not None:
                on_message(message)
        if message["type"] == "error":
            raise _as_error(message)
        if message["type"] == "cancelled":
            raise RunCancelled(run_id)
        return message

    def run(
        self, request: Request, output: str | os.PathLike[str], on_message: OnMessage | None = None
    ) -> dict[str, Any]:
        """Submit a request and wait for its result message; raises as `wait`."""
        return self.wait(self.submit(request, output), on_message)

    def close(self, grace: float = 10.0) -> int:
        """End the worker, by force after `grace` seconds; returns its exit code. May be called again."""
        with contextlib.suppress(WorkerDied):
            self.send({"type": "shutdown"})
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(grace)
        self.kill()
        for reader in self._readers:
            reader.join(1)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None and not any(reader.is_alive() for reader in self._readers):
                stream.close()
        return self.process.returncode

    def kill(self) -> None:
        """End the worker and everything that it started, at once."""
        if self.process.poll() is not None:
            return
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.kill()
        self.process.wait()

    def __enter__(self) -> WorkerClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read_messages(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with contextlib.suppress(UserError):
                self._messages.put(protocol.decode(line))
        self._messages.put(None)

    def _read_stderr(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._stderr.append(line.decode(errors="replace"))

    def _death(self) -> WorkerDied:
        # The stream ends a moment before the process does, and standard error is read by another thread.
        deadline = time.monotonic() + 2
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(2)
        self._readers[1].join(max(0.0, deadline - time.monotonic()))
        return WorkerDied(*_cause(self.process.poll()), details=self.stderr)


def _cause(code: int | None) -> tuple[str, str]:
    """Message and hint for the exit code of a worker that was not asked to end."""
    if code is None:
        return "The worker does not answer any more", "Start it again"
    if code == -getattr(signal, "SIGKILL", 9):
        hint = "Most often the memory was full: close other programs, or run fewer slices at once"
        return "The worker was killed (signal 9)", hint
    if code < 0:
        return f"The worker crashed (signal {-code})", "Run again; if it comes back, report it with the log"
    return f"The worker ended (exit code {code})", "Run again; if it comes back, report it with the log"


def _as_error(message: Mapping[str, Any]) -> WorkerError:
    return WorkerError(message["message"], message["hint"], message["kind"], message["details"])
