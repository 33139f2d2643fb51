"""Volumes of differences: what a run has changed, its result less its input; `comparison` makes others."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer.util
from numpy.typing import NDArray

from . import grids, nodes

SAME_KIND = ("degradation", "enhancement")
"""Tasks whose result is its input with other intensities."""


def comparable(result: Any) -> bool:
    """Whether a result has its input, on the same grid, beside it."""
    if result is None or result.GetScene() is None:
        return False
    given, provenance = nodes.input_of(result), nodes.provenance_of(result) or {}
    return provenance.get("request", {}).get("task") in SAME_KIND and given is not None and grids.same(given, result)


def add_difference(result: Any) -> Any:
    """The result less its input as a new node beside it, grey where they agree. `comparable` must hold."""
    given = nodes.input_of(result)
    values = slicer.util.arrayFromVolume(result) - slicer.util.arrayFromVolume(given).astype(np.float32)
    return add_node(result.GetName().replace(nodes.WORD, f"{nodes.WORD} difference,", 1), values, result, given)


def add_node(name: str, values: NDArray[np.float32], result: Any, less: Any) -> Any:
    """A new node beside a result: its difference from the node `less`, zero in the middle of the grey levels.

    Args:
        values: (slices, rows, columns); NaN where there is nothing to compare with, which is not drawn.
    """
    scene = result.GetScene()
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", scene.GenerateUniqueName(name))
    node.CopyOrientation(result)
    slicer.util.updateVolumeFromArray(node, values)
    made = nodes.provenance_of(result) or {}, nodes.measurements_of(result)
    nodes.mark(node, "difference", *made, result.GetAttribute(nodes.RUN))
    node.AddNodeReferenceID(nodes.INPUT_REFERENCE, less.GetID())
    node.SetAndObserveTransformNodeID(result.GetTransformNodeID())
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevel(2 * max(float(np.nanpercentile(np.abs(values), 99)), 1e-6), 0.0)
    if np.isnan(values).any():  # it lies in no range
        display.AutoThresholdOff()
        display.SetThreshold(float(np.nanmin(values)), float(np.nanmax(values)))
        display.ApplyThresholdOn()
    nodes.file_in_folder(scene, node, result)
    return node
