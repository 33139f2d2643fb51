"""How fast a pack runs here and how much memory it takes, from a trial of a moment on an image of noise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import PackError
from ..imaging.geometry import Geometry
from ..imaging.volume import Volume, write_volume
from ..packs import PackInfo, find_pack
from ..request import Request, Result
from ..settings import (
    DegradationSettings,
    EnhancementSettings,
    Settings,
    SuperResolutionSettings,
    SynthesisSettings,
)
from .device import resolve_device
from .slicewise import default_batch

STEPS = 8
"""Of the trial that tells the time: about as many as a preview has."""

STRAIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def measure(pack: str, device: str, folder: Path, run: Callable[[Request], Result]) -> list[dict[str, Any]]:
    """Try a pack; gives the measurements of each trial that tells something.

    Args:
        folder: for a file.
        run: computes a request, and adds to its measurements how much that was.

    Raises:
        UserError: a pack or a device that is not there, a pack of no task.
    """
    info = find_pack(pack)
    batch = default_batch(resolve_device(device))
    path = folder / "calibration.nrrd"
    write_volume(_noise(info, batch), path)
    try:
        # The first one has all that is done once, and tells nothing; the last one a full batch's memory, not its time.
        run(_request(info, device, path, 1, slices=1))
        timed = run(_request(info, device, path, STEPS, slices=1)).measurements
        full = run(_request(info, device, path, 1, slices=batch)).measurements
    finally:
        path.unlink()
    return [timed, {name: value for name, value in full.items() if name != "seconds"}]


def _request(info: PackInfo, device: str, path: Path, steps: int, slices: int) -> Request:
    roles = info.roles[:-1] if info.task == "synthesis" else info.roles
    inputs = dict.fromkeys(roles, str(path))
    return Request(
        info.task, str(info.folder), inputs, _settings(info, steps), device=device, slices=tuple(range(slices))
    )


def _settings(info: PackInfo, steps: int) -> Settings:
    if info.task == "superresolution":
        return SuperResolutionSettings(matrix=info.matrix, steps=steps, noise=1.0)
    if info.task == "synthesis":
        start = "noise" if info.network.get("regression") is None else "regression"
        return SynthesisSettings(target=info.roles[-1], start=start, steps=steps, samples=1)
    if info.task == "degradation":
        return DegradationSettings(kind=info.network["kind"], steps=steps)
    if info.task == "enhancement":
        return EnhancementSettings(kind=info.network["kinds"][0], level=0.5)
    raise PackError(f"pack {info.name} is of the task {info.task}, which cannot be run on its own")


def _noise(info: PackInfo, slices: int) -> Volume:
    """Slices of a pack's matrix, of half of it for a super-resolution, full of noise."""
    coarse = 2 if info.task == "superresolution" else 1
    rows, columns = (count // coarse for count in info.matrix)
    values = np.random.default_rng(0).uniform(1, 100, (slices, rows, columns)).astype(np.float32)
    height, width = (coarse * size for size in info.pixel_size_mm)
    return Volume(values, Geometry((columns, rows, slices), (width, height, 5.0), (0.0, 0.0, 0.0), STRAIGHT))
