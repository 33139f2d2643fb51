"""A result beside a real image: figures from the worker, the difference, and the numbers behind the plots."""

from __future__ import annotations

import csv
import io
import json
import shutil
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import slicer.util
from numpy.typing import NDArray

from MRDiffusionLib.errors import InputError
from MRDiffusionLib.worker.folder import PrivateFolder

from . import difference, grids, nodes
from .background import Background
from .parameters import image_problem
from .signals import Signal
from .text import _
from .volume_files import Outgoing, not_written, taken

FIGURES = "MRDiffusion.Comparison"
"""Attribute of a result: what it was last compared with, and the figures."""
MEASURES = (
    ("psnr_db", _("PSNR (dB)"), "{:.2f}"),
    ("ssim", _("SSIM"), "{:.4f}"),
    ("ms_ssim", _("MS-SSIM"), "{:.4f}"),
    ("haarpsi", _("HaarPSI"), "{:.4f}"),
    ("mae", _("MAE"), "{:.4g}"),
    ("nrmse", _("NRMSE"), "{:.4f}"),
    ("voxels", _("voxels"), "{:d}"),
)
"""Entry of the figures, title and format."""
DIVERGING = "vtkMRMLColorTableNodeFileDivergingBlueRed.txt"
FAR = 3.0
"""How many times above or below its noise a residual in k-space says that something is wrong; the shipped pack reaches
0.7 to 1.2 (docs/results/superresolution.md)."""
PARALLEL = 1e-3
"""How far, in voxels for each voxel, axes of two grids may be apart to count as parallel."""


class Apart(InputError):
    """A reference shows nothing of a result. Its text is looked up where it is told: other threads must not."""

    def __str__(self) -> str:
        text = _("the reference and the result show different places; choose another reference")
        return str(text)


Row = tuple[str, str, str]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Voxels:
    """A volume as numbers, taken from its node in the main thread: another thread must not touch nodes.

    Attributes:
        array: (slices, rows, columns).
        spacing: of columns, rows and slices, mm.
    """

    array: NDArray[Any]
    spacing: tuple[float, float, float]


