"""What a training run is: one JSON file, read into dataclasses that check their values."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from ..errors import InputError, SettingError
from ..settings import KINDS, shown
from .vdm import NoiseLevels

TASKS = ("prior", "regression")
PAIRED_TASKS = ("autoencoder", "synthesis", "translation")
QUALITY_TASKS = ("degrader", "enhancer")
PREDICTIONS = ("v", "eps", "x0")
PRECISIONS = ("32-true", "bf16-mixed")


@dataclass(frozen=True)
class MeasuredCentres:
    """Images whose centre of k-space is spared the noise, as the guidance 'conditional' does (`batches.spare_centre`).

    Attributes:
        share: of the images, 0 to 1.
        noise_levels: of these images. Beyond the noise that hides what the centre lacks they have nothing to teach.
    """

    share: float
    noise_levels: NoiseLevels = field(default_factory=NoiseLevels)

    def __post_init__(self) -> None:
        if not _is_number(self.share) or not 0 <= self.share <= 1:
            raise SettingError(f"share = {shown(self.share)} of measured is outside its range", "Give 0 to 1")


@dataclass(frozen=True)
class Phase:
    """A stretch of training: `steps` optimiser steps on batches of `batch` crops of `crop` x `crop` pixels.

    Attributes:
        noise_levels: of the prior with loss 'v'.
        measured: some images of the prior with loss 'v' are as in guided sampling; None for none.
    """

    steps: int
    batch: int
    crop: int
    noise_levels: NoiseLevels = field(default_factory=NoiseLevels)
    measured: MeasuredCentres | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "crop"):
            _check_whole(f"{name} of a phase", getattr(self, name), 1)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What every training run has. Paths are relative to the folder where the command is run.

    Attributes:
        name: of the pack to be.
        data: archive of training images.
        phases: what is trained, in order.
        task: what is trained; an entry of the kind's tasks.
        network: arguments of the task's network.
        learning_rate, warmup_steps, weight_decay, gradient_clip: of AdamW (`optimisation.learning_rate`).
        ema_decay: of the averaged weights (`optimisation.moving_average`).
        seed: fixes the first weights and every batch.
        precision: '32-true' or 'bf16-mixed'.
        checkpoint_every, validate_every, picture_every: in steps.
        validation_slices: spread evenly over the validation set.

    Raises:
        SettingError: a value of the wrong type or outside its range.
    """

    name: str
    data: str
    phases: tuple[Phase, ...]
    task: str
    network: dict[str, Any] = field(default_factory=dict)
    learning_rate: float = 4e-4
    warmup_steps: int = 200
    weight_decay: float = 0.01
    gradient_clip: float = 1.0
    ema_decay: float = 0.999
    seed: int = 0
    precision: str = "bf16-mixed"
    checkpoint_every: int = 200
    validate_every: int = 400
    validation_slices: int = 64
    picture_every: int = 400

    def __post_init__(self) -> None:
        _check_choice("precision", self.precision, PRECISIONS)
        for name in ("checkpoint_every", "validate_every", "validation_slices", "picture_every"):
            _check_whole(name, getattr(self, name), 1)
        _check_whole("warmup_steps", self.warmup_steps, 0)
        _check_whole("seed", self.seed, 0)
        _check_above_zero("learning_rate", self.learning_rate)
        _check_above_zero("gradient_clip", self.gradient_clip)
        for name, limit in (("weight_decay", math.inf), ("ema_decay", 1.0)):
            value = getattr(self, name)
            if not _is_number(value) or not 0 <= value < limit:
                hint = f"Give a number of at least 0 and below {limit:g}"
                raise SettingError(f"{name} = {shown(value)} is outside its range", hint)
        if not self.phases:
            raise SettingError("phases is empty", "Give one or more")

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return sum(phase.steps for phase in self.phases)

    def phase_at(self, step: int) -> Phase:
        """The phase that a step (from 0) belongs to."""
        for phase in self.phases:
            if step < phase.steps:
                return phase
            step -= phase.steps
        return self.phases[-1]


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(RunConfig):
    """A prior or its baseline, trained on slices of one sequence.

    Attributes:
        task: 'prior' (a variational diffusion model) or 'regression' (a one-pass network from the zero-filled image to
            the full one, the baseline of the evidence).
        data: archive of slices (`data.load_slices`).
        train_subjects, validation_subjects: first and last number, inclusive; they must not overlap.
        loss: of the prior: 'v', 'bound' or 'bound-T' with an integer T (`vdm.VariationalDiffusion`).
        prediction: of the prior: 'v', 'eps' or 'x0'.
        start: name or folder of a pack whose weights the run begins with; empty for weights drawn by the seed.
        network: arguments of `networks.unet.VDMUNet`.
        schedule: description for `diffusion.schedule_from_dict`.
        measured: matrices of the zero-filled images in the regression.

    Raises:
        SettingError: a value of the wrong type or outside its range.
    """

    train_subjects: tuple[int, int]
    validation_subjects: tuple[int, int]
    task: str = "prior"
    loss: str = "v"
    prediction: str = "v"
    start: str = ""
    schedule: dict[str, Any] = field(default_factory=lambda: {"name": "linear"})
    measured: tuple[tuple[int, int], ...] = ((65, 65), (33, 33), (49, 41), (97, 97))

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_choice("task", self.task, TASKS)
        _check_choice("prediction", self.prediction, PREDICTIONS)
        self._check_loss()
        _check_subjects(self.train_subjects, self.validation_subjects)
        if not self.measured:
            raise SettingError("measured is empty", "Give one or more")
        for matrix in self.measured:
            _check_pair("measured", matrix)

    def _check_loss(self) -> None:
        if not (isinstance(self.loss, str) and re.fullmatch(r"v|bound|bound-[1-9][0-9]*", self.loss)):
            hint = "Use v, bound, or bound-T with a number of steps T"
            raise SettingError(f"loss = {shown(self.loss)} is unknown", hint)
        if self.loss != "v" and any(phase.measured for phase in self.phases):
            hint = "Use loss v, or leave measured out"
            raise SettingError(f"measured does not go with loss {self.loss}: the bound is of white noise", hint)
        if self.task == "prior" and self.loss == "v" and self.schedule.get("name") == "learned":
            raise SettingError("loss = 'v' does not train a learned schedule", "Use loss bound, or another schedule")


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a training slice, the same for all its sequences.

    Attributes:
        rotate: degrees to either side.
        scale: relative change of size to either side.
        shift: pixels along each axis to either side.
        mirror: whether half of the slices are mirrored left to right.
        contrast: translation: c > 0 for a power law with an exponent from 1 / (1 + c) to 1 + c on each given sequence,
            so that the network does not rely on how grey a tissue is on one scanner.
    """

    rotate: float = 15.0
    scale: float = 0.1
    shift: float = 6.0
    mirror: bool = False
    contrast: float = 0.0

    def __post_init__(self) -> None:
        for name, limit in (("rotate", 180.0), ("scale", 0.5), ("shift", 1000.0), ("contrast", 10.0)):
            value = getattr(self, name)
            if not _is_number(value) or not 0 <= value <= limit:
                raise SettingError(
                    f"{name} = {shown(value)} of augmentation is outside its range", f"Give 0 to {limit:g}"
                )
        if not isinstance(self.mirror, bool):
            raise SettingError(f"mirror = {shown(self.mirror)} of augmentation is not true or false")


@dataclass(frozen=True)
class Heatmap:
    """The heatmap loss (`synthesis.heatmap`): where errors count more.

    Attributes:
        factor: how much more a voxel in the middle of the labelled region counts.
        smooth: standard deviation of the blur of the region's edge, in latent pixels.
        poor: how much more a region counts in which the error is twice the mean; 0 for none.
    """

    factor: float = 3.0
    smooth: float = 1.0
    poor: float = 1.0

    def __post_init__(self) -> None:
        for name in ("factor", "smooth", "poor"):
            value = getattr(self, name)
            if not _is_number(value) or not 0 <= value <= 100:
                raise SettingError(f"{name} = {shown(value)} of heatmap is outside its range", "Give 0 to 100")


@dataclass(frozen=True, kw_only=True)
class PairedConfig(RunConfig):
    """Training on slices of several sequences (`paired.Paired`): synthesis, its autoencoder, its baselines.

    Attributes:
        task: 'autoencoder'; 'synthesis' (the latent diffusion of CMRDiff, given a trained autoencoder); 'translation'
            (a one-pass network from the given sequences to the wanted one).
        data: archive of `python -m MRDiffusionLib prepare`.
        train_patients, validation_patients: names, or patterns with * and ?; a patient that both match validates.
        labels: of the region that matters (heart, lesion); empty for all labels.
        augmentation: of the training slices.
        start: what has the same network and gives the run its first weights: a run's checkpoint (.ckpt), or name or
            folder of a synthesis pack; empty for weights drawn by the seed.
        autoencoder: synthesis: checkpoint (.ckpt) of its run, or a synthesis pack.
        features: synthesis: settings for `features.feature_encoder`, the matrix left out; null for a network without
            cross-attention.
        heatmap: synthesis: null for the plain loss.
        noise_levels: synthesis.
        schedule: synthesis: description for `diffusion.schedule_from_dict`.
        drop: probability that a given sequence is left out in training, for each on its own, and for all at once.
        copies: synthesis: augmented copies of each slice that are encoded before training.
        kl_weight: autoencoder: of the Kullback-Leibler term.
        region_weight: autoencoder, translation: how much more the region counts in the mean absolute error.
        adversarial: translation: weight of the adversarial loss beside the mean absolute error, 0 for none.
    """

    train_patients: tuple[str, ...]
    validation_patients: tuple[str, ...]
    labels: tuple[int, ...] = ()
    augmentation: Augmentation = field(default_factory=Augmentation)
    start: str = ""
    autoencoder: str = ""
    features: dict[str, Any] | None = None
    heatmap: Heatmap | None = None
    noise_levels: NoiseLevels = field(default_factory=lambda: NoiseLevels(mean=0.0, std=2.5, uniform_share=0.2))
    schedule: dict[str, Any] = field(default_factory=lambda: {"name": "linear", "gamma_min": -12.0, "gamma_max": 6.0})
    drop: tuple[float, float] = (0.1, 0.05)
    copies: int = 4
    kl_weight: float = 1e-6
    region_weight: float = 2.0
    adversarial: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_choice("task", self.task, PAIRED_TASKS)
        for name in ("train_patients", "validation_patients"):
            if not getattr(self, name) or not all(isinstance(p, str) and p for p in getattr(self, name)):
                raise SettingError(f"{name} is no list of patients", "Give names, or patterns with * and ?")
        if self.task == "synthesis" and not self.autoencoder:
            raise SettingError("autoencoder is missing", "Name a trained autoencoder's checkpoint, or a pack")
        if self.schedule.get("name") == "learned":
            raise SettingError("schedule = learned is not trained with this task", "Use linear, cosine or ddpm")
        for label in self.labels:
            _check_whole("labels", label, 1)
        _check_whole("copies", self.copies, 1)
        for name in ("kl_weight", "region_weight", "adversarial"):
            value = getattr(self, name)
            if not _is_number(value) or value < 0:
                raise SettingError(f"{name} = {shown(value)} is not a number of 0 or more")
        if len(self.drop) != 2 or not all(_is_number(p) and 0 <= p <= 1 for p in self.drop):
            raise SettingError(f"drop = {shown(self.drop)} is not two probabilities")


@dataclass(frozen=True, kw_only=True)
class QualityConfig(RunConfig):
    """Training on pairs of high and low quality (`pairs.Pairs`): degrader, enhancer.

    Attributes:
        task: 'degrader' (diffusion of the low-quality image, given the other); 'enhancer' (the unrolled network from
            the low-quality image to the other).
        data: archive of pairs.
        train_subjects, validation_subjects: first and last number, inclusive; they must not overlap.
        kinds: of degradation, some of the archive's.
        start: checkpoint (.ckpt) of a run, or pack (name or folder), with the same network that gives the first
            weights; empty for none.
        noise_levels: degrader.
        schedule: degrader: description for `diffusion.schedule_from_dict`.
        teachers: enhancer: checkpoints (.ckpt) of enhancers whose outputs are soft targets, by kind.
        distillation: enhancer: weight k of the soft targets, 0 to 1; 1 where the pair is misaligned.
    """

    train_subjects: tuple[int, int]
    validation_subjects: tuple[int, int]
    kinds: tuple[str, ...]
    start: str = ""
    noise_levels: NoiseLevels = field(default_factory=lambda: NoiseLevels(mean=0.0, std=2.5, uniform_share=0.2))
    schedule: dict[str, Any] = field(default_factory=lambda: {"name": "linear", "gamma_min": -12.0, "gamma_max": 6.0})
    teachers: dict[str, str] = field(default_factory=dict)
    distillation: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_choice("task", self.task, QUALITY_TASKS)
        _check_subjects(self.train_subjects, self.validation_subjects)
        if not self.kinds or len(set(self.kinds)) != len(self.kinds):
            raise SettingError(f"kinds = {shown(self.kinds)} are not different kinds", f"Use {' or '.join(KINDS)}")
        for kind in (*self.kinds, *self.teachers):
            _check_choice("kinds", kind, KINDS)
        if self.task == "degrader" and len(self.kinds) != 1:
            raise SettingError(f"kinds = {shown(self.kinds)} are not one", "A degrader is of one kind")
        for source in self.teachers.values():
            if not is_checkpoint(source):
                raise SettingError(f"{shown(source)} is no checkpoint", "Name the best.ckpt of a run")
        if self.schedule.get("name") == "learned":
            raise SettingError("schedule = learned is not trained with this task", "Use linear, cosine or ddpm")
        if not _is_number(self.distillation) or not 0 <= self.distillation <= 1:
            raise SettingError(f"distillation = {shown(self.distillation)} is outside its range", "Give 0 to 1")


AnyConfig = TrainingConfig | PairedConfig | QualityConfig


def is_checkpoint(source: str) -> bool:
    """Whether weights come from a training run's checkpoint; else from a pack."""
    return source.endswith(".ckpt")


