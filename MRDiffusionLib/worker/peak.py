"""The most memory that a run has taken."""

from __future__ import annotations

import re
from pathlib import Path

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """From now on: of this process, and of each graphics card.

    Linux forgets earlier peaks when asked. Elsewhere the peak of the process's whole life is all that can be told, and
    says something of this run only if it has grown meanwhile.
    """

    def __init__(self) -> None:
        import torch

        if torch.cuda.is_available():
            for number in range(torch.cuda.device_count()):
                torch.cuda.reset_peak_memory_stats(number)
        try:
            _RESET.write_text("5", encoding="ascii")
            self._before = 0.0
        except OSError:
            self._before = _of_this_process() or 0.0

    def mb(self, device: str) -> float | None:
        """In MB: of the graphics card where a run was computed on one; None where it cannot be told."""
        import torch

        if device.startswith("cuda"):
            return float(torch.cuda.max_memory_allocated(device)) / 1e6
        peak = _of_this_process()
        return peak if peak is not None and peak > self._before else None


def _of_this_process() -> float | None:
    """MB."""
    if _STATUS.exists():
        found = re.search(r"VmHWM:\s*(\d+) kB", _STATUS.read_text(encoding="ascii", errors="replace"))
        return int(found[1]) * 1024 / 1e6 if found else None
    try:
        import resource
    except ImportError:  # Windows
        return None
    import sys

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
