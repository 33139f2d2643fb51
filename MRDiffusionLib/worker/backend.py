"""What the worker computes with: torch and the tasks, imported when a worker starts and not before."""

from __future__ import annotations

import gc
import platform
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .. import __version__
from ..request import Progress, Request, Result
from ..workload import at_once, work
from .libraries import NEEDED
from .peak import PeakMemory

if TYPE_CHECKING:
    from ..imaging.volume import Volume

OnProgress = Callable[[Progress], None]
OnPreview = Callable[[int, "Volume"], None]
OnNote = Callable[[str], None]


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

    def warm(self, pack: str, device: str, folder: Path, check: Callable[[], None]) -> list[dict[str, Any]]:
        """Load a pack and try it; gives the measurements of the trials.

        Args:
            folder: private folder.
            check: called at every step; raises `cancelled`.
        """

    def run(self, request: Request, progress: OnProgress, preview: OnPreview | None, tell: OnNote) -> Result:
        """Run a request; its measurements tell also how much that was, and the memory that it took (`measured`).

        Args:
            tell: called with a sentence about what a person should know before the end.
        """

    def write(self, volume: Any, path: Path) -> None:
        """Write a volume of a result to a file."""

    def sha256(self, volume: Any) -> str:
        """The checksum of a volume's voxels."""

    def evaluate(self, reference: str, test: str, mask: str, factor: float) -> dict[str, Any]:
        """Compare two files, of which `test` is multiplied first; `mask` may be empty."""

    def free_memory(self) -> None:
        """Give back what can be given back, loaded packs too."""


class Volumes:
    """What any backend does with a `Volume` of a result."""

    def write(self, volume: Any, path: Path) -> None:
        from ..imaging.volume import write_volume

        write_volume(volume, path)

    def sha256(self, volume: Any) -> str:
        digest: str = volume.sha256
        return digest


class TorchBackend(Volumes):
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

    def warm(self, pack: str, device: str, folder: Path, check: Callable[[], None]) -> list[dict[str, Any]]:
        from ..tasks import calibration

        def trial(request: Request) -> Result:
            return self.run(request, lambda _: check(), None, lambda _: None)

        return calibration.measure(pack, device, folder, trial)

    def run(self, request: Request, progress: OnProgress, preview: OnPreview | None, tell: OnNote) -> Result:
        from .. import tasks

        self.warm_up()
        memory = PeakMemory()
        result = tasks.run(request, cache=self._cache, progress=progress, preview=preview, tell=tell)
        return replace(result, measurements={**result.measurements, **measured(result, memory)})

    def evaluate(self, reference: str, test: str, mask: str, factor: float) -> dict[str, Any]:
        from ..evaluation import evaluate_files

        return evaluate_files(reference, test, mask or None, resampled=True, factor=factor)

    def free_memory(self) -> None:
        import torch

        self._cache = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def measured(result: Result, memory: PeakMemory) -> dict[str, Any]:
    """How much a run was: 'work' and 'at_once' in megapixels (`workload`), 'batch', 'computed_on', and where it is
    known 'peak_memory_mb'."""
    request = Request.from_json(result.provenance["request"])
    slices, *matrix = result.volumes["result"].array.shape
    how_much = request.settings, tuple(request.inputs), slices, (matrix[0], matrix[1])
    told = {
        "work": work(*how_much),
        "at_once": at_once(*how_much, request.batch),
        "batch": request.batch,
        "computed_on": device_name(request.device),
    }
    peak = memory.mb(request.device)
    return told if peak is None else {**told, "peak_memory_mb": peak}


def device_name(device: str) -> str:
    """'CPU', or the name of the graphics card, of a device that is there."""
    import torch

    return str(torch.cuda.get_device_name(device)) if device.startswith("cuda") else device.upper()
