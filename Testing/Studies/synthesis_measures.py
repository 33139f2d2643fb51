"""What the synthesis study measures beyond image quality: scar, what a deviation tells, closeness to a condition.

Images are (slices, rows, columns) in [0, 1], labels those of MyoPS (`training.myops.LABELS`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

from MRDiffusionLib.imaging.alignment import normalised_mutual_information
from MRDiffusionLib.training.myops import LABELS, WALL

Floats = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

LEAST_ML = 0.3
"""A smaller patch of bright wall is no scar: 15 voxels of 1.4 x 1.4 x 10 mm."""
OVERLAP = 0.1
"""Share of a scar that the other image must show, or the scar is missed (or, the other way round, invented)."""
ERROR = 0.1
"""Of the intensity scale: a larger absolute error is one that the standard deviation should flag."""


def scar_threshold(lge: Floats, labels: NDArray[Any]) -> float:
    """Midpoint between remote myocardium and blood of the left ventricle, the medians over the patient's slices."""
    levels = [float(np.median(lge[labels == LABELS[name]])) for name in ("myocardium", "left ventricle")]
    return sum(levels) / 2


def scar(lge: Floats, labels: NDArray[Any], threshold: float | None = None) -> Mask:
    """Bright wall: above `scar_threshold`, where that is off the wall's edge, and what is bright right beside it.

    Bright voxels of the edge alone are half blood. The tables of the study say how the rule agrees with the drawn scar.

    Args:
        threshold: of the whole patient, where these are some of the slices.
    """
    wall = np.isin(labels, WALL)
    bright = wall & (lge > (scar_threshold(lge, labels) if threshold is None else threshold))
    cross, square = ndimage.generate_binary_structure(2, 1)[None], np.ones((1, 3, 3), bool)
    core = bright & ndimage.binary_erosion(wall, cross)
    return np.asarray(ndimage.binary_dilation(core, square) & bright)


def unmatched(first: Mask, second: Mask, least: float) -> tuple[int, int]:
    """How many scars of `first` `second` does not show (`OVERLAP`), of how many; of at least `least` voxels each."""
    pieces, count = ndimage.label(first, np.ones((3, 3, 3)))
    size = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
    shown = np.bincount(pieces[second], minlength=count + 1)[1:]
    large = size >= least
    return int((large & (shown < OVERLAP * size)).sum()), int(large.sum())


def dice(first: Mask, second: Mask) -> float | None:
    """Overlap, `2 |A and B| / (|A| + |B|)`; None where both are empty."""
    total = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / total if total else None


def auroc(score: Floats, positive: Mask) -> float | None:
    """Probability that a positive has a higher score than a negative (Mann-Whitney U); None without one of the two."""
    a, b = score[positive], score[~positive]
    return float(stats.mannwhitneyu(a, b).statistic) / (len(a) * len(b)) if len(a) and len(b) else None


@dataclass(frozen=True)
class Lge:
    """The true LGE of a patient with its labels and the volume of a voxel."""

    truth: Floats
    labels: NDArray[Any]
    voxel_ml: float

    @property
    def kind(self) -> str:
        """'acute' where there is oedema, which T2 shows; 'old' where LGE alone shows the scar; 'none'."""
        if (self.labels == LABELS["oedema"]).any():
            return "acute"
        return "old" if (self.labels == LABELS["scar"]).any() else "none"

    def reference(self) -> dict[str, Any]:
        """The scar that the rule finds in the true image, and how it agrees with the drawn one."""
        true, drawn = scar(self.truth, self.labels), self.labels == LABELS["scar"]
        volumes = {"ml": float(true.sum()) * self.voxel_ml, "drawn_ml": float(drawn.sum()) * self.voxel_ml}
        threshold = scar_threshold(self.truth, self.labels)
        return {"kind": self.kind, "threshold": threshold, **volumes, "dice_with_drawn": dice(true, drawn)}

    def compare(self, made: Floats) -> dict[str, Any]:
        """A synthetic LGE's scar: volume, overlap, and scars of the patient that are missed or invented."""
        true, found, least = scar(self.truth, self.labels), scar(made, self.labels), LEAST_ML / self.voxel_ml
        missed, true_scars = unmatched(true, found, least)
        invented, made_scars = unmatched(found, true, least)
        return {
            "threshold": scar_threshold(made, self.labels),
            "ml": float(found.sum()) * self.voxel_ml,
            "dice": dice(true, found),
            "true_scars": true_scars,
            "made_scars": made_scars,
            "missed": missed,
            "invented": invented,
        }

    def flags(self, made: Floats, deviation: Floats) -> dict[str, float | None]:
        """Does the standard deviation tell where the wall is wrong? Its mean by region, and its AUROC for errors."""
        true, found, wall = scar(self.truth, self.labels), scar(made, self.labels), np.isin(self.labels, WALL)
        regions = {
            "missed": true & ~found,
            "invented": found & ~true,
            "agreed": true & found,
            "remote": (self.labels == LABELS["myocardium"]) & ~true & ~found,
        }
        means = {name: float(deviation[r].mean()) if r.any() else None for name, r in regions.items()}
        wrong = np.abs(made - self.truth) > ERROR
        return {**means, "auroc": auroc(deviation[wall], wrong[wall])}


def edge_agreement(first: Floats, second: Floats) -> float:
    """How parallel the gradients of two slices are, 0 to 1, whatever the contrast and its sign.

    Normalised gradient fields, Haber and Modersitzki (MICCAI 2006), eq. 3, with the mean gradient as eta; weighted by
    the first image's edges: `sum w cos^2 / sum w`, w its squared gradient.
    """
    g, h = (np.stack(np.gradient(image.astype(np.float64))) for image in (first, second))
    eta = np.hypot(*h).mean()
    weight = (g**2).sum(0)
    if not weight.any() or not eta:
        return 0.0
    return float(((g * h).sum(0) ** 2 / ((h**2).sum(0) + eta**2)).sum() / weight.sum())


def closeness(made: Floats, condition: Floats) -> dict[str, float]:
    """How close a synthetic slice is to a given one of another contrast."""
    mutual = normalised_mutual_information(np.asarray(made, np.float32), np.asarray(condition, np.float32))
    return {"nmi": mutual, "edges": edge_agreement(condition, made)}