@dataclass(frozen=True)
class Pair:
    """A result and a reference. All that is computed with them takes long in a large volume, and so does loading SciPy.

    Attributes:
        made, reference: the two.
        to_index: voxel of the result (column, row, slice, 1) to that of the reference, (4, 4); None on the same grid.
    """

    made: Voxels
    reference: Voxels
    to_index: NDArray[np.float64] | None

    def true(self) -> Floats:
        """The reference's intensities where the result's voxels lie, linear in between; NaN where it shows nothing.

        Raises:
            Apart: it shows nothing of the result.
        """
        values = np.asarray(self.reference.array, np.float32)
        if self.to_index is None:
            return values
        from scipy import ndimage

        slices, rows, columns = self.made.array.shape
        found = np.empty((slices, rows, columns), np.float32)
        y, x = np.mgrid[:rows, :columns]
        limit = np.array(values.shape)[::-1, None] - 0.5
        for number in range(slices):  # a slice at a time, for the memory
            index = self.to_index @ np.stack([x.ravel(), y.ravel(), np.full(x.size, number), np.ones(x.size)])
            sampled = ndimage.map_coordinates(values, index[2::-1], order=1, mode="nearest")
            outside = ((index[:3] < -0.5) | (index[:3] > limit)).any(0)
            sampled[outside] = np.nan
            found[number] = sampled.reshape(rows, columns)
        if not np.isfinite(found).any():
            raise Apart("")
        return found

    def brightness(self) -> float:
        """By what the result is multiplied to be as bright as the reference, as least squares says; 1 for nothing."""
        made, true = np.asarray(self.made.array, np.float64), self.true()
        seen = np.isfinite(true)
        power, shared = float((made[seen] ** 2).sum()), float((made[seen] * true[seen]).sum())
        return shared / power if power > 0 and shared > 0 else 1.0

    def values(self, matched: bool = False) -> NDArray[np.float64]:
        """The result's intensities, `matched` multiplied by `brightness`."""
        return (self.brightness() if matched else 1.0) * np.asarray(self.made.array, np.float64)

    def difference(self, matched: bool = False) -> difference.Difference:
        """Result less reference, NaN where the reference shows nothing."""
        return difference.measured((self.values(matched) - self.true()).astype(np.float32))

    def own_reference(self) -> Voxels | None:
        """The reference's own voxels where the result lies, not resampled; None where its axes are turned."""
        if self.to_index is None:
            return self.reference
        scale = self.to_index[:3, :3]
        if np.abs(scale - np.diag(np.diag(scale))).max() > PARALLEL:
            return None
        size = np.array(self.made.array.shape[::-1])
        corners = [self.to_index[:3, :3] @ end + self.to_index[:3, 3] for end in (-0.5 * np.ones(3), size - 0.5)]
        first = np.maximum(np.rint(np.min(corners, 0) + 0.5), 0).astype(int)
        last = np.rint(np.max(corners, 0) + 0.5).astype(int)
        part = tuple(slice(low, high) for low, high in zip(first[::-1], last[::-1]))
        cut = self.reference.array[part]
        return Voxels(cut, self.reference.spacing) if min(cut.shape[1:], default=0) > 1 and len(cut) else None


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
        self._worker, self._background = worker, Background()
        self._count, self._pending, self._with_worker = 0, "", False
        self._test: Any = None
        self._reference = self._within = ""
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
            matched: multiply the result by `Pair.brightness` first.

        Raises:
            UserError: volumes that cannot be compared.
        """
        pair = pair_of(test, reference)
        self._folder = self._folder or PrivateFolder()
        self._count += 1
        pending = f"compare-{self._count}"
        folder, volumes = self._folder.path / pending, _volumes(test, reference, segment)
        files = {role: folder / f"{role}.nrrd" for role in volumes}
        try:
            folder.mkdir()  # here: another thread could make it after a cancel has removed it
        except OSError as error:
            raise not_written(volumes.values(), folder.parent, error) from error
        message = {"type": "evaluate", "id": pending, **{role: str(path) for role, path in files.items()}}

        def prepare() -> float:
            for role, path in files.items():
                volumes[role].write(path)
            return pair.brightness() if matched else 1.0

        def send(factor: Future[float]) -> None:
            if self._pending != pending:  # it has ended meanwhile, and a file may have been made after it
                shutil.rmtree(folder, ignore_errors=True)
                return
            try:
                whole = {**message, "factor": factor.result()}
            except Exception as error:  # a slot's exception would only be printed, and the panel would wait for ever
                problem = not_written(volumes.values(), folder.parent, error) if isinstance(error, OSError) else error
                self._end(_("Failed: {message}").format(message=problem), {})
                return
            self._with_worker = True
            self._worker.send(whole)

        self._with_worker = False
        self._pending, self._test, self._reference = pending, test, reference.GetName()
        self._within = _segment_name(*segment) if segment is not None else ""
        self._become(_("Comparing {test} with {reference}").format(test=test.GetName(), reference=self._reference), {})
        self._background.run(prepare, send)

    def cancel(self) -> None:
        """Wait for the figures no more."""
        if self._pending:
            if self._with_worker:
                self._worker.send({"type": "cancel", "id": self._pending})  # by force it would take other runs along
            self._end(_("Cancelled"), {})

    def close(self) -> None:
        """Leave nothing behind."""
        self._worker.message.disconnect(self._on_message)
        self._worker.ended.disconnect(self._on_ended)
        self._background.close()
        if self._folder is not None:
            self._folder.close()

    def _on_message(self, message: dict[str, Any]) -> None:
        if not self._pending or message.get("id") != self._pending:
            return
        if message["type"] == "evaluation":
            figures, test = message["figures"], self._test
            if test.GetScene() is not None:
                test.SetAttribute(FIGURES, json.dumps({"with": self._reference, "within": self._within, **figures}))
            self._end(_("Compared with {reference}").format(reference=self._reference), figures)
        elif message["type"] == "error":
            self._end(_("Failed: {message}").format(message=f"{message['message']}. {message['hint']}".strip(". ")), {})

    def _on_ended(self, message: str, hint: str, _details: str) -> None:
        if self._pending and self._with_worker:
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
    """The figures that a result was last compared with; 'with' and 'within', the names of the reference and of the
    segment; empty where it never was."""
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


def k_space_note(result: Any) -> str:
    """What it means where a super-resolution's residual is far from its noise; empty where it is not."""
    ratio = nodes.measurements_of(result).get("residual_over_noise")
    if ratio is None or 1 / FAR <= ratio <= FAR:
        return ""
    if ratio > FAR:
        text = _(
            "The residual in k-space is {ratio:.1f} times the noise, far above 1: the result does not agree with what "
            "was measured. Raise the data weight, or choose another method."
        )
    else:
        text = _(
            "The residual in k-space is {ratio:.2f} times the noise, far below 1: the result repeats the noise of the "
            "input. Lower the data weight, or give the noise that the input has."
        )
    return text.format(ratio=ratio)


