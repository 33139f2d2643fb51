"""The demonstration of super-resolution: the shipped brain, with a picture and a table. A request like any other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ..evaluation import haarpsi, psnr, ssim
from ..imaging.volume import Volume, read_volume
from ..physics.kspace import resize_image
from ..request import Request, Result
from ..settings import SuperResolutionSettings
from . import OnProgress, PackCache, run
from .demo import Array, Demonstration, Tile, draw, make_folder, part, sample_path, save

PACK = "brain-t1-128"
SAMPLES = 4
MEAN = f"mean of {SAMPLES}"
STEPS = SuperResolutionSettings().steps

SLICE = 6
DETAIL = (slice(62, 106), slice(56, 100))
"""Rows and columns of the enlarged part of that slice: ventricle and folded cortex."""


def main(
    folder: str | Path, *, pack: str = PACK, steps: int = STEPS, progress: OnProgress | None = None
) -> Demonstration:
    """Super-resolve the sample from 64x64 to 128x128, and compare with the reference that it was made from.

    Writes into `folder` what `demo.save` says.

    Raises:
        UserError: no sample (the package was installed without its source tree), no such pack, no room to write.
    """
    folder = make_folder(Path(folder))
    low_path, reference_path = sample_path("brain-t1-low-resolution.nii.gz"), sample_path("brain-t1-reference.nii.gz")
    low, reference = read_volume(low_path), read_volume(reference_path)
    single, mean = _runs(_request(low_path, pack, steps), progress)
    images = {
        **enlarged(low.array, reference.array.shape[1:]),
        "single sample": single.volumes["result"].array,
        MEAN: mean.volumes["result"].array,
    }
    scores = {name: score(reference.array, image) for name, image in images.items()}
    figure = draw(tiles(low, images, mean.volumes["standard_deviation"].array, reference), DETAIL)
    return save(folder, "superresolution", mean, scores, table(scores, mean, len(low.array)), figure)


def enlarged(low: Array, matrix: tuple[int, ...]) -> dict[str, Array]:
    """What needs no model, (slices, h, w) to (slices, *matrix): zero filling of k-space, and bicubic interpolation."""
    x = torch.from_numpy(low)
    size = (matrix[0], matrix[1])
    bicubic = F.interpolate(x[:, None], size, mode="bicubic", align_corners=False)[:, 0]
    return {"zero filling": resize_image(x, size).numpy(), "bicubic": bicubic.numpy()}


def score(reference: Array, image: Array) -> dict[str, float]:
    """Mean over slices of PSNR, SSIM and HaarPSI; data range is 0 to the reference's maximum, negatives count as 0."""
    peak = float(reference.max())
    pairs = [(truth, np.clip(slice_, 0, None)) for truth, slice_ in zip(reference, image)]
    return {
        "psnr_db": float(np.mean([psnr(truth, x, peak) for truth, x in pairs])),
        "ssim": float(np.mean([ssim(truth, x, peak) for truth, x in pairs])),
        "haarpsi": float(np.mean([haarpsi(truth, x, peak) for truth, x in pairs])),
    }


def table(scores: Mapping[str, Mapping[str, float]], result: Result, slices: int) -> str:
    """The scores as a Markdown table, with what they were measured on."""
    pack, request = result.provenance["pack"], result.provenance["request"]
    seconds = result.measurements["seconds"]
    lines = [
        "| method | PSNR (dB) | SSIM | HaarPSI |",
        "| --- | --- | --- | --- |",
        *(f"| {name} | {s['psnr_db']:.2f} | {s['ssim']:.4f} | {s['haarpsi']:.4f} |" for name, s in scores.items()),
        "",
        f"One subject, mean over {slices} slices; data range 0 to the reference's maximum. Low resolution simulated",
        "by cropping k-space. Results are SYNTHETIC: not for diagnosis.",
        f"Pack {pack['name']} {pack['version']}, {request['settings']['steps']} steps, {seconds:.0f} s for the "
        f"{SAMPLES} samples on {request['device']} in {request['precision']}.",
    ]
    return "\n".join(lines) + "\n"


def tiles(low: Volume, images: Mapping[str, Array], deviation: Array, reference: Volume) -> list[Tile]:
    """One slice of everything in the same window."""
    window = float(np.percentile(reference.array[SLICE], 99.8))
    spread = float(np.percentile(deviation[SLICE], 99.8))
    matrix = "x".join(str(n) for n in low.array.shape[1:])
    title = f"standard deviation\n(black 0, yellow {spread:.0f})"
    return [
        Tile(f"input {matrix}\n(simulated)", low.array[SLICE], window),
        Tile("zero-filled\n", images["zero filling"][SLICE], window),
        Tile("one sample\n", images["single sample"][SLICE], window, synthetic=True),
        Tile(f"mean of {SAMPLES} samples\n", images[MEAN][SLICE], window, synthetic=True),
        Tile(title, deviation[SLICE], spread, synthetic=True, colours="inferno"),
        Tile("truth\n", reference.array[SLICE], window),
    ]


def _request(low: Path, pack: str, steps: int) -> Request:
    settings = SuperResolutionSettings(steps=steps)
    return Request(task="superresolution", pack=pack, inputs={"low_resolution": str(low)}, settings=settings)


def _runs(request: Request, progress: OnProgress | None) -> tuple[Result, Result]:
    """One sample a slice, then `SAMPLES`, the first of which is the same again."""
    cache = PackCache()
    assert isinstance(request.settings, SuperResolutionSettings)
    several = request.resolved(settings=replace(request.settings, samples=SAMPLES))
    first, last = part(progress, 0, 2), part(progress, 1, 2)
    return run(request, cache=cache, progress=first), run(several, cache=cache, progress=last)
