"""How long a run will take and how much memory it needs on this machine, from a trial and from what runs took."""

from __future__ import annotations

import json
import re
from typing import Any, Protocol

from MRDiffusionLib import workload

from . import grids
from .installation import remembered
from .parameters import Parameters
from .text import _

PREFIX = "MRDiffusion/estimates/"


class Store(Protocol):
    """What is asked of `qt.QSettings`."""

    def value(self, key: str, default: str) -> str:
        """A kept text."""

    def setValue(self, key: str, value: str) -> None:
        """Keep a text."""


class Estimates:
    """Figures of runs, kept for each pack, device and computer.

    Time grows with what the network sees: slices, samples, steps, guidance branches, pixels (`workload.work`). The
    largest run counts: of a short one, most of the time goes into what is done once. Memory grows with what it sees at
    once; the smallest and the largest that was measured tell how. Until there is a run, the worker's trial of a pack
    tells both (`warming`).

    Args:
        store: outlives the application.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def learn(self, chosen: Parameters, measured: dict[str, Any]) -> None:
        """A run, or a trial, has ended.

        Args:
            measured: what the worker has measured (`worker.backend.measured`); without 'work' nothing is learnt.
        """
        if not measured.get("work"):
            return
        known = self._known(chosen)
        if known.get("computed_on") != measured["computed_on"]:  # a graphics card that was not there, or is no more
            known = {"computed_on": measured["computed_on"], "memory": []}
        if measured.get("seconds") is not None and measured["work"] >= known.get("work", 0):
            known.update(work=measured["work"], seconds=measured["seconds"])
        if measured.get("peak_memory_mb") is not None:
            others = [point for point in known["memory"] if point[0] != measured["at_once"]]
            points = sorted([*others, [measured["at_once"], measured["peak_memory_mb"]]])
            known["memory"] = [points[0], *points[1:][-1:]]
        known["batch"] = measured["batch"]
        self._store.setValue(_key(chosen), json.dumps(known))

    def text(self, *runs: Parameters) -> str:
        """'about 18 s and 1.1 GB of memory on this machine'; empty where nothing is known.

        Args:
            runs: with the same model, one after the other.
        """
        known = self._known(runs[0]) if runs else {}
        if not known.get("work"):
            return ""
        sizes = [_size(chosen) for chosen in runs]
        parts = [duration(known["seconds"] * sum(workload.work(*size) for size in sizes) / known["work"])]
        if known["memory"]:
            batch = runs[0].batch or known["batch"]
            most = max(workload.at_once(*size, batch) for size in sizes)
            cpu = known["computed_on"] in ("CPU", "MPS")
            text = _("{gigabytes:.1f} GB of memory") if cpu else _("{gigabytes:.1f} GB of graphics memory")
            parts.append(text.format(gigabytes=_memory_mb(known["memory"], most) / 1000))
        where = remembered.recall(remembered.COMPUTER) or _("this machine")
        return _("about {what} on {where}").format(what=_(" and ").join(parts), where=where)

    def sentence(self, *runs: Parameters) -> str:
        """'The 4 runs take about 18 s on this machine.'; empty where nothing is known."""
        known, text = (
            self.text(*runs),
            _("The {count} runs take {time}.") if len(runs) > 1 else _("The run takes {time}."),
        )
        return text.format(count=len(runs), time=known) if known else ""

    def _known(self, chosen: Parameters) -> dict[str, Any]:
        try:
            known = json.loads(self._store.value(_key(chosen), "") or "{}")
            return known if known["batch"] > 0 and known["memory"] is not None and known["computed_on"] else {}
        except (KeyError, ValueError, TypeError, AttributeError):
            return {}  # of another version


def _size(chosen: Parameters) -> tuple[Any, tuple[str, ...], int, tuple[int, int]]:
    """What `workload` asks for: settings, roles, slices, matrix of the result."""
    columns, rows, slices = grids.size(chosen.first)
    if chosen.task == "synthesis" and chosen.pack is not None:
        rows, columns = chosen.pack.matrix
    rows, columns = getattr(chosen.settings, "matrix", (rows, columns))
    return chosen.settings, tuple(chosen.inputs), len(chosen.slices or range(slices)), (rows, columns)


def _memory_mb(points: list[list[float]], at_once: float) -> float:
    """On the straight line through what was measured; more images never take less."""
    (low, least), (high, most) = points[0], points[-1]
    slope = max(0.0, (most - least) / (high - low)) if high > low else 0.0
    return max(0.0, least + slope * (at_once - low))


def _key(chosen: Parameters) -> str:
    weights = chosen.pack.weights_sha256[:12] if chosen.pack is not None else ""
    names = [chosen.pack_name, weights, chosen.device, remembered.recall(remembered.COMPUTER)]
    return PREFIX + re.sub("[^A-Za-z0-9.-]", "_", "-".join(filter(None, names)))


def duration(seconds: float) -> str:
    """'18 s', '3 min'."""
    if seconds < 90:
        return _("{seconds:.0f} s").format(seconds=max(1.0, seconds))
    return _("{minutes:.0f} min").format(minutes=seconds / 60)
