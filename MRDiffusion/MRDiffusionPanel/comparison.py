"""A result beside a real image: figures from the worker, the difference, and the numbers behind the plots."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import slicer.util
from numpy.typing import NDArray

from MRDiffusionLib.errors import InputError, UserError
from MRDiffusionLib.worker.folder import PrivateFolder

from . import difference, grids, nodes
from .parameters import image_problem
from .signals import Signal
from .text import _

FIGURES = "MRDiffusion.Comparison"
"""Attribute of a result: what it was last compared with, and the figures."""
MEASURES = (
    ("psnr_db", "PSNR (dB)", "{:.2f}"),
    ("ssim", "SSIM", "{:.4f}"),
    ("ms_ssim", "MS-SSIM", "{:.4f}"),
    ("haarpsi", "HaarPSI", "{:.4f}"),
    ("mae", "MAE", "{:.4g}"),
    ("nrmse", "NRMSE", "{:.4f}"),
    ("voxels", "voxels", "{:d}"),
)
"""Entry of the figures, title and format."""
DIVERGING = "vtkMRMLColorTableNodeFileDivergingBlueRed.txt"
DRAWN = 4000
"""Voxels in a Bland-Altman plot."""

Row = tuple[str, str, str]
Floats = NDArray[np.float32]


class Comparison:
    """Compares one pair of volumes after the other.

    Args:
        worker: as of `logic.Logic`, which may use it at the same time.

    Attributes:
        message: what happens, for a person.
        figures: of the last comparison, as `evaluation.evaluate_volumes` gives them; empty before and meanwhile.
        changed: emits when one of these has changed.
    """

    def __init__(self, worker: Any) -> None:
        self.message, self.figures, self.changed = "", dict[str, Any](), Signal()
        self._worker = worker
        self._count, self._pending = 0, ""
        self._test: Any = None
        self._reference = ""
        self._folder: PrivateFolder | None = None
        worker.message.connect(self._on_message)
        worker.ended.connect(self._on_ended)

    @property
    def busy(self) -> bool:
        """Whether figures are on their way."""
        return bool(self._pending)

    def start(self, test: Any, reference: Any, segment: tuple[Any, str] | None = None, matched: bool = False) -> None:
        """Begin; returns at once.

        Args:
            test: the volume to judge.
            reference: a real image of the same place, on any grid.
            segment: a vtkMRMLSegmentationNode and the ID of one of its segments, to judge inside it as well.
            matched: multiply the result by `brightness` first.

        Raises:
            UserError: volumes that cannot be compared.
        """
        problem = pair_problem(test, reference)
        if problem:
            raise InputError(problem)
        self._folder = self._folder or PrivateFolder()
        self._count += 1
        pending = f"compare-{self._count}"
        message: dict[str, Any] = {"type": "evaluate", "id": pending}
        message.update(_export(self._folder.path / pending, test, reference, segment))
        message["factor"] = brightness(test, reference) if matched else 1.0
        self._pending, self._test, self._reference = pending, test, reference.GetName()
        self._become(_("Comparing {test} with {reference}").format(test=test.GetName(), reference=self._reference), {})
        self._worker.send(message)

    def cancel(self) -> None:
        """Wait for the figures no more."""
        if self._pending:
            self._worker.send({"type": "cancel", "id": self._pending})  # by force it would take other runs along
            self._end(_("Cancelled"), {})

    def close(self) -> None:
        """Leave nothing behind."""
        self._worker.message.disconnect(self._on_message)
        self._worker.ended.disconnect(self._on_ended)
        if self._folder is not None:
            self._folder.close()

    def _on_message(self, message: dict[str, Any]) -> None:
        if not self._pending or message.get("id") != self._pending:
            return
        if message["type"] == "evaluation":
            figures, test = message["figures"], self._test
            if test.GetScene() is not None:
                test.SetAttribute(FIGURES, json.dumps({"with": self._reference, **figures}))
            self._end(_("Compared with {reference}").format(reference=self._reference), figures)
        elif message["type"] == "error":
            self._end(_("Failed: {message}").format(message=f"{message['message']}. {message['hint']}".strip(". ")), {})

    def _on_ended(self, message: str, hint: str, _details: str) -> None:
        if self._pending:
            self._end(_("Failed: {message}").format(message=f"{message}. {hint}"), {})

    def _end(self, message: str, figures: dict[str, Any]) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder.path / self._pending, ignore_errors=True)
        self._pending, self._test = "", None
        self._become(message, figures)

    def _become(self, message: str, figures: dict[str, Any]) -> None:
        self.message, self.figures = message, figures
        self.changed.emit()


def pair_problem(test: Any, reference: Any) -> str:
    """Why two volumes cannot be compared; empty if they can."""
    if reference is test:
        return _("{name} is the result itself; choose another reference").format(name=test.GetName())
    for volume in (test, reference):
        if volume.GetScene() is None:
            return _("{name} is no longer in the scene").format(name=volume.GetName())
    problem = image_problem(reference)
    if problem:
        return problem
    if grids.transform_problem(reference, test):
        text = _("{name} is warped or sheared against the result; harden the transforms in the module Transforms")
        return text.format(name=reference.GetName())
    if grids.apart(reference, test):
        return _("{name} and the result show different places").format(name=reference.GetName())
    return ""


def figures_of(result: Any) -> dict[str, Any]:
    """The figures that a result was last compared with, and 'with', the reference's name; empty where it never was."""
    return json.loads(result.GetAttribute(FIGURES) or "{}")


