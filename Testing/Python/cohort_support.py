"""A small cohort of real brain slices with faults of known size, for the tests of pairs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conftest import SAMPLE_DATA

from MRDiffusionLib.cohort.decision import FAILED, HIGH_SYNTHESISED, KEPT, LOW_SYNTHESISED
from MRDiffusionLib.cohort.manifest import Record, failure
from MRDiffusionLib.cohort.plan import Job, Plan
from MRDiffusionLib.imaging.volume import Volume, read_volume, write_volume
from MRDiffusionLib.physics.degradation import degrade
from MRDiffusionLib.physics.faults import Misalignment, motion_ghosts, rigid, spikes

MATRIX = (64, 64)
MOVED = rigid(MATRIX, 1.0, (2.0, -1.5))


def brain(name: str = "low-resolution", slices: tuple[int, ...] = (4, 5, 6), pixel_mm: float = 1.0) -> Volume:
    """Slices of a sample (64x64 pixels; 'reference' 128x128, 'fine' 256x256), white 1, with the noise of a full scan.

    Small pixels make alignment quick.
    """
    sample = read_volume(SAMPLE_DATA / f"brain-t1-{name}.nii.gz")
    array = sample.array[list(slices)] / np.float32(np.percentile(sample.array, 99.5))
    noise = np.random.default_rng(0).normal(0, 0.01, (2, *array.shape))
    geometry = replace(sample.geometry.part(list(slices)), spacing=(pixel_mm, pixel_mm, 4.0))
    return Volume(np.hypot(array + noise[0], noise[1]).astype(np.float32), geometry)


def slicewise(volume: Volume, change: Callable[[torch.Tensor], torch.Tensor]) -> Volume:
    """A volume with each slice (rows, columns) changed."""
    array = np.stack([change(torch.from_numpy(image)).numpy() for image in volume.array])
    return Volume(array.astype(np.float32), volume.geometry)


def lowered(
    volume: Volume, motion: Misalignment | None = None, kind: str = "noise", level: float = 0.5, seed: int = 0
) -> Volume:
    """A low-quality image, moved or not."""
    generator = torch.Generator().manual_seed(seed)
    move = (lambda image: image) if motion is None else motion.move
    return slicewise(volume, lambda image: degrade(move(image), kind, level, generator))


def ghosted(volume: Volume, axis: int = -2) -> Volume:
    generator = torch.Generator().manual_seed(1)
    return slicewise(volume, lambda image: motion_ghosts(image, 4.0, 0.3, generator, axis))


def spiked(volume: Volume) -> Volume:
    generator = torch.Generator().manual_seed(1)
    return slicewise(volume, lambda image: spikes(image, 1, 0.1, generator))


def placed(volume: Volume, **changes: Any) -> Volume:
    """The same voxels elsewhere."""
    return Volume(volume.array, replace(volume.geometry, **changes))


def write_case(folder: Path, high: Volume | None, low: Volume | None) -> Path:
    """A case's folder; without an image that is None."""
    folder.mkdir(parents=True)
    for name, volume in (("high", high), ("low", low)):
        if volume is not None:
            write_volume(volume, folder / f"{name}.nii.gz")
    return folder


def write_cohort(folder: Path, names: Iterable[str]) -> Path:
    """A case of each name, which begins with what it is: 'kept', 'moved', 'faulty', 'alone' (no low-quality image)."""
    high = brain()
    for number, name in enumerate(names):
        low = lowered(high, None if name.startswith("kept") else MOVED, seed=number)
        shown = spiked(high) if name.startswith("faulty") else high
        write_case(folder / name, shown, None if name.startswith("alone") else low)
    return folder


WANTED = {"kept": KEPT, "moved": LOW_SYNTHESISED, "faulty": HIGH_SYNTHESISED, "alone": FAILED}
"""The decision for each of these."""


def tiny_plan(degrader: Path, enhancer: Path, **changes: Any) -> Plan:
    """With few steps, on the CPU."""
    values: dict[str, Any] = {"level": 0.5, "steps": 2, "device": "cpu", **changes}
    return Plan("noise", degrader=str(degrader), enhancer=str(enhancer), **values)


def job(plan: Plan, source: Path, out: Path) -> Job:
    """One case of a folder, whose pair goes into a folder of `out`."""
    out.mkdir(exist_ok=True)
    return Job(source.name, source, out / source.name, plan, plan.identity())


def deadly(job: Job) -> Record:
    """Stands in for `cluster.work`: the case 'deadly' kills its worker, any other does nothing."""
    if job.case == "deadly":
        os.kill(os.getpid(), signal.SIGKILL)
    return failure(job, "not done")


def slow(job: Job) -> Record:
    """Stands in for `cluster.work`: tells who did it, after a moment."""
    time.sleep(0.2)
    return failure(job, f"process {os.getpid()}")
