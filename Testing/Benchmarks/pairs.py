"""What building pairs costs on this machine: cases a second and core, with more cores and more cases; memory.

    .venv/bin/python Testing/Benchmarks/pairs.py DEGRADER ENHANCER --json build/pairs.json

Nothing else should be running. The packs decide the time: give those that will be used. Cases are slices of the sample
brain (256x256 pixels), a third each aligned, moved, and moved with spikes. Starting the workers is not counted: the
clock starts when each has done a case.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

from superresolution import SAMPLE_DATA, child
from table import Measured, Row, table

SLICES = 3
WARM_UP = "0-warm-up"

ROWS = (
    Row("Cores, load before the start", "{}, {:.1f}", ("cores", "load_average")),
    Row("Packs", "{}", ("packs",)),
    Row("Slices of a case, pixels", "{}, {}", ("slices", "matrix")),
)


def write_cases(folder: Path, count: int, warm_up: int) -> None:
    """So many cases, which share the files of three; and for each worker one or more that are not counted."""
    import numpy as np
    import torch

    from MRDiffusionLib.imaging.volume import Volume, read_volume, write_volume
    from MRDiffusionLib.physics.degradation import degrade
    from MRDiffusionLib.physics.faults import rigid, spikes

    sample = read_volume(SAMPLE_DATA / "brain-t1-fine.nii.gz")
    geometry = sample.geometry.part(list(range(SLICES)))
    white = float(np.percentile(sample.array, 99.5))
    images = [torch.from_numpy(image / white) for image in sample.array[:SLICES]]
    generator = torch.Generator().manual_seed(0)
    moved = rigid(tuple(images[0].shape), 1.0, (2.0, -1.0))

    def volume(slices: list[torch.Tensor]) -> Volume:
        return Volume(np.stack([image.numpy() for image in slices]).astype(np.float32), geometry)

    clean, faulty = volume(images), volume([spikes(image, 1, 0.1, generator) for image in images])
    still = volume([degrade(image, "noise", 0.5, generator) for image in images])
    away = volume([degrade(moved.move(image), "noise", 0.5, generator) for image in images])
    kinds = folder / ".kinds"
    for number, pair in enumerate(((clean, still), (clean, away), (faulty, away))):
        (kinds / str(number)).mkdir(parents=True)
        for role, image in zip(("high", "low"), pair):
            write_volume(image, kinds / str(number) / f"{role}.nii.gz")
    names = [f"{WARM_UP}-{number}" for number in range(warm_up)] + [f"case-{number:06}" for number in range(count)]
    for number, name in enumerate(names):
        (folder / name).symlink_to(kinds / str(number % 3))


def memory_mb(pid: int, key: str = "VmHWM") -> float:
    """Peak memory of a process so far, or with 'VmRSS' what it holds now (Linux)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise KeyError(key)


def measure(workers: int, count: int, degrader: str, enhancer: str) -> Measured:
    """Build the pairs of a cohort and read the clock and the memory; in a process of its own."""
    from MRDiffusionLib.cohort.build import build_pairs
    from MRDiffusionLib.cohort.cluster import completed, local
    from MRDiffusionLib.cohort.manifest import Record
    from MRDiffusionLib.cohort.plan import Job, Plan

    plan = Plan("noise", 0.5, degrader, enhancer, device="cpu")
    plan.check()
    folder = Path(tempfile.mkdtemp())
    measured: Measured = {"workers": workers, "cases": count}
    warm_up = 6 * workers
    try:
        child(__file__, "--write", str(folder), str(count), str(warm_up))
        with local(workers, "cpu") as client:
            pids = list(client.run(os.getpid).values())

            def run(jobs: Iterable[Job]) -> Generator[Record, None, None]:
                for number, record in enumerate(completed(client, jobs), 1):
                    yield record
                    if number == warm_up:
                        measured["begun"] = time.monotonic()
                        measured["worker_mb_begun"] = max(memory_mb(pid, "VmRSS") for pid in pids)
                        measured["parent_mb_begun"] = memory_mb(os.getpid(), "VmRSS")
                measured["seconds"] = time.monotonic() - measured.pop("begun")

            decisions = build_pairs(folder / "in", folder / "out", plan, run)
            measured["worker_mb"] = max(memory_mb(pid) for pid in pids)
        measured["parent_mb"] = memory_mb(os.getpid())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    assert not decisions["failed"] and threading.active_count() >= 1, decisions
    measured["per_core_second"] = count / measured["seconds"] / workers
    return measured


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("degrader", metavar="DEGRADER", nargs="?", default="brain-degrade-noise")
    parser.add_argument("enhancer", metavar="ENHANCER", nargs="?", default="brain-enhance")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--cases", type=int, nargs="+", default=[30, 100, 300])
    parser.add_argument("--json", type=Path, help="write what was measured there")
    parser.add_argument("--one", type=int, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--write", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
