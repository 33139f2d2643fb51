"""The run of the panel for every case of a folder: files in, files out, nothing of it in the scene."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from MRDiffusionLib.errors import UserError
from MRDiffusionLib.packs import PackInfo
from MRDiffusionLib.request import Request
from MRDiffusionLib.settings import ROLES
from MRDiffusionLib.worker.folder import PrivateFolder
from MRDiffusionLib.worker.outputs import sidecar, write_together
from MRDiffusionLib.worker.protocol import to_json

from .background import Background
from .estimates import duration
from .parameters import Parameters
from .signals import Signal
from .text import _

DEATHS = 2
"""Workers that may end one after the other before no more are started."""


class FolderBatch:
    """One folder at a time, case by case. The same folders and choices go on where it was stopped.

    Args:
        worker: as of `logic.Logic`, which may use it at the same time.

    Attributes:
        message: what happens, for a person.
        busy: whether something is under way.
        changed: emits when one of these has changed.
    """

    def __init__(self, worker: Any) -> None:
        self.message, self.busy, self.changed = "", False, Signal()
        self._worker, self._background = worker, Background()
        self._folder: PrivateFolder | None = None
        self._request: Request | None = None
        self._pack: PackInfo | None = None
        self._out = Path()
        self._cases: list[Any] = []
        self._rows: list[Any] = []
        self._asked: dict[str, Any] = {}
        self._count, self._deaths, self._running, self._stopped = 0, 0, "", False
        self._waiting = False
        """Whether the worker still computes what is running; else its files are being stored."""
        worker.message.connect(self._on_message)
        worker.ended.connect(self._on_ended)

    def start(self, chosen: Parameters, source: Path, out: Path) -> None:
        """Begin; returns at once. What is wrong with the folders becomes the message.

        Args:
            chosen: choices with a pack; inputs do not matter.
            source, out: as of `MRDiffusionLib.cohort.batch.find_cases`.

        Raises:
            UserError: choices that contradict each other.
        """
        assert not self.busy and chosen.pack is not None
        roles = ROLES[chosen.task] or tuple(
            role for role in chosen.pack.roles if role != getattr(chosen.settings, "target", "")
        )
        self._request, self._pack, self._out = chosen.request(dict.fromkeys(roles, str(source))), chosen.pack, out
        self._rows, self._deaths, self._stopped, self.busy = [], 0, False, True
        self._become(_("Looking for volumes in {folder}").format(folder=source))
        self._background.run(functools.partial(_find, source, out, self._request, roles), self._found)

    def stop(self) -> None:
        """End with the case under way, whose result is dropped unless it is being stored already."""
        self._stopped = True
        if self._waiting:
            self._worker.cancel(self._running)

    def close(self) -> None:
        """Leave nothing behind."""
        self._worker.message.disconnect(self._on_message)
        self._worker.ended.disconnect(self._on_ended)
        self._background.close()
        if self._folder is not None:
            self._folder.close()

    def _found(self, found: Future[Any]) -> None:
        try:
            self._cases = found.result()
            self._folder = self._folder or PrivateFolder()
        except (UserError, OSError) as error:
            self._end(_("Failed: {message}").format(message=error))
            return
        self._next()

    def _next(self) -> None:
        number = len(self._rows)
        if self._stopped or number == len(self._cases):
            self._finish()
            return
        self._tell()
        assert self._request is not None and self._pack is not None
        look = functools.partial(_look_at, self._cases[number], self._request, self._pack)
        self._background.run(look, self._looked)

    def _looked(self, found: Future[Any]) -> None:
        from MRDiffusionLib.cohort import batch

        case = self._cases[len(self._rows)]
        try:
            asked = found.result()
        except (UserError, OSError) as error:
            self._row(batch.FAILED, str(error))
            return
        if asked is None:
            self._row(batch.KEPT)
            return
        if self._stopped:
            self._finish()
            return
        self._asked, self._count = asked, self._count + 1
        running = f"batch-{self._count}"
        assert self._folder is not None and self._request is not None
        folder = self._folder.path / running
        try:
            folder.mkdir()
        except OSError as error:  # no room, or the temporary folder is gone
            self._row(batch.FAILED, str(error))
            return
        self._running, self._waiting = running, True
        request = batch.for_case(self._request, case).to_json()
        message = {"type": "run", "id": self._running, "request": request, "output": str(folder), "previews": False}
        self._worker.send({**message, "suffix": case.suffix})

    def _on_message(self, message: dict[str, Any]) -> None:
        if not self._running or message.get("id") != self._running:
            return
        if message["type"] == "progress":
            self._tell(message)
        elif message["type"] == "cancelled" or (self._stopped and message["type"] in ("result", "error")):
            self._finish()
        elif message["type"] == "result":
            self._deaths, self._waiting = 0, False
            case, asked = self._cases[len(self._rows)], self._asked
            self._background.run(functools.partial(_store, case, message, asked), self._stored)
        elif message["type"] == "error":
            self._failed(message["message"], message["hint"])

    def _on_ended(self, message: str, hint: str, _details: str) -> None:
        if not self._waiting:
            return
        self._deaths += 1
        self._stopped = self._stopped or self._deaths == DEATHS
        self._failed(message, hint)

    def _failed(self, message: str, hint: str) -> None:
        from MRDiffusionLib.cohort import batch

        self._row(batch.FAILED, f"{message}. {hint}".strip(". "))

    def _stored(self, found: Future[Any]) -> None:
        from MRDiffusionLib.cohort import batch

        try:
            seconds, told = found.result()
        except (UserError, OSError) as error:
            self._row(batch.FAILED, str(error))
            return
        self._row(batch.DONE, told, seconds)

    def _row(self, state: str, told: str = "", seconds: float | None = None) -> None:
        """A case has ended."""
        from MRDiffusionLib.cohort import batch

        case = self._cases[len(self._rows)]
        if state == batch.FAILED:
            batch.remove_stale(case)
        self._rows.append(batch.Row(case, state, told, seconds))
        self._tidy()
        self._next()

    def _tidy(self) -> None:
        if self._running and self._folder is not None:
            shutil.rmtree(self._folder.path / self._running, ignore_errors=True)
        self._running, self._waiting = "", False

    def _finish(self) -> None:
        """All cases have ended, or no more are wanted."""
        from MRDiffusionLib.cohort import batch

        self._tidy()
        counts = {
            state: sum(row.state == state for row in self._rows) for state in (batch.DONE, batch.KEPT, batch.FAILED)
        }
        told = _("{done} computed, {kept} there before, {failed} failed, of {all}").format(
            **counts, all=len(self._cases)
        )
        lines = [_("Stopped; Run goes on from here"), told] if self._stopped else [told]
        lines += [f"{row.case.name}: {row.told}" for row in self._rows if row.state == batch.FAILED][:5]
        try:
            lines.append(_("What became of each is in {table}").format(table=batch.write_table(self._rows, self._out)))
        except UserError as error:
            lines.append(str(error))
        self._end("\n".join(lines))

    def _tell(self, state: dict[str, Any] | None = None) -> None:
        number = len(self._rows)
        text = _("Case {number} of {count}: {name}").format(
            number=number + 1, count=len(self._cases), name=self._cases[number].name
        )
        if state is not None:
            text += _(", slice {slice} of {slices}").format(**state)
        took = [row.seconds for row in self._rows if row.seconds is not None]
        if took:
            left = duration(sum(took) / len(took) * (len(self._cases) - number))
            text += _(", about {time} left").format(time=left)
        self._become(text)

    def _end(self, message: str) -> None:
        self.busy = False
        self._become(message)

    def _become(self, message: str) -> None:
        self.message = message
        self.changed.emit()


def _find(source: Path, out: Path, request: Request, roles: tuple[str, ...]) -> list[Any]:
    from MRDiffusionLib.cohort.batch import find_cases

    return find_cases(source, out, request, roles)


def _look_at(case: Any, request: Request, pack: PackInfo) -> dict[str, Any] | None:
    """What the run of a case depends on; None where it is done."""
    from MRDiffusionLib.cohort import batch

    return None if batch.is_done(case, request, pack) else batch.asked(case, request, pack)


def _store(case: Any, message: dict[str, Any], asked: dict[str, Any]) -> tuple[float | None, str]:
    """Put the worker's files into their places, with the provenance; gives the seconds and what is to be told."""
    from MRDiffusionLib.cohort.batch import ASKED

    made = {role: Path(path) for role, path in message["volumes"].items()}
    written = {**sidecar(message, {role: case.places[role] for role in made}), ASKED: asked}
    text = to_json(written, indent=1) + "\n"
    files: dict[Path, Callable[[Path], Any]] = {
        case.places[role]: functools.partial(shutil.copyfile, path) for role, path in made.items()
    }
    files[case.places["provenance"]] = lambda path: path.write_text(text, encoding="utf-8")
    write_together(files)
    return message["measurements"].get("seconds"), " ".join(message["warnings"])
