"""MRML nodes of results: their name, mark, provenance, display and folder. Works in any MRML scene."""

from __future__ import annotations

import json
import uuid
from typing import Any

import numpy as np
import slicer
import slicer.util
from numpy.typing import NDArray

from . import grids
from .volume_files import Incoming

WORD = "SYNTHETIC"
SYNTHETIC = "MRDiffusion.Synthetic"
ROLE = "MRDiffusion.Role"
PROVENANCE = "MRDiffusion.Provenance"
MEASUREMENTS = "MRDiffusion.Measurements"
RUN = "MRDiffusion.Run"
"""Attribute: the run that a node came from, by a name that no other run has; copies of a result have it in common."""
CHANGED = "MRDiffusion.Changed"
"""Attribute of a volume whose file was no longer as it had been saved when it was loaded."""
FOLDER = "SYNTHETIC (MRDiffusion)"  # never translated, as the word in names and views
INPUT_REFERENCE = "MRDiffusion.Input"
TRUTH = "MRDiffusion.Truth"
"""Node reference of a sample to the volume that what is made of it can be compared with, and attribute of that one."""
MADE_WITH = "MRDiffusion.MadeWith"
"""Attribute of a result: the choices that its name ends with, which a person may change."""
PREVIEW = "MRDiffusion.Preview"
SWEEP = "MRDiffusion.Sweep"
FRAME = "MRDiffusion.Frame"
"""Attribute of a result that is a frame of a cine."""
GREY = "vtkMRMLColorTableNodeGrey"
DEVIATION_COLOURS = "vtkMRMLColorTableNodeFileInferno.txt"


def add_results(
    scene: Any,
    volumes: dict[str, Incoming],
    names: dict[str, str],
    inputs: list[Any],
    provenance: dict[str, Any],
    measurements: dict[str, Any],
    keeps_contrast: bool = True,
    folder: bool = True,
) -> dict[str, Any]:
    """Add the volumes of one run to the scene.

    Args:
        scene: vtkMRMLScene.
        volumes: role to what was read.
        names: role to node name.
        inputs: nodes that the run was given. Transform and folder of the first are taken over; none is changed.
        provenance: kept with every node.
        measurements: kept with every node.
        keeps_contrast: whether the result looks like the first input and takes over its display; otherwise window and
            level are found in the result.
        folder: whether they belong into the folder of results; a preview does not.

    Returns:
        Role to node.
    """
    if scene.GetUndoFlag():
        scene.SaveStateForUndo()
    nodes, beside, run = {}, inputs[0], new_run()
    for role, read in volumes.items():
        volume = slicer.vtkMRMLScalarVolumeNode()
        volume.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(grids.FLIP @ read.affine))
        volume.SetAndObserveImageData(read.image)
        volume.SetName(free_name(scene, names[role]))
        volume.SetUndoEnabled(True)
        mark(volume, role, provenance, measurements, run)
        volume.SetAttribute(MADE_WITH, names[role].partition("; ")[2])
        if not folder:
            volume.SetAttribute(PREVIEW, "1")
        node = nodes[role] = scene.AddNode(volume)
        for each in inputs:
            node.AddNodeReferenceID(INPUT_REFERENCE, each.GetID())
        node.SetAndObserveTransformNodeID(beside.GetTransformNodeID())
        give_display(node, role, beside if keeps_contrast else None, (read.window, read.level))
        if folder:
            file_in_folder(scene, node, beside)
    return nodes


