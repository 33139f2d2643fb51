"""The tasks: a `Request` in, a `Result` out. This package loads torch."""

from __future__ import annotations

from collections.abc import Callable

from ..imaging.volume import Volume
from ..request import Progress, Request, Result
from . import degradation, enhancement, superresolution, synthesis
from .memory import frugally
from .models import PackCache

OnProgress = Callable[[Progress], None]
OnPreview = Callable[[int, Volume], None]
OnNote = Callable[[str], None]


def run(
    request: Request,
    *,
    cache: PackCache | None = None,
    progress: OnProgress | None = None,
    preview: OnPreview | None = None,
    tell: OnNote | None = None,
) -> Result:
    """Run a request; where memory is short, again with smaller batches and at last on the CPU, and say so.

    Args:
        cache: keeps loaded packs warm over several requests.
        progress: called at every denoising step; may raise `diffusion.Cancelled` to stop.
        preview: called with a slice number and the slice as it is now, a volume of one slice in the result's units.
        tell: called with a sentence when the run is begun again because memory is short.

    Returns:
        Volumes in memory (`imaging.Volume`) by role: 'result', and 'standard_deviation' for 2 samples or more.

    Raises:
        UserError: anything that the person can put right.
        diffusion.Cancelled: raised by `progress`.
        MemoryError or what torch raises: also one image at a time on the CPU is too much.
    """
    cache = cache or PackCache()

    def attempt(wanted: Request) -> Result:
        return _RUNS[wanted.task](wanted, cache, progress, preview)

    return frugally(request, attempt, cache.clear, tell or (lambda text: None))


_RUNS = {
    "superresolution": superresolution.run,
    "synthesis": synthesis.run,
    "degradation": degradation.run,
    "enhancement": enhancement.run,
}


__all__ = ["OnNote", "OnPreview", "OnProgress", "PackCache", "run"]
