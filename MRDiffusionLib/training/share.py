"""A process's part of a batch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """Which part of each batch a process computes: that of `rank` among `processes`."""

    rank: int = 0
    processes: int = 1

    def of(self, batch: int) -> int:
        """Images of a batch for one process."""
        return batch // self.processes
