"""Simulated patients beside real bSSFP images: `docs/images/simulated-cardiac.png`.

    python Testing/Studies/simulated.py DATA --out docs/images

DATA is a folder with `cardiac_cine` (docs/data.md). Twelve patients are drawn by a fixed seed, not chosen: eight on
real anatomy, whose bSSFP image is the real one, and four modelled ones.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from MRDiffusionLib.simulation.cohort import Options, Patient, real_anatomy, simulate
from MRDiffusionLib.simulation.sunnybrook import read_slices
from MRDiffusionLib.simulation.ventricles import draw_heart, modelled_stack

COLUMNS = ("bSSFP", "T2", "LGE", "scar and oedema")


def draw(data: Path, seed: int) -> list[tuple[str, Patient]]:
    """Twelve patients of one slice each, with a title."""
    generator = np.random.default_rng(seed)
    cine = read_slices(data / "cardiac_cine")
    patients = []
    for name in generator.choice(sorted(cine), 8, replace=False):
        stack = cine[name]
        # The middle of the heart: the ends show little of it.
        one = stack[int(generator.integers(len(stack) // 4, 3 * len(stack) // 4 + 1))]
        patient = simulate(
            real_anatomy([one]), int(generator.integers(2**32)), Options(infarct=1), (one.spacing_mm, 10), name
        )
        patients.append((f"{name}\nbSSFP real, rest simulated", patient))
    for _ in range(4):
        stack = modelled_stack(draw_heart(generator), generator)
        one = stack[int(generator.integers(2, 6))]
        patients.append(
            (
                "modelled\nall simulated",
                simulate([one], int(generator.integers(2**32)), Options(infarct=1), (1.4, 10), ""),
            )
        )
    return patients


def outlined(labels: NDArray[np.uint16]) -> NDArray[np.float64]:
    """Wall grey, oedema yellow, scar red, blood of the ventricles blue, (rows, columns, 3)."""
    colours = {200: (0.5, 0.5, 0.5), 1220: (0.9, 0.8, 0.2), 2221: (0.9, 0.2, 0.2), 500: (0.1, 0.1, 0.4)}
    picture = np.zeros((*labels.shape, 3))
    for label, colour in {**colours, 600: (0.1, 0.2, 0.3)}.items():
        picture[labels == label] = colour
    return picture


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    figure, axes = plt.subplots(4, 12, figsize=(20, 7.4))
    cut = slice(16, -16)
    for index, (title, patient) in enumerate(draw(options.data, options.seed)):
        row, first = index // 3, 4 * (index % 3)
        for column, name in enumerate(COLUMNS):
            axis = axes[row, first + column]
            axis.axis("off")
            if column < 3:
                image = patient.images[name][0][cut, cut]
                axis.imshow(image, cmap="gray", vmin=0, vmax=np.percentile(image, 99.5))
            else:
                axis.imshow(outlined(patient.labels[0][cut, cut]))
            if row == 0:
                axis.set_title(name, fontsize=9)
        axes[row, first].text(0, 1, title, transform=axes[row, first].transAxes, color="white", fontsize=6, va="top")
    figure.subplots_adjust(0, 0, 1, 0.96, 0.01, 0.01)
    options.out.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out / "simulated-cardiac.png", dpi=80, pil_kwargs={"optimize": True})
    print(f"wrote {options.out / 'simulated-cardiac.png'}")


if __name__ == "__main__":
    main()
