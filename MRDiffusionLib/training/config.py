"""What a training run is: one JSON file, read into dataclasses."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from .vdm import NoiseLevels


@dataclass(frozen=True)
class Phase:
    """A stretch of training: `steps` optimiser steps on batches of `batch` crops of `crop` x `crop` pixels."""

    steps: int
    batch: int
    crop: int
    noise_levels: NoiseLevels = field(default_factory=NoiseLevels)


@dataclass(frozen=True)
class TrainingConfig:
    """A training run. Paths are relative to the folder where the command is run.

    `task` is 'prior' (a variational diffusion model) or 'regression' (a one-pass network from the zero-filled image to
    the full one, the baseline of the evidence).
    """

    name: str
    data: str
    train_subjects: tuple[int, int]
    validation_subjects: tuple[int, int]
    phases: tuple[Phase, ...]
    task: str = "prior"
    loss: str = "v"
    prediction: str = "v"
    network: dict[str, Any] = field(default_factory=dict)
    schedule: dict[str, Any] = field(default_factory=lambda: {"name": "linear"})
    learning_rate: float = 4e-4
    warmup_steps: int = 200
    weight_decay: float = 0.01
    gradient_clip: float = 1.0
    ema_decay: float = 0.999
    seed: int = 0
    precision: str = "bf16-mixed"
    measured: tuple[tuple[int, int], ...] = ((65, 65), (33, 33), (49, 41), (97, 97))
    checkpoint_every: int = 200
    validate_every: int = 400
    validation_slices: int = 64
    picture_every: int = 400

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)

    def phase_at(self, step: int) -> Phase:
        """The phase that a step (from 0) belongs to."""
        for phase in self.phases:
            if step < phase.steps:
                return phase
            step -= phase.steps
        return self.phases[-1]


def read_config(path: str | Path) -> TrainingConfig:
    """Read a JSON configuration. Raises ValueError that names an unknown or missing setting."""
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    return _config_from(values, str(path))


def _config_from(values: dict[str, Any], origin: str) -> TrainingConfig:
    known = {f.name for f in fields(TrainingConfig)}
    unknown = set(values) - known
    if unknown:
        raise ValueError(f"{origin}: setting {', '.join(sorted(unknown))} is unknown; known are {', '.join(sorted(known))}")
    values = dict(values)
    try:
        values["phases"] = tuple(
            Phase(**{**phase, "noise_levels": NoiseLevels(**phase.get("noise_levels", {}))}) for phase in values["phases"]
        )
        for name in ("train_subjects", "validation_subjects"):
            first, last = values[name]
            values[name] = (int(first), int(last))
        if "measured" in values:
            values["measured"] = tuple((int(a), int(b)) for a, b in values["measured"])
        config = TrainingConfig(**values)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{origin}: {error}") from error
    if config.task not in ("prior", "regression"):
        raise ValueError(f"{origin}: task {config.task!r} is unknown; use 'prior' or 'regression'")
    return config
