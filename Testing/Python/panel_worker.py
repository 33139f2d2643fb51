"""A worker for the panel's tests: the real worker's loop, with nearest neighbours in the place of torch.

The pack's name says what happens: `quick`, `slow`, `error`, `crash` (the process dies) or `hang` (it does not cancel).
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from MRDiffusionLib.errors import InputError
from MRDiffusionLib.imaging.volume import Volume, read_volume, write_volume
from MRDiffusionLib.request import Progress, Request, Result
from MRDiffusionLib.worker.server import main

PAUSE = {"slow": 0.05, "slow-cardiac": 0.05, "error": 0.0, "crash": 0.0, "hang": 0.0}


class Cancelled(Exception):
    pass


class NearestNeighbour:
    device = "cpu"
    cancelled: type[Exception] = Cancelled

    def __init__(self) -> None:
        self.versions = {"fake": "1"}
        self.runs = 0

    def warm_up(self) -> None:
        print("standard output of a library")

    def free_memory(self) -> None:
        pass

    def run(self, request: Request, progress: Any, preview: Any) -> Result:
        self.runs += 1
        low = read_volume(Path(next(iter(request.inputs.values()))))
        if request.slices is not None:
            low = Volume(low.array[list(request.slices)], low.geometry.part(request.slices))
        slices, steps = len(low.array), request.settings.steps
        for number in range(slices):
            for step in range(steps):
                time.sleep(PAUSE.get(request.pack, 0.002))
                progress(Progress(number + 1, slices, step + 1, steps, 1.0))
                self._misbehave(request.pack)
                if preview is not None:
                    preview(number, Volume(low.array[number : number + 1] + step, low.geometry.part((number,))))
        if request.task in ("degradation", "enhancement"):
            fine = replace(low, array=2 * low.array)
        else:
            fine = upsample(low, getattr(request.settings, "matrix", (16, 16)))
        volumes = {"result": fine}
        if request.settings.samples > 1:
            volumes["standard_deviation"] = replace(fine, array=np.zeros_like(fine.array))
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

    def sha256(self, volume: Any) -> str:
        digest: str = volume.sha256
        return digest

    def evaluate(self, reference: str, test: str, mask: str, factor: float) -> dict[str, Any]:
        time.sleep(0.1)
        truth, made = read_volume(Path(reference)), read_volume(Path(test))
        if truth.array.max() > 1e6:
            raise InputError("the reference is far too bright", "Choose another")
        same = truth.array.shape == made.array.shape
        figures = {
            "voxels": made.array.size,
            "mae": float(abs(truth.array - factor * made.array).mean()) if same else None,
        }
        parts = {"whole": {**figures, "psnr_db": None, "ssim": 0.5}, "notes": ["the reference was looked at"]}
        if mask:
            parts["mask"] = {"voxels": int((read_volume(Path(mask)).array > 0).sum()), "ssim": 0.25}
        return parts

    def write(self, volume: Any, path: Path) -> None:
        write_volume(volume, path)


def upsample(low: Volume, matrix: tuple[int, int]) -> Volume:
    """Each new voxel gets the value of the old one in which its centre lies."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int) for new, old in zip(matrix, low.array.shape[1:], strict=True)
    )
    return Volume(low.array[:, rows][:, :, columns], low.geometry.refined(matrix))


if __name__ == "__main__":
    main(NearestNeighbour, streamed="--stream" in sys.argv)
