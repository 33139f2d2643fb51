"""All results of a sweep at a glance: their middle slices side by side, each with its settings, as one picture."""

from __future__ import annotations

import math
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import slicer.util
import vtk
from numpy.typing import NDArray
from vtk.util import numpy_support

from MRDiffusionLib.errors import StorageError

from . import nodes
from .text import _

LARGEST = 192
"""Pixels of the longer side of a result in the picture; smaller ones are enlarged by a whole number."""
LINE = 18
"""Height of a line of text in pixels."""
GAP = 4
SAMPLED = 500_000
"""Pixels at most, whose greys set the window: more would hold the panel up."""

Image = NDArray[np.uint8]


def add(sequence: Any, columns: int) -> Generator[None, None, Any]:
    """The picture of a sequence of volumes as a volume node of one slice, beside it in the scene.

    A generator, which gives way after each result, and returns the node.

    Args:
        columns: results in a row.
    """
    picture = yield from draw(sequence, columns)
    scene = sequence.GetScene()
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", f"{sequence.GetName()} contact sheet")
    # Row 0 is at the top, as slices are shown.
    slicer.util.updateVolumeFromArray(node, picture[None])
    node.SetIJKToRASDirections(-1, 0, 0, 0, -1, 0, 0, 0, 1)
    node.SetAttribute(nodes.SYNTHETIC, "1")
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevel(255.0, 127.5)
    source = sequence.GetNodeReference(nodes.INPUT_REFERENCE)
    if source is not None:
        nodes.file_in_folder(scene, node, source)
    return node


def draw(sequence: Any, columns: int) -> Generator[None, None, Image]:
    """The picture (rows, columns), 0 to 255; gives way after each result."""
    count = sequence.GetNumberOfDataNodes()
    arrays = [slicer.util.arrayFromVolume(sequence.GetNthDataNode(number)) for number in range(count)]
    slices = [np.asarray(array[len(array) // 2], np.float32) for array in arrays]
    step = 1 + math.isqrt(sum(image.size for image in slices) // SAMPLED)
    low, high = np.percentile(np.concatenate([image[::step, ::step].ravel() for image in slices]), (1, 99.5))
    spacing = sequence.GetNthDataNode(0).GetSpacing()
    tiles = []
    for number, image in enumerate(slices):
        grey = np.clip((image - low) / max(high - low, 1e-9), 0, 1) * 255
        tiles.append(_tile(grey.astype(np.uint8), spacing, sequence.GetNthIndexValue(number)))
        yield
    height, width = (max(tile.shape[axis] for tile in tiles) for axis in (0, 1))
    rows = -(-count // columns)
    picture = np.zeros((rows * (height + GAP), columns * (width + GAP)), np.uint8)
    for number, tile in enumerate(tiles):
        y, x = (number // columns) * (height + GAP), (number % columns) * (width + GAP)
        picture[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
    heading = text(f"{nodes.WORD}  {_('not for diagnosis')}", picture.shape[1])
    return np.concatenate([heading, picture])


def save(node: Any, path: Path) -> None:
    """Write the picture as PNG. Raises StorageError."""
    array = np.ascontiguousarray(slicer.util.arrayFromVolume(node)[0][::-1])  # VTK's first row is at the bottom
    image = vtk.vtkImageData()
    image.SetDimensions(array.shape[1], array.shape[0], 1)
    image.GetPointData().SetScalars(numpy_support.numpy_to_vtk(array.ravel(), deep=True))
    writer = vtk.vtkPNGWriter()
    writer.SetFileName(str(path))
    writer.SetInputData(image)
    if path.parent.is_dir():
        writer.Write()
    if writer.GetErrorCode() or not path.is_file():
        raise StorageError(_("{file} cannot be written").format(file=path), _("Choose another place"))


def text(sentence: str, width: int) -> Image:
    """A line of text on black, (LINE, width); what does not fit is cut."""
    properties = vtk.vtkTextProperty()
    properties.SetFontSize(12)
    properties.SetColor(1, 1, 1)
    image, size = vtk.vtkImageData(), [0, 0]
    line = np.zeros((LINE, width), np.uint8)
    renderer = vtk.vtkTextRenderer.GetInstance()
    # Not as mathematics, which VTK takes a text with "|" for, where Matplotlib is installed.
    if renderer is None or not renderer.RenderString(properties, sentence, image, size, 72, renderer.FreeType):
        return line
    columns, rows, _slices = image.GetDimensions()
    alpha = numpy_support.vtk_to_numpy(image.GetPointData().GetScalars()).reshape(rows, columns, -1)[:, :, 3]
    # Its first row is the lowest, and the picture is as large as a power of two.
    drawn = alpha[: size[1], : size[0]][::-1]
    height, length = min(LINE, drawn.shape[0]), min(width, drawn.shape[1])
    line[LINE - height :, :length] = drawn[-height:, :length]
    return line


def _tile(grey: Image, spacing: tuple[float, float, float], label: str) -> Image:
    """A slice with square pixels, enlarged, and its label above it."""
    rows, columns = grey.shape
    height, width = rows * spacing[1], columns * spacing[0]
    scale = LARGEST / max(height, width)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    y, x = (np.minimum((np.arange(new) + 0.5) * old / new, old - 1).astype(int) for new, old in zip(size, grey.shape))
    return np.concatenate([text(label, size[1]), grey[y][:, x]])
