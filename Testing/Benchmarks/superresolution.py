"""What super-resolution costs on this machine: time of a slice and a volume, start-up, memory, share of the peak.

    .venv/bin/python Testing/Benchmarks/superresolution.py --json build/superresolution.json

Takes some minutes on two cores; nothing else should be running. Runs on a CPU and on a GPU alike (--device). Prints
the table that `table.py` makes of one or more machines' files.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from table import report

ROOT = Path(__file__).resolve().parents[2]
SAMPLE_DATA = ROOT / "MRDiffusion" / "Resources" / "SampleData"
PACK = "brain-t1-128"
STEPS = 50
SLICE = 6
MANY, FEW = 128, 4
PANEL_IMPORTS = "MRDiffusionLib.request, MRDiffusionLib.packs, MRDiffusionLib.worker.protocol"
PARTS = ("machine", "slice", "volume", "guidance", "startup", "memory")
Measured = dict[str, Any]


@dataclass
class Bench:
    """What is measured, where and with which settings."""

    pack: str
    device: str
    steps: int
    repeats: int
    many: int = MANY

    def request(self, low: Path, precision: str, slices: tuple[int, ...] | None = None, steps: int = 0) -> Any:
        from MRDiffusionLib.request import Request
        from MRDiffusionLib.settings import SuperResolutionSettings

        return Request(
            task="superresolution",
            pack=self.pack,
            inputs={"low_resolution": str(low)},
            settings=SuperResolutionSettings(steps=steps or self.steps),
            device=self.device,
            precision=precision,
            slices=slices,
        )

    def seconds(self, work: Callable[[], Any], warm_up: int = 1) -> float:
        """Shortest of `repeats` runs: what the machine can do; the others were disturbed."""
        for _ in range(warm_up):
            self.finish(work())
        times = []
        for _ in range(self.repeats):
            begin = time.perf_counter()
            self.finish(work())
            times.append(time.perf_counter() - begin)
        return min(times)

    def finish(self, _: Any) -> None:
        """Wait for a GPU, which works behind the program's back."""
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.synchronize(self.device)


def machine(bench: Bench) -> Measured:
    """Processor, libraries, load before the start, and the peak of a matrix product."""
    import torch

    from MRDiffusionLib.tasks.device import faster_precision
    from MRDiffusionLib.tasks.provenance import library_versions

    size = 2048 if bench.device == "cpu" else 8192
    peaks = {name: matrix_peak(bench, size, name) for name in ("fp32", "bf16")}
    on_gpu = bench.device.startswith("cuda")
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(bench.device) if on_gpu else None,
        "versions": library_versions(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "matrix_product_size": size,
        "matrix_peak_gflops": peaks,
        "precision_chosen": faster_precision(torch.device(bench.device)),
    }


