"""What degrading and enhancing have in common: one volume, a kind of degradation, its level."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from MRDiffusionLib.packs import PackInfo
from MRDiffusionLib.packs.domain import plane_warnings
from MRDiffusionLib.physics.levels import acceleration, snr_ratio
from MRDiffusionLib.settings import DegradationSettings, EnhancementSettings

from .. import grids, nodes, samples
from ..brightness import brightness_warnings
from ..parameters import Parameters, by
from ..text import _, of_domain
from .section import Section, Stored

ROLE = "image"


@dataclass(frozen=True)
class Quality(Parameters):
    """One run; `inputs` holds the role `ROLE`."""

    keeps_contrast: ClassVar[bool] = True

    settings: DegradationSettings | EnhancementSettings

    def warnings(self) -> list[str]:
        assert self.pack is not None
        columns, rows, _slices = self.first.GetSpacing()
        sentences = plane_warnings(grids.normal(self.first), self.pack, of_domain)
        if self.pack.unseen_pixel_sizes((rows, columns)):
            text = _("The pixels are {pixel} mm; this model has seen {seen} mm.")
            sentences.append(text.format(pixel=by((rows, columns)), seen=by(self.pack.pixel_size_mm)))
        sentences += brightness_warnings(ROLE, self.first, self.pack)
        return [*sentences, *self._synthetic()]

    def _nothing_given(self) -> str:
        return "" if self.inputs else _("choose a volume, or load the sample")

    def _own_problem(self) -> str:
        return ""


class QualitySection(Section):
    """The rows of both; the kinds on offer are those of the installed packs."""

    @classmethod
    def stored(cls) -> dict[str, Stored]:
        return {**super().stored(), cls.parameter("volume"): Stored(None)}

    def load_sample(self, parameters: Any, folder: Path, packs: list[PackInfo]) -> Any:
        read = samples.load_with_truth if len(self.sample) > 1 else samples.load
        (volume,) = read(folder, *self.sample)
        setattr(parameters, self.parameter("volume"), volume)
        return volume

    def suggest(self, parameters: Any, scene: Any) -> None:
        if getattr(parameters, self.parameter("volume")) is None:
            setattr(parameters, self.parameter("volume"), nodes.first_input(scene))

    def _inputs(self, parameters: Any) -> dict[str, Any]:
        volume = getattr(parameters, self.parameter("volume"))
        return {} if volume is None else {ROLE: volume}


def kind_text(kind: str) -> str:
    """A kind of degradation for a person."""
    return {"noise": _("noisy scan (noise)"), "blur": _("fast scan (blur)")}.get(kind, kind)


def level_text(kind: str, level: float) -> str:
    """What a level means in a scanner."""
    if level == 0:
        return _("as the image is")
    if kind == "noise":
        ratio = snr_ratio(level)
        text = _("signal-to-noise ratio {ratio:.0%} of the image's, as with 1 of {averages:.3g} averages")
        return text.format(ratio=ratio, averages=ratio**-2)
    return _("{factor:.3g} times as fast a scan").format(factor=acceleration(level))
