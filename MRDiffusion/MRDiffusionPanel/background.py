"""Work that would hold the main thread up: in another thread, or, where nodes are touched, a bit at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import qt

POLL_MS = 5
"""How often it is asked. An application that keeps Python's lock in its event loop lets threads on only then."""


class Background:
    """One piece of work after the other; what it gives is handed on in the main thread.

    A thread of Python must not call Qt, so a timer asks whether it has ended.
    """

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None
        self._under_way = deque[tuple[Future[Any], Callable[[Future[Any]], None]]]()
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_MS)
        self._timer.timeout.connect(self._look)

    @property
    def busy(self) -> bool:
        """Whether there is work whose end has not been handed on."""
        return bool(self._under_way)

    def run(self, work: Callable[[], Any], then: Callable[[Future[Any]], None]) -> None:
        """Begin; `then` gets the ended future, whose `result()` gives or raises what `work` did."""
        self._threads = self._threads or ThreadPoolExecutor(1)
        self._under_way.append((self._threads.submit(work), then))
        self._timer.start()

    def close(self) -> None:
        """Forget what is under way; it goes on to its end, which nobody waits for."""
        self._timer.stop()
        self._under_way.clear()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None

    def _look(self) -> None:
        while self._under_way and self._under_way[0][0].done():
            future, then = self._under_way.popleft()
            then(future)
        if not self._under_way:
            self._timer.stop()


class Turns:
    """Acts in turns of the event loop of their own: what a person does comes in between."""

    def __init__(self) -> None:
        self._acts = deque[Callable[[], Any]]()
        self._timer = qt.QTimer()
        self._timer.setInterval(0)
        self._timer.timeout.connect(self._next)

    def __call__(self, act: Callable[[], Any]) -> None:
        """Do this after what was asked for before."""
        self._acts.append(act)
        self._timer.start()

    def close(self) -> None:
        """Do no more."""
        self._timer.stop()
        self._acts.clear()

    def _next(self) -> None:
        act = self._acts.popleft()
        if not self._acts:
            self._timer.stop()
        act()
