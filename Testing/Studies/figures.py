"""Pictures of the super-resolution study.

    python Testing/Studies/figures.py DATA --out docs/images [--prior NAME|DIR] [--regression NAME|DIR]

Like the abstract's figures 2, 3 and 4: slices restored from 64x64 and 32x32 beside the classical methods, the effect of
lambda, and samples of the unguided prior. Every generated image carries the word SYNTHETIC.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from superresolution import FULL, LAMBDAS, PRIOR, REGRESSION, enlarge, low_resolution, pick, scores, t1_subjects

from MRDiffusionLib.diffusion import SampleNoise, sample, step_gammas
from MRDiffusionLib.diffusion.noise import stream_seed
from MRDiffusionLib.packs.intensity import intensity_scale
from MRDiffusionLib.physics.kspace import measure_image
from MRDiffusionLib.request import Request
from MRDiffusionLib.settings import SuperResolutionSettings
from MRDiffusionLib.tasks.device import faster_precision, resolve_device
from MRDiffusionLib.tasks.models import Model, PackCache
from MRDiffusionLib.tasks.superresolution import on_model_scale, sample_slices, to_intensity

SLICES = ((0, 12), (3, 20), (6, 27))
"""(test subject from 53, slice): base of the skull, basal ganglia, top of the ventricles."""


def guided(model: Model, low: np.ndarray, index: int, scale: float, **settings: object) -> np.ndarray:
    """Samples of one slice, (samples, 128, 128), in the input's units."""
    chosen = SuperResolutionSettings(noise=0.0, **settings)  # type: ignore[arg-type]
    request = Request("superresolution", PRIOR, {"low_resolution": "-"}, chosen, batch=8)
    measured = on_model_scale(
        measure_image(torch.from_numpy(low[index : index + 1])[:, None].to(model.device), FULL), scale
    )
    return to_intensity(sample_slices(measured, [index], model, request)[0], scale)


def show(
    axis: plt.Axes,
    image: np.ndarray,
    title: str = "",
    note: str = "",
    peak: float = 255.0,
    synthetic: bool = False,
    **kw: object,
) -> None:
    axis.imshow(image, cmap=kw.pop("cmap", "gray"), vmin=0, vmax=peak, interpolation="nearest", **kw)
    axis.set_title(title, fontsize=9)
    axis.axis("off")
    box = {"facecolor": "black", "edgecolor": "none", "pad": 1.5}
    corner = {"transform": axis.transAxes, "color": "white", "fontsize": 7, "bbox": box}
    if note:
        axis.text(0.02, 0.03, note, **corner)
    if synthetic:
        axis.text(0.98, 0.97, "SYNTHETIC", ha="right", va="top", **{**corner, "color": "yellow"})


def comparison(data: Path, out: Path, low: int, prior: Model, regression: Model | None) -> None:
    subjects = t1_subjects(data, 53, 60)
    columns = 8 if regression else 7
    figure, axes = plt.subplots(len(SLICES), columns, figsize=(1.75 * columns, 1.9 * len(SLICES)))
    for at, (line, (number, index)) in enumerate(zip(axes, SLICES, strict=True)):
        first = at == 0
        subject = subjects[number]
        coarse = low_resolution(subject, low)
        truth, scale = subject.slices[index], intensity_scale(coarse, prior.info.normalisation)
        drawn = guided(prior, coarse, index, scale, samples=4)
        cells: list[tuple[str, np.ndarray, bool]] = [
            (f"measured {low}x{low}", coarse[index], False),
            ("zero filling", enlarge(coarse[index : index + 1], "zero filling")[0], False),
            ("bilinear", enlarge(coarse[index : index + 1], "bilinear")[0], False),
        ]
        if regression:
            filled = (
                torch.from_numpy(enlarge(coarse[index : index + 1], "zero filling")).to(prior.device)[:, None]
                * (2 / scale)
                - 1
            )
            with torch.no_grad():
                cells.append(
                    ("regression CNN", to_intensity(regression.regress(filled, low / FULL[0])[0, 0], scale), True)
                )
        cells += [("guided VDM, 1 sample", drawn[0], True), ("guided VDM, mean of 4", drawn.mean(0), True)]
        for axis, (title, image, synthetic) in zip(line, cells, strict=False):
            note = ""
            if image.shape == truth.shape:
                s = scores(truth, image, 255.0)
                note = f"{s['psnr']:.1f} dB  {s['ssim']:.3f}"
            show(axis, image, title if first else "", note, synthetic=synthetic)
        show(
            line[columns - 2],
            drawn.std(0, ddof=1),
            "standard deviation" if first else "",
            "0 to 40 of 255",
            40,
            True,
            cmap="magma",
        )
        show(line[columns - 1], truth, "true 128x128" if first else "")
    figure.tight_layout(pad=0.3)
    figure.savefig(out / f"superresolution-{low}.png", dpi=110)


def lambda_figure(data: Path, out: Path, prior: Model, low: int = 32) -> None:
    """One slice over lambda for the abstract's method and ours, same seed (the abstract's figure 4)."""
    subject = pick(t1_subjects(data, 56, 56), range(40))[0]
    coarse, index = low_resolution(subject, low), 20
    scale = intensity_scale(coarse, prior.info.normalisation)
    methods = ("replacement", "projection")
    figure, axes = plt.subplots(2, len(LAMBDAS) + 1, figsize=(1.8 * (len(LAMBDAS) + 1), 4))
    for line, method in zip(axes, methods, strict=True):
        for axis, weight in zip(line, LAMBDAS, strict=False):
            image = guided(prior, coarse, index, scale, steps=200, weight=weight, method=method)[0]
            s = scores(subject.slices[index], image, 255.0)
            show(axis, image, f"lambda = {weight:g}", f"{s['psnr']:.1f} dB", synthetic=True)
        line[0].text(-0.06, 0.5, method, rotation=90, va="center", ha="right", transform=line[0].transAxes, fontsize=9)
        show(line[-1], subject.slices[index], "true")
    figure.tight_layout(pad=0.4)
    figure.savefig(out / f"lambda-{low}.png", dpi=110)


def samples_figure(out: Path, prior: Model, steps: int = 200) -> None:
    """Sixteen samples of the prior without any guidance."""
    draw = SampleNoise([stream_seed(2024, i) for i in range(16)], (1, *FULL), prior.device)
    with torch.no_grad():
        images = sample(prior.denoiser(), draw(), step_gammas(prior.schedule, steps), draw, "ddim", eta=0.85)
    figure, axes = plt.subplots(2, 8, figsize=(12, 3.1))
    for axis, image in zip(axes.flat, images[:, 0].cpu().numpy(), strict=True):
        show(axis, (image + 1) * 127.5, synthetic=True)
    figure.tight_layout(pad=0.2)
    figure.savefig(out / "prior-samples.png", dpi=110)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--prior", default=PRIOR)
    parser.add_argument("--regression", default=REGRESSION, help="empty to leave the column out")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(arguments)
    device = resolve_device(options.device)
    cache, precision = PackCache(), faster_precision(device)
    prior = cache.model(options.prior, device, precision)
    regression = cache.model(options.regression, device, precision) if options.regression else None
    options.out.mkdir(parents=True, exist_ok=True)
    samples_figure(options.out, prior)
    for low in (64, 32):
        comparison(options.data, options.out, low, prior, regression)
    lambda_figure(options.data, options.out, prior)


if __name__ == "__main__":
    main()
