"""What degrading and enhancing cost on this machine: a slice of 256x256 pixels of each kind, a preview, memory.

    .venv/bin/python Testing/Benchmarks/quality.py --json build/quality.json

Nothing else should be running. Kinds and tasks without a pack are left out.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from superresolution import SAMPLE_DATA, Bench, Measured, child, less_arrays, machine, peak_memory, repeated
from table import MACHINE, Row, both, report

ENHANCER, DEGRADER = "brain-enhance", "brain-degrade-{}"
STEPS, PREVIEW_STEPS = 20, 10
SLICE = 2
FEW, MANY = 4, 128
IMAGE = SAMPLE_DATA / "brain-t1-fine.nii.gz"

ROWS = (
    *MACHINE,
    Row("Steps", "{}", ("degradation noise steps",)),
    Row("Degrading a slice, noise: fp32, bf16 (s)", "{:.2f}, {:.2f}", both("degradation noise {}")),
    Row("Degrading a slice, blur: fp32, bf16 (s)", "{:.2f}, {:.2f}", both("degradation blur {}")),
    Row("Preview of it: 10 steps (s)", "{:.2f}", ("degradation noise preview",)),
    Row("Enhancing a slice, noise: fp32, bf16 (s)", "{:.2f}, {:.2f}", both("enhancement noise {}")),
    Row("Enhancing a slice, blur: fp32, bf16 (s)", "{:.2f}, {:.2f}", both("enhancement blur {}")),
    Row(
        "Degrading, peak memory, short and long volume (MB)",
        "{:.0f}, {:.0f}",
        ("memory few peak_mb", "memory many peak_mb"),
    ),
    Row("Memory of the long volume over the short one, arrays taken off", "{:.3f}", ("memory ratio_less_arrays",)),
)


def request(bench: Bench, task: str, kind: str, image: Path, precision: str = "auto", **change: Any) -> Any:
    from MRDiffusionLib.request import Request
    from MRDiffusionLib.settings import DegradationSettings, EnhancementSettings

    steps = change.pop("steps", bench.steps)
    settings = DegradationSettings(kind, 0.5, steps) if task == "degradation" else EnhancementSettings(kind, 0.5)
    pack = bench.pack.format(kind) if task == "degradation" else change.pop("enhancer", ENHANCER)
    return Request(task, pack, {"image": str(image)}, settings, 0, bench.device, precision, **change)


def one_slice(bench: Bench, task: str, **change: Any) -> Measured:
    """A slice of each kind, end to end with a warm pack, in both precisions; and a preview."""
    from MRDiffusionLib import tasks
    from MRDiffusionLib.settings import KINDS

    cache, measured = tasks.PackCache(), {}
    for kind in KINDS:
        if installed(request(bench, task, kind, IMAGE, **change).pack) is None:
            continue
        own: Measured = {}
        for precision in ("fp32", "bf16"):
            wanted = request(bench, task, kind, IMAGE, precision, slices=(SLICE,), **change)
            own[precision] = bench.seconds(lambda wanted=wanted: tasks.run(wanted, cache=cache))
        if task == "degradation":
            quick = request(bench, task, kind, IMAGE, slices=(SLICE,), steps=min(PREVIEW_STEPS, bench.steps))
            own |= {"preview": bench.seconds(lambda quick=quick: tasks.run(quick, cache=cache)), "steps": bench.steps}
        measured[kind] = own
    return measured


def installed(pack: str) -> Any:
    """The pack's description; None where there is no such pack."""
    from MRDiffusionLib.errors import PackError
    from MRDiffusionLib.packs import find_pack

    try:
        return find_pack(pack)
    except PackError:
        return None


def memory(bench: Bench) -> Measured:
    """Peak memory of a process that degrades a short and a long volume, with 2 steps a slice."""
    measured: Measured = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, slices in (("few", FEW), ("many", bench.many)):
            path = repeated(IMAGE, slices, Path(folder))
            arguments = ["--memory-of", str(path), "--degrader", bench.pack, "--device", bench.device]
            measured[name] = json.loads(child(__file__, *arguments))
    return {**measured, "ratio_less_arrays": less_arrays(measured["few"], measured["many"])}


def memory_of(path: Path, bench: Bench) -> Measured:
    """In a process of its own: run, then read the highest memory that it ever had."""
    from MRDiffusionLib import tasks

    made = tasks.run(request(bench, "degradation", "noise", path, steps=2)).volumes["result"].array
    return {"peak_mb": peak_memory() / 1e6, "arrays_mb": 2 * made.nbytes / 1e6}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write what was measured there")
    parser.add_argument("--degrader", default=DEGRADER, help="pack; {} stands for the kind")
    parser.add_argument("--enhancer", default=ENHANCER)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--many", type=int, default=MANY, help=f"slices of the long volume [{MANY}]")
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    from MRDiffusionLib import lean
    from MRDiffusionLib.tasks.device import resolve_device

    lean.own_process = True  # as a worker is
    bench = Bench(options.degrader, str(resolve_device(options.device)), options.steps, options.repeats, options.many)
    if options.memory_of:
        print(json.dumps(memory_of(options.memory_of, bench)))
        return
    packs = filter(None, map(installed, (options.degrader.format("noise"), options.enhancer)))
    measured: Measured = {"name": "this machine", "pack": ", ".join(f"{pack.name} {pack.version}" for pack in packs)}
    measured["machine"] = machine(bench)
    measured["degradation"] = one_slice(bench, "degradation")
    measured["enhancement"] = one_slice(bench, "enhancement", enhancer=options.enhancer)
    measured["memory"] = memory(bench)
    report(measured, options.json, ROWS)


if __name__ == "__main__":
    main()
