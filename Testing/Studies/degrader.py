"""Does a degrader do what a low-quality scan does? Its images beside simulated acquisitions of the same levels.

    python Testing/Studies/degrader.py data/axial256_u8.npz --out docs/results/degrader [--noise PACK] [--blur PACK]

Test subjects 53 to 60, some slices of each, five levels, two seeds, beside ten acquisitions. Writes tables.md,
scores.json and a picture of each kind. Every generated image carries the word SYNTHETIC.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from figures import show
from numpy.typing import NDArray
from skimage.registration import phase_cross_correlation

from MRDiffusionLib.diffusion.noise import stream_seed
from MRDiffusionLib.evaluation import radial_power_spectrum, ssim
from MRDiffusionLib.imaging.geometry import Geometry
from MRDiffusionLib.physics.degradation import degrade as acquire
from MRDiffusionLib.physics.levels import acceleration, snr_ratio
from MRDiffusionLib.request import Request
from MRDiffusionLib.settings import KINDS, DegradationSettings
from MRDiffusionLib.tasks.degradation import degrade
from MRDiffusionLib.tasks.device import faster_precision, resolve_device
from MRDiffusionLib.tasks.image import Image
from MRDiffusionLib.tasks.models import DegraderModel, PackCache
from MRDiffusionLib.training.data import read_slices

TEST = range(53, 61)
LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
SHOWN = (0.3, 0.6, 0.9)
SEEDS = (0, 1)
ACQUISITIONS = 10
"""Of each slice; the first as many as `SEEDS` stand for what one scan shows, the others for what scans show."""
AIR = 0.05
"""Share of white below which a voxel of the clean image is air."""
FLOOR = 1e-4
"""Share of the mean power of all rings of k-space; a ring with less is next to nothing in the image."""

SPECTRA = ("spectrum", "acquired_spectrum")
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Scores:
    """Of one subject at one level.

    Attributes:
        ssim, acquired_ssim: of the degrader's and of the acquired images to the clean ones.
        deviation, acquired_deviation: standard deviation of what was added within the head, the degrader's and an
            acquisition's, over that of many acquisitions.
        spectrum, acquired_spectrum: power over that of many acquisitions, dB by ring up to 0.5 cycles a pixel, of the
            degrader and of as many other acquisitions.
        visible: whether a ring of many acquisitions has more than next to no power.
        shift: length of the shift against the clean image, pixels.
        seeds, acquired_seeds: correlation of what two seeds add within the head.
        air, acquired_air: mean of what was added outside the head, over that of many acquisitions: the noise floor.
    """

    ssim: float
    acquired_ssim: float
    deviation: float
    acquired_deviation: float
    spectrum: tuple[float, ...]
    acquired_spectrum: tuple[float, ...]
    visible: tuple[bool, ...]
    shift: float
    seeds: float
    acquired_seeds: float
    air: float
    acquired_air: float


def clean_slices(path: Path, subject: int, count: int) -> Floats:
    """Evenly spread slices (n, H, W) of a subject, white at 1; the lowest and highest show too little."""
    images, subjects = read_slices(path)
    own = images[subjects == subject]
    chosen = np.linspace(0.2, 0.8, count) * (len(own) - 1)
    return np.asarray(own[chosen.round().astype(int)] / np.float32(255), np.float32)


def acquired(clean: Floats, kind: str, level: float, subject: int, seed: int) -> Floats:
    """Simulated acquisitions of slices."""
    images = []
    for number, image in enumerate(clean):
        generator = torch.Generator().manual_seed(stream_seed(seed, subject, number))
        images.append(acquire(torch.from_numpy(image), kind, level, generator).numpy())
    return np.stack(images)


def made(clean: Floats, kind: str, level: float, model: DegraderModel, seed: int) -> Floats:
    """The degrader's images of slices whose white is known."""
    geometry = Geometry(clean.shape[::-1], (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    request = Request(
        "degradation", model.info.name, {"image": "-"}, DegradationSettings(kind=kind, level=level), seed, batch=4
    )
    return degrade(Image(clean, geometry, "", 1.0, model.info.multiple, ()), model, request)


def compare(clean: Floats, acquisitions: list[Floats], synthetic: list[Floats]) -> Scores:
    """Of some seeds of the degrader and of more acquisitions."""
    inside = clean > AIR
    real, many = acquisitions[: len(synthetic)], acquisitions[len(synthetic) :]

    def deviation(images: list[Floats]) -> float:
        return float(np.sqrt(np.mean([(image - clean)[inside].var() for image in images])))

    def likeness(images: list[Floats]) -> float:
        return float(np.corrcoef(*((image - clean)[inside] for image in images[:2]))[0, 1])

    def floor(images: list[Floats]) -> float:
        return float(np.mean([image[clean == 0].mean() for image in images]))

    shifts = [phase_cross_correlation(a, b, upsample_factor=50)[0] for a, b in zip(clean, synthetic[0])]
    return Scores(
        ssim=float(np.mean([ssim(clean, image, 1.0) for image in synthetic])),
        acquired_ssim=float(np.mean([ssim(clean, image, 1.0) for image in acquisitions])),
        deviation=deviation(synthetic) / deviation(many),
        acquired_deviation=deviation(real) / deviation(many),
        spectrum=decibels(np.concatenate(synthetic), np.concatenate(many)),
        acquired_spectrum=decibels(np.concatenate(real), np.concatenate(many)),
        visible=visible(np.concatenate(many)),
        shift=float(np.mean([np.hypot(*shift) for shift in shifts])),
        seeds=likeness(synthetic),
        acquired_seeds=likeness(real),
        air=floor(synthetic) / floor(many),
        acquired_air=floor(real) / floor(many),
    )


def decibels(images: Floats, reference: Floats) -> tuple[float, ...]:
    """Of the power of images over the reference's, by ring."""
    one, other = radial_power_spectrum(images), radial_power_spectrum(reference)
    ratio = 10 * np.log10(np.maximum(one.power, 1e-30) / np.maximum(other.power, 1e-30))
    return tuple(round(float(value), 3) for value in ratio[other.frequency <= 0.5])


def visible(images: Floats) -> tuple[bool, ...]:
    """By ring, whether it has more than next to no power."""
    spectrum = radial_power_spectrum(images)
    return tuple((spectrum.power > FLOOR * spectrum.power.mean())[spectrum.frequency <= 0.5].tolist())


def largest(subjects: list[Scores], name: str, everywhere: bool = False) -> float:
    """The largest difference of a ring, after the mean over subjects; of those alone that all have power in, or of all.

    Args:
        name: `spectrum` or `acquired_spectrum`.
    """
    difference = np.abs(np.mean([getattr(each, name) for each in subjects], axis=0))
    shown = np.all([each.visible for each in subjects], axis=0) | everywhere
    return float(difference[shown].max())


def table(kind: str, scores: dict[float, list[Scores]]) -> list[str]:
    meaning = "SNR, of the full scan's" if kind == "noise" else "speed"
    titles = [
        "level",
        meaning,
        "SSIM to the clean image",
        "acquired",
        "deviation / acquired",
        "of two acquisitions",
        "shift (pixels)",
        "correlation of seeds",
        "acquired",
        "spectrum, largest difference (dB)",
        "of two acquisitions",
        "in any ring (dB)",
        "of two acquisitions",
    ]
    if kind == "noise":
        titles[7:7] = ["mean in air / acquired", "of two acquisitions"]
    lines = [f"## {kind}", "", f"| {' | '.join(titles)} |", "| --- " * len(titles) + "|"]
    of_air = ("air", "acquired_air") if kind == "noise" else ()
    names = ("ssim", "acquired_ssim", "deviation", "acquired_deviation", "shift", *of_air, "seeds", "acquired_seeds")
    for level, subjects in scores.items():
        means = {name: np.array([getattr(each, name) for each in subjects]) for name in names}
        what = f"{snr_ratio(level):.2f}" if kind == "noise" else f"{acceleration(level):.2f}"
        cells = [f"{values.mean():.3f} ± {values.std(ddof=1):.3f}" for values in means.values()]
        cells += [f"{largest(subjects, name, all_):.2f}" for all_ in (False, True) for name in SPECTRA]
        lines.append(f"| {level:g} | {what} | {' | '.join(cells)} |")
    return [*lines, ""]


def picture(kind: str, data: Path, model: DegraderModel, path: Path) -> None:
    """A slice, acquired and degraded at some levels, and the spectra."""
    clean = clean_slices(data, TEST[0], 3)[1:2]
    figure, axes = plt.subplots(2, len(SHOWN) + 2, figsize=(2.6 * (len(SHOWN) + 2), 5.6))
    middle = (slice(40, 216), slice(48, 208))
    show(axes[0, 0], clean[0][middle], "clean", peak=1.0)
    axes[1, 0].axis("off")
    for column, level in enumerate(SHOWN, start=1):
        real, synthetic = acquired(clean, kind, level, TEST[0], 0), made(clean, kind, level, model, 0)
        show(axes[0, column], real[0][middle], f"acquired (simulated)\nlevel {level:g}", peak=1.0)
        show(axes[1, column], synthetic[0][middle], f"degrader\nlevel {level:g}", peak=1.0, synthetic=True)
        for image, style, name in ((real, "k-", "acquired"), (synthetic, "C1--", "degrader")):
            spectrum = radial_power_spectrum(image)
            axes[0, -1].semilogy(spectrum.frequency, spectrum.power, style, lw=1, label=name if column == 1 else None)
    axes[0, -1].set(xlabel="cycles per pixel", title="power")
    axes[0, -1].legend(fontsize=7)
    axes[1, -1].axis("off")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="archive of clean slices")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--slices", type=int, default=4, help="of each subject [default 4]")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="[default both]")
    parser.add_argument("--levels", nargs="+", type=float, default=LEVELS, help="[default %(default)s]")
    for kind in KINDS:
        parser.add_argument(f"--{kind}", default=f"brain-degrade-{kind}", help="pack")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    device = resolve_device("auto")
    lines: list[str] = [f"{len(TEST)} test subjects, {options.slices} slices each; mean ± standard deviation.", ""]
    raw: dict[str, Any] = {}
    for kind in options.kinds:
        model = PackCache().degrader(getattr(options, kind), device, faster_precision(device))
        scores: dict[float, list[Scores]] = {level: [] for level in options.levels}
        for subject in TEST:
            clean = clean_slices(options.data, subject, options.slices)
            for level in options.levels:
                real = [acquired(clean, kind, level, subject, seed) for seed in range(ACQUISITIONS)]
                synthetic = [made(clean, kind, level, model, seed) for seed in SEEDS]
                scores[level].append(compare(clean, real, synthetic))
            print(f"{kind}: subject {subject}", flush=True)
        lines += table(kind, scores)
        raw[kind] = {str(level): [vars(each) for each in subjects] for level, subjects in scores.items()}
        picture(kind, options.data, model, options.out / f"{kind}.png")
    (options.out / "tables.md").write_text("\n".join(lines), encoding="utf-8")
    (options.out / "scores.json").write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
