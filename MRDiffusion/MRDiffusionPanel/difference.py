"""Volumes of differences: what a run has changed, its result less its input; `comparison` makes others.

The voxels come from another thread than the nodes: in a large volume they take long, to copy as well.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer.util
from numpy.typing import NDArray

from . import grids, nodes
from .volume_files import image_of

SAME_KIND = ("degradation", "enhancement")
"""Tasks whose result is its input with other intensities."""


def comparable(result: Any) -> bool:
    """Whether a result has its input, on the same grid, beside it."""
    if result is None or result.GetScene() is None:
        return False
    given, provenance = nodes.input_of(result), nodes.provenance_of(result) or {}
    return provenance.get("request", {}).get("task") in SAME_KIND and given is not None and grids.same(given, result)


@dataclass(frozen=True)
class Difference:
    """One image less another, and how to draw it.

    Attributes:
        image: vtkImageData, float32; NaN where there is nothing to compare with, which is not drawn.
        window: within which 99 % of the values lie.
        limits: least and largest value where some are NaN; else None.
    """

    image: Any
    window: float
    limits: tuple[float, float] | None


def measured(values: NDArray[np.float32]) -> Difference:
    """A difference of these values, (slices, rows, columns)."""
    image, known = image_of(values), values[np.isfinite(values)]
    if not known.size:  # of a result with no number in it
        return Difference(image, 1.0, None)
    limits = None if known.size == values.size else (float(known.min()), float(known.max()))
    return Difference(image, 2 * max(float(np.percentile(np.abs(known), 99)), 1e-6), limits)


def of_run(result: Any) -> Callable[[], Difference]:
    """What computes a result less its input, outside of the main thread. `comparable` must hold."""
    return functools.partial(
        _less, slicer.util.arrayFromVolume(result), slicer.util.arrayFromVolume(nodes.input_of(result))
    )


def _less(made: NDArray[Any], given: NDArray[Any]) -> Difference:
    return measured(made.astype(np.float32) - given.astype(np.float32))


def add_difference(result: Any, found: Difference) -> Any:
    """The result less its input as a new node beside it, grey where they agree."""
    name = result.GetName().replace(nodes.WORD, f"{nodes.WORD} difference,", 1)
    return add_node(name, found, result, nodes.input_of(result))


def add_node(name: str, found: Difference, result: Any, less: Any) -> Any:
    """A new node beside a result: its difference from the node `less`, zero in the middle of the grey levels."""
    scene = result.GetScene()
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", scene.GenerateUniqueName(name))
    node.CopyOrientation(result)
    node.SetAndObserveImageData(found.image)
    made = nodes.provenance_of(result) or {}, nodes.measurements_of(result)
    nodes.mark(node, "difference", *made, result.GetAttribute(nodes.RUN))
    node.AddNodeReferenceID(nodes.INPUT_REFERENCE, less.GetID())
    node.SetAndObserveTransformNodeID(result.GetTransformNodeID())
    display = nodes.give_shades(node, found.window, 0.0)
    if found.limits is not None:  # NaN lies in no range
        display.AutoThresholdOff()
        display.SetThreshold(*found.limits)
        display.ApplyThresholdOn()
    nodes.file_in_folder(scene, node, result)
    return node
