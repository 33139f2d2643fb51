"""A worker for the panel's tests: a rehearsal that misbehaves where it is told to.

The pack's name says what happens: `quick`, `slow`, `error`, `crash` (the process dies), `killed`
(the system ends it), `large` (memory is short) or `hang` (it does not cancel).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from MRDiffusionLib.errors import InputError
from MRDiffusionLib.imaging.volume import read_volume
from MRDiffusionLib.request import Progress, Request, Result
from MRDiffusionLib.worker.rehearsal import Rehearsal, enlarged
from MRDiffusionLib.worker.server import main
from MRDiffusionLib.workload import at_once, work

PAUSE = {"slow": 0.05, "large": 0.05, "slow-cardiac": 0.05, "error": 0.0, "crash": 0.0, "hang": 0.0}


class Misbehaving(Rehearsal):
    def __init__(self) -> None:
        super().__init__()
        self.runs = 0

    def warm_up(self) -> None:
        print("standard output of a library")

    def run(self, request: Request, progress: Any, preview: Any, tell: Any) -> Result:
        self.runs += 1
        if request.pack == "large":
            tell("Memory was short on cuda: computed 16 at a time.")
            tell("Memory was short on cuda: computed on the CPU instead.")

        def told(state: Progress) -> None:
            time.sleep(PAUSE.get(request.pack, 0.002))
            progress(state)
            self._misbehave(request.pack)

        result = super().run(request, told, preview, tell)
        volumes = dict(result.volumes)
        if request.task == "synthesis":
            volumes = {name: enlarged(volume, (16, 16)) for name, volume in volumes.items()}
        if request.task in ("degradation", "enhancement"):
            volumes["result"] = replace(volumes["result"], array=2 * volumes["result"].array)
        provenance = {"synthetic": True, "request": request.to_json(), "process": os.getpid()}
        shape = volumes["result"].array.shape
        size = request.settings, tuple(request.inputs), shape[0], shape[1:]
        measured = {"runs": self.runs, "seconds": 1.5, "computed_on": "CPU", "batch": 4, "peak_memory_mb": 1200.0}
        measured |= {"work": work(*size), "at_once": at_once(*size, 4)}
        return Result(volumes, measured, provenance, ())

    def warm(self, pack: str, device: str, folder: Path, check: Any) -> list[dict[str, Any]]:
        """A trial of 1024 pixels."""
        told = {"work": 1024e-6, "computed_on": "CPU", "batch": 4, "at_once": 256e-6, "peak_memory_mb": 800.0}
        return [{**told, "seconds": 4.0}]

    def _misbehave(self, pack: str) -> None:
        if pack == "error":
            raise InputError("the low-resolution volume is odd", "Choose another")
        if pack == "crash":
            os.write(2, b"last words\n")
            os._exit(3)
        if pack == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if pack == "hang":
            time.sleep(60)

    def evaluate(self, reference: str, test: str, mask: str, factor: float) -> dict[str, Any]:
        time.sleep(0.1)
        if read_volume(Path(reference)).array.max() > 1e6:
            raise InputError("the reference is far too bright", "Choose another")
        parts = super().evaluate(reference, test, mask, factor)
        parts["whole"]["ssim"], parts["notes"] = 0.5, ["the reference was looked at"]
        if mask:
            parts["mask"] = {"voxels": int((read_volume(Path(mask)).array > 0).sum()), "ssim": 0.25}
        return parts


if __name__ == "__main__":
    main(Misbehaving, streamed="--stream" in sys.argv)
