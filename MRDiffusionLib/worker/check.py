"""Is this Python ready to compute? Device, versions, memory, packs; for every problem the way out in words.

The report is made also where torch is missing or broken: each part says what it could not find out.
"""

from __future__ import annotations

import contextlib
import importlib
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import PackError, UserError
from ..packs import scan_packs
from ..packs.verify import verify_files
from .connection import Remote
from .folder import PrivateFolder
from .libraries import libraries
from .protocol import decode

LEAST_MEMORY = 2 * 10**9
"""Bytes of free memory below which a run may fail (docs/results/performance.md has what runs take)."""

LEAST_DISK = 10**9
"""Bytes of free temporary space below which volumes may not fit."""

FIXES = {
    "libraries": "Install the libraries named in requirements.txt, and PyTorch",
    "broken": "Install it again: pip install --force-reinstall --no-deps, with the name and version",
    "cpu build": "Install the CUDA build of PyTorch (pytorch.org tells the command), or use the CPU, which is slower",
    "driver": "Install a newer NVIDIA driver, or a PyTorch for an older CUDA; until then the CPU is used",
    "no driver": "Install the NVIDIA driver again and restart the computer; until then the CPU is used",
    "memory": "Close other programs, or draw fewer samples",
    "disk": "Free some space, or set TMPDIR to a folder with room",
    "packs": "Get the pack again from its source, or remove its folder",
}
"""What to do, by what a problem is about. 3D Slicer's panel has its own words for some."""


def check() -> dict[str, Any]:
    """The report, of JSON types.

    'problems' holds, the most important first, what is wrong: {"about", "message", "fix"}; 'about' is a key of `FIXES`.
    """
    problems: list[dict[str, str]] = []

    def problem(about: str, message: str, fix: str = "") -> None:
        problems.append({"about": about, "message": message, "fix": fix or FIXES[about]})

    report: dict[str, Any] = {
        "version": __version__,
        "python": f"{platform.python_version()} ({platform.machine()}, {platform.system()})",
        "computer": platform.node(),
        "libraries": _libraries(problem),
    }
    gpus = _gpus(problem)
    report["device"] = _device(gpus, problem)
    report["gpus"] = gpus
    report["memory"] = _memory(problem)
    report["disk"] = _disk(problem)
    report["packs"] = _packs(problem)
    report["problems"] = problems
    return report


def check_there(host: str, python: str) -> dict[str, Any]:
    """The report of another computer. Raises DeviceError where it cannot be reached or MRDiffusion is not there."""
    remote = Remote(host, python, "check", "--json")
    assert remote.process.stdin is not None and remote.process.stdout is not None
    remote.process.stdin.close()
    try:
        for line in remote.process.stdout:  # a login shell may print something before
            with contextlib.suppress(UserError):
                report = decode(line)
                if "problems" in report:
                    return report
        raise remote.problem(begun=False)
    finally:
        remote.close()


def as_text(report: dict[str, Any]) -> str:
    """The report for a person."""
    lines = [f"MRDiffusion {report['version']} on {report['computer']}, Python {report['python']}"]
    lines.append("Device: " + (report["device"] or "unknown, because torch cannot be loaded"))
    lines += [f"Graphics card: {name}" for name in report["gpus"]]
    free = report["memory"]
    lines.append(f"Memory: {_size(free['free'])} free of {_size(free['total'])}" if free else "Memory: unknown")
    if report["disk"]["free"] is not None:
        lines.append(f"Temporary folder: {report['disk']['folder']}, {_size(report['disk']['free'])} free")
    lines += [
        f"{each['name']} {each['found'] or '-'} (needs {each['needed']}): {each['problem'] or 'in order'}"
        for each in report["libraries"]
    ]
    lines += [f"Pack {each['name']} {each['version']}: {each['problem'] or 'in order'}" for each in report["packs"]]
    for each in report["problems"]:
        lines += ["", f"Problem: {each['message']}.", f"What to do: {each['fix']}."]
    return "\n".join([*lines, "", "Everything is in order." if not report["problems"] else ""]).rstrip()


