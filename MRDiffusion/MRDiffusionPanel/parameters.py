"""What a person has chosen, as plain values: captured at Apply, and checked before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from MRDiffusionLib.packs import PackInfo
from MRDiffusionLib.settings import SuperResolutionSettings

from .text import _

SMALLEST_MATRIX = 8


@dataclass(frozen=True)
class Parameters:
    """One run's choices; a later click does not change them.

    Attributes:
        input_volume: vtkMRMLScalarVolumeNode with (columns, rows, slices), or None.
        pack: the description of the chosen pack, or None where `pack_name` is not installed.
        pack_name: its name; empty for none.
        settings: of the task.
        seed: 0 or more.
        device: as in `Request`.
    """

    input_volume: Any
    pack: PackInfo | None
    pack_name: str
    settings: SuperResolutionSettings
    seed: int = 0
    device: str = "auto"

    def problem(self) -> str:
        """Why a run cannot start, and what to do about it, in one sentence; empty if it can."""
        return self._pack_problem() or self._input_problem() or self._matrix_problem()

    def warning(self) -> str:
        """What the chosen pack has not seen; empty for nothing to warn of. Only where `problem` is empty."""
        assert self.pack is not None
        spacing, (columns, rows, _slices) = self.input_volume.GetSpacing(), self._size()
        wanted = self.settings.matrix
        pixel = (spacing[1] * rows / wanted[0], spacing[0] * columns / wanted[1])
        if not self.pack.unseen_pixel_sizes(pixel):
            return ""
        text = _("The result's pixels would be {pixel} mm; this pack has seen {seen} mm: detail may be invented.")
        return text.format(pixel=_by(pixel), seen=_by(self.pack.pixel_size_mm))

    def summary(self) -> str:
        """What a run would do, in a few words. Only where `problem` is empty."""
        columns, rows, slices = self._size()
        return _("{slices} slices of {old} become {new}").format(
            slices=slices, old=_by((rows, columns)), new=_by(self.settings.matrix)
        )

    def _size(self) -> tuple[int, int, int]:
        columns, rows, slices = self.input_volume.GetImageData().GetDimensions()
        return columns, rows, slices

    def _pack_problem(self) -> str:
        if self.pack is not None:
            return ""
        if self.pack_name:
            return _("pack {name} is not installed; choose another").format(name=self.pack_name)
        return _("no pack is installed; put one into the packs folder")

    def _input_problem(self) -> str:
        if self.input_volume is None:
            return _("choose a low-resolution volume, or load the sample")
        name, image = self.input_volume.GetName(), self.input_volume.GetImageData()
        if image is None or image.GetNumberOfPoints() == 0:
            return _("{name} holds no image; choose another volume").format(name=name)
        if image.GetNumberOfScalarComponents() != 1:
            return _("{name} is a colour or vector image; choose a magnitude image").format(name=name)
        low, high = image.GetScalarRange()
        if low == high:
            return _("{name} is {value:g} everywhere; choose a volume with an image").format(name=name, value=low)
        columns, rows, _slices = self._size()
        if min(columns, rows) < SMALLEST_MATRIX:
            return _("{name} has slices of {rows} x {columns} pixels, too small; choose another volume").format(
                name=name, rows=rows, columns=columns
            )
        return ""

    def _matrix_problem(self) -> str:
        assert self.pack is not None
        columns, rows, _slices = self._size()
        wanted, made = self.settings.matrix, self.pack.matrix
        if rows > wanted[0] or columns > wanted[1]:
            return _("the target matrix {wanted} is smaller than the input's {rows} x {columns}").format(
                wanted=_by(wanted), rows=rows, columns=columns
            )
        if tuple(wanted) != tuple(made):
            return _("the target matrix is {wanted}; this pack makes {made}").format(wanted=_by(wanted), made=_by(made))
        return ""


def _by(pair: tuple[float, float]) -> str:
    return " x ".join(f"{number:.3g}" if isinstance(number, float) else str(number) for number in pair)
