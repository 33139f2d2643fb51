"""A progress bar of one line on a terminal; nothing anywhere else."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from typing import TextIO

from ..request import Progress
from ..worker.throttle import Throttle

WIDTH = 20


class Bar:
    """Call it with every `Progress`; leave the context to wipe the line.

    Args:
        stream: standard error by default.
        words: what stands beside the bar.
    """

    def __init__(self, stream: TextIO | None = None, words: Callable[[Progress], str] | None = None) -> None:
        self._words = words or in_words
        self.stream = sys.stderr if stream is None else stream
        self.visible = self.stream.isatty()
        self._show = Throttle(0.1, self._draw)
        self._done = 0.0

    def __call__(self, state: Progress) -> None:
        if self.visible:
            self._show(state)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self.visible:
            self.stream.write("\r\033[K")
            self.stream.flush()

    def _draw(self, state: Progress) -> None:
        # Steps begin anew for every batch of samples of a slice; a bar that ran backwards would only worry.
        self._done = max(self._done, (state.slice - 1 + state.step / state.steps) / state.slices)
        filled = round(WIDTH * self._done)
        line = f"{'#' * filled}{'-' * (WIDTH - filled)}  {self._words(state)}"
        columns = shutil.get_terminal_size().columns
        self.stream.write(f"\r{line[: columns - 1]}\033[K")
        self.stream.flush()


def in_words(state: Progress) -> str:
    """'slice 3 of 10, step 12 of 30, 9 s left'."""
    text = f"slice {state.slice} of {state.slices}, step {state.step} of {state.steps}"
    return text if state.seconds_left is None else f"{text}, {duration(state.seconds_left)} left"


def duration(seconds: float) -> str:
    """'9 s', '2 min 5 s', '3 h 20 min'."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