def read_config(path: str | Path, changes: Mapping[str, Any] | None = None) -> AnyConfig:
    """Read a JSON configuration.

    Args:
        path: of the file.
        changes: settings with other values than there.

    Raises:
        InputError: a file that cannot be read or is not JSON.
        SettingError: a setting that is unknown, missing, of the wrong type or outside its range.
    """
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})", "Name a JSON file") from error
    except ValueError as error:
        hint = "Correct it, or start from a shipped configuration"
        raise InputError(f"{path} is not valid JSON ({error})", hint) from error
    try:
        return config_from({**values, **changes} if changes and isinstance(values, dict) else values)
    except SettingError as error:
        raise SettingError(f"{path}: {error.message}", error.hint) from error


def config_from(values: Any) -> AnyConfig:
    """A configuration from JSON types; its task decides the kind. Raises SettingError."""
    task = values.get("task") if isinstance(values, Mapping) else None
    kind: type[AnyConfig] = TrainingConfig
    if task in PAIRED_TASKS:
        kind = PairedConfig
    elif task in QUALITY_TASKS:
        kind = QualityConfig
    _check_names("the configuration", values, kind)
    values = dict(values)
    values["phases"] = tuple(_phase_from(phase) for phase in _list("phases", values["phases"]))
    for name in ("name", "data"):
        if not isinstance(values[name], str) or not values[name]:
            raise SettingError(f"{name} = {shown(values[name])} is not a text")
    for name in ("start", "autoencoder"):
        if not isinstance(values.get(name, ""), str):
            raise SettingError(f"{name} = {shown(values[name])} is not a text", "Name a pack, or leave it out")
    for name in ("network", "schedule", "teachers"):
        if not isinstance(values.get(name, {}), dict):
            raise SettingError(f"{name} = {shown(values[name])} is not names with values")
    return _READERS[kind](values)


