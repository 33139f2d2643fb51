"""One run after another: the volume goes out as a file, the worker answers, the result comes in as a node.

No widget and no Qt: the worker is handed in, so a test or a script brings its own, and so is another thread for the
files.
"""

from __future__ import annotations

import enum
import re
import shutil
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from MRDiffusionLib.errors import UserError
from MRDiffusionLib.worker.folder import PrivateFolder

from . import nodes
from .parameters import Parameters
from .signals import Signal
from .text import _
from .volume_files import Incoming, Outgoing, not_written, taken


class State(enum.Enum):
    """What the logic is doing. CANCELLING lasts until the worker has stopped."""

    IDLE = "idle"
    STARTING = "starting"
    RUNNING = "running"
    CANCELLING = "cancelling"
    FAILED = "failed"
    DONE = "done"


BUSY = (State.STARTING, State.RUNNING, State.CANCELLING)


class Worker(Protocol):
    """What the logic needs of a worker (`worker.WorkerProcess`).

    Attributes:
        message: emits each message of the worker (`MRDiffusionLib.worker.protocol`).
        ended: emits (message, hint, details) when the process is gone unasked or cannot start.
    """

    message: Signal
    ended: Signal

    def send(self, message: dict[str, Any]) -> None:
        """Send a message; starts the process if there is none."""

    def cancel(self, run_id: str) -> None:
        """Stop a run: by asking, and by force where that does not help in time."""

    def close(self) -> None:
        """End the process."""


@dataclass
class _Job:
    """A run, with all that was captured when it began."""

    id: str
    folder: Path
    parameters: Parameters
    names: dict[str, str]
    scene: Any
    only_slice: int | None
    with_worker: bool = False
    """Whether the worker has it; before, the inputs are written, and afterwards, the results are read."""
    started: float = field(default_factory=time.monotonic)
    observers: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Aside(Protocol):
    """What the logic needs to write and read files (`background.Background`)."""

    def run(self, work: Callable[[], Any], then: Callable[[Future[Any]], None]) -> None:
        """Do some work, perhaps in another thread; `then` gets the ended future in this one."""

    def close(self) -> None:
        """Forget what is under way."""


class AtOnce:
    """Work that is waited for."""

    def run(self, work: Callable[[], Any], then: Callable[[Future[Any]], None]) -> None:
        """Do some work here and now."""
        done = Future[Any]()
        try:
            done.set_result(work())
        except Exception as error:
            done.set_exception(error)
        then(done)

    def close(self) -> None:
        """Nothing is under way."""