def processor() -> str:
    """The processor's name, where Linux says it."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.exists() else []
    return names[0] if names else platform.processor() or platform.machine()


SMALL_PRODUCT = 256


def matrix_peak(bench: Bench, size: int, precision: str) -> float:
    """GFLOP/s of a product of two square matrices; of small ones where bf16 is emulated and it would take seconds."""
    import torch

    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    for n in (SMALL_PRODUCT, size):
        a, b = (torch.randn(n, n, device=bench.device, dtype=dtype) for _ in range(2))
        seconds = bench.seconds(lambda a=a, b=b: a @ b, warm_up=2)
        peak = 2 * n**3 / seconds / 1e9
        if seconds * (size / n) ** 3 > 2:
            break
    return peak


def one_slice(bench: Bench) -> Measured:
    """One slice end to end with a warm pack, in both precisions, and what bf16 costs in PSNR."""
    from MRDiffusionLib import tasks
    from MRDiffusionLib.evaluation import psnr
    from MRDiffusionLib.imaging.volume import read_volume

    low = SAMPLE_DATA / "brain-t1-low-resolution.nii.gz"
    truth = read_volume(SAMPLE_DATA / "brain-t1-reference.nii.gz").array
    cache, measured = tasks.PackCache(), {}
    for precision in ("fp32", "bf16"):
        request = bench.request(low, precision, (SLICE,))
        seconds = bench.seconds(lambda request=request: tasks.run(request, cache=cache))
        image = tasks.run(request, cache=cache).volumes["result"].array[0]
        quality = psnr(truth[SLICE], image.clip(0), float(truth.max()))
        measured[precision] = {"seconds": seconds, "psnr_db": quality}
    return {
        "steps": bench.steps,
        **measured,
        "bf16_speed_up": measured["fp32"]["seconds"] / measured["bf16"]["seconds"],
        "bf16_psnr_difference_db": measured["bf16"]["psnr_db"] - measured["fp32"]["psnr_db"],
    }


def volume(bench: Bench) -> Measured:
    """The whole sample, one sample a slice, in the precision that a user gets."""
    from MRDiffusionLib import tasks

    low = SAMPLE_DATA / "brain-t1-low-resolution.nii.gz"
    cache = tasks.PackCache()
    tasks.run(bench.request(low, "auto", (SLICE,), steps=2), cache=cache)
    begin = time.perf_counter()
    result = tasks.run(bench.request(low, "auto"), cache=cache)
    return {
        "slices": len(result.volumes["result"].array),
        "steps": bench.steps,
        "precision": result.provenance["request"]["precision"],
        "batch": result.provenance["request"]["batch"],
        "seconds": time.perf_counter() - begin,
    }


def guidance(bench: Bench) -> Measured:
    """A step's parts, one slice: the network with its floating-point operations, the guide, one Fourier transform."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from MRDiffusionLib.imaging.volume import read_volume
    from MRDiffusionLib.physics.fourier import fft2c
    from MRDiffusionLib.physics.guidance import Projection
    from MRDiffusionLib.physics.kspace import measure_image
    from MRDiffusionLib.tasks import PackCache

    device, cache = torch.device(bench.device), PackCache()
    low = read_volume(SAMPLE_DATA / "brain-t1-low-resolution.nii.gz").array[SLICE]
    gamma = torch.zeros((), dtype=torch.float64)
    many = Bench(bench.pack, bench.device, bench.steps, max(10, bench.repeats))
    measured: Measured = {}
    with torch.no_grad():
        for precision in ("fp32", "bf16"):
            model = cache.model(bench.pack, device, precision)
            z = torch.randn(1, 1, *model.info.matrix, device=device)
            level = torch.zeros(1, device=device)
            with FlopCounterMode(display=False) as counter:
                model.network(z, level)
            seconds = many.seconds(lambda model=model, z=z, level=level: model.network(z, level), warm_up=3)
            gflop = counter.get_total_flops() / 1e9
            measured[precision] = {"network_seconds": seconds, "gflop": gflop, "gflops": gflop / seconds}
        guide = Projection(measure_image(torch.from_numpy(low)[None, None].to(device), model.info.matrix, 0.01), 1.0)
        step = many.seconds(lambda: guide.correct_state(guide.correct_prediction(z, z, gamma), gamma), warm_up=3)
        transform = many.seconds(lambda: fft2c(z), warm_up=3)
    fastest = min(measured[name]["network_seconds"] for name in ("fp32", "bf16"))
    return {
        **measured,
        "guide_seconds": step,
        "transform_seconds": transform,
        "guide_share": step / (step + fastest),
    }


def startup(bench: Bench) -> Measured:
    """Time until the worker is ready, and of the bare import, in new processes."""
    from MRDiffusionLib.worker.client import WorkerClient

    ready = []
    for _ in range(bench.repeats):
        begin = time.perf_counter()
        with WorkerClient() as worker:
            worker.wait_ready()
            ready.append(time.perf_counter() - begin)
    return {
        "worker_ready_seconds": min(ready),
        "import_seconds": import_seconds("MRDiffusionLib", bench.repeats),
        "panel_import_seconds": import_seconds(PANEL_IMPORTS, bench.repeats),
    }


def import_seconds(modules: str, repeats: int) -> float:
    """Shortest time of an import statement in a new Python."""
    code = f"import time; begin = time.perf_counter(); import {modules}; print(time.perf_counter() - begin)"
    return min(float(child("-c", code)) for _ in range(repeats))


