"""Work that would hold the main thread up: files are read, hashed and copied in another one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import qt

POLL_MS = 20


class Background:
    """One piece of work at a time; what it gives is handed on in the main thread.

    A thread of Python must not call Qt, so a timer asks whether it has ended.
    """

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None
        self._future: Future[Any] | None = None
        self._then: Callable[[Future[Any]], None] | None = None
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_MS)
        self._timer.timeout.connect(self._look)

    def run(self, work: Callable[[], Any], then: Callable[[Future[Any]], None]) -> None:
        """Begin; `then` gets the ended future, whose `result()` gives or raises what `work` did."""
        assert self._future is None
        self._threads = self._threads or ThreadPoolExecutor(1)
        self._future, self._then = self._threads.submit(work), then
        self._timer.start()

    def close(self) -> None:
        """Forget what is under way; it goes on to its end, which nobody waits for."""
        self._timer.stop()
        self._future = self._then = None
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None

    def _look(self) -> None:
        if self._future is not None and self._future.done():
            future, then = self._future, self._then
            self._timer.stop()
            self._future = self._then = None
            if then is not None:
                then(future)
