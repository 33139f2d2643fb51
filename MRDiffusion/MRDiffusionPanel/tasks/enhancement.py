"""Enhance: a better image from a noisy or a fast scan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from MRDiffusionLib.packs import PackInfo
from MRDiffusionLib.settings import EnhancementSettings, info_of, settings_from

from .. import grids
from ..text import _
from .quality import Quality, QualitySection, kind_text, level_text
from .section import Stored

if TYPE_CHECKING:
    from ..form import Form


@dataclass(frozen=True)
class Enhancement(Quality):
    """One enhancement."""

    task: ClassVar[str] = "enhancement"

    settings: EnhancementSettings

    def cautions(self) -> list[str]:
        return [_("Small structures can be smoothed away or made up, above all at high levels.")]

    def summary(self) -> str:
        text, chosen = _("{slices} slices of a {kind} are mended: {level}"), self.settings
        level = _("level estimated") if chosen.level is None else level_text(chosen.kind, chosen.level)
        return text.format(slices=grids.size(self.first)[2], kind=kind_text(chosen.kind), level=level)

    def result_name(self, role: str, input_name: str) -> str:
        """`SYNTHETIC enhanced brain; noise, level auto`."""
        level = "auto" if self.settings.level is None else str(round(self.settings.level, 3))
        return f"SYNTHETIC enhanced {input_name}; {self.settings.kind}, level {level}"

    def quick(self) -> Enhancement:
        return self


class EnhancementSection(QualitySection):
    """Its rows. The level in the scene counts where it is not estimated."""

    task = "enhancement"
    settings = EnhancementSettings
    captures = Enhancement
    prefix = "enhancement"
    sample = ("brain-t1-noisy.nii.gz", "brain-t1-fine.nii.gz")
    plain = ("kind",)

    @classmethod
    def stored(cls) -> dict[str, Stored]:
        limits = info_of(cls.settings, "level")
        return {
            **super().stored(),
            cls.parameter("level"): Stored(float, 0.5, limits.minimum, limits.maximum),
            cls.parameter("estimated"): Stored(bool, True),
        }

    @property
    def title(self) -> str:
        return _("Enhance")

    @property
    def tip(self) -> str:
        return _("Make a better image from a noisy or a fast scan")

    def build(self, inputs: Form, sampling: Form, current: Callable[[], Any]) -> None:
        self._current = current
        inputs.volume(_("Image"), _("The volume to enhance: magnitude, noisy or blurred"), self.parameter("volume"))
        self._kind = inputs.names(EnhancementSettings, "kind", self._on_kind)
        self._level = inputs.setting(EnhancementSettings, "level", self.parameter("level"))
        tip = _("Let the model tell how low the quality is")
        inputs.check("", _("estimated from the image"), tip, self.parameter("estimated"))
        self._meaning = inputs.note()

    def captured(self, parameters: Any, common: dict[str, Any]) -> Enhancement:
        values = {"kind": self._chosen(parameters, common["pack"])}
        if not parameters.enhancementEstimated:
            values["level"] = parameters.enhancementLevel
        return Enhancement(inputs=self._inputs(parameters), settings=settings_from(self.task, values), **common)

    def show(self, parameters: Any, pack: PackInfo | None) -> bool:
        kind, estimated = self._chosen(parameters, pack), parameters.enhancementEstimated
        self._kind.fill([(name, kind_text(name)) for name in _kinds(pack)], kind)
        self._level.enabled = not estimated
        self._meaning.text = "" if estimated else level_text(kind, parameters.enhancementLevel)
        return False

    def _chosen(self, parameters: Any, pack: PackInfo | None) -> str:
        """The chosen kind, where the pack knows it; otherwise its first one."""
        kinds = _kinds(pack)
        chosen: str = parameters.enhancementKind
        return chosen if chosen in kinds or not kinds else kinds[0]

    def _on_kind(self, kind: str) -> None:
        self._current().enhancementKind = kind


def _kinds(pack: PackInfo | None) -> list[str]:
    return [] if pack is None else list(pack.network["kinds"])