def memory(bench: Bench) -> Measured:
    """Peak memory of a process that super-resolves a short and a long volume, with 2 steps a slice."""
    measured: Measured = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, slices in (("few", FEW), ("many", bench.many)):
            path = repeated(SAMPLE_DATA / "brain-t1-low-resolution.nii.gz", slices, Path(folder))
            arguments = ["--memory-of", str(path), "--pack", bench.pack, "--device", bench.device]
            measured[name] = {"slices": slices, **json.loads(child(__file__, *arguments))}
    few, many = measured["few"], measured["many"]
    return {**measured, "ratio": many["peak_mb"] / few["peak_mb"], "ratio_less_arrays": less_arrays(few, many)}


def less_arrays(few: Measured, many: Measured) -> float:
    """Memory of the long volume over that of the short one. The volumes themselves must be somewhere: what both hold
    in and out is taken off the longer one."""
    return (many["peak_mb"] - (many["arrays_mb"] - few["arrays_mb"])) / few["peak_mb"]


def repeated(sample: Path, slices: int, folder: Path) -> Path:
    """A volume with its slices repeated to so many, as a file."""
    import numpy as np

    from MRDiffusionLib.imaging.volume import Volume, read_volume, write_volume

    volume = read_volume(sample)
    array = np.resize(volume.array, (slices, *volume.array.shape[1:]))
    path = folder / f"{sample.name.removesuffix('.nii.gz')}-{slices}.nrrd"
    write_volume(Volume(array, replace(volume.geometry, size=(*volume.geometry.size[:2], slices))), path)
    return path


def memory_of(path: Path, bench: Bench) -> Measured:
    """In a process of its own: run, then read the highest memory that it ever had."""
    import torch

    from MRDiffusionLib import tasks
    from MRDiffusionLib.imaging.volume import read_volume

    result = tasks.run(bench.request(path, "auto", steps=2))
    arrays = read_volume(path).array.nbytes + sum(v.array.nbytes for v in result.volumes.values())
    on_gpu = bench.device.startswith("cuda")
    return {
        "peak_mb": peak_memory() / 1e6,
        "arrays_mb": arrays / 1e6,
        "gpu_peak_mb": torch.cuda.max_memory_allocated(bench.device) / 1e6 if on_gpu else None,
    }


def peak_memory() -> int:
    """Peak resident memory of this process in bytes.

    From /proc where there is one: `getrusage` also counts what the parent had when it started this process.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text())[1])  # type: ignore[index]
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def child(*arguments: str) -> str:
    """Standard output of another Python."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout.strip()


def shares(measured: Measured) -> None:
    """Add the network's share of the machine's matrix peak, where both were measured."""
    for precision, peak in measured.get("machine", {}).get("matrix_peak_gflops", {}).items():
        network = measured.get("guidance", {}).get(precision)
        if network:
            network["peak_share"] = network["gflops"] / peak


def measure(bench: Bench, parts: list[str], name: str) -> Measured:
    """All parts asked for, one after the other."""
    from MRDiffusionLib.packs import find_pack

    work = {
        "machine": machine,
        "slice": one_slice,
        "volume": volume,
        "guidance": guidance,
        "startup": startup,
        "memory": memory,
    }
    info = find_pack(bench.pack)
    measured: Measured = {"name": name, "pack": f"{info.name} {info.version}", "device": bench.device}
    for part in parts:
        print(f"measuring {part}", file=sys.stderr, flush=True)
        measured[part] = work[part](bench)
    shares(measured)
    return measured


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write what was measured there")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--name", default="this machine", help="its name in the table")
    parser.add_argument("--pack", default=PACK)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--many", type=int, default=MANY, help=f"slices of the long volume [{MANY}]")
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    from MRDiffusionLib import lean
    from MRDiffusionLib.tasks.device import resolve_device

    lean.own_process = True  # as a worker is
    bench = Bench(options.pack, str(resolve_device(options.device)), options.steps, options.repeats, options.many)
    if options.memory_of:
        print(json.dumps(memory_of(options.memory_of, bench)))
        return
    measured = measure(bench, options.parts, options.name)
    report(measured, options.json)


if __name__ == "__main__":
    main()