def _training_from(values: dict[str, Any]) -> TrainingConfig:
    for name in ("train_subjects", "validation_subjects"):
        values[name] = _check_pair(name, values[name], 0)
    if "measured" in values:
        values["measured"] = tuple(_check_pair("measured", m) for m in _list("measured", values["measured"]))
    return TrainingConfig(**values)


def _paired_from(values: dict[str, Any]) -> PairedConfig:
    for name in ("train_patients", "validation_patients", "labels", "drop"):
        if name in values:
            values[name] = tuple(_list(name, values[name]))
    if "noise_levels" in values:
        values["noise_levels"] = _noise_levels_from(values)
    for name, kind in (("augmentation", Augmentation), ("heatmap", Heatmap)):
        if values.get(name) is not None:
            _check_names(name, values[name], kind)
            values[name] = kind(**values[name])
    if not isinstance(values.get("features"), dict | None):
        raise SettingError(f"features = {shown(values['features'])} is not names with values", "Give null for none")
    return PairedConfig(**values)


def _quality_from(values: dict[str, Any]) -> QualityConfig:
    for name in ("train_subjects", "validation_subjects"):
        values[name] = _check_pair(name, values[name], 0)
    values["kinds"] = tuple(_list("kinds", values["kinds"]))
    if "noise_levels" in values:
        values["noise_levels"] = _noise_levels_from(values)
    if not all(isinstance(source, str) for source in values.get("teachers", {}).values()):
        raise SettingError(f"teachers = {shown(values['teachers'])} are not checkpoints by kind")
    return QualityConfig(**values)