def form(node: Any, image: NDArray[np.float32], affine: NDArray[np.float64], beside: Any, name: str) -> Any:
    """A slice as it is in the midst of the denoising, as a node that is made for the first one and filled anew.

    Args:
        node: of the image before, or None.
        image: (rows, columns).
        affine: (4, 4), from (column, row, 0, 1) to LPS mm.
        beside: the input, whose transform is taken over.
        name: of the node.
    """
    scene = beside.GetScene()
    if node is None or node.GetScene() is None:
        made = slicer.vtkMRMLScalarVolumeNode()
        made.SetName(scene.GenerateUniqueName(name))
        made.SetAttribute(SYNTHETIC, "1")
        made.SetAttribute(PREVIEW, "1")
        made.SetSaveWithScene(False)
        made.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(grids.FLIP @ affine))
        slicer.util.updateVolumeFromArray(made, image[None])
        node = scene.AddNode(made)
        node.SetAndObserveTransformNodeID(beside.GetTransformNodeID())
        node.CreateDefaultDisplayNodes()
        return node
    slicer.util.updateVolumeFromArray(node, image[None])
    return node


def free_name(scene: Any, name: str) -> str:
    """A name that no other node has; a scene itself would number it also after nodes that have gone."""
    return name if scene.GetFirstNodeByName(name) is None else str(scene.GenerateUniqueName(name))


def is_synthetic(node: Any) -> bool:
    """Whether a node was made by this program; of a file that has lost its sidecar, only the name may tell."""
    return node is not None and (node.GetAttribute(SYNTHETIC) is not None or (node.GetName() or "").startswith(WORD))


def inputs_of(node: Any) -> list[Any]:
    """The volumes that a result was made from, of those that are still in the scene, in the order of the request."""
    count = node.GetNumberOfNodeReferences(INPUT_REFERENCE)
    found = (node.GetNthNodeReference(INPUT_REFERENCE, number) for number in range(count))
    return [volume for volume in found if volume is not None]


def input_of(node: Any) -> Any:
    """The first volume that a result was made from, or None where it has left the scene."""
    return node.GetNodeReference(INPUT_REFERENCE)


def truth_of(volume: Any) -> Any:
    """The volume that what is made of a sample can be compared with; None for other volumes."""
    return volume.GetNodeReference(TRUTH)


def is_truth(volume: Any) -> bool:
    """Whether it came with a sample for that."""
    return volume.GetAttribute(TRUTH) is not None


def provenance_of(node: Any) -> dict[str, Any] | None:
    """What made a result, or None for other nodes."""
    text = node.GetAttribute(PROVENANCE)
    return None if text is None else json.loads(text)


def measurements_of(node: Any) -> dict[str, Any]:
    """What was measured while a result was made."""
    return json.loads(node.GetAttribute(MEASUREMENTS) or "{}")


def copy_display(source: Any, target: Any) -> None:
    """Window, level, colours, interpolation and thresholds of one volume for another."""
    if source.GetDisplayNode() is not None:
        _copy_shades(source.GetDisplayNode(), target.GetDisplayNode())


def _copy_shades(source: Any, target: Any) -> None:
    """Not `CopyContent`, which looks for the window in all voxels again."""
    target.SetAndObserveColorNodeID(source.GetColorNodeID())
    target.SetInterpolate(source.GetInterpolate())
    target.SetInvertDisplayScalarRange(source.GetInvertDisplayScalarRange())
    target.AutoWindowLevelOff()
    target.SetWindowLevel(source.GetWindow(), source.GetLevel())
    if source.GetApplyThreshold():
        target.AutoThresholdOff()
        target.SetThreshold(source.GetLowerThreshold(), source.GetUpperThreshold())
        target.ApplyThresholdOn()


def give_display(node: Any, role: str, like: Any = None, shades: tuple[float, float] | None = None) -> None:
    """A display for a result, or in colours with a legend for what belongs to it.

    Args:
        like: the volume whose display a result takes over, or None.
        shades: window and level otherwise; by default they are looked for, which takes long in a large volume.
    """
    if role == "result" and like is not None and like.GetDisplayNode() is not None:
        display = slicer.vtkMRMLScalarVolumeDisplayNode()
        _copy_shades(like.GetDisplayNode(), display)
        _add_display(display, node)
        return
    if shades is None:
        node.CreateDefaultDisplayNodes()
    else:
        give_shades(node, *shades)
    if role != "result":
        give_colours(node)


