"""What made a result lies beside its file as JSON, as of the command line: most formats cannot hold it.

Written whenever a result is saved, in whatever way, and read when the file is loaded again.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer.util
import vtk
from slicer.util import VTKObservationMixin

from MRDiffusionLib.errors import StorageError
from MRDiffusionLib.imaging.checksum import sha256_of
from MRDiffusionLib.worker import outputs
from MRDiffusionLib.worker.protocol import to_json

from . import nodes, sequences
from .text import _

SAVED = "fileSaved(qSlicerIO::IOProperties)"
SUFFIXES = (".seq.nrrd", ".nii.gz", ".nrrd", ".nii", ".mha")
DEVIATION = "_standard_deviation"
"""In the name of a file beside a result's; the command line tells of both in one sidecar."""
VOLUME = "vtkMRMLScalarVolumeNode"


class Sidecars(VTKObservationMixin):
    """Writes a sidecar for every result that the application saves, and marks what it loads by it.

    Args:
        scene: vtkMRMLScene.
        io_manager: of the application.
        tell: tells a person that a sidecar could not be written; the file itself has been saved by then.
    """

    def __init__(self, scene: Any, io_manager: Any, tell: Callable[[str], Any] = slicer.util.errorDisplay) -> None:
        super().__init__()
        self._scene, self._io_manager, self._tell = scene, io_manager, tell
        self._loading: list[str] = []
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(0)
        self._timer.timeout.connect(self._on_loaded)
        io_manager.connect(SAVED, self._on_saved)
        self.addObserver(scene, scene.NodeAddedEvent, self._on_node_added)
        self.addObserver(scene, scene.NodeRemovedEvent, self._on_node_removed)
        self.addObserver(scene, scene.EndImportEvent, self._on_imported)

    def remove(self) -> None:
        """Listen no more."""
        self._timer.stop()
        self._io_manager.disconnect(SAVED, self._on_saved)
        self.removeObservers()

    def _on_saved(self, properties: Any) -> None:
        identifier = properties.get("nodeID")
        node = self._scene.GetNodeByID(identifier) if identifier else None
        if node is None or not (nodes.provenance_of(node) or sequences.frames_of(node)):
            return
        try:
            write(node, Path(properties["fileName"]))
        except StorageError as error:
            text = _("{name} was saved, but not what made it: {message}")
            self._tell(text.format(name=node.GetName(), message=error))

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _on_node_added(self, _scene: Any, _event: str, node: Any) -> None:
        if node.IsA(VOLUME) and not self._scene.IsImporting():
            self.addObserver(node, node.ReferenceAddedEvent, self._on_reference)  # its file is told after it has come
            recall(node)
        elif node.IsA(sequences.SEQUENCE) and not self._scene.IsImporting():
            self._loading.append(node.GetID())  # its frames come after it
            self._timer.start()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _on_node_removed(self, _scene: Any, _event: str, node: Any) -> None:
        if self.hasObserver(node, node.ReferenceAddedEvent, self._on_reference):
            self.removeObserver(node, node.ReferenceAddedEvent, self._on_reference)

    def _on_reference(self, node: Any, *_arguments: Any) -> None:
        recall(node)

    def _on_loaded(self) -> None:
        loading, self._loading = self._loading, []
        for node in map(self._scene.GetNodeByID, loading):
            if node is not None:
                recall_sequence(node)
        for node in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode", self._scene):
            node.Modified()  # a view that shows it already is to be marked

    def _on_imported(self, *_arguments: Any) -> None:
        for node in slicer.util.getNodesByClass(sequences.SEQUENCE, self._scene):
            recall_sequence(node)
        for node in slicer.util.getNodesByClass(VOLUME, self._scene):  # where the scene itself does not say it
            recall(node)


def write(node: Any, path: Path) -> Path:
    """Write what made a result beside its file; gives the file that says it.

    What lies there and is not about this file stays, as the JSON that BIDS puts beside an image does.

    Args:
        path: the file that the node was saved to.

    Raises:
        StorageError: it cannot be written.
    """
    place = next((each for each in _places(path) if not each.exists() or _read(each, path) is not None), None)
    if place is None:
        files = _(" and ").join(each.name for each in _places(path))
        raise StorageError(_("{files} belong to other data").format(files=files), _("Save it under another name"))
    text = to_json(_told_of(node, path), indent=1) + "\n"
    outputs.write_together({place: lambda staged: staged.write_text(text, encoding="utf-8")})
    return place


