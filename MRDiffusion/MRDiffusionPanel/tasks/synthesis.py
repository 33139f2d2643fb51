"""Synthesize: a sequence that was not acquired, from others of the same examination (CMRDiff)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import slicer
import slicer.util

from MRDiffusionLib.packs import PackInfo
from MRDiffusionLib.packs.domain import grid_warnings, plane_warnings
from MRDiffusionLib.settings import SynthesisSettings, info_of, settings_from

from .. import grids, roles, samples
from ..brightness import brightness_warnings
from ..parameters import Parameters, by
from ..text import _, of_domain
from .section import Section, Stored

if TYPE_CHECKING:
    from ..form import Form

NEEDS_T1 = ("LGE",)
"""Sequences whose lesions show by a shortened T1, which no other contrast tells."""

SAMPLE_ROLES = ("bSSFP", "T2", "LGE")
"""Sequences of the sample's files; the last one is wanted."""


@dataclass(frozen=True)
class Synthesis(Parameters):
    """One synthesis; `inputs` holds the given sequences in the pack's order."""

    task: ClassVar[str] = "synthesis"
    keeps_contrast: ClassVar[bool] = False

    settings: SynthesisSettings

    def cautions(self) -> list[str]:
        target = self.settings.target or _("image")
        if target in NEEDS_T1 and "T1" not in self.inputs:
            text = _("A lesion in a synthetic {target} can be wrong, missing or invented, above all without T1 images.")
        else:
            text = _("A lesion in a synthetic {target} can be wrong, missing or invented.")
        return [text.format(target=target), *(simulated(self.pack) if self.pack else ())]

    def warnings(self) -> list[str]:
        assert self.pack is not None
        first, (columns, rows, _slices) = self.first, grids.size(self.first)
        spacing = first.GetSpacing()
        return [
            *self._absent(),
            *self._resampled(),
            *plane_warnings(grids.normal(first), self.pack, of_domain),
            *grid_warnings((rows, columns), (spacing[1], spacing[0]), self.pack, of_domain),
            *(text for role, volume in self.inputs.items() for text in brightness_warnings(role, volume, self.pack)),
            *self._synthetic(),
        ]

    def summary(self) -> str:
        assert self.pack is not None
        slices, given = grids.size(self.first)[2], _(" and ").join(self.inputs)
        return _("{target} is made from {given}: {slices} slices of {matrix}").format(
            target=self.settings.target, given=given, slices=slices, matrix=by(self.pack.matrix)
        )

    def result_name(self, role: str, input_name: str) -> str:
        """`SYNTHETIC LGE of heart; bSSFP 1.5, T2 1.0, nested, regression 0.6; seed 7, 4 samples`."""
        chosen = self.settings
        kind = chosen.target if role == "result" else f"{chosen.target} {role.replace('_', ' ')}"
        scales = ", ".join(f"{name} {round(scale, 3)}" for name, scale in chosen.scales)
        start = chosen.start if chosen.start == "noise" else f"{chosen.start} {round(chosen.strength, 3)}"
        return f"SYNTHETIC {kind} of {input_name}; {scales}, {chosen.guidance}, {start}; {self._drawn()}"

    def _absent(self) -> list[str]:
        assert self.pack is not None
        absent = [role for role in self.pack.roles if role != self.settings.target and role not in self.inputs]
        text = _("{role} is not given: the result is made without it, and less certain.")
        return [text.format(role=role) for role in absent]

    def _resampled(self) -> list[str]:
        first = next(iter(self.inputs))
        text = _("{role} has another geometry than {first} and will be resampled onto it.")
        others = [role for role, volume in self.inputs.items() if not grids.same(volume, self.first)]
        return [text.format(role=role, first=first) for role in others]

    def _nothing_given(self) -> str:
        if self.inputs:
            return ""
        target = self.settings.target or _("the wanted sequence")
        return _("choose at least one volume to make {target} from").format(target=target)

    def _own_problem(self) -> str:
        first = next(iter(self.inputs))
        for number, (role, volume) in enumerate(self.inputs.items()):
            for other in list(self.inputs)[:number]:
                if self.inputs[other] is volume:
                    text = _("{name} is chosen as {other} and as {role}; choose another volume")
                    return text.format(name=volume.GetName(), other=other, role=role)
            if grids.transform_problem(volume, self.first):
                text = _("{role} is warped or sheared against {first}; harden the transforms in the module Transforms")
                return text.format(role=role, first=first)
            if grids.apart(volume, self.first):
                text = _("{role} and {first} show different places; choose images of one examination")
                return text.format(role=role, first=first)
        if self.settings.start not in ("noise", "regression", *self.inputs):
            return _("the sampling starts from {role}, which is not given (see Sampling)").format(
                role=self.settings.start
            )
        return ""


