"""A worker without torch: run as a script, it serves requests whose pack names say what happens."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from MRDiffusionLib.errors import InputError
from MRDiffusionLib.imaging.volume import Geometry, Volume
from MRDiffusionLib.request import Progress, Request, Result
from MRDiffusionLib.worker import streamed
from MRDiffusionLib.worker.backend import OnNote, OnPreview, OnProgress
from MRDiffusionLib.worker.server import main

GRID = Geometry((3, 2, 1), (1.0, 2.0, 3.0), (4.0, 5.0, 6.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))


class Cancelled(Exception):
    pass


class OutOfMemoryError(RuntimeError):
    """Named as torch's own."""


class Ballast:
    """Stands for a large array."""


class FakeBackend:
    device = "cpu"
    cancelled: type[Exception] = Cancelled

    def __init__(self) -> None:
        self.versions = {"fake": "1"}
        self.ballast: Callable[[], Ballast | None] = lambda: None
        self.freed: list[bool] = []
        self.runs = 0

    def warm_up(self) -> None:
        print("printed while warming up")

    def warm(self, pack: str, device: str, folder: Path, check: Callable[[], None]) -> list[dict[str, Any]]:
        self.runs += 1
        name, _, argument = pack.partition(":")
        getattr(self, name)(argument, lambda _: check(), None)
        return [{"runs": self.runs, "device": device, "folder": folder.is_dir()}]

    def free_memory(self) -> None:
        self.freed.append(self.ballast() is None)

    def run(self, request: Request, progress: OnProgress, preview: OnPreview | None, tell: OnNote) -> Result:
        self.runs += 1
        if request.batch:
            tell(f"Memory was short: computed {request.batch} at a time.")
        name, _, argument = request.pack.partition(":")
        self.inputs = [Path(path) for path in request.inputs.values()]
        volumes = getattr(self, name)(argument, progress, preview) or {"result": b"voxels"}
        measurements: dict[str, Any] = {"runs": self.runs, "freed": self.freed}
        if name == "odd":
            measurements["odd"] = object()
        return Result(volumes, measurements, {"request": request.to_json()}, ("careful",))

    def write(self, volume: Any, path: Path) -> None:
        path.write_bytes(b"half")
        if isinstance(volume, BaseException):
            raise volume
        if isinstance(volume, float):
            time.sleep(volume)
        path.write_bytes(volume if isinstance(volume, bytes) else b"voxels")

    def sha256(self, volume: Any) -> str:
        return "of the voxels"

    def evaluate(self, reference: str, test: str, mask: str, factor: float) -> dict[str, Any]:
        if reference == "fails":
            raise InputError("the reference shows 3 % of the volume", "Choose another")
        return {"files": [reference, test, mask, factor], "whole": {"psnr_db": float("inf")}}

    def quick(self, _: str, progress: OnProgress, preview: OnPreview | None) -> None:
        progress(Progress(1, 1, 1, 1, None))

    odd = quick

    def slow(self, seconds: str, progress: OnProgress, preview: OnPreview | None) -> None:
        steps = round(float(seconds or 20) / 0.005)
        for step in range(1, steps + 1):
            time.sleep(0.005)
            progress(Progress(1, 1, step, steps, 0.005 * (steps - step)))
            if preview is not None:
                preview(0, Volume(np.full((1, 2, 3), step, np.float32), GRID))

    def fast(self, steps: str, progress: OnProgress, preview: OnPreview | None) -> None:
        for step in range(1, int(steps) + 1):
            progress(Progress(1, 1, step, int(steps), float("nan")))

    def stuck(self, _: str, progress: OnProgress, preview: OnPreview | None) -> None:
        progress(Progress(1, 1, 1, 1, None))
        time.sleep(60)

    def noisy(self, _: str, progress: OnProgress, preview: OnPreview | None) -> None:
        print("noise from Python")
        os.write(1, b'{"type": "result", "id": "noise"}\n')
        subprocess.run(["echo", "noise from a child"], check=True)
        assert os.read(0, 10) == b""

    def fails(self, what: str, progress: OnProgress, preview: OnPreview | None) -> None:
        ballast = Ballast()
        self.ballast = weakref.ref(ballast)
        raise {
            "input": InputError("T2 has 3 slices", "Crop it"),
            "value": ValueError("an accident"),
            "memory": MemoryError(),
            "cuda": OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
            "allocator": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
            "disk": OSError(errno.ENOSPC, "No space left on device"),
            "exit": SystemExit(3),
            "interrupt": KeyboardInterrupt(),
            "module": ModuleNotFoundError("No module named 'monai'"),
        }[what]

    def copies(self, _: str, progress: OnProgress, preview: OnPreview | None) -> dict[str, Any]:
        """The inputs, unchanged."""
        volumes = [path.read_bytes() for path in self.inputs]
        return {"result": volumes[0], "standard_deviation": volumes[-1]}

    def names(self, _: str, progress: OnProgress, preview: OnPreview | None) -> None:
        raise InputError(f"{self.inputs[0]} is odd", "Choose another")

    def writes(self, what: str, progress: OnProgress, preview: OnPreview | None) -> dict[str, Any]:
        full = OSError(errno.ENOSPC, "No space left on device")
        return {"result": b"voxels", "standard_deviation": full if what == "full" else 1.0}


class BrokenBackend(FakeBackend):
    def __init__(self) -> None:
        raise ModuleNotFoundError("torch cannot be found")


if __name__ == "__main__":
    if "old" in sys.argv:
        streamed.__version__ = "0.0.1"
    main(BrokenBackend if "broken" in sys.argv else FakeBackend, grace=0.5, streamed="--stream" in sys.argv)
