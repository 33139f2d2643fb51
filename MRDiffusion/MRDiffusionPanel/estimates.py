"""How long a run will take and how much memory it needs on this machine, from what earlier ones took."""

from __future__ import annotations

import json
import re
from typing import Any, Protocol

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
    """Figures of finished runs, kept for each pack, device and computer.

    The run with the most images counts: of a short one, most of the time goes into what is done once. Until there is a
    run, a preview tells the order of magnitude.

    Args:
        store: outlives the application.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def learn(self, chosen: Parameters, slices: int, measured: dict[str, Any]) -> None:
        """A run has ended.

        Args:
            slices: of its result.
            measured: 'seconds', and 'peak_memory_mb' where it is known.
        """
        images, before = _images(chosen, slices), self._known(chosen)
        if measured.get("seconds") is None or (before and before["images"] > images):
            return
        kept = {"images": images, "seconds": measured["seconds"], "memory_mb": measured.get("peak_memory_mb")}
        self._store.setValue(_key(chosen), json.dumps(kept))

    def text(self, chosen: Parameters) -> str:
        """'about 18 s and 1.1 GB on this machine'; empty where nothing is known."""
        known = self._known(chosen)
        if not known:
            return ""
        slices = len(chosen.slices) if chosen.slices is not None else grids.size(chosen.first)[2]
        parts = [_duration(known["seconds"] * _images(chosen, slices) / known["images"])]
        if known.get("memory_mb"):
            parts.append(_("{gigabytes:.1f} GB").format(gigabytes=known["memory_mb"] / 1000))
        where = remembered.recall(remembered.COMPUTER) or _("this machine")
        return _("about {what} on {where}").format(what=_(" and ").join(parts), where=where)

    def _known(self, chosen: Parameters) -> dict[str, Any]:
        try:
            known = json.loads(self._store.value(_key(chosen), "") or "{}")
            return known if known.get("images", 0) > 0 and known.get("seconds", 0) > 0 else {}
        except (ValueError, TypeError, AttributeError):
            return {}  # of another version


def _images(chosen: Parameters, slices: int) -> int:
    """How many times the network sees an image."""
    return slices * chosen.settings.samples * getattr(chosen.settings, "steps", 1)


def _key(chosen: Parameters) -> str:
    weights = chosen.pack.weights_sha256[:12] if chosen.pack is not None else ""
    names = [chosen.pack_name, weights, chosen.device, remembered.recall(remembered.COMPUTER)]
    return PREFIX + re.sub("[^A-Za-z0-9.-]", "_", "-".join(filter(None, names)))


def _duration(seconds: float) -> str:
    if seconds < 90:
        return _("{seconds:.0f} s").format(seconds=max(1.0, seconds))
    return _("{minutes:.0f} min").format(minutes=seconds / 60)
