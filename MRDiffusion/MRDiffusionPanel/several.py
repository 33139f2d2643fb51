"""The run of the panel for each frame of a cine, or for each of some volumes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from MRDiffusionLib.errors import InputError, UserError

from . import nodes, views
from .cine import Cine
from .in_turn import InTurn, Series
from .parameters import Parameters
from .results import results_of
from .signals import Signal
from .text import _

ASKED = "MRDiffusion.Asked"
"""Attribute of a result of a list: the choices that it was made with."""


class Several:
    """Runs one of these at a time.

    Args:
        turn: does the runs.
        later: does something in a turn of its own (`background.Turns`), or at once.

    Attributes:
        message: what happens, for a person.
        busy: whether something is under way.
        changed: emits when one of these has changed.
        played: emits the volume that shows the results of a cine, when they are complete and before they are shown.
    """

    def __init__(self, turn: InTurn, later: Callable[[Callable[[], Any]], None] = lambda act: act()) -> None:
        self.message, self.busy, self.changed, self.played = "", False, Signal(), Signal()
        self._turn, self._later = turn, later

    def start_frames(self, chosen: Parameters) -> None:
        """Run all frames of the inputs that are sequences; the results become sequences. Returns at once.

        Raises:
            UserError: inputs that are no sequences or do not go together, or a run under way.
        """
        cine, numbers = Cine(chosen), itertools.count()

        def begin(number: int) -> Parameters:
            self._become(_("Frame {number} of {count}").format(number=number + 1, count=cine.count))
            if cine.gone():
                raise InputError(_("the sequence is no longer in the scene"))
            cine.show(number)
            return chosen

        def take(made: dict[str, Any]) -> None:
            if cine.gone() or made["result"].GetScene() is None:
                self._turn.stop(_("Stopped, because the scene was closed"))
                return
            cine.add(next(numbers), made)
            self._turn.go_on()

        def ended(reason: str) -> None:
            lines = [reason] if reason else []
            if cine.gone():
                self._end(lines)
            else:
                shown = cine.finish()
                self._later(lambda: play(shown, lines))  # together they would hold the panel up

        def play(shown: dict[str, Any], lines: list[str]) -> None:
            if cine.gone():
                self._end([_("Stopped, because the scene was closed")])
                return
            cine.show_as_before()
            if "result" in shown:
                self.played.emit(shown["result"])
                views.show_result(cine.source, shown["result"])
                told = _("{count} of {all} frames play as {name} in the module Sequences")
                name = shown["result"].GetName()
                lines.append(told.format(count=next(numbers), all=cine.count, name=name))
            self._end(lines)

        self._start(Series(cine.count, begin, take, ended))

    def start_volumes(self, chosen: Parameters, volumes: Sequence[Any]) -> None:
        """Run each of these volumes as the input, but those that have a result of the same choices: a list that was
        stopped goes on. What fails is named at the end. Returns at once.

        Raises:
            UserError: no volumes, a task with several inputs, or a run under way.
        """
        if len(chosen.inputs) != 1:
            hint = _("Put each case into a folder of its own, and choose the files of a folder")
            raise InputError(_("this task takes several volumes for each result"), hint)
        if not volumes:
            raise InputError(_("no volume is chosen"), _("Tick those that you want"))
        (role,), asked = chosen.inputs, _asked(chosen)
        wanted = outstanding(chosen, volumes)
        names, kept = [volume.GetName() for volume in wanted], len(volumes) - len(wanted)
        at, done, failures = 0, 0, list[str]()

        def begin(number: int) -> Parameters:
            nonlocal at
            at = number
            text = _("Volume {number} of {count}: {name}")
            self._become(text.format(number=kept + number + 1, count=len(volumes), name=names[number]))
            return replace(chosen, inputs={role: wanted[number]})

        def take(made: dict[str, Any]) -> None:
            nonlocal done
            done += 1
            made["result"].SetAttribute(ASKED, asked)
            self._turn.go_on()

        def fail(reason: str) -> bool:
            failures.append(f"{names[at]}: {reason}")
            return True

        def ended(reason: str) -> None:
            lines = [_("{reason}; Run all goes on from here").format(reason=reason.rstrip("."))] if reason else []
            told = _("{done} computed, {kept} there before, {failed} failed, of {all}")
            lines.append(told.format(done=done, kept=kept, failed=len(failures), all=len(volumes)))
            self._end([*lines, *failures])

        self._start(Series(len(wanted), begin, take, ended, fail))

    def _start(self, series: Series) -> None:
        if self.busy or self._turn.busy:
            raise UserError(_("a series of runs is under way"), _("Wait for it, or press Cancel"))
        self.busy = True
        try:
            self._turn.start(series)
        except UserError:
            self.busy = False
            raise

    def _end(self, lines: list[str]) -> None:
        self.busy = False
        self._become("\n".join(lines))

    def _become(self, message: str) -> None:
        self.message = message
        self.changed.emit()


def outstanding(chosen: Parameters, volumes: Sequence[Any]) -> list[Any]:
    """Those of some volumes that have no result of a list with these choices in the scene."""
    if not volumes:
        return []
    asked = _asked(chosen)
    made = (node for node in results_of(volumes[0].GetScene()) if node.GetAttribute(ASKED) == asked)
    done = [nodes.input_of(node) for node in made]
    return [volume for volume in volumes if volume not in done]


def _asked(chosen: Parameters) -> str:
    """The choices that decide what a result shows, as text."""
    request = chosen.request(dict.fromkeys(chosen.inputs, "volume")).to_json()
    told = {name: value for name, value in request.items() if name not in ("inputs", "device", "precision", "batch")}
    return json.dumps([told, chosen.pack.weights_sha256 if chosen.pack is not None else ""], sort_keys=True)
