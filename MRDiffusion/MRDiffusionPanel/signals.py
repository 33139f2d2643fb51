"""Telling others that something happened, without Qt: a custom `qt.Signal` crashes PythonQt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Signal:
    """A list of slots. A slot is called in the order of connecting, also when it disconnects itself meanwhile."""

    def __init__(self) -> None:
        self._slots: list[Callable[..., Any]] = []

    def connect(self, slot: Callable[..., Any]) -> None:
        self._slots.append(slot)

    def disconnect(self, slot: Callable[..., Any]) -> None:
        """Raises ValueError if it is not connected."""
        self._slots.remove(slot)

    def emit(self, *arguments: Any) -> None:
        for slot in tuple(self._slots):
            slot(*arguments)
