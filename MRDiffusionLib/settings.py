"""The settings of each task: range, unit, default and tool tip, once.

The panel's sliders, the command line's help and the validation of a request all read them here. No torch.
"""

from __future__ import annotations

import math
import reprlib
from dataclasses import MISSING, Field, dataclass, field, fields
from numbers import Real
from typing import Any

from .errors import SettingError


def _(text: str) -> str:
    """Marks what a person reads in the panel, for who collects the texts to translate; the panel translates it."""
    return text


@dataclass(frozen=True)
class Info:
    """What a person and a widget need to know about a setting.

    Attributes:
        label: short name in the panel.
        tip: what it does to the picture, then the symbol in the paper.
        minimum, maximum: inclusive range of a number (each element of a tuple); None for no limit.
        step: a slider's step.
        unit: empty for a pure number.
        choices: allowed values of a name, with a description each; empty for numbers.
        by_role: whether the setting has a number for each input role, (role, number) pairs; a JSON object.
    """

    label: str
    tip: str
    minimum: float | None = None
    maximum: float | None = None
    step: float = 1.0
    unit: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    by_role: bool = False


def setting(default: Any, **info: Any) -> Any:
    """A dataclass field with its `Info`."""
    return field(default=default, metadata={"info": Info(**info)})


def _samples(default: int) -> Any:
    return setting(
        default,
        label=_("Samples"),
        tip=_(
            "How many results to draw. From 2 on you get their mean (less invented detail) and their standard "
            "deviation (where the model is unsure)."
        ),
        minimum=1,
        maximum=64,
    )


def _steps(default: int, tip: str) -> Any:
    return setting(default, label=_("Steps"), tip=tip, minimum=1, maximum=1000)


def _eta(default: float) -> Any:
    return setting(
        default,
        label=_("Stochasticity"),
        tip=_("Fresh noise added at each DDIM step: 0 none, 1 as much as the reverse diffusion. Symbol: eta."),
        minimum=0.0,
        maximum=1.0,
        step=0.05,
    )


@dataclass(frozen=True)
class SuperResolutionSettings:
    """k-space-guided super-resolution with an unconditional prior (seed 002; docs/methods.md)."""

    matrix: tuple[int, int] = setting(
        (128, 128),
        label=_("Target matrix"),
        tip=_("Rows and columns of the result. The field of view stays the same, so the pixels become smaller."),
        minimum=8,
        maximum=1024,
        unit=_("pixels"),
    )
    method: str = setting(
        "projection",
        label=_("Guidance"),
        tip=_("How the measured centre of k-space steers the sampling."),
        choices=(
            ("projection", _("corrects each predicted image in k-space, weighted by the noise (DDNM, DiffPIR)")),
            ("replacement", _("mixes the noisy image with the equally noisy measurement (the VDM paper's lambda)")),
            ("conditional", _("shows the network the measurement without added noise; for packs trained so")),
            ("gradient", _("follows the gradient of the data misfit through the network; slow (DPS)")),
        ),
    )
    weight: float = setting(
        1.0,
        label=_("Data weight"),
        tip=_(
            "How strongly the result must agree with the measured image: 0 ignores it, 1 is full data consistency. "
            "Symbol: lambda."
        ),
        minimum=0.0,
        maximum=1.0,
        step=0.05,
    )
    steps: int = _steps(
        20, _("Denoising steps. More take longer and make samples more like real images and less like their mean.")
    )
    samples: int = _samples(1)
    sampler: str = setting(
        "ddim",
        label=_("Sampler"),
        tip=_("The rule of a denoising step."),
        choices=(
            ("ddim", _("DDIM, with its stochasticity below")),
            ("ancestral", _("the reverse diffusion itself; needs many steps")),
            ("dpmpp_2m", _("DPM-Solver++(2M), deterministic, second order")),
        ),
    )
    eta: float = _eta(1.0)
    strength: float = setting(
        1.0,
        label=_("Start from noise"),
        tip=_("1 starts from pure noise; below 1 from the interpolated input with that much noise added. Symbol: t0."),
        minimum=0.05,
        maximum=1.0,
        step=0.05,
    )
    noise: float | None = setting(
        None,
        label=_("Noise of the input"),
        tip=_("Standard deviation of the noise in the low-resolution image; empty: estimated. Symbol: s."),
        minimum=0.0,
        unit=_("intensity"),
    )


