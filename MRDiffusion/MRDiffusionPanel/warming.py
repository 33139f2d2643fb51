"""The worker is started, and the chosen model loaded and tried, before the first run asks for it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import qt

from .estimates import Estimates
from .installation import remembered
from .logic import Logic
from .parameters import Parameters

PAUSE_MS = 500
"""How long the choice of a model must rest: somebody who looks through the list does not want all of them."""


class Warming:
    """Once for each model, device and computer. A run that begins meanwhile goes first (`MRDiffusionLib.worker`).

    Args:
        logic: whose worker gets warm.
        estimates: learn from the trial.
        learnt: called when they have.
    """

    def __init__(self, logic: Logic, estimates: Estimates, learnt: Callable[[], None]) -> None:
        self._logic, self._estimates, self._learnt = logic, estimates, learnt
        self._wanted: Parameters | None = None
        self._warm = set[tuple[str, ...]]()
        self._numbers, self._pending = itertools.count(1), ""
        self._tried: Parameters | None = None
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(PAUSE_MS)
        self._timer.timeout.connect(self._begin)
        logic.measured.connect(self._on_run)
        logic.worker.message.connect(self._on_message)

    def refresh(self, chosen: Parameters | None) -> None:
        """Another model may have been chosen; None where there is none, or no run could start."""
        if chosen is None or _key(chosen) in self._warm:
            self._timer.stop()
        elif self._wanted is None or _key(chosen) != _key(self._wanted) or not self._timer.active:
            self._timer.start()
        self._wanted = chosen

    def remove(self) -> None:
        """Leave nothing behind."""
        self._timer.stop()
        self._logic.measured.disconnect(self._on_run)
        self._logic.worker.message.disconnect(self._on_message)

    def _begin(self) -> None:
        chosen, worker = self._wanted, self._logic.worker
        if chosen is None or worker.rehearsal:
            return
        if not worker.idle:  # what is under way may do it
            self._timer.start()
        else:
            self._warm.add(_key(chosen))
            self._pending, self._tried = f"warm-{next(self._numbers)}", chosen
            message = {"type": "warm", "id": self._pending, "pack": chosen.pack_name, "device": chosen.device}
            worker.send(message)

    def _on_run(self, chosen: Parameters, _measured: dict[str, Any]) -> None:
        self._warm.add(_key(chosen))
        self.refresh(self._wanted)

    def _on_message(self, message: dict[str, Any]) -> None:
        if message["type"] == "warmed" and message["id"] == self._pending and self._tried is not None:
            for measured in message["measurements"]:
                self._estimates.learn(self._tried, measured)
            self._learnt()


def _key(chosen: Parameters) -> tuple[str, ...]:
    weights = chosen.pack.weights_sha256 if chosen.pack is not None else ""
    return chosen.pack_name, weights, chosen.device, remembered.recall(remembered.COMPUTER)
