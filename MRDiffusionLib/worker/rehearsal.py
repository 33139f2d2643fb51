"""A worker without networks: everything but the computation, for self-tests where PyTorch is not installed."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..imaging.volume import Volume, read_volume
from ..request import Progress, Request, Result
from .backend import OnNote, OnPreview, OnProgress, Volumes

WARNING = "A rehearsal: no model has computed this."


class Cancelled(Exception):
    """Stops a rehearsal."""


class Rehearsal(Volumes):
    """A `backend.Backend` that gives the first input back, with nearest neighbours on a finer grid."""

    device = "cpu"
    cancelled: type[Exception] = Cancelled

    def __init__(self) -> None:
        self.versions = {"MRDiffusion": __version__, "python": platform.python_version()}

    def warm_up(self) -> None:
        """As `backend.Backend`: there is nothing to load."""

    def warm(self, pack: str, device: str, folder: Path, check: Callable[[], None]) -> list[dict[str, Any]]:
        """As `backend.Backend`: there is nothing to measure."""
        return []

    def free_memory(self) -> None:
        """As `backend.Backend`: there is nothing to free."""

    def run(self, request: Request, progress: OnProgress, preview: OnPreview | None, tell: OnNote) -> Result:
        given = read_volume(Path(next(iter(request.inputs.values()))))
        if request.slices is not None:
            given = Volume(given.array[list(request.slices)], given.geometry.part(request.slices))
        slices, steps = len(given.array), request.settings.steps
        for number in range(slices):
            for step in range(steps):
                left = (slices - number) * steps - step - 1
                progress(Progress(number + 1, slices, step + 1, steps, 0.001 * left))
                if preview is not None:
                    preview(number, Volume(given.array[number : number + 1] + step, given.geometry.part((number,))))
        matrix = getattr(request.settings, "matrix", given.array.shape[1:])
        volumes = {"result": enlarged(given, matrix)}
        if request.settings.samples > 1:
            volumes["standard_deviation"] = replace(volumes["result"], array=np.zeros_like(volumes["result"].array))
        provenance = {"synthetic": True, "rehearsal": True, "request": request.to_json()}
        # No seconds are told: the panel would take them for the model's.
        return Result(volumes, {}, provenance, (WARNING,))

    def evaluate(self, reference: str, test: str, mask: str, factor: float) -> dict[str, Any]:
        """The mean absolute error alone; the other measures need PyTorch."""
        truth, made = read_volume(Path(reference)).array, read_volume(Path(test)).array
        error = float(abs(truth - factor * made).mean()) if truth.shape == made.shape else None
        return {"whole": {"voxels": made.size, "mae": error, "psnr_db": None, "ssim": None}, "notes": [WARNING]}


def enlarged(volume: Volume, matrix: tuple[int, ...]) -> Volume:
    """Each voxel of the new matrix (rows, columns) gets the value of the old one in which its centre lies."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int)
        for new, old in zip(matrix, volume.array.shape[1:], strict=True)
    )
    return Volume(volume.array[:, rows][:, :, columns], volume.geometry.refined((len(rows), len(columns))))
