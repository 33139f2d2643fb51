"""A worker for the panel's tests: a rehearsal that misbehaves where it is told to.

The pack's name says what happens: `quick`, `slow`, `error`, `crash` (the process dies) or `hang` (it does not cancel).
"""

from __future__ import annotations

import os
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

PAUSE = {"slow": 0.05, "slow-cardiac": 0.05, "error": 0.0, "crash": 0.0, "hang": 0.0}


class Misbehaving(Rehearsal):
    def __init__(self) -> None:
        super().__init__()
        self.runs = 0

    def warm_up(self) -> None:
        print("standard output of a library")

    def run(self, request: Request, progress: Any, preview: Any) -> Result:
        self.runs += 1

        def told(state: Progress) -> None:
            time.sleep(PAUSE.get(request.pack, 0.002))
            progress(state)
            self._misbehave(request.pack)

        result = super().run(request, told, preview)
        volumes = dict(result.volumes)
        if request.task == "synthesis":
            volumes = {name: enlarged(volume, (16, 16)) for name, volume in volumes.items()}
        if request.task in ("degradation", "enhancement"):
            volumes["result"] = replace(volumes["result"], array=2 * volumes["result"].array)
        provenance = {"synthetic": True, "request": request.to_json(), "process": os.getpid()}
        return Result(volumes, {"runs": self.runs, "seconds": 1.5}, provenance, ())

    def _misbehave(self, pack: str) -> None:
        if pack == "error":
            raise InputError("the low-resolution volume is odd", "Choose another")
        if pack == "crash":
            os.write(2, b"last words\n")
            os._exit(3)
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