@dataclass(frozen=True)
class SynthesisSettings:
    """Synthesis of a sequence from others (seed 001, CMRDiff; docs/methods.md)."""

    target: str = setting(
        "",
        label=_("Wanted sequence"),
        tip=_("The sequence to make; one that the pack knows and that is not among the given images."),
    )
    scales: tuple[tuple[str, float], ...] = setting(
        (),
        label=_("Guidance scales"),
        tip=_(
            "How strongly the result follows each given image: 0 ignores it, 1 as it was learnt, more exaggerates. "
            "Symbol: c_I."
        ),
        minimum=0.0,
        maximum=10.0,
        step=0.1,
        by_role=True,
    )
    guidance: str = setting(
        "averaged",
        label=_("Guidance"),
        tip=_("How the scales of several images work together."),
        choices=(
            ("averaged", _("the mean of nested over all orders: no image comes first")),
            ("nested", _("one image after the other, in the order given (InstructPix2Pix)")),
            ("composable", _("each image on its own, added (composable diffusion)")),
        ),
    )
    start: str = setting(
        "regression",
        label=_("Start from"),
        tip=_(
            "noise: from pure noise. regression: from a one-pass prediction of the wanted image with noise added. "
            "The name of a given sequence: from that image with noise added, as CMRDiff does; a low strength then "
            "leaks its contrast."
        ),
    )
    strength: float = setting(
        0.6,
        label=_("Strength"),
        tip=_(
            "How much noise is added to what the sampling starts from: 1 all but hides it, 0 gives it back "
            "unchanged. Symbol: t0."
        ),
        minimum=0.0,
        maximum=1.0,
        step=0.05,
    )
    steps: int = _steps(
        20, _("Denoising steps between the start and the result. From an image, 10 to 20 are enough; from noise, 30.")
    )
    samples: int = _samples(4)
    eta: float = _eta(0.0)


KINDS = ("noise", "blur")
"""Of degradation: a noisy scan and a fast one (`physics.levels`)."""


def _kind(tip: str) -> Any:
    choices = (("noise", _("fewer averages and parallel imaging")), ("blur", _("a faster scan: less of k-space")))
    return setting("noise", label=_("Kind"), tip=tip, choices=choices)


@dataclass(frozen=True)
class DegradationSettings:
    """A low-quality acquisition of an image (seed 000; docs/methods.md)."""

    kind: str = _kind(_("What the scan saves time by."))
    level: float = setting(
        0.5,
        label=_("Level"),
        tip=_(
            "How low the quality is: 0 is the image as it is. noise: the signal-to-noise ratio is divided by "
            "8^level; blur: the scan is 4^level times as fast."
        ),
        minimum=0.0,
        maximum=1.0,
        step=0.05,
    )
    steps: int = _steps(20, _("Denoising steps."))

    @property
    def samples(self) -> int:
        """One: the mean of several noisy images would be a clean one."""
        return 1


@dataclass(frozen=True)
class EnhancementSettings:
    """A better image from a noisy or fast scan, by a network in one pass (seed 000; docs/methods.md)."""

    kind: str = _kind(_("What to mend."))
    level: float | None = setting(
        None,
        label=_("Level"),
        tip=_("How low the quality of the given image is, as for degrading; empty: estimated from the image."),
        minimum=0.0,
        maximum=1.0,
        step=0.05,
    )

    @property
    def samples(self) -> int:
        """One: nothing is drawn."""
        return 1

    @property
    def steps(self) -> int:
        """One pass."""
        return 1


ROLE = r"[\w .+-]{1,64}"
"""What the name of an input may be, a regular expression."""

DEFAULT_SCALE = 1.5
"""Guidance scale of a given image for which nobody chose one; from validation (docs/decisions.md)."""

STARTS = ("noise", "regression")
"""What a synthesis can start from beside a given sequence; no sequence is called so."""

Settings = SuperResolutionSettings | SynthesisSettings | DegradationSettings | EnhancementSettings

TASKS: dict[str, type[Settings]] = {
    "superresolution": SuperResolutionSettings,
    "synthesis": SynthesisSettings,
    "degradation": DegradationSettings,
    "enhancement": EnhancementSettings,
}
"""Task name to its settings."""

ROLES: dict[str, tuple[str, ...]] = {
    "superresolution": ("low_resolution",),
    "synthesis": (),
    "degradation": ("image",),
    "enhancement": ("image",),
}
"""Task name to the roles of its input volumes; empty where the pack names them."""


def info_of(settings_type: type, name: str) -> Info:
    """The `Info` of one setting. Raises SettingError for an unknown name."""
    for f in fields(settings_type):
        if f.name == name:
            info: Info = f.metadata["info"]
            return info
    known = ", ".join(f.name for f in fields(settings_type))
    raise SettingError(f"setting {name!r} is unknown", f"Known settings are {known}")


def kind_of(settings_type: type, name: str) -> type:
    """What a setting holds: str, int, float, tuple for several whole numbers, or dict for a number of each role."""
    info = info_of(settings_type, name)
    default: Any = next(f.default for f in fields(settings_type) if f.name == name)
    if info.by_role:
        return dict
    return float if default is None else type(default)