def find(path: Path) -> Path | None:
    """The file that says what made another one; None where there is none."""
    places = *_places(path), _places(path)[0].with_name(f"{_stem(path).removesuffix(DEVIATION)}.json")
    return next((place for place in places if _read(place, path) is not None), None)


def place_of_deviation(path: Path) -> Path:
    """Where the standard deviation goes of a result that is saved as `path`."""
    stem = _stem(path)
    return path.with_name(f"{stem}{DEVIATION}{path.name[len(stem) :]}")


def recall(node: Any) -> None:
    """Mark a volume that was loaded from a file, and say what made it, if the file has a sidecar."""
    if node.GetAttribute(nodes.PROVENANCE) is not None or node.GetImageData() is None:
        return
    path, told = _beside(node)
    if told is not None and "frames" not in told:
        _mark(node, path, told)


def recall_sequence(sequence: Any) -> None:
    """The same for a sequence, whose frames also get back what their file cannot hold."""
    if not sequences.frames_of(sequence):
        path, told = _beside(sequence)
        if told is None or "frames" not in told:
            return
        sequences.adopt(sequence, told["kind"], _role(told, path), told["frames"])
        _name(sequence)
    sequences.restore(sequence)


def _beside(node: Any) -> tuple[Path, dict[str, Any] | None]:
    """The file of a node, and its sidecar."""
    storage = node.GetStorageNode()
    if storage is None or not storage.GetFileName():
        return Path(), None
    path = Path(storage.GetFullNameFromFileName())
    place = find(path)
    return path, None if place is None else _read(place, path)


def _role(told: dict[str, Any], path: Path) -> str:
    return next(name for name, output in told["outputs"].items() if output["file"] == path.name)


def _name(node: Any) -> None:
    if not node.GetName().startswith(nodes.WORD):
        node.SetName(f"{nodes.WORD} {node.GetName()}")


def _places(path: Path) -> tuple[Path, Path]:
    """Where the sidecar of a file may be: as the command line names it, or where that is taken with the whole name."""
    return path.with_name(f"{_stem(path)}.json"), path.with_name(f"{path.name}.json")


def _stem(path: Path) -> str:
    suffix = next((each for each in SUFFIXES if path.name.lower().endswith(each)), path.suffix)
    return path.name[: len(path.name) - len(suffix)]


def _read(place: Path, path: Path) -> dict[str, Any] | None:
    """A sidecar; None for what is not there, is no sidecar, or is that of another file."""
    try:
        told = json.loads(place.read_text(encoding="utf-8"))
        ours = told["synthetic"] is True and any(each["file"] == path.name for each in told["outputs"].values())
        if "frames" in told:
            ours = ours and told["kind"] in sequences.KINDS
            ours = ours and all(set(frame) >= sequences.ENTRIES for frame in told["frames"].values())
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return None
    return told if ours else None


def _told_of(node: Any, path: Path) -> dict[str, Any]:
    role, frames = node.GetAttribute(nodes.ROLE), sequences.frames_of(node)
    if frames:
        made = {role: {"file": path.name, "sha256": None}}
        return {"synthetic": True, "kind": sequences.kind_of(node), "outputs": made, "frames": frames}
    told = {
        "provenance": nodes.provenance_of(node) or {},
        "measurements": nodes.measurements_of(node),
        "warnings": [],
        "sha256": {role: sha256_of(slicer.util.arrayFromVolume(node))},
    }
    return {"synthetic": True, "run": node.GetAttribute(nodes.RUN), **outputs.sidecar(told, {role: path})}


def _mark(node: Any, path: Path, told: dict[str, Any]) -> None:
    made, role = told["outputs"], _role(told, path)
    beside = ("run", "measurements", "warnings", "outputs")
    provenance = {name: value for name, value in told.items() if name not in beside}
    # What the command line has written in one go belongs together as well.
    run = told.get("run") or uuid.uuid5(uuid.NAMESPACE_OID, to_json(made)).hex
    nodes.mark(node, role, provenance, told.get("measurements") or {}, run)
    voxels = slicer.util.arrayFromVolume(node)
    # Slicer turns the slices of a left-handed volume round when it reads it.
    if made[role].get("sha256") not in map(sha256_of, (voxels, voxels[::-1])):
        node.SetAttribute(nodes.CHANGED, "1")
    _name(node)
    nodes.file_in_folder(node.GetScene(), node, node)
