"""Fits what good T1-weighted brain slices look like, for quality without a reference (`evaluation.naturalness`).

    python Testing/Studies/naturalness.py data/axial256_u8.npz --out MRDiffusionLib/evaluation/naturalness-brain-t1.json

Of the training subjects 1 to 46, every slice of which a fifth shows brain. Prints NIQE of test slices as they are and
as simulated noisy and fast scans would show them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from MRDiffusionLib.evaluation.naturalness import AIR, fit
from MRDiffusionLib.physics.degradation import degrade
from MRDiffusionLib.settings import KINDS
from MRDiffusionLib.training.data import read_slices

TRAINING, TEST = (1, 46), (53, 60)
SOURCE = "T1-weighted axial brain slices, 0.87 mm, skull-stripped: 46 subjects of OpenNeuro ds002748 (CC0)"
LEVELS = (0.0, 0.2, 0.5, 0.8)


def slices(path: Path, subjects: tuple[int, int], least: float = 0.2) -> NDArray[np.float64]:
    """Slices (N, H, W) of the subjects first..last of which enough is not air, white at 1."""
    images, subject = read_slices(path)
    own = images[(subject >= subjects[0]) & (subject <= subjects[1])] / 255
    return np.asarray(own[(own > AIR).mean((1, 2)) > least])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="archive of clean slices")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    good = fit(slices(options.data, TRAINING), SOURCE)
    good.save(options.out)
    test = slices(options.data, TEST)[::4]
    print(f"{len(test)} test slices, mean NIQE\n\n| kind | {' | '.join(f'level {level:g}' for level in LEVELS)} |")
    print("| --- " * (1 + len(LEVELS)) + "|")
    for kind in KINDS:
        row = []
        for level in LEVELS:
            generator = torch.Generator().manual_seed(0)
            low = [degrade(torch.from_numpy(image).float(), kind, level, generator).numpy() for image in test]
            row.append(f"{np.mean([good.distance(image) for image in low]):.2f}")
        print(f"| {kind} | {' | '.join(row)} |")


if __name__ == "__main__":
    main()
