"""The worker's loop. The main thread reads messages, so a cancel is seen at once; one other thread runs the requests.

Getting warm is no run: whatever comes after it goes first.

Whatever goes wrong in a run becomes one `error` message and the worker goes on. The worker ends at `shutdown`, when its
standard input closes (the panel is gone) and at SIGTERM or SIGINT; then the run in progress is cancelled, and given up
if it does not stop within `GRACE` seconds.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

from ..errors import StorageError, UserError, is_out_of_memory
from ..request import Progress, Result
from . import process, protocol
from .backend import Backend, TorchBackend
from .frames import Writes
from .outputs import told_of, write_together
from .streamed import Streamed
from .throttle import Throttle

if TYPE_CHECKING:
    from ..imaging.volume import Volume

PROGRESS_INTERVAL = 0.1
"""Seconds between progress messages: ten a second look smooth and cost the panel nothing."""

PREVIEW_INTERVAL = 0.25
"""Seconds between previews, which are written to disk and drawn."""

PREVIEWS_KEPT = 8
"""Newest preview files that stay: a panel that lags two seconds behind still finds the one that it was told of."""

GRACE = 5.0
"""Seconds that a run in progress gets to stop when the worker must end."""

INSTALL_HINT = "Install the libraries named in requirements.txt"
MEMORY_HINT = "Run fewer slices at once (batch 1), close other programs, or use the CPU if the GPU was too small"


class Server:
    """Serves one panel.

    Args:
        requests: messages to the worker, lines of a binary stream.
        answers: binary stream for its own.
        folder: private folder for previews.
        load: makes the backend; called in the thread that runs the requests.
        started: `time.monotonic()` at which the `seconds` of the ready message begin.
        grace: seconds that a run in progress gets to stop at the end.
    """

    def __init__(
        self,
        requests: Iterable[bytes],
        answers: Writes,
        folder: Path,
        load: Callable[[], Backend] = TorchBackend,
        started: float | None = None,
        grace: float = GRACE,
    ) -> None:
        self._requests, self._answers, self._folder, self._load = requests, answers, folder, load
        self._started = time.monotonic() if started is None else started
        self._grace = grace
        self._changed = threading.Condition()
        self._queue: deque[protocol.Task] = deque()
        self._running: protocol.Task | None = None
        self._cancel = threading.Event()
        self._ending = False
        self._sending = threading.Lock()
        self._previews: deque[Path] = deque()
        self._preview_count = 0

    def serve(self) -> None:
        """Read messages until the end; a run in progress is then cancelled and waited for, `grace` seconds at most."""
        runner = threading.Thread(target=self._work, name="runner", daemon=True)
        runner.start()
        try:
            for line in self._requests:
                if line.strip() and not self._receive(line):
                    break
        finally:
            with self._changed:
                self._ending = True
                self._queue.clear()
                self._cancel.set()
                self._changed.notify_all()
                busy = self._running is not None
            # Without a run there is nothing to wait for: it is idle, or still importing.
            runner.join(self._grace if busy else 0)

    def _receive(self, line: bytes) -> bool:
        """Take one message; False to end."""
        try:
            message = protocol.parse(line)
        except protocol.ProtocolError as problem:
            self._send(protocol.user_error(None if self._knows(problem.id) else problem.id, problem))
            return True
        if isinstance(message, protocol.Shutdown):
            return False
        if isinstance(message, protocol.Cancel):
            self._cancel_run(message.id)
        elif self._knows(message.id):
            text, hint = f"run {message.id} is queued or running already", "Give every run its own id"
            self._send(protocol.error(None, "input", text, hint))
        else:
            self._add(message)
        return True

    def _add(self, task: protocol.Task) -> None:
        with self._changed:
            overtaken = [each for each in self._queue if isinstance(each, protocol.Warm)]
            for each in overtaken:
                self._queue.remove(each)
            if isinstance(self._running, protocol.Warm):
                self._cancel.set()
            self._queue.append(task)
            self._changed.notify_all()
        for each in overtaken:
            self._send(protocol.cancelled(each.id))

    def _knows(self, run_id: str | None) -> bool:
        with self._changed:
            return any(run is not None and run.id == run_id for run in (self._running, *self._queue))

    def _cancel_run(self, run_id: str) -> None:
        with self._changed:
            if self._running is not None and self._running.id == run_id:
                self._cancel.set()
                return
            queued = [run for run in self._queue if run.id == run_id]
            for run in queued:
                self._queue.remove(run)
        if queued:
            self._send(protocol.cancelled(run_id))

    def _work(self) -> None:
        """The other thread: load the backend, then run what comes, in order."""
        backend, failure = self._start()
        while (run := self._next()) is not None:
            if backend is None:
                self._end_run({**failure, "id": run.id})
                continue
            message = self._attempt(run, backend)
            if message.get("kind") == "memory":
                # Here, where no traceback holds the run's arrays any more.
                with contextlib.suppress(Exception):
                    backend.free_memory()
            self._end_run(message)

    def _start(self) -> tuple[Backend | None, dict[str, Any]]:
        try:
            backend = self._load()
        except BaseException as error:
            failure = _error_message(None, error)
            self._send(failure)
            return None, failure
        self._send(protocol.ready(backend.device, backend.versions, time.monotonic() - self._started))
        try:
            backend.warm_up()
        except BaseException:
            # Told to the person by the first run, which needs the same.
            traceback.print_exc()
        return backend, {}

    def _next(self) -> protocol.Task | None:
        with self._changed:
            while not self._queue and not self._ending:
                self._changed.wait()
            if self._ending:
                return None
            self._cancel.clear()
            self._running = self._queue.popleft()
            return self._running

    def _end_run(self, message: dict[str, Any]) -> None:
        with self._changed:
            self._running = None
        self._send(message)

    def _attempt(self, run: protocol.Task, backend: Backend) -> dict[str, Any]:
        """Do what was asked; the message that ends it."""
        try:
            if isinstance(run, protocol.Evaluate):
                return protocol.evaluation(run.id, backend.evaluate(run.reference, run.test, run.mask, run.factor))
            if isinstance(run, protocol.Warm):
                return protocol.warmed(run.id, backend.warm(run.pack, run.device, self._folder, self._checker(backend)))
            return self._run(run, backend)
        except backend.cancelled:
            return protocol.cancelled(run.id)
        except BaseException as error:
            return _error_message(run.id, error)

    def _checker(self, backend: Backend) -> Callable[[], None]:
        """Raises `backend.cancelled` where what runs is to stop."""

        def check() -> None:
            if self._cancel.is_set():
                raise backend.cancelled()

        return check

    def _run(self, run: protocol.Run, backend: Backend) -> dict[str, Any]:
        check = self._checker(backend)
        report = Throttle(PROGRESS_INTERVAL, lambda state: self._send(protocol.progress(run.id, state)))
        show = Throttle(PREVIEW_INTERVAL, lambda shown: self._send_preview(run.id, *shown))

        def progress(state: Progress) -> None:
            check()
            report(state)

        def preview(slice_number: int, image: Volume) -> None:
            show((slice_number, image))

        if not os.path.isdir(run.output):
            raise StorageError(f"the output folder {run.output} does not exist", "Make it first")
        check()

        def tell(text: str) -> None:
            self._send(protocol.note(run.id, text))

        outcome = backend.run(run.request, progress, preview if run.previews else None, tell)
        report.flush()
        return self._write(run, outcome, backend, check)

    def _write(self, run: protocol.Run, outcome: Result, backend: Backend, check: Callable[[], None]) -> dict[str, Any]:
        places = {role: Path(run.output) / f"{role}-{run.id}{run.suffix}" for role in outcome.volumes}
        files = {places[role]: functools.partial(backend.write, volume) for role, volume in outcome.volumes.items()}
        message = protocol.result(run.id, places, told_of(outcome, backend.sha256))
        protocol.encode(message)  # what cannot be sent must be known before anything is written
        write_together(files, check)
        return message

    def _send_preview(self, run_id: str, slice_number: int, image: Volume) -> None:
        import numpy as np

        self._preview_count += 1
        path = self._folder / f"preview-{self._preview_count}.npy"
        self._previews.append(path)
        try:
            np.save(path, np.ascontiguousarray(image.array[0], dtype=np.float32))
        except OSError:
            # A full disk costs the preview; whether the result has room is seen where it is written.
            path.unlink(missing_ok=True)
            return
        while len(self._previews) > PREVIEWS_KEPT:
            with contextlib.suppress(OSError):
                self._previews.popleft().unlink()
        self._send(protocol.preview(run_id, slice_number, path, image.geometry.affine()))

    def _send(self, message: dict[str, Any]) -> None:
        line = protocol.encode(message)
        # A panel that is gone reads no more: its end of standard input ends this process.
        with self._sending, contextlib.suppress(OSError, ValueError):
            self._answers.write(line)
            self._answers.flush()


def _error_message(run_id: str | None, error: BaseException) -> dict[str, Any]:
    """An exception as an error message. The traceback goes along for the log where it is not the person's mistake."""
    if isinstance(error, UserError):
        return protocol.user_error(run_id, error)
    details = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    text = f"{type(error).__name__}: {error}"
    if is_out_of_memory(error):
        return protocol.error(run_id, "memory", "There is not enough memory for this run", MEMORY_HINT, details)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return protocol.error(run_id, "storage", text, "Free some space or choose another folder", details)
    if isinstance(error, ImportError):
        text = f"The computing libraries cannot be loaded: {error}"
        return protocol.error(run_id, "internal", text, INSTALL_HINT, details)
    return protocol.error(run_id, "internal", text, "The run was stopped; the log has the details", details)


def main(load: Callable[[], Backend] = TorchBackend, grace: float = GRACE, streamed: bool = False) -> NoReturn:
    """Be a worker on this process's standard streams, then end the process (`process.serve`).

    Args:
        streamed: volumes come and go with the messages, for a panel on another computer (`streamed`).
    """
    started = time.monotonic()

    def make(requests: IO[bytes], answers: IO[bytes], folder: Path) -> Server:
        if streamed:
            both = Streamed(requests, answers, folder)
            return Server(both, both, folder, load, started, grace)
        return Server(requests, answers, folder, load, started, grace)

    process.serve(make)
