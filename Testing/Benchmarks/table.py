"""Makes a Markdown table of what the benchmarks measured on one or more machines.

.venv/bin/python Testing/Benchmarks/table.py build/*.json
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Measured = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One row: values found by their paths of keys, multiplied by `factor` and written as `form` says."""

    label: str
    form: str
    paths: tuple[str, ...]
    factor: float = 1.0

    def cell(self, measured: Measured) -> str:
        """The row's cell for one machine; '-' where something was not measured."""
        values = [look_up(measured, path) for path in self.paths]
        if any(value is None for value in values):
            return "-"
        return self.form.format(*(value * self.factor if isinstance(value, float) else value for value in values))


def look_up(measured: Any, path: str) -> Any:
    """The value at 'part key key', or None."""
    for key in path.split():
        measured = measured.get(key) if isinstance(measured, dict) else None
    return measured


def both(path: str) -> tuple[str, ...]:
    """The path in fp32 and in bf16."""
    return path.format("fp32"), path.format("bf16")


IMPORTS = ("startup import_seconds", "startup panel_import_seconds")

MACHINE = (
    Row("Processor", "{}", ("machine processor",)),
    Row("Cores, threads used", "{}, {}", ("machine cores", "machine threads")),
    Row("GPU", "{}", ("machine gpu",)),
    Row("torch", "{}", ("machine versions torch",)),
    Row("Load before the start", "{:.1f}", ("machine load_average",)),
    Row("Pack", "{}", ("pack",)),
    Row("Matrix product fp32, bf16 (GFLOP/s)", "{:.0f}, {:.0f}", both("machine matrix_peak_gflops {}")),
    Row("Precision chosen at run time", "{}", ("machine precision_chosen",)),
)
"""Rows of every benchmark."""

ROWS = (
    *MACHINE,
    Row("One slice fp32, bf16 (s)", "{:.2f}, {:.2f}", both("slice {} seconds")),
    Row("bf16 faster by", "{:.2f}", ("slice bf16_speed_up",)),
    Row("PSNR of bf16 less that of fp32 (dB)", "{:+.3f}", ("slice bf16_psnr_difference_db",)),
    Row("Volume of so many slices, precision", "{}, {}", ("volume slices", "volume precision")),
    Row("Volume (s)", "{:.1f}", ("volume seconds",)),
    Row("Network call (GFLOP)", "{:.1f}", ("guidance fp32 gflop",)),
    Row("Network call fp32, bf16 (ms)", "{:.1f}, {:.1f}", both("guidance {} network_seconds"), 1e3),
    Row("Share of the matrix product fp32, bf16 (%)", "{:.0f}, {:.0f}", both("guidance {} peak_share"), 100.0),
    Row("Guide with its two Fourier transforms (ms)", "{:.2f}", ("guidance guide_seconds",), 1e3),
    Row("Guide's share of a step (%)", "{:.1f}", ("guidance guide_share",), 100.0),
    Row("Worker ready (s)", "{:.1f}", ("startup worker_ready_seconds",)),
    Row("import MRDiffusionLib, and all that the panel imports (s)", "{:.3f}, {:.3f}", IMPORTS),
    Row("Peak memory, short and long volume (MB)", "{:.0f}, {:.0f}", ("memory few peak_mb", "memory many peak_mb")),
    Row(
        "GPU memory, short and long volume (MB)",
        "{:.0f}, {:.0f}",
        ("memory few gpu_peak_mb", "memory many gpu_peak_mb"),
    ),
    Row("Memory of the long volume over the short one, arrays taken off", "{:.3f}", ("memory ratio_less_arrays",)),
)


def table(machines: list[Measured], rows: tuple[Row, ...] = ROWS) -> str:
    """A column for each machine; rows that none of them has are left out."""
    lines = ["| | " + " | ".join(m["name"] for m in machines) + " |", "| --- |" + " --- |" * len(machines)]
    for row in rows:
        cells = [row.cell(machine) for machine in machines]
        if any(cell != "-" for cell in cells):
            lines.append(f"| {row.label} | {' | '.join(cells)} |")
    steps = sorted({m[part]["steps"] for m in machines for part in ("slice", "volume") if part in m})
    if steps:
        lines += ["", f"Slice and volume: {', '.join(map(str, steps))} steps, one sample, end to end with a warm pack."]
    return "\n".join(lines) + "\n"


def report(measured: Measured, path: Path | None, rows: tuple[Row, ...] = ROWS) -> None:
    """Print the table of this machine, and keep the figures."""
    if path:
        keep(measured, path)
    print(table([measured], rows), end="")


def keep(measured: Measured, path: Path) -> None:
    """Write figures as JSON, for tables of several machines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    print(table([json.loads(Path(path).read_text(encoding="utf-8")) for path in sys.argv[1:]]), end="")
