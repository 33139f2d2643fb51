"""Where and in which precision to compute."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..errors import DeviceError
from ..request import Request


def place(request: Request) -> tuple[torch.device, str]:
    """Where a request is computed, and in which precision. Raises DeviceError where the device is not there."""
    device = resolve_device(request.device)
    return device, faster_precision(device) if request.precision == "auto" else request.precision


def resolve_device(name: str) -> torch.device:
    """'auto', 'cpu', 'cuda', 'cuda:N' or 'mps' to a device that is there. Raises DeviceError where it is not."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda"):
        if not torch.cuda.is_available():
            built = "this PyTorch was built without CUDA" if torch.version.cuda is None else "no CUDA device was found"
            raise DeviceError(
                f"device {name} is not available: {built}",
                "Use --device cpu, or install the CUDA build of PyTorch and a driver",
            )
        index = int(name.partition(":")[2] or 0)
        if index >= torch.cuda.device_count():
            count = torch.cuda.device_count()
            raise DeviceError(f"device {name} is not available", f"This machine has {count} CUDA devices, from cuda:0")
        return torch.device("cuda", index)
    if name == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("device mps is not available", "Use --device cpu")
    return torch.device(name)


@functools.lru_cache(maxsize=8)
def faster_precision(device: torch.device, channels: int = 64, size: int = 64) -> str:
    """'bf16' or 'fp32', whichever runs a convolution of the network's size faster here; measured once a process.

    bf16 is faster where the processor has instructions for it and slower where it is emulated, and no flag tells
    how much, so it is timed (about 0.1 s). A tie goes to fp32.
    """
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if device.type != "cpu":
        return "fp32"
    runs: dict[str, Callable[[], Tensor]] = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        layer = nn.Conv2d(channels, channels, 3, padding=1, dtype=dtype)
        layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        x = torch.zeros(1, channels, size, size, dtype=dtype).to(memory_format=torch.channels_last)
        runs[name] = functools.partial(layer, x)
    seconds = dict.fromkeys(runs, float("inf"))
    with torch.inference_mode():
        # In turn, and the best of many: another program on the machine must not decide.
        for _ in range(15):
            for name, run in runs.items():
                start = time.perf_counter()
                run()
                seconds[name] = min(seconds[name], time.perf_counter() - start)
    return "bf16" if seconds["bf16"] < 0.8 * seconds["fp32"] else "fp32"


def dtype_of(precision: str) -> torch.dtype:
    return torch.bfloat16 if precision == "bf16" else torch.float32