def rows_of(figures: dict[str, Any]) -> list[Row]:
    """A table of figures: title, over the whole image, and inside the segment ('' without one)."""
    parts = [figures.get("whole", {}), figures.get("mask", {})]
    found = []
    for name, title, form in MEASURES:
        cells = [form.format(part[name]) if part.get(name) is not None else "" for part in parts]
        if any(cells):
            found.append((title, cells[0], cells[1]))
    return found


def k_space_rows(result: Any) -> list[Row]:
    """What a super-resolution says of its agreement with the measured k-space."""
    measured = nodes.measurements_of(result)
    found = []
    if measured.get("residual_over_noise") is not None:
        found.append((_("k-space residual / noise"), f"{measured['residual_over_noise']:.2f}", ""))
    if measured.get("residual_over_signal") is not None:
        found.append((_("k-space residual / signal"), f"{measured['residual_over_signal']:.2g}", ""))
    if measured.get("energy_outside") is not None:
        found.append((_("energy outside the measured band"), f"{measured['energy_outside']:.1%}", ""))
    return found


def as_csv(rows: list[Row]) -> str:
    """The table as text that spreadsheets read."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerows([(_("measure"), _("whole"), _("segment")), *rows])
    return stream.getvalue()


def on_grid_of(test: Any, reference: Any) -> Floats:
    """The reference's intensities where the result's voxels lie, linear in between; NaN where it shows nothing."""
    values = np.asarray(slicer.util.arrayFromVolume(reference), np.float32)
    if grids.same(reference, test):
        return values
    from scipy import ndimage  # it takes half a second, which nobody who opens the panel should wait

    to_index = np.linalg.inv(grids.affine_beside(reference, test)) @ grids.affine(test)
    columns, rows, slices = grids.size(test)
    found = np.empty((slices, rows, columns), np.float32)
    y, x = np.mgrid[:rows, :columns]
    limit = np.array(values.shape)[::-1, None] - 0.5
    for number in range(slices):  # a slice at a time, for the memory
        index = to_index @ np.stack([x.ravel(), y.ravel(), np.full(x.size, number), np.ones(x.size)])
        sampled = ndimage.map_coordinates(values, index[2::-1], order=1, mode="nearest")
        outside = ((index[:3] < -0.5) | (index[:3] > limit)).any(0)
        sampled[outside] = np.nan
        found[number] = sampled.reshape(rows, columns)
    return found


def brightness(test: Any, reference: Any) -> float:
    """By what a volume is multiplied to be as bright as a reference, in the sense of least squares; 1 for nothing."""
    made, true = np.asarray(slicer.util.arrayFromVolume(test), np.float64), on_grid_of(test, reference)
    seen = np.isfinite(true)
    power, shared = float((made[seen] ** 2).sum()), float((made[seen] * true[seen]).sum())
    return shared / power if power > 0 and shared > 0 else 1.0


def add_difference(test: Any, reference: Any, matched: bool = False) -> Any:
    """A new node: a volume less a reference on its grid, blue where it is darker and red where it is brighter.

    Args:
        matched: multiply the volume by `brightness` first.
    """
    problem = pair_problem(test, reference)
    if problem:
        raise UserError(problem)
    factor = np.float32(brightness(test, reference) if matched else 1.0)
    values = factor * np.asarray(slicer.util.arrayFromVolume(test), np.float32) - on_grid_of(test, reference)
    what = test.GetName().replace(nodes.WORD, "").split(" | ")[0].strip()
    name = f"{nodes.WORD} difference, {what} less {reference.GetName()}"
    node = difference.add_node(name, np.nan_to_num(values), test, reference)
    if test.GetScene().GetNodeByID(DIVERGING) is not None:
        node.GetDisplayNode().SetAndObserveColorNodeID(DIVERGING)
    nodes.add_legend(node)
    return node


def _export(folder: Path, test: Any, reference: Any, segment: tuple[Any, str] | None) -> dict[str, str]:
    """Role to file of what is compared, in the test volume's frame. Raises UserError, and leaves nothing then."""
    try:
        folder.mkdir()
        files = {role: str(folder / f"{role}.nrrd") for role in ("test", "reference")}
        for role, volume in (("test", test), ("reference", reference)):
            nodes.export_volume(volume, Path(files[role]), test)
        if segment is not None:
            files["mask"] = str(folder / "mask.nrrd")
            nodes.export_volume(_mask(test, *segment), Path(files["mask"]))
    except (UserError, OSError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise error if isinstance(error, UserError) else UserError(str(error)) from error
    return files


def _mask(test: Any, segmentation: Any, segment: str) -> Any:
    """A segment on the grid of a volume, as a node without a scene, in that volume's frame."""
    array = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segment, test)
    if array is None or not array.any():
        name = segmentation.GetSegmentation().GetSegment(segment).GetName()
        raise InputError(
            _("the segment {name} lies outside of {volume}").format(name=name, volume=test.GetName()),
            _("Choose another segment"),
        )
    mask = slicer.vtkMRMLScalarVolumeNode()
    mask.CopyOrientation(test)
    slicer.util.updateVolumeFromArray(mask, array.astype(np.uint8))
    return mask
