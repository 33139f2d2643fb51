"""What a person has chosen, as plain values: captured at Apply, and checked before."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from MRDiffusionLib.packs import PackInfo
from MRDiffusionLib.request import Request
from MRDiffusionLib.settings import Settings

from . import nodes
from .text import _

SMALLEST_MATRIX = 8
QUICK_STEPS = 10


@dataclass(frozen=True)
class Parameters(ABC):
    """One run's choices; a later click does not change them. Each task has its own class of them.

    Attributes:
        task: as in `Request`.
        keeps_contrast: whether a result looks like its input, so that it is shown with the input's window and level.
        inputs: role to vtkMRMLScalarVolumeNode, of what is given; the result lies where the first one lies.
        pack: the description of the chosen pack, or None where `pack_name` is not installed.
        pack_name: its name; empty for none.
        settings: of the task.
        seed: 0 or more.
        device, precision, batch, slices: as in `Request`.
    """

    task: ClassVar[str]
    keeps_contrast: ClassVar[bool]

    inputs: dict[str, Any]
    pack: PackInfo | None
    pack_name: str
    settings: Settings
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    batch: int = 0
    slices: tuple[int, ...] | None = None

    def problem(self) -> str:
        """Why a run cannot start, and what to do about it, in one sentence; empty if it can."""
        images = (image_problem(volume) for volume in self.inputs.values())
        return self.pack_problem() or self._nothing_given() or next(filter(None, images), "") or self._own_problem()

    def gone(self) -> str:
        """Which volume has left the scene since it was captured; empty where none has."""
        names = [volume.GetName() for volume in self.inputs.values() if volume.GetScene() is None]
        return _("{name} is no longer in the scene; choose another volume").format(name=names[0]) if names else ""

    def cautions(self) -> list[str]:
        """What a person should know of this task whatever is chosen, a sentence each."""
        return []

    @abstractmethod
    def warnings(self) -> list[str]:
        """What is unusual about these choices, a sentence each. Only where `problem` is empty."""

    @abstractmethod
    def summary(self) -> str:
        """What a run would do, in a few words. Only where `problem` is empty."""

    @abstractmethod
    def result_name(self, role: str, input_name: str) -> str:
        """Name of a result's node. SYNTHETIC comes first: Slicer cuts long names in the middle.

        Args:
            role: 'result' or 'standard_deviation'.
            input_name: the first input's name when the run began.
        """

    def quick(self) -> Parameters:
        """The same for a preview: one sample, in few steps."""
        steps = min(self.settings.steps, QUICK_STEPS)
        return replace(self, settings=replace(self.settings, samples=1, steps=steps))

    def of_slice(self, number: int) -> Parameters:
        """The same for one slice of the first input, counted from 0."""
        return replace(self, slices=(number,))

    def request(self, files: dict[str, str], only_slice: int | None = None) -> Request:
        """What the worker gets. Raises SettingError.

        Args:
            files: role to path.
            only_slice: of the first input, counted from 0; None for all.
        """
        return Request(
            task=self.task,
            pack=self.pack_name,
            inputs=files,
            settings=self.settings,
            seed=self.seed,
            device=self.device,
            precision=self.precision,
            batch=self.batch,
            slices=self.slices if only_slice is None else (only_slice,),
        )

    @property
    def first(self) -> Any:
        """The input on whose slices the result lies."""
        return next(iter(self.inputs.values()))

    @abstractmethod
    def _nothing_given(self) -> str:
        """What to do where `inputs` is empty; empty where it is not."""

    @abstractmethod
    def _own_problem(self) -> str:
        """What else is wrong, where pack and images are in order."""

    def pack_problem(self) -> str:
        """What is wrong with the model; empty if nothing is."""
        if self.pack is not None:
            return ""
        if self.pack_name:
            return _("model {name} is not installed; choose another").format(name=self.pack_name)
        return _("no model for this task is installed; put one into the packs folder")

    def _synthetic(self) -> list[str]:
        """That an input was not acquired, a sentence each."""
        names = [volume.GetName() for volume in self.inputs.values() if nodes.is_synthetic(volume)]
        return [_("{name} is itself SYNTHETIC.").format(name=name) for name in names]

    def _drawn(self) -> str:
        """The last part of a result's name."""
        drawn = f"seed {self.seed}"
        return drawn if self.settings.samples == 1 else f"{drawn}, {self.settings.samples} samples"


def image_problem(volume: Any) -> str:
    """Why a volume node cannot be an input; empty if it can."""
    name, image = volume.GetName(), volume.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0:
        return _("{name} holds no image; choose another volume").format(name=name)
    if volume.IsA("vtkMRMLLabelMapVolumeNode"):
        return _("{name} is a label map; choose the image that it belongs to").format(name=name)
    if image.GetNumberOfScalarComponents() != 1:
        return _("{name} is a colour or vector image; choose a magnitude image").format(name=name)
    low, high = image.GetScalarRange()
    if low == high:
        return _("{name} is {value:g} everywhere; choose a volume with an image").format(name=name, value=low)
    if high <= 0:
        return _("{name} has no intensity above 0; choose a magnitude image").format(name=name)
    columns, rows, _slices = image.GetDimensions()
    if min(columns, rows) < SMALLEST_MATRIX:
        return _("{name} has slices of {rows} x {columns} pixels, too small; choose another volume").format(
            name=name, rows=rows, columns=columns
        )
    return ""


def by(pair: tuple[float, float]) -> str:
    """'1.74 x 1.74'."""
    return " x ".join(f"{number:.3g}" if isinstance(number, float) else str(number) for number in pair)
