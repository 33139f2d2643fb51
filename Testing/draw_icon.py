"""Draw the module's icon, a brain half coarse and half fine: `python Testing/draw_icon.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SIZE = 128
COARSE = 16
PATH = Path(__file__).resolve().parents[1] / "MRDiffusion" / "Resources" / "Icons" / "MRDiffusion.png"
# Centre, half axes (fractions of the icon), grey value; one over the other: scalp, gap, brain, ventricles, nuclei.
ELLIPSES = (
    (0.5, 0.5, 0.39, 0.46, 0.95),
    (0.5, 0.5, 0.345, 0.415, 0.1),
    (0.5, 0.5, 0.315, 0.385, 0.6),
    (0.42, 0.42, 0.05, 0.14, 0.1),
    (0.58, 0.42, 0.05, 0.14, 0.1),
    (0.655, 0.64, 0.07, 0.1, 0.9),
    (0.345, 0.64, 0.07, 0.1, 0.9),
)
AMBER = (255, 191, 0, 255)


def phantom(size: int) -> np.ndarray:
    """Grey values in [0, 1], (size, size)."""
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    image = np.full((size, size), 0.1)
    for cx, cy, a, b, value in ELLIPSES:
        image[((x - cx) / a) ** 2 + ((y - cy) / b) ** 2 < 1] = value
    return image


def average(image: np.ndarray, block: int) -> np.ndarray:
    """Mean over blocks of block x block pixels."""
    height, width = (n // block for n in image.shape)
    return image.reshape(height, block, width, block).mean((1, 3))


def draw() -> Image.Image:
    fine = average(phantom(4 * SIZE), 4)
    coarse = np.kron(average(fine, COARSE), np.ones((COARSE, COARSE)))
    both = np.where(np.arange(SIZE) < SIZE // 2, coarse, fine)
    icon = Image.fromarray((255 * both).round().astype(np.uint8)).convert("RGBA")
    pen = ImageDraw.Draw(icon)
    pen.rectangle((SIZE // 2 - 2, 0, SIZE // 2 + 1, SIZE), fill=AMBER)
    corners = Image.new("L", (4 * SIZE, 4 * SIZE))
    ImageDraw.Draw(corners).rounded_rectangle((0, 0, 4 * SIZE - 1, 4 * SIZE - 1), 4 * SIZE // 8, fill=255)
    icon.putalpha(corners.resize((SIZE, SIZE), Image.Resampling.LANCZOS))
    return icon


if __name__ == "__main__":
    PATH.parent.mkdir(parents=True, exist_ok=True)
    draw().save(PATH, optimize=True)
