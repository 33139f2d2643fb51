"""Super-resolve: a volume of few pixels becomes one of many."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from MRDiffusionLib.packs import PackInfo
from MRDiffusionLib.packs.domain import plane_warnings
from MRDiffusionLib.settings import SuperResolutionSettings, info_of, settings_from

from .. import grids, nodes, samples
from ..parameters import Parameters, by
from ..text import _, of_domain
from .section import Section, Stored

if TYPE_CHECKING:
    from ..form import Form

ROLE = "low_resolution"
ESTIMATED = -1.0
LARGEST_NOISE = 1e6


@dataclass(frozen=True)
class SuperResolution(Parameters):
    """One super-resolution; `inputs` holds the role `ROLE`."""

    task: ClassVar[str] = "superresolution"
    keeps_contrast: ClassVar[bool] = True

    settings: SuperResolutionSettings

    def cautions(self) -> list[str]:
        return [
            _(
                "Detail finer than the input's pixels is made up, as the model knows it of other people: what is small "
                "can be missing, changed or invented."
            )
        ]

    def warnings(self) -> list[str]:
        assert self.pack is not None
        spacing, (columns, rows, _slices) = self.first.GetSpacing(), grids.size(self.first)
        wanted = self.settings.matrix
        pixel = (spacing[1] * rows / wanted[0], spacing[0] * columns / wanted[1])
        sentences = plane_warnings(grids.normal(self.first), self.pack, of_domain)
        if self.pack.unseen_pixel_sizes(pixel):
            text = _("The result's pixels would be {pixel} mm; this model has seen {seen} mm: detail may be invented.")
            sentences.append(text.format(pixel=by(pixel), seen=by(self.pack.pixel_size_mm)))
        return [*sentences, *self._synthetic()]

    def summary(self) -> str:
        columns, rows, slices = grids.size(self.first)
        return _("{slices} slices of {old} become {new}").format(
            slices=slices, old=by((rows, columns)), new=by(self.settings.matrix)
        )

    def result_name(self, role: str, input_name: str) -> str:
        """`SYNTHETIC SR of brain; 128x128, lambda 1.0, projection; seed 7`."""
        rows, columns = self.settings.matrix
        kind = "SR" if role == "result" else f"SR {role.replace('_', ' ')}"
        chosen = f"{rows}x{columns}, lambda {round(self.settings.weight, 3)}, {self.settings.method}"
        return f"SYNTHETIC {kind} of {input_name}; {chosen}; {self._drawn()}"

    def _nothing_given(self) -> str:
        return "" if self.inputs else _("choose a low-resolution volume, or load the sample")

    def _own_problem(self) -> str:
        assert self.pack is not None
        columns, rows, _slices = grids.size(self.first)
        wanted, made = self.settings.matrix, self.pack.matrix
        if rows > wanted[0] or columns > wanted[1]:
            return _("the target matrix {wanted} is smaller than the input's {rows} x {columns}").format(
                wanted=by(wanted), rows=rows, columns=columns
            )
        if tuple(wanted) != tuple(made):
            return _("the target matrix is {wanted}; this model makes {made}").format(wanted=by(wanted), made=by(made))
        return ""


class SuperResolutionSection(Section):
    """Its rows. `matrix` is two numbers in the scene, and a `noise` below zero means that it is estimated."""

    task = "superresolution"
    settings = SuperResolutionSettings
    captures = SuperResolution
    plain = ("weight", "method", "sampler", "steps", "eta", "strength", "samples")
    sample = ("brain-t1-low-resolution.nii.gz", "brain-t1-reference.nii.gz")

    @classmethod
    def stored(cls) -> dict[str, Stored]:
        limits = info_of(cls.settings, "matrix")
        rows, columns = cls.settings().matrix
        return {
            **super().stored(),
            "inputVolume": Stored(None),
            "rows": Stored(int, rows, limits.minimum, limits.maximum),
            "columns": Stored(int, columns, limits.minimum, limits.maximum),
            "noise": Stored(float, ESTIMATED, ESTIMATED, LARGEST_NOISE),
        }

    @property
    def title(self) -> str:
        return _("Super-resolve")

    @property
    def tip(self) -> str:
        return _("Make a volume with smaller pixels from one of low resolution")

    def build(self, inputs: Form, sampling: Form, current: Callable[[], Any]) -> None:
        tip = _("The volume to super-resolve: slices with few pixels, magnitude")
        inputs.volume(_("Low resolution"), tip, "inputVolume")
        inputs.pair(SuperResolutionSettings, "matrix", ("rows", "columns"))
        inputs.setting(SuperResolutionSettings, "weight", "weight")
        for name in ("method", "sampler", "steps", "eta", "strength"):
            sampling.setting(SuperResolutionSettings, name, name)
        noise = sampling.setting(SuperResolutionSettings, "noise", "noise")
        noise.specialValueText = _("estimated")
        noise.minimum = ESTIMATED
        sampling.setting(SuperResolutionSettings, "samples", "samples")

    def captured(self, parameters: Any, common: dict[str, Any]) -> SuperResolution:
        values = self._values(parameters)
        values["matrix"] = (parameters.rows, parameters.columns)
        values["noise"] = None if parameters.noise < 0 else parameters.noise
        volume = parameters.inputVolume
        settings = settings_from(self.task, values)
        return SuperResolution(inputs={} if volume is None else {ROLE: volume}, settings=settings, **common)

    def load_sample(self, parameters: Any, folder: Path, packs: list[PackInfo]) -> Any:
        (parameters.inputVolume,) = samples.load_with_truth(folder, *self.sample)
        return parameters.inputVolume

    def on_pack(self, parameters: Any, pack: PackInfo) -> None:
        parameters.rows, parameters.columns = pack.matrix

    def suggest(self, parameters: Any, scene: Any) -> None:
        if parameters.inputVolume is None:
            parameters.inputVolume = nodes.first_input(scene)
