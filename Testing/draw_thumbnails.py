"""Draw the thumbnails of the samples for Slicer's module Sample Data: `python Testing/draw_thumbnails.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from MRDiffusionLib.imaging import read_volume

RESOURCES = Path(__file__).resolve().parents[1] / "MRDiffusion" / "Resources"
SIDE = 128
PICTURES = {
    "heart": "cardiac-bssfp",
    "brain": "brain-t1-low-resolution",
    "brain-fine": "brain-t1-fine",
    "brain-noisy": "brain-t1-noisy",
}


def main() -> None:
    for name, sample in PICTURES.items():
        array = read_volume(RESOURCES / "SampleData" / f"{sample}.nii.gz").array
        image = array[len(array) // 2]
        side = min(image.shape)
        top, left = ((n - side) // 2 for n in image.shape)
        image = image[top : top + side, left : left + side]
        grey = np.clip(image / np.percentile(image, 99.5), 0, 1) * 255
        picture = Image.fromarray(grey.astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.NEAREST)
        picture.save(RESOURCES / "Icons" / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
