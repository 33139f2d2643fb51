"""What synthesis costs on this machine: ten slices with three guidance branches, a preview, a step's parts, memory.

    .venv/bin/python Testing/Benchmarks/synthesis.py --json build/synthesis.json

Nothing else should be running. The sample heart is LGE from bSSFP and T2.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from superresolution import SAMPLE_DATA, Bench, Measured, child, less_arrays, machine, peak_memory, repeated
from table import MACHINE, Row, both, report

PACK, TARGET, STEPS, SLICES, PREVIEW_STEPS = "cardiac-simulated", "LGE", 30, 10, 10
GIVEN = {"bSSFP": "cardiac-bssfp.nii.gz", "T2": "cardiac-t2.nii.gz"}
FEW, MANY = 4, 128

ROWS = (
    *MACHINE,
    Row("Slices, steps, guidance branches", "{}, {}, {}", ("volume slices", "volume steps", "volume branches")),
    Row("These slices fp32, bf16 (s)", "{:.1f}, {:.1f}", both("volume {} seconds")),
    Row("bf16 faster by", "{:.2f}", ("volume bf16_speed_up",)),
    Row("Preview: one slice, 10 steps (s)", "{:.2f}", ("volume preview_seconds",)),
    Row("A step: three branches (ms)", "{:.1f}", ("step seconds",), 1000.0),
    Row("Conditions of a slice, encoded once (ms)", "{:.1f}", ("step encode_seconds",), 1000.0),
    Row("Decoding a slice (ms)", "{:.1f}", ("step decode_seconds",), 1000.0),
    Row("Peak memory, short and long volume (MB)", "{:.0f}, {:.0f}", ("memory few peak_mb", "memory many peak_mb")),
    Row("Memory of the long volume over the short one, arrays taken off", "{:.3f}", ("memory ratio_less_arrays",)),
)


def hearts(folder: Path, slices: int) -> dict[str, str]:
    """The sample with its slices repeated to so many, as files."""
    return {role: str(repeated(SAMPLE_DATA / name, slices, folder)) for role, name in GIVEN.items()}


def request(bench: Bench, files: dict[str, str], precision: str = "auto", **settings: Any) -> Any:
    """LGE, one sample, with scales that need three branches."""
    from MRDiffusionLib.request import Request
    from MRDiffusionLib.settings import SynthesisSettings

    scales = (("bSSFP", 1.5), ("T2", 1.2))
    chosen = {"target": TARGET, "steps": bench.steps, "samples": 1, "guidance": "nested", "start": "noise", **settings}
    return Request(
        "synthesis", bench.pack, files, SynthesisSettings(scales=scales, **chosen), 0, bench.device, precision
    )


def volume(bench: Bench) -> Measured:
    """Ten slices end to end with a warm pack, in both precisions; and a preview."""
    from MRDiffusionLib import tasks

    cache, measured = tasks.PackCache(), {}
    with tempfile.TemporaryDirectory() as folder:
        files = hearts(Path(folder), SLICES)
        for precision in ("fp32", "bf16"):
            tasks.run(replace(request(bench, files, precision, steps=1), slices=(0,)), cache=cache)
            seconds = bench.seconds(lambda p=precision: tasks.run(request(bench, files, p), cache=cache), warm_up=0)
            measured[precision] = {"seconds": seconds}
        steps = min(PREVIEW_STEPS, bench.steps)
        quick = replace(request(bench, files, "auto", steps=steps), slices=(SLICES // 2,))
        preview = bench.seconds(lambda: tasks.run(quick, cache=cache))
    speed_up = measured["fp32"]["seconds"] / measured["bf16"]["seconds"]
    shown = {"slices": SLICES, "steps": bench.steps, "branches": 3}
    return {**measured, **shown, "bf16_speed_up": speed_up, "preview_seconds": preview}


def step(bench: Bench) -> Measured:
    """A slice's parts in the precision that a user gets."""
    import torch

    from MRDiffusionLib.tasks import PackCache
    from MRDiffusionLib.tasks.conditions import read_conditions
    from MRDiffusionLib.tasks.device import faster_precision
    from MRDiffusionLib.tasks.synthesis import Guided

    device = torch.device(bench.device)
    model = PackCache().synthesiser(bench.pack, device, faster_precision(device))
    many = Bench(bench.pack, bench.device, bench.steps, max(5, bench.repeats))
    files = {role: str(SAMPLE_DATA / name) for role, name in GIVEN.items()}
    given, settings = read_conditions(files, model.info), request(bench, files).settings
    guided = Guided(given, [0], model, settings)
    network, z, gamma = (
        guided.of([0]),
        torch.randn(1, *guided.latents.shape[2:], device=device),
        torch.zeros(1, device=device),
    )
    with torch.no_grad():
        return {
            "seconds": many.seconds(lambda: network(z, gamma), warm_up=2),
            "encode_seconds": many.seconds(lambda: Guided(given, [0], model, settings)),
            "decode_seconds": many.seconds(lambda: model.network.decode(z)),
        }


def memory(bench: Bench) -> Measured:
    """Peak memory of a process that synthesises a short and a long volume, with 2 steps a slice."""
    measured: Measured = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, slices in (("few", FEW), ("many", bench.many)):
            files = hearts(Path(folder), slices)
            arguments = ["--memory-of", json.dumps(files), "--pack", bench.pack, "--device", bench.device]
            measured[name] = json.loads(child(__file__, *arguments))
    return {**measured, "ratio_less_arrays": less_arrays(measured["few"], measured["many"])}


def memory_of(files: dict[str, str], bench: Bench) -> Measured:
    """In a process of its own: run, then read the highest memory that it ever had."""
    from MRDiffusionLib import tasks
    from MRDiffusionLib.imaging.volume import read_volume
    from MRDiffusionLib.packs import find_pack

    result = tasks.run(request(bench, files, steps=2))
    made = result.volumes["result"].array
    # What is held for all slices: the volumes as read, all sequences on the pack's grid, and the result.
    grids = made.nbytes * (1 + len(find_pack(bench.pack).roles))
    arrays = sum(read_volume(path).array.nbytes for path in files.values()) + grids
    return {"peak_mb": peak_memory() / 1e6, "arrays_mb": arrays / 1e6}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write what was measured there")
    parser.add_argument("--pack", default=PACK)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--many", type=int, default=MANY, help=f"slices of the long volume [{MANY}]")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    from MRDiffusionLib import lean
    from MRDiffusionLib.packs import find_pack
    from MRDiffusionLib.tasks.device import resolve_device

    lean.own_process = True  # as a worker is
    bench = Bench(options.pack, str(resolve_device(options.device)), options.steps, options.repeats, options.many)
    if options.memory_of:
        print(json.dumps(memory_of(json.loads(options.memory_of), bench)))
        return
    info = find_pack(options.pack)
    measured = {"name": "this machine", "pack": f"{info.name} {info.version}", "machine": machine(bench)}
    for name, part in (("volume", volume), ("step", step), ("memory", memory)):
        measured[name] = part(bench)
    report(measured, options.json, ROWS)


if __name__ == "__main__":
    main()
