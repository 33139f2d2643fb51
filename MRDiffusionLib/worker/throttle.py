"""News at a pace that its reader can follow."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


class Throttle:
    """Passes on the first value, then one every `interval` seconds, and with `flush` the last one."""

    def __init__(self, interval: float, pass_on: Callable[[Any], None]) -> None:
        self.interval, self.pass_on = interval, pass_on
        self._due = 0.0
        self._held: list[Any] = []

    def __call__(self, value: Any) -> None:
        self._held = [value]
        if time.monotonic() >= self._due:
            self.flush()

    def flush(self) -> None:
        held, self._held = self._held, []
        for value in held:
            self.pass_on(value)
            self._due = time.monotonic() + self.interval
