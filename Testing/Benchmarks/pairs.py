"""What building pairs costs on this machine: cases a second and core, with more cores and more cases; memory.

    .venv/bin/python Testing/Benchmarks/pairs.py DEGRADER ENHANCER --json build/pairs.json

Nothing else should be running. The packs decide the time: give those that will be used. A case is a slice of a sample
brain (fine has 256x256 pixels, reference 128x128); a third each is aligned, moved, and moved with spikes. The first
cases, in which the workers start, are not counted. Memory is read as Linux tells it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import time
from collections.abc import Generator, Iterable
from pathlib import Path

from superresolution import SAMPLE_DATA, child
from table import Measured, keep

WARM_UP = 3
"""Cases of each worker that are not counted: one of each kind."""


def write_cases(folder: Path, count: int, sample_name: str) -> None:
    """So many cases, which share the files of three."""
    import numpy as np
    import torch

    from MRDiffusionLib.imaging.volume import Volume, read_volume, write_volume
    from MRDiffusionLib.physics.degradation import degrade
    from MRDiffusionLib.physics.faults import rigid, spikes

    sample = read_volume(SAMPLE_DATA / f"brain-t1-{sample_name}.nii.gz")
    middle = len(sample.array) // 2
    geometry = sample.geometry.part([middle])
    images = [torch.from_numpy(sample.array[middle] / np.float32(np.percentile(sample.array, 99.5)))]
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
    for number in range(count):
        (folder / f"case-{number:06}").symlink_to(kinds / str(number % 3))


def memory_mb(pid: int, key: str = "VmHWM") -> float:
    """Peak memory of a process so far, or with 'VmRSS' what it holds now (Linux)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise KeyError(key)


def measure(workers: int, count: int, degrader: str, enhancer: str, sample: str) -> Measured:
    """Build the pairs of a cohort, read the clock and the memory."""
    from MRDiffusionLib.cohort.build import build_pairs
    from MRDiffusionLib.cohort.cluster import completed, local
    from MRDiffusionLib.cohort.manifest import Record
    from MRDiffusionLib.cohort.plan import Job, Plan

    plan = Plan("noise", 0.5, degrader, enhancer, device="cpu")
    plan.check()
    measured: Measured = {"workers": workers, "cases": count}
    not_counted = WARM_UP * workers
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in"
        # Elsewhere, so that this process is as small as that of the command.
        child(__file__, "--sample", sample, "--write", str(source), str(not_counted + count))
        with local(workers, "cpu") as client:
            pids = list(client.run(os.getpid).values())
            clock: list[float] = []

            def run(jobs: Iterable[Job]) -> Generator[Record, None, None]:
                for number, record in enumerate(completed(client, jobs), 1):
                    yield record
                    clock.append(time.monotonic())
                    if number == not_counted:
                        measured["worker_mb_begun"] = max(memory_mb(pid, "VmRSS") for pid in pids)
                        measured["parent_mb_begun"] = memory_mb(os.getpid(), "VmRSS")

            decisions = build_pairs(source, Path(folder) / "out", plan, run)
            measured["worker_mb"] = max(memory_mb(pid) for pid in pids)
            measured["parent_mb"] = memory_mb(os.getpid())
    assert not decisions["failed"], decisions
    measured["seconds"] = clock[-1] - clock[not_counted - 1]
    measured["per_core_second"] = count / measured["seconds"] / workers
    return measured


COLUMNS = {
    "workers": "{}",
    "cases": "{}",
    "seconds": "{:.0f}",
    "cases a second and core": "{:.2f}",
    "peak of a worker (MB), at the start": "{:.0f}, {:.0f}",
    "peak of the parent (MB), at the start": "{:.0f}, {:.0f}",
}


def row(measured: Measured) -> str:
    """Of the table."""
    m = measured
    cells = (
        (m["workers"],),
        (m["cases"],),
        (m["seconds"],),
        (m["per_core_second"],),
        (m["worker_mb"], m["worker_mb_begun"]),
        (m["parent_mb"], m["parent_mb_begun"]),
    )
    return f"| {' | '.join(form.format(*cell) for form, cell in zip(COLUMNS.values(), cells))} |"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("degrader", metavar="DEGRADER", nargs="?", default="brain-degrade-noise", help="name or folder")
    parser.add_argument("enhancer", metavar="ENHANCER", nargs="?", default="brain-enhance", help="name or folder")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--cases", type=int, nargs="+", default=[30, 100, 300])
    parser.add_argument("--sample", choices=("fine", "reference"), default="fine")
    parser.add_argument("--json", type=Path, help="write what was measured there")
    parser.add_argument("--one", type=int, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--write", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.write:
        write_cases(Path(options.write[0]), int(options.write[1]), options.sample)
        return
    if options.one:
        print(json.dumps(measure(*options.one, options.degrader, options.enhancer, options.sample)))
        return
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else math.nan
    print(f"{os.cpu_count()} cores, load before the start {load:.1f}, packs {options.degrader}, {options.enhancer}\n")
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}")
    runs = []
    for workers in options.workers:
        for count in options.cases:
            common = (options.degrader, options.enhancer, "--sample", options.sample)
            runs.append(json.loads(child(__file__, *common, "--one", str(workers), str(count))))
            print(row(runs[-1]), flush=True)
    if options.json:
        keep({"cores": os.cpu_count(), "load_average": load, "runs": runs}, options.json)


if __name__ == "__main__":
    main()
