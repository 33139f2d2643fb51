"""Runs in each local worker before its first case (`dask worker --preload`)."""

from __future__ import annotations

import signal


def dask_setup(_: object) -> None:
    """Ctrl-C reaches all processes of a terminal; the one that started the run ends the others in order."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
