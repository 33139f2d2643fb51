"""Runs one after the other: of a sweep, of a cine, of several volumes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from MRDiffusionLib.errors import UserError

from .logic import Logic, State
from .parameters import Parameters
from .text import _


@dataclass(frozen=True)
class Series:
    """What is to be run.

    Attributes:
        count: how many runs.
        begin: gives a run, counted from 0, when its turn has come; may raise UserError.
        take: gets the results of each; the next one begins when it calls `InTurn.go_on`.
        ended: called once, with the reason where it was before the last run.
        fail: told why a run has failed; true goes on with the next one.
    """

    count: int
    begin: Callable[[int], Parameters]
    take: Callable[[dict[str, Any]], None]
    ended: Callable[[str], None]
    fail: Callable[[str], bool] = lambda reason: False


class InTurn:
    """One series at a time.

    Args:
        logic: does the runs, also others in between; cancelling a run of the series ends the series.
        later: does something when what waits has been done (`background.Turns`), or at once: to add a result to the
            scene, to take it, and to begin the next run each take some moments.

    Attributes:
        took: the results that the last run of a series gave, as the logic has handed them out.
    """

    def __init__(self, logic: Logic, later: Callable[[Callable[[], Any]], None] = lambda act: act()) -> None:
        self._logic, self._later, self.took = logic, later, dict[str, Any]()
        self._series: Series | None = None
        self._next = 0
        self._running = self._due = self._looping = False
        logic.finished.connect(self._on_finished)
        logic.changed.connect(self._on_logic)

    @property
    def busy(self) -> bool:
        """Whether a series is under way."""
        return self._series is not None

    def start(self, series: Series) -> None:
        """Begin; returns at once. Raises UserError where a run is under way."""
        if self.busy or (self._logic.busy and not self._logic.previewing):
            raise UserError(_("a run is under way"), _("Wait for it, or press Cancel"))
        self._series, self._next = series, 0
        self.go_on()

    def go_on(self) -> None:
        """Begin the next run, as soon as the logic is free; after the last one the series has ended."""
        self._due = True
        self._later(self._go_on)

    def _go_on(self) -> None:
        if self._looping:  # a run has failed before it began
            return
        self._looping = True
        try:
            while self._due and self._series is not None and not self._logic.busy:
                self._due = False
                self._begin(self._series)
        finally:
            self._looping = False

    def stop(self, reason: str) -> None:
        """End the series; a run under way goes on, as one of its own."""
        series, self._series = self._series, None
        self._running = self._due = False
        if series is not None:
            series.ended(reason)

    def cancel(self) -> None:
        """End the series between two of its runs; in the midst of one, cancelling the run does."""
        if not self._running:
            self.stop(_("Cancelled"))

    def close(self) -> None:
        """Leave nothing behind."""
        self._series = None
        self._logic.finished.disconnect(self._on_finished)
        self._logic.changed.disconnect(self._on_logic)

    def _begin(self, series: Series) -> None:
        if self._next == series.count:
            self._later(lambda: self._complete(series))  # what is shown then takes a moment
            return
        number = self._next
        self._next += 1
        try:
            run = series.begin(number)
        except UserError as error:
            self._failed(str(error))
            return
        self._running = True
        self._logic.start(run)

    def _complete(self, series: Series) -> None:
        if self._series is series:
            self.stop("")

    def _failed(self, reason: str) -> None:
        if self._series is not None and self._series.fail(reason):
            self.go_on()
        else:
            self.stop(reason)

    def _on_finished(self, results: dict[str, Any]) -> None:
        if self._series is not None and self._running and "result" in results:
            self._running, self.took = False, results
            series = self._series
            self._later(lambda: self._take(series, results))

    def _take(self, series: Series, results: dict[str, Any]) -> None:
        if self._series is series:
            series.take(results)

    def _on_logic(self) -> None:
        if self._running and self._logic.state in (State.FAILED, State.IDLE):
            self._running = False
            message = self._logic.message or _("Cancelled")
            if self._logic.state == State.FAILED:
                self._failed(message)
            else:
                self.stop(message)
        elif self._due and not self._logic.busy:
            self.go_on()
