"""What tasks that go through a volume slice by slice share: which slices, how many at once, how far."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from ..errors import SettingError
from ..request import Progress, Request

if TYPE_CHECKING:
    from . import OnProgress


def default_batch(device: torch.device) -> int:
    """Images computed in one network call: a larger batch costs memory and saves little on a CPU."""
    return 4 if device.type == "cpu" else 32


def resolved(request: Request, device: torch.device, precision: str, count: int, **changes: Any) -> Request:
    """A request as it is computed, with nothing left to choose.

    Args:
        count: slices of the volume.
        changes: other fields of the request.

    Raises:
        SettingError: slices that the volume does not have.
    """
    return request.resolved(
        device=str(device),
        precision=precision,
        batch=request.batch or default_batch(device),
        slices=None if request.slices is None else slice_numbers(request.slices, count),
        **changes,
    )


def chunks(slices: list[int], samples: int, batch: int) -> Iterator[list[int]]:
    """Slices to work on together, so that one batch is full: several slices, or one slice of many samples."""
    together = max(1, batch // samples)
    for begin in range(0, len(slices), together):
        yield slices[begin : begin + together]


class Clock:
    """Counts denoised images and reports `Progress` with the time left, from the mean time of one."""

    def __init__(self, slices: int, samples: int, steps: int, report: OnProgress | None) -> None:
        self.slices, self.steps, self.report = slices, steps, report
        self.per_slice = samples * steps
        self.done, self.calls, self.begin = 0, 0, time.monotonic()

    def step(self, images: int) -> None:
        """One denoiser call on some images has ended."""
        self.done, self.calls = self.done + images, self.calls + 1
        if self.report is None:
            return
        total = self.slices * self.per_slice
        # The first calls include one-time costs: no guess from them.
        left = (time.monotonic() - self.begin) * (total - self.done) / self.done if self.calls > 2 else None
        now = min(self.slices, 1 + (self.done - 1) // self.per_slice)
        self.report(Progress(now, self.slices, (self.calls - 1) % self.steps + 1, self.steps, left))


def slice_numbers(slices: tuple[int, ...], count: int) -> tuple[int, ...]:
    """The chosen slices of a volume of `count`, checked. Raises SettingError."""
    outside = [s for s in slices if not 0 <= s < count]
    if outside:
        raise SettingError(f"slice {outside[0]} is outside 0 to {count - 1}", "Choose a slice of the volume")
    if not slices or list(slices) != list(range(slices[0], slices[0] + len(slices))):
        raise SettingError(f"slices {list(slices)} are not consecutive", "Give a run of slices such as 3,4,5")
    return slices
