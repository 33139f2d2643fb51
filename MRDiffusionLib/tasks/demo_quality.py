"""The demonstration of image quality: a good brain made worse by two degraders, and better again by the enhancer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..evaluation import haarpsi, psnr, ssim
from ..imaging.volume import read_volume, write_volume
from ..request import Request, Result
from ..settings import KINDS, DegradationSettings, EnhancementSettings
from . import OnProgress, PackCache, run
from .demo import Array, Demonstration, Tile, draw, make_folder, part, sample_path, save

DEGRADER, ENHANCER = "brain-degrade-{}", "brain-enhance"
GOOD, NOISY = "brain-t1-fine.nii.gz", "brain-t1-noisy.nii.gz"
LEVEL = 0.6
"""Of the noisy sample, and of what the degraders make."""
SLICE = 3
DETAIL = (slice(96, 176), slice(88, 168))
"""Rows and columns of the enlarged part of that slice: deep grey matter beside the ventricle."""

FULL, SCAN = "full scan\n(real)", "noisy scan\n(simulated)"
ENHANCED = "noisy scan,\nenhanced"


def main(
    folder: str | Path, *, degrader: str = DEGRADER, enhancer: str = ENHANCER, progress: OnProgress | None = None
) -> Demonstration:
    """Degrade the sample by noise and by blur, enhance all, and compare with the sample.

    Writes into `folder` what `demo.save` says of the enhanced noisy scan, and `degradation-KIND.nii.gz`.

    Raises:
        UserError: no sample, no such pack, no room to write.
    """
    folder, cache = make_folder(Path(folder)), PackCache()
    good, noisy = sample_path(GOOD), sample_path(NOISY)
    made: dict[str, Result] = {}
    for number, kind in enumerate(KINDS):
        degrade = DegradationSettings(kind=kind, level=LEVEL)
        request = Request("degradation", degrader.format(kind), {"image": str(good)}, degrade)
        degraded = run(request, cache=cache, progress=part(progress, number, len(KINDS) + 1))
        path = folder / f"degradation-{kind}.nii.gz"
        write_volume(degraded.volumes["result"], path)
        made[f"degrader:\n{kind}"] = degraded
        enhance = Request("enhancement", enhancer, {"image": str(path)}, EnhancementSettings(kind, LEVEL))
        made[f"{kind},\nenhanced"] = run(enhance, cache=cache)
    last = Request("enhancement", enhancer, {"image": str(noisy)}, EnhancementSettings("noise", LEVEL))
    made[ENHANCED] = run(last, cache=cache, progress=part(progress, len(KINDS), len(KINDS) + 1))
    truth = read_volume(good).array
    images = {SCAN: read_volume(noisy).array, **{name: result.volumes["result"].array for name, result in made.items()}}
    white = float(np.percentile(truth[truth > 0], 99.8))
    scores = {name.replace("\n", " "): _score(truth / white, image / white) for name, image in images.items()}
    figure = draw(_tiles(truth, images, white), DETAIL)
    return save(folder, "enhancement", made[ENHANCED], scores, _table(scores, made[ENHANCED], len(truth)), figure)


def _score(truth: Array, image: Array) -> dict[str, float]:
    """Mean over slices; data range 0 to white."""
    metrics = {"psnr_db": psnr, "ssim": ssim, "haarpsi": haarpsi}
    return {name: float(np.mean([metric(a, b, 1.0) for a, b in zip(truth, image)])) for name, metric in metrics.items()}


def _table(scores: Mapping[str, Mapping[str, float]], result: Result, slices: int) -> str:
    pack = result.provenance["pack"]
    lines = [
        "| against the full scan | PSNR (dB) | SSIM | HaarPSI |",
        "| --- | --- | --- | --- |",
        *(f"| {name} | {s['psnr_db']:.2f} | {s['ssim']:.4f} | {s['haarpsi']:.4f} |" for name, s in scores.items()),
        "",
        f"One subject, mean over {slices} slices; level {LEVEL:g}. The noisy scan is simulated; the degraders and the",
        "enhancer have learnt from simulated ones. Results are SYNTHETIC: not for diagnosis.",
        f"Pack {pack['name']} {pack['version']}, {result.measurements['seconds']:.1f} s for the enhanced scan.",
    ]
    return "\n".join(lines) + "\n"


def _tiles(truth: Array, images: Mapping[str, Array], white: float) -> list[Tile]:
    """One slice of everything in the same window."""
    order = [SCAN, ENHANCED, *(name for name in images if name not in (SCAN, ENHANCED))]
    made = [Tile(name, images[name][SLICE], white, synthetic=name != SCAN) for name in order]
    return [Tile(FULL, truth[SLICE], white), *made]
