"""Results that are the frames of a sequence node: those of a sweep, or of a cine.

What made each frame is kept in an attribute of the sequence as well: every Slicer writes those into the file of a
sequence, while the names of the frames are lost there, in older Slicers their attributes too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import slicer.util

from . import nodes

SEQUENCE, BROWSER = "vtkMRMLSequenceNode", "vtkMRMLSequenceBrowserNode"
FRAMES = "MRDiffusion.Frames"
KINDS = (nodes.SWEEP, nodes.FRAME)
"""Attributes of a frame, which say where in its sequence it stands, and of the sequence, which they tell apart."""

ENTRIES = {"name", "role", "run", "where", "provenance", "measurements"}
"""What is kept of a frame."""


def new(scene: Any, name: str, kind: str, inputs: Iterable[Any]) -> Any:
    """An empty sequence for results.

    Args:
        kind: one of `KINDS`.
        inputs: volumes that the results are made from.
    """
    sequence = scene.AddNewNodeByClass(SEQUENCE, scene.GenerateUniqueName(name))
    sequence.SetAttribute(nodes.SYNTHETIC, "1")
    sequence.SetAttribute(kind, "1")
    for volume in inputs:
        sequence.AddNodeReferenceID(nodes.INPUT_REFERENCE, volume.GetID())
    return sequence


def add(sequence: Any, result: Any, value: str, where: dict[str, Any]) -> None:
    """Take a copy of a result into a sequence.

    Args:
        value: of the sequence's index.
        where: what sets this frame apart from the others, for a person.
    """
    result.SetAttribute(kind_of(sequence), json.dumps(where))
    sequence.SetDataNodeAtValue(result, value)
    made = {
        "name": result.GetName(),
        "role": result.GetAttribute(nodes.ROLE),
        "run": result.GetAttribute(nodes.RUN),
        "where": where,
        "provenance": nodes.provenance_of(result),
        "measurements": nodes.measurements_of(result),
    }
    adopt(sequence, kind_of(sequence), made["role"], {**frames_of(sequence), value: made})


def adopt(sequence: Any, kind: str, role: str, frames: dict[str, Any]) -> None:
    """Say on a sequence what its frames are and what made them, as `frames_of` gives it."""
    sequence.SetAttribute(nodes.SYNTHETIC, "1")
    sequence.SetAttribute(nodes.ROLE, role)
    sequence.SetAttribute(kind, "1")
    sequence.SetAttribute(FRAMES, json.dumps(frames))


def kind_of(sequence: Any) -> str:
    """One of `KINDS`."""
    return next(kind for kind in KINDS if sequence.GetAttribute(kind) is not None)


def frames_of(sequence: Any) -> dict[str, Any]:
    """Value of the index to what made the frame there; empty for sequences that are no results."""
    return json.loads(sequence.GetAttribute(FRAMES) or "{}")


def restore(sequence: Any) -> None:
    """Give frames back what they have lost in a file, and so does what a browser shows of them."""
    frames = frames_of(sequence)
    for number in range(sequence.GetNumberOfDataNodes()):
        frame, node = frames.get(sequence.GetNthIndexValue(number)), sequence.GetNthDataNode(number)
        if frame is not None and node is not None:
            _mark(node, kind_of(sequence), frame)
            node.SetName(frame["name"])
    for browser in slicer.util.getNodesByClass(BROWSER, sequence.GetScene()):
        shown, master = browser.GetProxyNode(sequence), browser.GetMasterSequenceNode()
        if shown is not None and master is not None:
            frame = frames.get(master.GetNthIndexValue(browser.GetSelectedItemNumber()))
            if frame is not None:
                _mark(shown, kind_of(sequence), frame)


def _mark(node: Any, kind: str, frame: dict[str, Any]) -> None:
    if node.GetAttribute(nodes.PROVENANCE) is None:
        nodes.mark(node, frame["role"], frame["provenance"], frame["measurements"], frame["run"])
    node.SetAttribute(kind, json.dumps(frame["where"]))


def browser_of(volume: Any) -> Any:
    """The browser that shows a sequence as this volume, frame by frame; None for a volume that stands alone."""
    scene = volume.GetScene()
    if scene is None or not scene.IsNodeClassRegistered(BROWSER):  # Slicer without its module Sequences
        return None
    found = (node for node in slicer.util.getNodesByClass(BROWSER, scene) if node.IsProxyNode(volume.GetID()))
    return next((node for node in found if node.GetSequenceNode(volume) is not None), None)


def sequence_of(volume: Any) -> Any:
    """The sequence of results that a browser shows as this volume; None for any other volume."""
    browser = browser_of(volume)
    sequence = None if browser is None else browser.GetSequenceNode(volume)
    return sequence if sequence is not None and sequence.GetAttribute(FRAMES) is not None else None


def remove(volume: Any) -> None:
    """Take a sequence of results out of the scene with the volume that shows it; what it plays along with stays."""
    scene, browser, sequence = volume.GetScene(), browser_of(volume), sequence_of(volume)
    browser.RemoveSynchronizedSequenceNode(sequence.GetID())  # or it would make another volume to show it
    if volume.GetScene() is not None:
        nodes.remove(volume)
    scene.RemoveNode(sequence)
    if browser.GetMasterSequenceNode() is None:
        scene.RemoveNode(browser)