class SynthesisSection(Section):
    """Its rows follow the pack: one for each sequence but the wanted one.

    Volumes and guidance scales are kept for each sequence by its name (`roles`), so another pack or another wanted
    sequence does not lose them.
    """

    task = "synthesis"
    settings = SynthesisSettings
    captures = Synthesis
    prefix = "synthesis"
    plain = ("guidance", "strength", "steps", "samples", "eta")
    sample = ("cardiac-bssfp.nii.gz", "cardiac-t2.nii.gz", "cardiac-lge.nii.gz")

    @classmethod
    def stored(cls) -> dict[str, Stored]:
        start = Stored(str, SynthesisSettings().start)
        return {**super().stored(), cls.parameter("target"): Stored(str, ""), cls.parameter("start"): start}

    @property
    def title(self) -> str:
        return _("Synthesize")

    @property
    def tip(self) -> str:
        return _("Make a sequence that was not acquired from others of the same examination")

    def build(self, inputs: Form, sampling: Form, current: Callable[[], Any]) -> None:
        from ..role_rows import RoleRows  # needs Qt, which what is captured does not

        self._current = current
        self._target = inputs.names(SynthesisSettings, "target", self._on_target)
        self._rows = RoleRows(info_of(SynthesisSettings, "scales"))
        inputs.add(self._rows.widget)
        sampling.setting(SynthesisSettings, "guidance", self.parameter("guidance"))
        self._start = sampling.names(SynthesisSettings, "start", self._on_start)
        for name in ("strength", "steps", "samples", "eta"):
            sampling.setting(SynthesisSettings, name, self.parameter(name))
        self._strength = sampling.bound[self.parameter("strength")]

    def captured(self, parameters: Any, common: dict[str, Any]) -> Synthesis:
        pack, node = common["pack"], parameters.parameterNode
        target = wanted(parameters, pack)
        others = [role for role in pack.roles if role != target] if pack else []
        inputs = {role: roles.volume_of(node, role) for role in others if roles.volume_of(node, role) is not None}
        values = {
            **self._values(parameters),
            "target": target,
            "start": beginning(parameters, pack),
            "scales": {role: roles.scale_of(node, role) for role in inputs},
        }
        return Synthesis(inputs=inputs, settings=settings_from(self.task, values), **common)

    def for_cases(self, parameters: Any, chosen: Parameters) -> Parameters:
        """With a scale for every sequence that a case may have."""
        assert isinstance(chosen.settings, SynthesisSettings) and chosen.pack is not None
        others = [role for role in chosen.pack.roles if role != chosen.settings.target]
        scales = tuple((role, roles.scale_of(parameters.parameterNode, role)) for role in others)
        return replace(chosen, settings=replace(chosen.settings, scales=scales))

    def load_sample(self, parameters: Any, folder: Path, packs: list[PackInfo]) -> Any:
        *given, target = SAMPLE_ROLES
        volumes = samples.load_with_truth(folder, *self.sample)
        suitable = [pack.name for pack in packs if _suits_sample(pack)]
        with slicer.util.NodeModify(parameters.parameterNode):
            if suitable and parameters.synthesisPack not in suitable:
                parameters.synthesisPack = suitable[0]
            parameters.synthesisTarget = target
            for role, volume in zip(given, volumes):
                roles.set_volume(parameters.parameterNode, role, volume)
        return volumes[0]

    def preferred(self, packs: list[PackInfo]) -> PackInfo:
        return next((pack for pack in packs if _suits_sample(pack)), packs[0])

    def show(self, parameters: Any, pack: PackInfo | None) -> bool:
        known, target = (pack.roles if pack else ()), wanted(parameters, pack)
        others = [role for role in known if role != target]
        self._target.fill([(role, role) for role in known], target)
        starts = [("noise", _("pure noise")), ("regression", _("a first estimate (regression)"))]
        starts = [(name, text) for name, text in starts if name != "regression" or _has_regression(pack)]
        self._start.fill([*starts, *((role, role) for role in others)], beginning(parameters, pack))
        self._strength.enabled = beginning(parameters, pack) != "noise"
        return self._rows.show(parameters.parameterNode, others)

    def remove(self) -> None:
        self._rows.remove()

    def _on_target(self, role: str) -> None:
        self._current().synthesisTarget = role

    def _on_start(self, name: str) -> None:
        self._current().synthesisStart = name


def wanted(parameters: Any, pack: PackInfo | None) -> str:
    """The target: what was chosen, where the pack knows it; otherwise its last sequence."""
    if pack is None or parameters.synthesisTarget in pack.roles:
        chosen: str = parameters.synthesisTarget
        return chosen
    return pack.roles[-1] if pack.roles else ""


def beginning(parameters: Any, pack: PackInfo | None) -> str:
    """The start: what was chosen, where the pack can do it; otherwise noise."""
    chosen: str = parameters.synthesisStart
    possible = chosen == "noise" or pack is None or chosen in pack.roles
    possible = possible or (chosen == "regression" and _has_regression(pack))
    return chosen if possible and chosen != wanted(parameters, pack) else "noise"


def simulated(pack: PackInfo) -> list[str]:
    """That a pack has learnt from simulated images, in its own words; empty where it says nothing of the kind."""
    sentences = (*pack.limits, _("This model has learnt from: {text}").format(text=pack.training_data))
    return [f"{text.rstrip('. ')}." for text in sentences if "simulated" in text.lower()][:1]


def _suits_sample(pack: PackInfo) -> bool:
    return set(SAMPLE_ROLES) <= set(pack.roles)


def _has_regression(pack: PackInfo | None) -> bool:
    return pack is not None and pack.network.get("regression") is not None
