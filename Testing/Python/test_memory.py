"""Runs that do not fit into memory: smaller batches, then the CPU, and a sentence about it."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from MRDiffusionLib import tasks
from MRDiffusionLib.errors import InputError
from MRDiffusionLib.imaging import Geometry, Volume, write_volume
from MRDiffusionLib.request import Request, Result
from MRDiffusionLib.settings import SuperResolutionSettings
from MRDiffusionLib.tasks import memory

STRAIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


class OutOfMemoryError(RuntimeError):
    """Named as torch's own."""


def request(**values: Any) -> Request:
    return Request("superresolution", "p", {"low_resolution": "low.nrrd"}, **values)


class Machine:
    """Computes batches up to a size on a GPU; the CPU has room for any."""

    def __init__(self, room: int, cpu_room: int = 1000) -> None:
        self.room, self.cpu_room = room, cpu_room
        self.tried: list[tuple[str, int]] = []
        self.forgotten = 0

    def run(self, wanted: Request) -> Result:
        device = "cpu" if wanted.device == "cpu" else "cuda"
        batch = wanted.batch or (4 if device == "cpu" else 32)
        self.tried.append((device, batch))
        if batch > (self.cpu_room if device == "cpu" else self.room):
            raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return Result({}, {}, {"request": wanted.to_json()}, ("careful",))

    def forget(self) -> None:
        self.forgotten += 1


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "resolve_device", lambda name: torch.device("cpu" if name == "cpu" else "cuda"))


@pytest.mark.parametrize(
    ("room", "tried", "told"),
    [
        (32, [("cuda", 32)], ""),
        (10, [("cuda", 32), ("cuda", 16), ("cuda", 8)], "computed 8 at a time"),
        (0, [*(("cuda", 2**n) for n in (5, 4, 3, 2, 1, 0)), ("cpu", 4)], "computed on the CPU"),
    ],
)
def test_the_batch_is_halved_until_it_fits_and_the_cpu_comes_last(room: int, tried: list[Any], told: str) -> None:
    machine = Machine(room)
    heard: list[tuple[str, int]] = []
    tell = lambda text: heard.append((text, len(machine.tried)))  # noqa: E731
    result = memory.frugally(request(), machine.run, machine.forget, tell)
    assert machine.tried == tried and machine.forgotten == len(tried) - 1
    # Each change is told before the next attempt begins, and all of them with the result.
    assert [number for _text, number in heard] == list(range(1, len(tried)))
    assert result.warnings == (*(text for text, _number in heard), "careful")
    assert not told or told in result.warnings[-2]


def test_where_nothing_is_left_the_error_comes_through() -> None:
    machine = Machine(0, cpu_room=0)
    with pytest.raises(OutOfMemoryError):
        memory.frugally(request(), machine.run, machine.forget)
    assert machine.tried[-3:] == [("cpu", 4), ("cpu", 2), ("cpu", 1)]


def test_other_errors_are_not_tried_again() -> None:
    tried = []

    def run(wanted: Request) -> Result:
        tried.append(wanted)
        raise InputError("T2 has 3 slices")

    with pytest.raises(InputError):
        memory.frugally(request(), run, lambda: None)
    assert len(tried) == 1


def test_what_a_failed_attempt_held_is_free_when_the_next_begins() -> None:
    class Ballast:
        pass

    held: list[Any] = []

    def run(wanted: Request) -> Result:
        gc.collect()
        assert all(reference() is None for reference in held)
        if wanted.batch > 4 or not wanted.batch:
            ballast = Ballast()
            held.append(weakref.ref(ballast))
            raise MemoryError
        return Result({}, {}, {})

    memory.frugally(request(batch=16), run, lambda: None)
    assert len(held) == 2


def test_a_real_run_that_is_too_large_once_gives_the_same_result(
    tiny_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "resolve_device", lambda _: torch.device("cpu"))
    values = np.random.default_rng(0).uniform(1, 100, (3, 16, 16)).astype(np.float32)
    volume = Volume(values, Geometry((16, 16, 3), (2.0, 2.0, 5.0), (0.0,) * 3, STRAIGHT))
    write_volume(volume, tmp_path / "low.nrrd")
    settings = SuperResolutionSettings(matrix=(128, 128), steps=2)
    wanted = Request(
        "superresolution", str(tiny_pack), {"low_resolution": str(tmp_path / "low.nrrd")}, settings, precision="fp32"
    )
    whole = tasks.run(wanted.resolved(batch=2))
    failed = []

    def progress(_state: Any) -> None:
        if not failed:
            failed.append(True)
            raise MemoryError

    again = tasks.run(wanted.resolved(batch=4), progress=progress)
    np.testing.assert_array_equal(again.volumes["result"].array, whole.volumes["result"].array)
    assert again.provenance["request"]["batch"] == 2 and "computed 2 at a time" in again.warnings[0]
