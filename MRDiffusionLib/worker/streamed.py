"""A worker's streams where the panel sits at another computer: volumes come and go with the messages (`frames`).

It stands between the pipes and a `server.Server`. Volumes that come are put into the private folder and the paths in
the request replaced; results and previews are sent as files, with the panel's own paths in every message. Two message
types are for the other end of the line (`remote.Relay`) alone:

    {"type": "hello", "version"}      from here, at once: the line works, and which MRDiffusion this is
    {"type": "alive"}                 to here, now and then: the line still works
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import StorageError, UserError
from . import frames, protocol
from .frames import Reads, Writes

ALIVE = 10.0
"""Seconds between two signs of life from the other end."""

SILENCE = 90.0
"""Seconds of silence after which the line is taken for cut. Nobody tells this end when a cable is pulled."""


@dataclass
class _Run:
    """A folder of its own, and which path here stands for which there."""

    folder: Path
    paths: dict[str, str]


class Streamed:
    """Both streams of a server: an iterator over the messages to it, and a writer for its own.

    Args:
        requests, answers: the pipes to the other end.
        folder: private folder for volumes.
        silence: seconds without a sign of life after which `lost` is called.
        lost: by default this process gets SIGTERM, and so cleans up.
    """

    def __init__(
        self,
        requests: Reads,
        answers: Writes,
        folder: Path,
        silence: float = SILENCE,
        lost: Callable[[], None] = lambda: os.kill(os.getpid(), signal.SIGTERM),
    ) -> None:
        self._requests, self._answers, self._folder = _Watched(requests), answers, folder
        self._runs: dict[str, _Run] = {}
        self._count = 0
        self._sending = threading.Lock()
        threading.Thread(target=self._watch, args=(silence, lost), daemon=True).start()
        frames.send(answers, {"type": "hello", "version": __version__})

    def __iter__(self) -> Iterator[bytes]:
        while True:
            self._count += 1
            folder = self._folder / f"run-{self._count}"
            try:
                message = frames.receive(self._requests, functools.partial(_place, folder))
            except UserError as problem:
                shutil.rmtree(folder, ignore_errors=True)
                run_id = problem.received.get("id") if isinstance(problem, frames.UnplacedError) else None
                self.write(protocol.encode(protocol.user_error(run_id, problem)))
                continue
            if message is None:
                return
            if message.get("type") != "alive":
                yield protocol.encode(self._here(message, folder))

    def write(self, line: bytes) -> None:
        """One message of the server; the files that it names go along."""
        message = protocol.decode(line)
        kind, run_id = message.get("type"), message.get("id")
        run = self._runs.get(run_id) if isinstance(run_id, str) else None
        files = list(message["volumes"].values()) if kind == "result" else []
        files += [message["path"]] if kind == "preview" else []
        message = frames.replaced(message, run.paths) if run else message
        with self._sending:
            try:
                frames.send(self._answers, message, files)
            except StorageError as problem:
                if kind != "preview":  # which is no loss
                    frames.send(self._answers, protocol.user_error(run_id, problem))
        if run is not None and run_id is not None and kind in protocol.ENDS:
            del self._runs[run_id]
            shutil.rmtree(run.folder, ignore_errors=True)

    def flush(self) -> None:
        """Every message goes out at once."""

    def _here(self, message: dict[str, Any], folder: Path) -> dict[str, Any]:
        """A message from there with the paths of this computer."""
        names = message.pop("files", [])
        run_id = message.get("id")
        if message.get("type") not in ("run", "evaluate") or not isinstance(run_id, str) or run_id in self._runs:
            return message
        there = {name: str(_place(folder, message, number, name)) for number, name in enumerate(names)}
        output = message.get("output")
        if isinstance(output, str):
            results = folder / "results"
            results.mkdir(parents=True, exist_ok=True)
            there[output] = str(results)
        self._runs[run_id] = _Run(folder, {here: name for name, here in there.items()})
        return _swapped(message, there)

    def _watch(self, silence: float, lost: Callable[[], None]) -> None:
        while (left := self._requests.heard + silence - time.monotonic()) > 0:
            time.sleep(left)
        lost()


class _Watched:
    """A stream that knows when something last came."""

    def __init__(self, stream: Reads) -> None:
        self._stream, self.heard = stream, time.monotonic()

    def readline(self) -> bytes:
        line = self._stream.readline()
        self.heard = time.monotonic()
        return line

    def read(self, size: int, /) -> bytes:
        data = self._stream.read(size)
        self.heard = time.monotonic()
        return data


def _place(folder: Path, _message: object, number: int, name: str) -> Path:
    """Where a volume lies here. Its own name stays, for messages name it; the number tells namesakes apart."""
    (folder / str(number)).mkdir(parents=True, exist_ok=True)
    return folder / str(number) / Path(name.replace("\\", "/")).name


def _swapped(value: Any, texts: dict[str, str]) -> Any:
    """A message in which texts that are a path are replaced as a whole."""
    if isinstance(value, dict):
        return {key: _swapped(part, texts) for key, part in value.items()}
    if isinstance(value, list):
        return [_swapped(part, texts) for part in value]
    return texts.get(value, value) if isinstance(value, str) else value
