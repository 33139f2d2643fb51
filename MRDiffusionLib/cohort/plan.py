"""What is wanted of all cases, and where they lie. No torch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import InputError, PackError
from ..packs import PackInfo, find_pack
from ..request import FORMATS, Request
from ..settings import DegradationSettings
from .decision import Limits

ROLES = ("high", "low")
PAIR_FILES = ("high.nii.gz", "low.nii.gz", "high.json", "low.json")
"""What a case's folder may hold in the end: two images, and the provenance of the synthetic one."""


@dataclass(frozen=True)
class Plan:
    """How pairs are built; the same plan and the same two files give the same pair on the same kind of machine.

    Attributes:
        kind: what the fast scans save time by, 'noise' or 'blur'.
        level: of degradation, 0 to 1; None estimates it from each low-quality image.
        degrader, enhancer: a pack's name, or its folder; the shipped degrader of the kind by default.
        limits: from where on something counts.
        seed: non-negative; each case gets its own from it.
        steps: of the degrader.
        precision: 'fp32' or 'bf16'. Not chosen by each worker's speed: results must not depend on who makes them.
        device: 'auto', 'cpu' or 'cuda'.
        batch: slices computed together; 0 chooses.
    """

    kind: str
    level: float | None = None
    degrader: str = ""
    enhancer: str = "brain-enhance"
    limits: Limits = field(default_factory=Limits)
    seed: int = 0
    steps: int = DegradationSettings.steps
    precision: str = "fp32"
    device: str = "auto"
    batch: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "degrader", self.degrader or f"brain-degrade-{self.kind}")

    def check(self) -> None:
        """Find out before the first case what would fail in all of them.

        Raises:
            SettingError: a value outside its range.
            PackError: packs that are missing, or of another kind or task.
        """
        settings = DegradationSettings(self.kind, 1.0 if self.level is None else self.level, self.steps)
        Request(
            "degradation", self.degrader, {"image": "-"}, settings, self.seed, self.device, self.precision, self.batch
        )
        degrader, enhancer = self.packs()
        if degrader.task != "degradation" or degrader.network["kind"] != self.kind:
            what = f"{degrader.task} {degrader.network.get('kind', '')}".strip()
            raise PackError(f"pack {degrader.name} is for {what}, not for degradation {self.kind}", "Choose another")
        if enhancer.task != "enhancement" or self.kind not in enhancer.network["kinds"]:
            raise PackError(f"pack {enhancer.name} does not enhance images with {self.kind}", "Choose another one")

    def packs(self) -> tuple[PackInfo, PackInfo]:
        """Degrader and enhancer. Raises PackError."""
        return find_pack(self.degrader), find_pack(self.enhancer)

    def identity(self) -> dict[str, Any]:
        """What decides a result, as JSON types: a change of it makes a case anew. Not the device and the batch."""
        values = asdict(self)
        for name in ("degrader", "enhancer", "device", "batch"):
            del values[name]
        degrader, enhancer = self.packs()
        packs = {"degrader_sha256": degrader.weights_sha256, "enhancer_sha256": enhancer.weights_sha256}
        return {**values, **packs, "version": __version__}


@dataclass(frozen=True)
class Job:
    """One case to be done.

    Attributes:
        case: its name.
        source: the folder of its two images.
        place: the folder for the pair.
        plan: how.
        identity: of the plan, so that a worker with other packs is found out.
    """

    case: str
    source: Path
    place: Path
    plan: Plan
    identity: dict[str, Any]


def find_cases(folder: Path) -> list[str]:
    """Names of the cases, in order: a folder for each.

    Raises:
        InputError: no such folder, or none in it.
    """
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise InputError(f"the folder {folder} cannot be read ({error.strerror})", "Check the name") from error
    if not names:
        raise InputError(f"{folder} holds no case", "Make a folder for each case, with high.* and low.* in it")
    return names


def input_files(folder: Path) -> dict[str, Path]:
    """Role to file: the one `high.*` and the one `low.*` of a case. Raises InputError."""
    try:
        names = sorted(entry.name for entry in os.scandir(folder))
    except OSError as error:
        raise InputError(f"the folder {folder} cannot be read ({error.strerror})", "Check its rights") from error
    return {role: folder / _only(folder, role, names) for role in ROLES}


def case_seed(seed: int, case: str) -> int:
    """A seed of its own for each case, which depends on its name alone: not on the order, nor on who does it."""
    from ..diffusion.noise import stream_seed

    return stream_seed(seed, int.from_bytes(hashlib.sha256(os.fsencode(case)).digest()[:8], "big"))


def _only(folder: Path, role: str, names: Sequence[str]) -> str:
    found = [name for name in names if name.lower() in {role + suffix for suffix in FORMATS}]
    if len(found) != 1:
        held = " and ".join(found) or f"no {role}-quality image"
        raise InputError(f"{folder} holds {held}", f"It must hold one file {role} with {', '.join(FORMATS)}")
    return found[0]