def _libraries(problem: Any) -> list[dict[str, str]]:
    listed, wanting, broken = [], [], []
    for each in libraries():
        wrong = each.problem
        if wrong:
            found = f" ({each.found} is there)" if wrong == "wrong version" else ""
            wanting.append(f"{each.name} {each.needed}: {wrong}{found}")
        else:
            try:
                importlib.import_module(each.name)
            except BaseException as error:  # a library that ends the process must not end the report
                wrong = "broken"
                broken.append(f"{each.name} {each.found} cannot be loaded: {type(error).__name__}: {error}")
        listed.append({"name": each.name, "needed": each.needed, "found": each.found, "problem": wrong})
    if wanting:
        problem("libraries", "; ".join(wanting))
    for message in broken:
        problem("broken", message)
    return listed


def _gpus(problem: Any) -> list[str]:
    """NVIDIA's, as their driver names them; without torch, which may be missing or built without CUDA."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, "--query-gpu=name,memory.total,memory.free,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        problem("no driver", f"nvidia-smi does not run ({error})")
        return []
    if done.returncode:
        problem("no driver", f"the NVIDIA driver does not work: {' '.join((done.stdout + done.stderr).split())[:200]}")
        return []
    found = []
    for line in done.stdout.splitlines():
        name, total, free, driver = (part.strip() for part in f"{line},,,".split(",")[:4])
        found.append(f"{name}, {free} free of {total}, driver {driver}")
    return found


def _device(gpus: list[str], problem: Any) -> str:
    """Where 'auto' computes, or empty where torch cannot tell."""
    try:
        import torch

        if torch.cuda.is_available():
            free, total = torch.cuda.mem_get_info()
            return f"cuda ({torch.cuda.get_device_name()}, {_size(free)} free of {_size(total)})"
        built = torch.version.cuda
        count = torch.get_num_threads()
    except BaseException:  # told with the libraries
        return ""
    if gpus and built is None:
        problem("cpu build", f"there is a graphics card, but torch {torch.__version__} was built for the CPU only")
    elif gpus:
        problem("driver", f"torch {torch.__version__}, built for CUDA {built}, cannot use the graphics card")
    return f"cpu ({count} threads)"


def _memory(problem: Any) -> dict[str, int]:
    """Bytes of 'total' and 'free' memory; empty where nobody tells."""
    found: dict[str, int] = {}
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        sizes = {line.partition(":")[0]: int(line.split()[1]) * 1024 for line in lines}
        found = {"total": sizes["MemTotal"], "free": sizes["MemAvailable"]}
    except (OSError, KeyError, ValueError, IndexError):
        try:  # 3D Slicer brings it
            psutil = importlib.import_module("psutil")
            found = {"total": psutil.virtual_memory().total, "free": psutil.virtual_memory().available}
        except ImportError:
            return {}
    if found["free"] < LEAST_MEMORY:
        problem("memory", f"only {_size(found['free'])} of memory are free")
    return found


def _disk(problem: Any) -> dict[str, Any]:
    folder = tempfile.gettempdir()
    try:
        with PrivateFolder():
            free = shutil.disk_usage(folder).free
    except (UserError, OSError) as error:
        problem("disk", getattr(error, "message", str(error)))
        return {"folder": folder, "free": None}
    if free < LEAST_DISK:
        problem("disk", f"only {_size(free)} are free in {folder}")
    return {"folder": folder, "free": free}


def _packs(problem: Any) -> list[dict[str, str]]:
    packs, errors = scan_packs()
    found = []
    for info in packs:
        wrong = ""
        try:
            verify_files(info)
        except PackError as damage:
            errors.append(damage)
            wrong = "damaged"
        found.append({"name": info.name, "version": info.version, "problem": wrong})
    for error in errors:
        problem("packs", error.message, error.hint)
    return found


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
