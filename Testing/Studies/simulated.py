"""Simulated patients beside real bSSFP images: `docs/images/simulated-cardiac.png`.

    python Testing/Studies/simulated.py DATA --out docs/images

DATA is a folder with `cardiac_cine` (docs/data.md). Twelve patients are drawn by a fixed seed, not chosen: six on real
anatomy, whose bSSFP image is the real one, and six modelled ones. The real images beside them are of other patients.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from MRDiffusionLib.simulation.anatomy import window
from MRDiffusionLib.simulation.cohort import Options, Patient, real_anatomy, simulate
from MRDiffusionLib.simulation.sunnybrook import CineSlice, read_slices
from MRDiffusionLib.simulation.ventricles import draw_heart, modelled_stack

COLUMNS = ("bSSFP", "T2", "LGE", "labels")
ROWS = 6
SIDE = 112
"""Voxels shown in each direction, one pixel each: 15 cm."""


def middle(stack: Sequence[CineSlice], generator: np.random.Generator) -> CineSlice:
    """A slice from the middle of the heart: the ends show little of it."""
    return stack[int(generator.integers(len(stack) // 4, 3 * len(stack) // 4 + 1))]


def draw(data: Path, seed: int) -> tuple[list[tuple[str, Patient]], list[NDArray[np.generic]]]:
    """Twelve patients of one slice each with a title, real anatomy first, and twelve real images."""
    generator = np.random.default_rng(seed)
    cine = read_slices(data / "cardiac_cine")
    names = [str(name) for name in generator.permutation(sorted(cine))]
    patients = []
    for name in names[:ROWS]:
        one = middle(cine[name], generator)
        own = int(generator.integers(2**32))
        patients.append((name, simulate(real_anatomy([one]), own, Options(infarct=1), (one.spacing_mm, 10), name)))
    for number in range(ROWS):
        own = int(generator.integers(2**32))
        person = np.random.default_rng(own)
        one_slice = modelled_stack(draw_heart(person), person)[int(generator.integers(1, 6))]
        patients.append((f"model {number + 1}", simulate([one_slice], own + 1, Options(infarct=1), (1.4, 10), "")))
    others = [one for name in names[ROWS:] for one in cine[name][len(cine[name]) // 4 : 3 * len(cine[name]) // 4 + 1]]
    chosen = generator.choice(len(others), 2 * ROWS, replace=False)
    return patients, [window(others[n].image, ndimage.center_of_mass(others[n].epi), SIDE) for n in chosen]


COLOURS = {200: (128, 128, 128), 1220: (230, 204, 51), 2221: (230, 51, 51), 500: (26, 26, 102), 600: (26, 51, 77)}
"""Wall grey, oedema yellow, scar red, blood of the ventricles blue."""


def coloured(labels: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """A picture of the labels, (rows, columns, 3)."""
    picture = np.zeros((*labels.shape, 3), np.uint8)
    for label, colour in COLOURS.items():
        picture[labels == label] = colour
    return picture


def palette() -> Image.Image:
    """64 greys and `COLOURS`: an image of less than 600 kB."""
    greys = np.linspace(0, 255, 64).round().astype(int).repeat(3)
    colours = Image.new("P", (1, 1))
    colours.putpalette([*greys.tolist(), *(part for colour in COLOURS.values() for part in colour)])
    return colours


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    patients, real = draw(options.data, options.seed)

    # Pixel by pixel: a column for the names before each block, two lines of titles above.
    margin, head = 18, 40
    starts = [margin, 2 * margin + 4 * SIDE + 10, 2 * margin + 8 * SIDE + 30]
    width, height = starts[2] + 2 * SIDE, head + ROWS * (SIDE + 2)
    figure = plt.figure(figsize=(width / 100, height / 100), dpi=100)

    def show(image: NDArray[np.generic], left: int, row: int) -> None:
        top = head + row * (SIDE + 2)
        place = (left / width, 1 - (top + SIDE) / height, SIDE / width, SIDE / height)
        axis = figure.add_axes(place)
        axis.axis("off")
        axis.imshow(image, cmap="gray", vmin=0, vmax=np.percentile(image, 99), interpolation="nearest")

    def write(text: str, x: float, y: float, **style: object) -> None:
        figure.text(x / width, 1 - y / height, text, ha="center", va="center", fontsize=8, **style)

    cut = slice(80 - SIDE // 2, 80 + SIDE // 2)
    for index, (name, patient) in enumerate(patients):
        left, row = starts[index // ROWS], index % ROWS
        for column, sequence in enumerate(COLUMNS[:3]):
            show(patient.images[sequence][0][cut, cut], left + column * SIDE, row)
        show(coloured(patient.labels[0][cut, cut]), left + 3 * SIDE, row)
        write(name, left - margin / 2, head + (row + 0.5) * (SIDE + 2), rotation=90)
    for index, image in enumerate(real):
        show(image, starts[2] + index // ROWS * SIDE, index % ROWS)
    titles = ("real anatomy: bSSFP real, T2 and LGE simulated", "modelled anatomy: all simulated", "real bSSFP")
    for start, title, columns in zip(starts, titles, (4, 4, 2), strict=True):
        write(title, start + columns * SIDE / 2, 11, weight="bold")
    for start in starts[:2]:
        for column, sequence in enumerate(COLUMNS):
            write(sequence, start + (column + 0.5) * SIDE, 29)
    write("other patients, as they are", starts[2] + SIDE, 29)

    figure.canvas.draw()
    picture = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")
    options.out.mkdir(parents=True, exist_ok=True)
    picture.quantize(palette=palette(), dither=Image.Dither.NONE).save(
        options.out / "simulated-cardiac.png", optimize=True
    )
    print(f"wrote {options.out / 'simulated-cardiac.png'}")


if __name__ == "__main__":
    main()