_READERS: dict[type, Callable[[dict[str, Any]], AnyConfig]] = {
    TrainingConfig: _training_from,
    PairedConfig: _paired_from,
    QualityConfig: _quality_from,
}


def _phase_from(values: Any) -> Phase:
    _check_names("a phase", values, Phase)
    values = {**values, "noise_levels": _noise_levels_from(values)}
    if values.get("measured") is not None:
        measured = values["measured"]
        _check_names("measured", measured, MeasuredCentres)
        values["measured"] = MeasuredCentres(**{**measured, "noise_levels": _noise_levels_from(measured)})
    return Phase(**values)


def _noise_levels_from(values: Mapping[str, Any]) -> NoiseLevels:
    levels = values.get("noise_levels", {})
    _check_names("noise_levels", levels, NoiseLevels)
    return NoiseLevels(**levels)


def _list(name: str, value: Any) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise SettingError(f"{name} = {shown(value)} is not a list")
    return list(value)


def _check_names(what: str, values: Any, kind: type) -> None:
    """Raises SettingError where `values` is no JSON object with the fields of the dataclass `kind`."""
    if not isinstance(values, Mapping):
        raise SettingError(f"{what} is {shown(values)}, not names with values")
    known = [f.name for f in fields(kind)]
    required = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    unknown, missing = sorted(set(values) - set(known)), [name for name in required if name not in values]
    if unknown or missing:
        problem = f"has the unknown setting {', '.join(unknown)}" if unknown else f"lacks {', '.join(missing)}"
        raise SettingError(f"{what} {problem}", f"Known settings are {', '.join(known)}")


def _check_subjects(train: Any, validation: Any) -> None:
    for name, subjects in (("train_subjects", train), ("validation_subjects", validation)):
        first, last = _check_pair(name, subjects, 0)
        if first > last:
            raise SettingError(f"{name} = {first} to {last} is empty", "Give the first and the last number")
    (a, b), (c, d) = train, validation
    if a <= d and c <= b:
        hint = "Validate on subjects that the network has not seen"
        raise SettingError(f"train_subjects {a} to {b} and validation_subjects {c} to {d} overlap", hint)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _check_whole(name: str, value: object, lowest: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < lowest:
        raise SettingError(f"{name} = {shown(value)} is not a whole number of {lowest} or more")


def _check_above_zero(name: str, value: object) -> None:
    if not _is_number(value) or not value > 0:  # type: ignore[operator]
        raise SettingError(f"{name} = {shown(value)} is not a number above 0")


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise SettingError(f"{name} = {shown(value)} is unknown", f"Use one of {', '.join(choices)}")


def _check_pair(name: str, value: Any, lowest: int = 1) -> tuple[int, int]:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise SettingError(f"{name} = {shown(value)} is not two whole numbers")
    for number in value:
        _check_whole(name, number, lowest)
    return value[0], value[1]
