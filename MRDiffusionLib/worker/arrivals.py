"""Where a relay puts the files that come from another computer."""

from __future__ import annotations

import shutil
from collections import deque
from pathlib import Path
from typing import Any

from ..errors import StorageError
from . import protocol
from .outputs import Write, write_together
from .server import PREVIEWS_KEPT


class Arrivals:
    """Files of one message after another: previews stay in the private folder, volumes go to the run's output.

    Args:
        folder: private folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self._previews: deque[Path] = deque()

    def place(self, _message: dict[str, Any], number: int, name: str) -> Path:
        """For `frames.receive`."""
        path = self._path(number, name)
        path.parent.mkdir()
        return path

    def stored(self, message: dict[str, Any], output: str) -> dict[str, Any]:
        """A message that was received, with the paths of its files as they lie here now; or the error instead.

        Args:
            output: of the run that it ends, if it ends one. Only there may the other end write.
        """
        arrived = [self._path(number, name) for number, name in enumerate(message.pop("files", []))]
        if message["type"] == "preview" and arrived:
            self._count += 1
            self._previews.append(arrived[0])
            while len(self._previews) > PREVIEWS_KEPT:
                shutil.rmtree(self._previews.popleft().parent, ignore_errors=True)
            return {**message, "path": str(arrived[0])}
        try:
            if message["type"] == "result" and output and arrived:
                places = {role: Path(output) / path.name for role, path in zip(message["volumes"], arrived)}
                write_together({places[role]: _moved_from(path) for role, path in zip(places, arrived)})
                message = {**message, "volumes": {role: str(path) for role, path in places.items()}}
        except StorageError as problem:
            return protocol.user_error(message["id"], problem)
        finally:
            self.forget()
        return message

    def forget(self) -> None:
        """Remove what is left of the last message."""
        for folder in self._folder.glob(f"received-{self._count}-*"):
            shutil.rmtree(folder, ignore_errors=True)
        self._count += 1

    def _path(self, number: int, name: str) -> Path:
        return self._folder / f"received-{self._count}-{number}" / Path(name.replace("\\", "/")).name


def _moved_from(source: Path) -> Write:
    def move(place: Path) -> None:
        shutil.move(source, place)

    return move
