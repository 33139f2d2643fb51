"""Degrade: what a noisy or a fast scan would have shown of a clean image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from MRDiffusionLib.packs import PackInfo
from MRDiffusionLib.settings import DegradationSettings, settings_from

from .. import grids
from ..parameters import QUICK_STEPS
from ..text import _
from .quality import Quality, QualitySection, kind_text, level_text

if TYPE_CHECKING:
    from ..form import Form


@dataclass(frozen=True)
class Degradation(Quality):
    """One degradation."""

    task: ClassVar[str] = "degradation"

    settings: DegradationSettings

    def cautions(self) -> list[str]:
        return [
            _(
                "This is one scan of low quality as the model has learnt them, not what a scanner would have measured: "
                "do not judge a protocol by it."
            )
        ]

    def summary(self) -> str:
        text = _("{slices} slices as a {kind} would show them: {level}")
        level = level_text(self.settings.kind, self.settings.level)
        return text.format(slices=grids.size(self.first)[2], kind=kind_text(self.settings.kind), level=level)

    def result_name(self, role: str, input_name: str) -> str:
        """`SYNTHETIC low quality of brain; noise 0.5; seed 7`."""
        chosen = f"{self.settings.kind} {round(self.settings.level, 3)}"
        return f"SYNTHETIC low quality of {input_name}; {chosen}; {self._drawn()}"

    def quick(self) -> Degradation:
        return replace(self, settings=replace(self.settings, steps=min(self.settings.steps, QUICK_STEPS)))


class DegradationSection(QualitySection):
    """Its rows. The kind is that of the chosen pack: choosing another one chooses another pack."""

    task = "degradation"
    settings = DegradationSettings
    captures = Degradation
    prefix = "degradation"
    sample = ("brain-t1-fine.nii.gz",)
    plain = ("level", "steps")

    @property
    def title(self) -> str:
        return _("Degrade")

    @property
    def tip(self) -> str:
        return _("Make of a clean image what a noisy or a fast scan would have shown")

    def build(self, inputs: Form, sampling: Form, current: Callable[[], Any]) -> None:
        self._current = current
        inputs.volume(_("Clean image"), _("The volume to degrade: magnitude, little noise"), self.parameter("volume"))
        self._kind = inputs.names(DegradationSettings, "kind", self._on_kind)
        inputs.setting(DegradationSettings, "level", self.parameter("level"))
        self._meaning = inputs.note()
        sampling.setting(DegradationSettings, "steps", self.parameter("steps"))

    def captured(self, parameters: Any, common: dict[str, Any]) -> Degradation:
        values = {**self._values(parameters), "kind": kind_of(common["pack"])}
        return Degradation(inputs=self._inputs(parameters), settings=settings_from(self.task, values), **common)

    def offer(self, packs: list[PackInfo]) -> None:
        self._packs = {kind_of(pack): pack.name for pack in reversed(packs)}

    def preferred(self, packs: list[PackInfo]) -> PackInfo:
        return next((pack for pack in packs if kind_of(pack) == kind_of(None)), packs[0])

    def show(self, parameters: Any, pack: PackInfo | None) -> bool:
        kind = kind_of(pack)
        self._kind.fill([(name, kind_text(name)) for name in sorted(self._packs, reverse=True)], kind)
        self._meaning.text = level_text(kind, parameters.degradationLevel)
        return False

    def _on_kind(self, kind: str) -> None:
        self._current().degradationPack = self._packs[kind]


def kind_of(pack: PackInfo | None) -> str:
    """What a degradation pack degrades by."""
    return DegradationSettings().kind if pack is None else str(pack.network["kind"])