def give_colours(node: Any) -> None:
    """Colours and a legend for a volume with a display, if it is still grey."""
    display = node.GetDisplayNode()
    if display.GetColorNodeID() in (None, GREY):
        if node.GetScene().GetNodeByID(DEVIATION_COLOURS) is not None:
            display.SetAndObserveColorNodeID(DEVIATION_COLOURS)
        add_legend(node)


def give_shades(node: Any, window: float, level: float) -> Any:
    """A grey display with this window and level, which Slicer does not have to look for."""
    display = slicer.vtkMRMLScalarVolumeDisplayNode()
    display.SetDefaultColorMap()
    display.AutoWindowLevelOff()
    display.SetWindowLevel(window, level)
    _add_display(display, node)
    return display


def _add_display(display: Any, node: Any) -> None:
    node.GetScene().AddNode(display)
    node.SetAndObserveDisplayNodeID(display.GetID())


def add_legend(node: Any) -> None:
    """A bar of colours with numbers in the views that show a volume, where the application can draw one."""
    logic = _colours()
    if logic is not None:
        legend = logic.AddDefaultColorLegendDisplayNode(node)
        if legend is not None:
            legend.SetTitleText("")
            legend.SetLabelFormat("%.3g")


def _colours() -> Any:
    """The logic of Slicer's module Colors, or None without the application."""
    logic = getattr(getattr(slicer.modules, "colors", None), "logic", None)
    return None if logic is None else logic()


def file_in_folder(scene: Any, node: Any, beside: Any) -> None:
    """Put a node into the folder of results.

    Args:
        beside: the input, where the folder lies (in its study, if it has one), or a result, which lies in the folder.
    """
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    if hierarchy is None:
        return
    neighbour = hierarchy.GetItemByDataNode(beside)
    place = hierarchy.GetItemParent(neighbour) if neighbour else hierarchy.GetSceneItemID()
    if hierarchy.GetItemName(place) == FOLDER:
        folder = place
    else:
        folder = hierarchy.GetItemChildWithName(place, FOLDER) or hierarchy.CreateFolderItem(place, FOLDER)
    item = hierarchy.GetItemByDataNode(node)
    if item:
        hierarchy.SetItemParent(item, folder)
    else:  # without the application nothing makes items for new nodes
        hierarchy.CreateItem(folder, node)


def remove(node: Any) -> None:
    """Take a node out of its scene and out of the subject hierarchy, which outside the application does not notice."""
    scene, logic = node.GetScene(), _colours()
    legend = None if logic is None else logic.GetColorLegendDisplayNode(node)
    if legend is not None:  # it would stay in the views
        scene.RemoveNode(legend)
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    item = hierarchy.GetItemByDataNode(node) if hierarchy is not None else 0
    if item:
        # Not with the node: it would stay in the hierarchy's cache, for another one at the same address to be found.
        hierarchy.RemoveItem(item, False, False)
    scene.RemoveNode(node)


def first_input(scene: Any) -> Any:
    """The first scalar volume that was not made by this program, or None."""
    for number in range(scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")):
        node = scene.GetNthNodeByClass(number, "vtkMRMLScalarVolumeNode")
        if node.GetClassName() == "vtkMRMLScalarVolumeNode" and not is_synthetic(node):
            return node
    return None


def new_run() -> str:
    """A name for a run that no other has."""
    return uuid.uuid4().hex


def mark(node: Any, role: str, provenance: dict[str, Any], measurements: dict[str, Any], run: str | None) -> None:
    """Say on a node that it is synthetic, what it is, and what made it.

    Args:
        run: what its results have in common (`new_run`); None where nobody knows.
    """
    node.SetAttribute(SYNTHETIC, "1")
    node.SetAttribute(ROLE, role)
    node.SetAttribute(PROVENANCE, json.dumps(provenance))
    node.SetAttribute(MEASUREMENTS, json.dumps(measurements))
    node.SetAttribute(RUN, run)
