"""The panel's settings in the scene: saved and restored with it, bound to the widgets both ways.

Each task says what it keeps there (`tasks.section.Stored`), with ranges and defaults from `MRDiffusionLib.settings`.
What super-resolution keeps has the names of the first version, so that old scenes can be read.
"""

from __future__ import annotations

from typing import Annotated, Any

import vtk
from slicer import vtkMRMLScalarVolumeNode
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper

from MRDiffusionLib.request import DEVICES

from .tasks import SECTIONS
from .tasks.section import Stored

LARGEST_SEED = 2**31 - 1

COMMON = {
    "task": Stored(str, "superresolution", choices=tuple(section.task for section in SECTIONS)),
    "seed": Stored(int, 0, 0, LARGEST_SEED),
    "newSeed": Stored(bool, False),
    "device": Stored(str, DEVICES[0], choices=DEVICES),
    "inputsFolded": Stored(bool, False),
    "modelFolded": Stored(bool, False),
    "samplingFolded": Stored(bool, True),
    "resultsFolded": Stored(bool, True),
    "compareFolded": Stored(bool, True),
    "sweepFolded": Stored(bool, True),
    "severalFolded": Stored(bool, True),
}
"""What all tasks share."""

FOLDS = {
    "inputsFolded": "inputsSection",
    "modelFolded": "modelSection",
    "samplingFolded": "samplingSection",
    "resultsFolded": "resultsSection",
    "compareFolded": "compareSection",
    "sweepFolded": "sweepSection",
    "severalFolded": "severalSection",
}
"""Parameter to the part of the panel that it folds; Slicer's binding does not know such widgets."""


def _hint(stored: Stored) -> Any:
    if stored.kind is None:
        return vtkMRMLScalarVolumeNode
    if stored.choices:
        return Annotated[str, Choice(list(stored.choices))]
    if stored.minimum is not None and stored.maximum is not None:
        return Annotated[stored.kind, WithinRange(stored.minimum, stored.maximum)]
    return stored.kind


def _described() -> type:
    """The class that Slicer's wrapper reads: a member with a type and a default for each parameter."""
    found = dict(COMMON)
    for section in SECTIONS:
        found.update(section.stored())
    members: dict[str, Any] = {name: stored.default for name, stored in found.items() if stored.kind is not None}
    members["__annotations__"] = {name: _hint(stored) for name, stored in found.items()}
    members["__doc__"] = "Typed access to the scene's parameter node."
    return type("ParameterNode", (), members)


ParameterNode: Any = parameterNodeWrapper(_described())


_idle: dict[Any, int] = {}
"""Node to its observer that does nothing (`wrapped`)."""


def wrapped(node: Any) -> Any:
    """A vtkMRMLScriptedModuleNode as `ParameterNode`; values that this version cannot read become the defaults."""
    # The wrapper remembers values and renews them by observers, and VTK calls the first observer last: an idle one in
    # that place, or the widgets would show the input that was there before the change.
    if not node.HasObserver(vtk.vtkCommand.ModifiedEvent):
        _idle[node] = node.AddObserver(vtk.vtkCommand.ModifiedEvent, _do_nothing)
    try:
        return ParameterNode(node)
    except (KeyError, TypeError, ValueError):
        for name in node.GetParameterNames():
            node.UnsetParameter(name)
        return ParameterNode(node)


def release(node: Any) -> None:
    """Take what `wrapped` has added from a node that is no longer used."""
    if node in _idle:
        node.RemoveObserver(_idle.pop(node))


def _do_nothing(*_arguments: Any) -> None:
    """An observer."""