def table_of(result: Any) -> list[tuple[str, ...]]:
    """The figures of a result with their titles, for a spreadsheet; each row says what was compared with what."""
    kept = figures_of(result)
    about = (result.GetName(), kept.get("with", ""), kept.get("within", ""))
    titles = (_("result"), _("reference"), _("segment"), _("measure"), _("whole"), _("inside the segment"))
    return [titles, *((*about, *row) for row in all_rows(result))]


def all_rows(result: Any) -> list[Row]:
    """All figures that a result has."""
    return [*rows_of(figures_of(result)), *k_space_rows(result)]


def as_csv(table: list[tuple[str, ...]]) -> str:
    """A table as text that spreadsheets read."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(table)
    return stream.getvalue()


def voxels_of(volume: Any) -> Voxels:
    """The numbers of a volume node."""
    return Voxels(slicer.util.arrayFromVolume(volume), volume.GetSpacing())


def pair_of(test: Any, reference: Any) -> Pair:
    """The numbers of two volume nodes. Raises InputError where they cannot be compared."""
    problem = pair_problem(test, reference)
    if problem:
        raise InputError(problem)
    to_index = None
    if not grids.same(reference, test):
        to_index = np.linalg.inv(grids.affine_beside(reference, test)) @ grids.affine(test)
    return Pair(voxels_of(test), voxels_of(reference), to_index)


def add_difference(test: Any, reference: Any, found: difference.Difference) -> Any:
    """A new node of `Pair.difference`, blue where the result is darker and red where it is brighter."""
    what = test.GetName().replace(nodes.WORD, "").split("; ")[0].strip()
    name = f"{nodes.WORD} difference, {what} less {reference.GetName()}"
    node = difference.add_node(name, found, test, reference)
    if test.GetScene().GetNodeByID(DIVERGING) is not None:
        node.GetDisplayNode().SetAndObserveColorNodeID(DIVERGING)
    nodes.add_legend(node)
    return node


def _segment_name(segmentation: Any, segment: str) -> str:
    return str(segmentation.GetSegmentation().GetSegment(segment).GetName())


def _volumes(test: Any, reference: Any, segment: tuple[Any, str] | None) -> dict[str, Outgoing]:
    """Role to what is compared, in the test volume's frame. Raises InputError."""
    found = {"test": taken(test), "reference": taken(reference, test)}
    if segment is not None:
        found["mask"] = taken(_mask(test, *segment))
    return found


def _mask(test: Any, segmentation: Any, segment: str) -> Any:
    """A segment on the grid of a volume, as a node without a scene, in that volume's frame."""
    array = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segment, test)
    if array is None or not array.any():
        name = _segment_name(segmentation, segment)
        raise InputError(
            _("the segment {name} lies outside of {volume}").format(name=name, volume=test.GetName()),
            _("Choose another segment"),
        )
    mask = slicer.vtkMRMLScalarVolumeNode()
    mask.CopyOrientation(test)
    slicer.util.updateVolumeFromArray(mask, array.astype(np.uint8))
    return mask