def range_text(info: Info, kind: type = float) -> str:
    """The range and the unit in words: '0 to 1', '8 to 1024 pixels', '0 or more intensity'; empty without a range."""
    low, high = (None if limit is None else f"{limit:g}" for limit in (info.minimum, info.maximum))
    if low is None and high is None:
        text = ""
    elif high is None:
        text = f"{low} or more"
    else:
        text = f"at most {high}" if low is None else f"{low} to {high}"
    what = "whole number, " if kind is int and text else ""
    return f"{what}{text} {info.unit}".strip()


def help_text(settings_type: type, name: str) -> str:
    """The tool tip with what can be chosen, the range, the unit and the default: help of a command line."""
    info, kind = info_of(settings_type, name), kind_of(settings_type, name)
    default: Any = next(f.default for f in fields(settings_type) if f.name == name)
    parts = [info.tip, *(f"{choice}: {what}." for choice, what in info.choices)]
    text = "auto" if default is None else " ".join(map(str, default)) if kind is tuple else str(default)
    limits = range_text(info, kind)
    parts.append(f"[{limits}; default {text}]" if limits else f"[default {text}]")
    return " ".join(parts)


def settings_from(task: str, values: dict[str, Any]) -> Settings:
    """Settings of a task from a dictionary (JSON types), checked.

    Raises:
        SettingError: an unknown task or setting, a wrong type, a value outside its range.
    """
    if not isinstance(task, str) or task not in TASKS:
        raise SettingError(f"task {shown(task)} is unknown", f"Known tasks are {', '.join(TASKS)}")
    if not isinstance(values, dict):
        raise SettingError(f"the settings are {shown(values)}, not names with values")
    settings_type = TASKS[task]
    for name in values:
        info_of(settings_type, name)
    checked = {f.name: _checked(f, values[f.name]) for f in fields(settings_type) if f.name in values}
    return settings_type(**checked)


def settings_to(settings: Settings) -> dict[str, Any]:
    """Settings as JSON types; `settings_from` reads them back."""
    values: dict[str, Any] = {}
    for f in fields(settings):
        value = getattr(settings, f.name)
        if f.metadata["info"].by_role:
            values[f.name] = dict(value)
        else:
            values[f.name] = list(value) if isinstance(value, tuple) else value
    return values


def shown(value: object) -> str:
    """A value as it stands in an error message: cut where it is very long."""
    return reprlib.repr(value)


def _checked(f: Field[Any], value: Any) -> Any:
    info: Info = f.metadata["info"]
    default = f.default
    assert default is not MISSING
    name = f.name
    if info.choices:
        allowed = [choice for choice, _what in info.choices]
        if value not in allowed:
            raise SettingError(f"{name} = {shown(value)} is unknown", f"Use one of {', '.join(allowed)}")
        return value
    if info.by_role:
        if not isinstance(value, dict) or not all(isinstance(role, str) and role for role in value):
            raise SettingError(f"{name} = {shown(value)} is not a number for each input", "Give names with numbers")
        return tuple((role, _number(f"{name} of {role}", info, number, float)) for role, number in value.items())
    if isinstance(default, str):
        if not isinstance(value, str) or len(value) > 64:
            raise SettingError(f"{name} = {shown(value)} is not a name of up to 64 characters")
        return value
    if isinstance(default, tuple):
        if not isinstance(value, (list, tuple)) or len(value) != len(default):
            raise SettingError(f"{name} = {shown(value)} is not {len(default)} numbers", "Give rows and columns")
        return tuple(_number(name, info, part, int) for part in value)
    if value is None and default is None:
        return None
    return _number(name, info, value, int if isinstance(default, int) else float)


def _number(name: str, info: Info, value: Any, kind: type) -> Any:
    wanted, limits = "a whole number" if kind is int else "a number", range_text(info)
    hint = f"Give {wanted}, {limits}" if limits else f"Give {wanted}"
    # An int is finite at any length, where `math.isfinite` would overflow; JSON knows numbers like 1e999.
    real = isinstance(value, Real) and not isinstance(value, bool)
    finite = real and (isinstance(value, int) or math.isfinite(value))
    if not finite or (kind is int and value != int(value)):
        raise SettingError(f"{name} = {shown(value)} is not {wanted}", hint)
    if (info.minimum is not None and value < info.minimum) or (info.maximum is not None and value > info.maximum):
        raise SettingError(f"{name} = {shown(value)} is outside {limits}", hint)
    try:
        return kind(value)
    except OverflowError as error:
        raise SettingError(f"{name} = {shown(value)} is too large", hint) from error
