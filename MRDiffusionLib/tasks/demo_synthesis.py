"""The demonstration of synthesis: LGE of the shipped heart from its bSSFP and T2. A request like any other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..evaluation import psnr, ssim
from ..imaging.resample import resample
from ..imaging.volume import Volume, read_volume
from ..packs import find_pack
from ..packs.intensity import intensity_scale
from ..request import Request, Result
from ..settings import SynthesisSettings
from . import OnProgress, PackCache, run
from .demo import Array, Demonstration, Tile, draw, make_folder, part, sample_path, save
from .synthesis import WHITE

PACK, TARGET, SLICE = "cardiac-simulated", "LGE", 5
GIVEN = {"bSSFP": "cardiac-bssfp.nii.gz", "T2": "cardiac-t2.nii.gz"}
TRUTH = "cardiac-lge.nii.gz"
DETAIL = (slice(30, 98), slice(30, 98))
"""Rows and columns of the enlarged part of that slice: the left ventricle."""

ONE_PASS, ONE = "one-pass regression", "one sample"


def main(
    folder: str | Path,
    *,
    pack: str = PACK,
    settings: SynthesisSettings | None = None,
    progress: OnProgress | None = None,
) -> Demonstration:
    """Make LGE from bSSFP and T2, and compare with the simulated LGE.

    Writes into `folder` what `demo.save` says.

    Raises:
        UserError: no sample, no such pack, no room to write.
    """
    folder, cache = make_folder(Path(folder)), PackCache()
    settings = settings or SynthesisSettings(target=TARGET)
    inputs = {role: str(sample_path(name)) for role, name in GIVEN.items()}
    request = Request(task="synthesis", pack=pack, inputs=inputs, settings=settings)
    several = f"mean of {settings.samples}"
    results = {
        ONE_PASS: run(_changed(request, samples=1, start="regression", strength=0.0), cache=cache),
        ONE: run(_changed(request, samples=1), cache=cache, progress=part(progress, 0, 2)),
        several: run(request, cache=cache, progress=part(progress, 1, 2)),
    }
    mean = results[several]
    normalisation = find_pack(pack).normalisation
    given, truth = _on_grid({**inputs, TARGET: str(sample_path(TRUTH))}, mean.volumes["result"], normalisation)
    made = {name: result.volumes["result"].array / WHITE for name, result in results.items()}
    scores = {name: _score(truth, image) for name, image in made.items()}
    figure = draw(_tiles(given, made, mean.volumes["standard_deviation"].array / WHITE, truth), DETAIL)
    return save(folder, "synthesis", mean, scores, _table(scores, mean), figure)


def _changed(request: Request, **settings: Any) -> Request:
    assert isinstance(request.settings, SynthesisSettings)
    return request.resolved(settings=replace(request.settings, **settings))


def _on_grid(
    files: Mapping[str, str], result: Volume, normalisation: Mapping[str, float]
) -> tuple[dict[str, Array], Array]:
    """The given images and the truth on the result's grid, white at 1 as the pack has it."""
    arrays = {}
    for role, path in files.items():
        stack = resample(read_volume(path), result.geometry).array
        arrays[role] = np.clip(stack / intensity_scale(stack, normalisation), 0, 1)
    return {role: array for role, array in arrays.items() if role != TARGET}, arrays[TARGET]


def _score(truth: Array, image: Array) -> dict[str, float]:
    """Mean over slices; data range 0 to white."""
    return {
        "psnr_db": float(np.mean([psnr(a, b, 1.0) for a, b in zip(truth, image)])),
        "ssim": float(np.mean([ssim(a, b, 1.0) for a, b in zip(truth, image)])),
    }


def _table(scores: Mapping[str, Mapping[str, float]], result: Result) -> str:
    pack, request = result.provenance["pack"], result.provenance["request"]
    lines = [
        f"| {TARGET} from {' and '.join(GIVEN)} | PSNR (dB) | SSIM |",
        "| --- | --- | --- |",
        *(f"| {name} | {s['psnr_db']:.2f} | {s['ssim']:.4f} |" for name, s in scores.items()),
        "",
        "One patient whose bSSFP is real; T2, LGE and the infarct are simulated.",
        "Results are SYNTHETIC: not for diagnosis.",
        f"Pack {pack['name']} {pack['version']}, {request['settings']['steps']} steps, "
        f"{result.measurements['seconds']:.0f} s for the {request['settings']['samples']} samples "
        f"on {request['device']} in {request['precision']}.",
    ]
    return "\n".join(lines) + "\n"


def _tiles(given: Mapping[str, Array], made: Mapping[str, Array], deviation: Array, truth: Array) -> list[Tile]:
    """One slice of everything in the same window."""
    spread = float(np.percentile(deviation[SLICE], 99.8)) or 1.0
    first, *others = given
    title = f"standard deviation\n(yellow {spread:.2f} of white)"
    return [
        Tile(f"{first}\n(real)", given[first][SLICE], 1),
        *(Tile(f"{role}\n(simulated)", given[role][SLICE], 1) for role in others),
        *(Tile(f"{TARGET}\n{name}", image[SLICE], 1, synthetic=True) for name, image in made.items()),
        Tile(title, deviation[SLICE], spread, synthetic=True, colours="inferno"),
        Tile(f"{TARGET}\n(simulated truth)", truth[SLICE], 1),
    ]