class Logic:
    """Runs the tasks.

    Args:
        worker: computes.
        aside: writes and reads files; by default they are waited for.

    Attributes:
        worker: computes.
        state, message, details: what happens, for a person; `details` is a log for a failure.
        fraction: how much of the run is done, 0 to 1.
        results: role to node of the last run, of a preview 'preview'; empty when a run begins.
        changed: emits when one of these has changed.
        finished: emits `results` when they are in the scene.
        formed: emits the node that shows a preview in the midst of its denoising.
        measured: emits what was run, and what the worker has measured.
    """

    def __init__(self, worker: Worker, aside: Aside | None = None) -> None:
        self.state, self.message, self.details, self.fraction = State.IDLE, "", "", 0.0
        self.results: dict[str, Any] = {}
        self.changed, self.finished, self.measured, self.formed = Signal(), Signal(), Signal(), Signal()
        self.worker, self._aside = worker, aside or AtOnce()
        self.worker.message.connect(self._on_message)
        self.worker.ended.connect(self._on_worker_ended)
        self._job: _Job | None = None
        self._preview: Any = None
        self._forming: Any = None
        self._count = 0
        self._reason = ""
        self._folder: PrivateFolder | None = None

    @property
    def busy(self) -> bool:
        """Whether a run is under way; only then is there something to cancel."""
        return self.state in BUSY

    @property
    def previewing(self) -> bool:
        """Whether the run under way is a preview."""
        return self._job is not None and self._job.only_slice is not None

    def start(self, parameters: Parameters, only_slice: int | None = None) -> None:
        """Begin a run with what was captured; returns at once. What goes wrong becomes the state FAILED.

        Args:
            only_slice: for a preview, the slice of the first input, counted from 0.
        """
        assert not self.busy
        self.results = {}
        try:
            self._start(parameters, only_slice)
        except (UserError, OSError) as error:  # the temporary folder is gone
            self._fail(str(error))

    def _start(self, parameters: Parameters, only_slice: int | None) -> None:
        problem = parameters.gone() or parameters.problem()
        if problem:
            raise UserError(problem)
        self._folder = self._folder or PrivateFolder()
        self._count += 1
        job = _Job(
            id=str(self._count),
            folder=self._folder.path / f"run-{self._count}",
            parameters=parameters,
            names={role: volume.GetName() for role, volume in parameters.inputs.items()},
            scene=parameters.first.GetScene(),
            only_slice=only_slice,
        )
        self._job = job
        job.folder.mkdir()
        files = {role: job.folder / _file_name(n, role) for n, role in enumerate(parameters.inputs)}
        request = parameters.request({role: str(path) for role, path in files.items()}, only_slice)
        message = {"type": "run", "id": job.id, "request": request.to_json(), "output": str(job.folder)}
        message["previews"] = job.only_slice is not None  # the worker's pictures of a run under way
        for event, slot in (
            (job.scene.StartCloseEvent, self._on_scene_closes),
            (job.scene.NodeRemovedEvent, self._on_node_removed),
        ):
            job.observers.append(job.scene.AddObserver(event, slot))
        self._become(State.STARTING, _("Starting: the model is being loaded"), fraction=0.0)
        volumes = {path: taken(parameters.inputs[role], parameters.first) for role, path in files.items()}

        def send(written: Future[None]) -> None:
            if self._job is not job:  # it has been stopped, and a file may have been made after that
                shutil.rmtree(job.folder, ignore_errors=True)
                return
            try:
                written.result()
            except OSError as error:
                self._fail(str(not_written(volumes.values(), job.folder.parent, error)))
                return
            except Exception as error:  # a slot's exception would only be printed, and the panel would wait for ever
                self._fail(f"{type(error).__name__}: {error}", traceback.format_exc())
                return
            job.with_worker = True
            self.worker.send(message)

        self._aside.run(lambda: _write(volumes), send)

    def cancel(self, reason: str = "") -> None:
        """Stop the run; its result is dropped even if it comes.

        Args:
            reason: why, if it was not the person who asked.
        """
        if self._job is None or self.state == State.CANCELLING:
            return
        self._reason = reason or ("" if self.previewing else _("Cancelled"))
        if not self._job.with_worker:
            self._stopped()
            return
        self._become(State.CANCELLING, _("Cancelling: the worker finishes its step"))
        self.worker.cancel(self._job.id)

    def remove_preview(self) -> None:
        """Take the last preview out of the scene."""
        node, self._preview = self._preview, None
        if node is not None and node.GetScene() is not None:
            node.GetScene().RemoveNode(node)
            self.changed.emit()

    def close(self) -> None:
        """Stop everything and leave nothing behind: no process, no observer, no file."""
        self._end_job()
        self.worker.message.disconnect(self._on_message)
        self.worker.ended.disconnect(self._on_worker_ended)
        self.worker.close()
        self._aside.close()
        if self._folder is not None:
            self._folder.close()

    def _on_message(self, message: dict[str, Any]) -> None:
        job = self._job
        if job is None or message.get("id") != job.id or not job.with_worker:
            return
        kind = message["type"]
        if kind == "cancelled" or (self.state == State.CANCELLING and kind in ("result", "error")):
            self._stopped()
        elif kind == "progress" and self.state != State.CANCELLING:
            self._progress(job, message)
        elif kind == "note" and self.state != State.CANCELLING:
            job.notes.append(message["message"])
            self._become(State.RUNNING, "\n".join(job.notes), fraction=0.0)
        elif kind == "preview" and self.previewing and self.state != State.CANCELLING:
            self._form(job, message)
        elif kind == "result":
            self._read(job, message)
        elif kind == "error":
            self._fail(_sentence(message["message"], message["hint"]), message["details"])

    def _progress(self, job: _Job, message: dict[str, Any]) -> None:
        slices, steps = message["slices"], message["steps"]
        fraction = ((message["slice"] - 1) * steps + message["step"]) / (slices * steps)
        if self.previewing:
            text = _("Previewing: step {step} of {steps}").format(**message)
        else:
            text = _("Running: slice {slice} of {slices}, step {step} of {steps}").format(**message)
        if message["seconds_left"] is not None and not self.previewing:
            text += ", " + _time_left(message["seconds_left"])
        self._become(State.RUNNING, "\n".join([text, *job.notes]), fraction=max(self.fraction, fraction))

    def _form(self, job: _Job, message: dict[str, Any]) -> None:
        beside = job.parameters.first
        try:
            image = np.load(message["path"])
        except (OSError, ValueError):  # the worker keeps the newest ones only
            return
        if beside.GetScene() is None or job.only_slice is None:
            return
        before = self._forming
        name = _("{word} preview of slice {slice}, forming").format(word=nodes.WORD, slice=job.only_slice + 1)
        self._forming = nodes.form(before, image, np.array(message["affine"], float), beside, name)
        if self._forming is not before and job.parameters.keeps_contrast:
            nodes.copy_display(beside, self._forming)
        self.formed.emit(self._forming)

    def _read(self, job: _Job, message: dict[str, Any]) -> None:
        job.with_worker = False
        files = {role: Path(path) for role, path in message["volumes"].items()}

        def finish(read: Future[dict[str, Incoming]]) -> None:
            if self._job is job:
                self._finish(job, message, read)

        self._aside.run(lambda: {role: Incoming.read(path) for role, path in files.items()}, finish)

    def _finish(self, job: _Job, message: dict[str, Any], read: Future[dict[str, Incoming]]) -> None:
        try:
            results = self._add_results(job, message, read.result())
        except UserError as error:
            self._fail(str(error))
            return
        except Exception as error:  # a slot's exception would only be printed, and the panel would wait for ever
            text = _("the result could not be added to the scene: {error}").format(error=error)
            self._fail(text, traceback.format_exc())
            return
        forming, self._forming = self._forming, None
        self._end_job()
        node, seconds, last = results["result"], time.monotonic() - job.started, None
        device = message["measurements"].get("computed_on")
        where = _(" on {device}").format(device=device) if device else ""
        if job.only_slice is None:
            self.results = results
            text = _("Done in {seconds:.0f} s{where}: {name}")
            text = text.format(seconds=seconds, where=where, name=node.GetName())
        else:
            self.results = {"preview": node}
            last, self._preview = self._preview, node
            if last is not None and _alike(last, node):
                nodes.copy_display(last, node)  # a person may have changed its window and level
            text = _("Preview in {seconds:.1f} s{where}: slice {slice}, {steps} steps, one sample").format(
                seconds=seconds, where=where, slice=job.only_slice + 1, steps=job.parameters.settings.steps
            )
        self.measured.emit(job.parameters, message["measurements"])
        self._become(State.DONE, "\n".join([text, *message["warnings"]]), fraction=1.0)
        self.finished.emit(self.results)
        # There is one preview at a time; the last one stays until the new one is in its place.
        for old in (last, forming):
            if old is not None and old.GetScene() is not None:
                old.GetScene().RemoveNode(old)
        if last is not None:
            node.SetName(_name(job, "result", next(iter(job.names.values()))))  # no longer told from it by a number

    def _add_results(self, job: _Job, message: dict[str, Any], volumes: dict[str, Incoming]) -> dict[str, Any]:
        parameters, provenance = job.parameters, message["provenance"]
        # The files were copies in a private folder; the nodes are what a person can find again.
        provenance["request"]["inputs"] = dict(job.names)
        first = next(iter(job.names.values()))
        return nodes.add_results(
            job.scene,
            volumes,
            {role: _name(job, role, first) for role in volumes},
            list(parameters.inputs.values()),
            provenance,
            message["measurements"],
            parameters.keeps_contrast,
            folder=job.only_slice is None,
        )

    def _on_worker_ended(self, message: str, hint: str, details: str) -> None:
        if self.state == State.CANCELLING:
            self._stopped()
        elif self._job is not None and self._job.with_worker:
            self._fail(_sentence(message, hint), details)

    def _on_scene_closes(self, *_arguments: Any) -> None:
        self.cancel(_("Stopped, because the scene was closed"))

    def _on_node_removed(self, *_arguments: Any) -> None:
        job = self._job
        for role, volume in job.parameters.inputs.items() if job is not None else ():
            if volume.GetScene() is None:
                self.cancel(_("Stopped, because {name} was deleted").format(name=job.names[role]))

    def _stopped(self) -> None:
        self._end_job()
        self._become(State.IDLE, self._reason, fraction=0.0)

    def _fail(self, message: str, details: str = "") -> None:
        self._end_job()
        self._become(State.FAILED, _("Failed: {message}").format(message=message), details, fraction=0.0)

    def _end_job(self) -> None:
        job, self._job = self._job, None
        forming, self._forming = self._forming, None
        if forming is not None and forming.GetScene() is not None:
            forming.GetScene().RemoveNode(forming)
        if job is not None:
            for observer in job.observers:
                job.scene.RemoveObserver(observer)
            shutil.rmtree(job.folder, ignore_errors=True)

    def _become(self, state: State, message: str, details: str = "", fraction: float | None = None) -> None:
        self.state, self.message, self.details = state, message, details
        self.fraction = self.fraction if fraction is None else fraction
        self.changed.emit()


def _alike(one: Any, other: Any) -> bool:
    """Whether two previews are of the same sequence and the same input."""
    wanted = [nodes.provenance_of(node)["request"]["settings"].get("target") for node in (one, other)]
    return wanted[0] == wanted[1] and nodes.input_of(one) is nodes.input_of(other)


def _name(job: _Job, role: str, first: str) -> str:
    name = job.parameters.result_name(role, first)
    if job.only_slice is None:
        return name
    return name.replace(nodes.WORD, f"{nodes.WORD} preview of slice {job.only_slice + 1},", 1)


def _file_name(number: int, role: str) -> str:
    """Names the sequence, as the worker's messages may name the file."""
    return f"{number}-{re.sub('[^A-Za-z0-9_-]', '_', role)}.nrrd"


def _write(volumes: dict[Path, Outgoing]) -> None:
    for path, volume in volumes.items():
        volume.write(path)


def _sentence(message: str, hint: str) -> str:
    return f"{message}. {hint}" if hint else message


def _time_left(seconds: float) -> str:
    if seconds < 90:
        return _("{seconds:.0f} s left").format(seconds=max(1.0, seconds))
    return _("{minutes:.0f} min left").format(minutes=seconds / 60)
