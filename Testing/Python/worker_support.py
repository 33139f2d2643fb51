"""What the tests of workers share: requests for `fake_worker.py`, and waiting for its messages."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from MRDiffusionLib.request import Request
from MRDiffusionLib.worker.client import WorkerClient

FAKE = str(Path(__file__).with_name("fake_worker.py"))


def fake(behaviour: str) -> Request:
    return Request("superresolution", behaviour, {"low_resolution": "low.nrrd"})


def files(folder: Path) -> list[str]:
    """Everything in a folder, hidden files too."""
    return sorted(path.name for path in folder.rglob("*"))


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def until(worker: WorkerClient, kind: str) -> dict[str, Any]:
    """The next message of a type."""
    while (message := worker.receive(20))["type"] != kind:
        pass
    return message
