"""One case: two files in, a pair and its record out. A function of the case alone, whoever calls it and when."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray

from .. import tasks
from ..errors import InputError, PackError, StorageError, UserError, is_out_of_memory
from ..evaluation.artefacts import measure_artefacts
from ..evaluation.misalignment import measure_misalignment, object_of
from ..imaging.geometry import Geometry, voxel_positions
from ..imaging.resample import resample
from ..imaging.volume import Volume, read_volume, require_contrast, write_volume
from ..request import Request, Result
from ..settings import DegradationSettings, EnhancementSettings, Settings
from ..tasks.device import resolve_device
from ..tasks.enhancement import estimate_level
from ..tasks.image import read_image
from ..worker.outputs import Write, remove_abandoned, sidecar, staging, told_of, write_together
from ..worker.protocol import to_json
from .decision import HIGH_SYNTHESISED, LOW_SYNTHESISED, decide
from .manifest import Record, failure, file_record
from .plan import Job, case_seed, input_files

LEAST_SHOWN = 0.95
"""Part of the object that the low-quality image must show."""

_alone = threading.Lock()
"""Threads of a worker take turns: they share the number of threads that torch and SimpleITK compute in."""


@functools.lru_cache(maxsize=1)
def warm_packs() -> tasks.PackCache:
    """Of this process: a worker loads a pack once for all its cases."""
    return tasks.PackCache()


def attempt(job: Job) -> Record:
    """The record of a case, also where something goes wrong: one case must not stop the others.

    Raises:
        PackError: other packs or another program here than where the run was started; no case can be done.
    """
    if job.plan.identity() != job.identity:
        raise PackError("the packs or the program of a worker are not those of the run", "Install the same ones there")
    with _alone:
        started = time.monotonic()
        try:
            return build_case(job)
        except Exception as error:
            if is_out_of_memory(error):
                reason = "there is not enough memory for it"
            else:
                internal = f"internal error: {type(error).__name__}: {error}"
                reason = str(error) if isinstance(error, UserError) else internal
            return failure(job, reason, time.monotonic() - started)


def build_case(job: Job) -> Record:
    """Read, measure, decide, synthesise and write one case.

    Computed in one thread, because the last bits of a sum depend on the number of threads.

    Returns:
        Its line of the manifest.

    Raises:
        UserError: files that cannot be used, images that show different things, no room.
    """
    started, plan = time.monotonic(), job.plan
    if not is_text(job.case):
        raise InputError(f"the name of the folder {str(job.source)!a} is no text", "Rename the folder")
    files = input_files(job.source)
    given = {role: file_record(path) for role, path in files.items()}
    try:
        job.place.mkdir(exist_ok=True)
    except OSError as error:
        raise StorageError(f"{job.place} cannot be made ({error.strerror})", "Remove what is there") from error
    remove_abandoned(job.place)
    with one_thread():
        high, low = (read_volume(files[role]) for role in ("high", "low"))
        for role, volume in (("the high-quality image", high), ("the low-quality image", low)):
            require_contrast(volume, role)
        on_grid = low.geometry.agrees_with(high.geometry)
        pair = {"high": high, "low": Volume(low.array, high.geometry) if on_grid else onto(low, high)}
        misalignment = measure_misalignment(pair["high"], pair["low"])
        artefacts = measure_artefacts(high.array)
        decision, reason = decide(misalignment, artefacts, plan.limits)
        level = _level(job, files["low"]) if plan.level is None else plan.level
        result, made = None, ""
        if decision == LOW_SYNTHESISED:
            made = "low"
            result = _run(job, "degradation", files["high"], DegradationSettings(plan.kind, level, plan.steps))
        elif decision == HIGH_SYNTHESISED:
            made = "high"
            settings = EnhancementSettings(plan.kind, level)
            result = _run(job, "enhancement", files["low"] if on_grid else pair["low"], settings)
        if result is not None:
            pair[made] = Volume(result.volumes["result"].array, high.geometry)
        outputs = write_pair(job.place, pair, result, made)
    return {
        "case": job.case,
        "decision": decision,
        "reason": reason,
        "kind": plan.kind,
        "level": level,
        "measurements": {"misalignment": asdict(misalignment), "artefacts": asdict(artefacts)},
        "warnings": [] if result is None else list(result.warnings),
        "inputs": given,
        "outputs": outputs,
        "provenance": None if result is None else result.provenance,
        "seconds": time.monotonic() - started,
        "plan": job.identity,
    }


def is_text(name: str) -> bool:
    """Whether a file name is Unicode without control characters: SimpleITK cannot open any other."""
    return not any(unicodedata.category(character) in ("Cc", "Cs") for character in name)


def onto(low: Volume, high: Volume) -> Volume:
    """The low-quality image on the other's grid. Raises InputError where it shows too little of the object."""
    step = max(1, min(high.array.shape[1:]) // 64)
    shown = object_of(high.array)[:, ::step, ::step]
    share = float(inside(low.geometry, voxel_positions(high.geometry, step)[shown]).mean()) if shown.any() else 0.0
    if not share >= LEAST_SHOWN:
        hint = "Choose images of the same part of the body, or crop the high-quality one"
        raise InputError(f"the low-quality image shows {share:.0%} of what the high-quality one shows", hint)
    return resample(low, high.geometry)


def inside(geometry: Geometry, positions: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which positions (n, 3) in LPS mm lie in a volume's field of view."""
    index = (positions - np.array(geometry.origin)) @ geometry.direction_matrix / np.array(geometry.spacing)
    return np.asarray(((index >= -0.5) & (index <= np.array(geometry.size) - 0.5)).all(1))


def write_pair(place: Path, pair: dict[str, Volume], result: Result | None, made: str) -> dict[str, Record]:
    """Write both images and the provenance of a synthetic one; what an earlier run left goes. Raises StorageError.

    Returns:
        Role to file name, bytes and SHA-256 of the voxels.
    """
    places = {role: place / f"{role}.nii.gz" for role in pair}
    files: dict[Path, Write] = {places[role]: functools.partial(write_volume, pair[role]) for role in pair}
    if result is not None:
        written = sidecar(told_of(replace(result, volumes={"result": pair[made]})), {"result": places[made]})
        text = to_json(written, indent=1) + "\n"

        def write_text(path: Path) -> None:
            path.write_text(text, encoding="utf-8")

        files[place / f"{made}.json"] = write_text
    write_together(files)
    for role in pair:
        if role != made:
            (place / f"{role}.json").unlink(missing_ok=True)
    return {
        role: {"file": path.name, "bytes": path.stat().st_size, "sha256": pair[role].sha256}
        for role, path in places.items()
    }


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Torch and SimpleITK compute in one thread."""
    threads = torch.get_num_threads(), sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    torch.set_num_threads(1)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads[0])
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads[1])


def _level(job: Job, low: Path) -> float:
    """Estimated from the low-quality image as it was acquired."""
    plan = job.plan
    model = warm_packs().enhancer(plan.enhancer, resolve_device(plan.device), plan.precision)
    return estimate_level(read_image(str(low), model.info), model, plan.kind)


def _run(job: Job, task: str, image: Path | Volume, settings: Settings) -> Result:
    """Run a task on one image of the case. One that is no file yet becomes one; the pair's `low.nii.gz` is the same."""
    plan = job.plan

    def run(path: Path) -> Result:
        request = Request(
            task,
            plan.degrader if task == "degradation" else plan.enhancer,
            {"image": str(path)},
            settings,
            seed=case_seed(plan.seed, job.case),
            device=plan.device,
            precision=plan.precision,
            batch=plan.batch,
        )
        return tasks.run(request, cache=warm_packs())

    if isinstance(image, Path):
        return run(image)
    with staging(job.place) as staged:
        write_volume(image, staged / "low.nii.gz")
        result = run(staged / "low.nii.gz")
    result.provenance["request"]["inputs"]["image"] = str(job.place / "low.nii.gz")
    return result
