"""What the worker computes with: torch and the tasks, imported when a worker starts and not before."""

from __future__ import annotations

import gc
import platform
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .. import __version__
from ..request import Progress, Request, Result
from .libraries import NEEDED

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

OnProgress = Callable[[Progress], None]
OnPreview = Callable[[int, "NDArray[np.float32]"], None]


class Backend(Protocol):
    """What a server needs; a test brings its own.

    Attributes:
        device: 'cpu' or 'cuda', where a request with device 'auto' runs.
        versions: of the libraries, by name.
        cancelled: raised by a progress callback to stop a run, and let through by `run`.
    """

    device: str
    versions: dict[str, str]
    cancelled: type[Exception]

    def warm_up(self) -> None:
        """Load what the first request needs, after the worker has said that it is ready."""

    def run(self, request: Request, progress: OnProgress, preview: OnPreview | None) -> Result:
        """Run a request."""

    def write(self, volume: Any, path: Path) -> None:
        """Write a volume of a result to a file."""

    def evaluate(self, reference: str, test: str, mask: str) -> dict[str, Any]:
        """Compare two files; `mask` may be empty."""

    def free_memory(self) -> None:
        """Give back what can be given back, loaded packs too."""


class TorchBackend:
    """`tasks.run` with one cache of loaded packs. Making it imports torch; MONAI, slower still, follows in `warm_up`.

    Raises:
        ModuleNotFoundError: with the names of the libraries that are not installed.
    """

    def __init__(self) -> None:
        missing = [name for name in NEEDED if find_spec(name) is None]
        if missing:
            raise ModuleNotFoundError(f"{' and '.join(missing)} cannot be found by Python {platform.python_version()}")
        import torch

        from ..diffusion import Cancelled

        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.versions = {"MRDiffusion": __version__, "python": platform.python_version(), "torch": torch.__version__}
        self.cancelled: type[Exception] = Cancelled
        self._cache: Any = None

    def warm_up(self) -> None:
        from .. import tasks

        self._cache = self._cache or tasks.PackCache()

    def run(self, request: Request, progress: OnProgress, preview: OnPreview | None) -> Result:
        from .. import tasks

        self.warm_up()
        return tasks.run(request, cache=self._cache, progress=progress, preview=preview)

    def write(self, volume: Any, path: Path) -> None:
        from ..imaging.volume import write_volume

        write_volume(volume, path)

    def evaluate(self, reference: str, test: str, mask: str) -> dict[str, Any]:
        from ..evaluation import evaluate_files

        return evaluate_files(reference, test, mask or None, resampled=True)

    def free_memory(self) -> None:
        import torch

        self._cache = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that the memory of the machine or of the GPU is full.

    torch raises a plain RuntimeError on the CPU, so the text has to tell.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    words = ("DefaultCPUAllocator", "not enough memory", "out of memory")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)
