"""Figures of the enhancement study: agreement of the two trainings, and examples at two windows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from degrader import acquired
from figures import show

from MRDiffusionLib.evaluation import bland_altman, pearson
from MRDiffusionLib.settings import KINDS
from MRDiffusionLib.training.data import read_slices

if TYPE_CHECKING:
    from enhancement import Study

DPI = 110
EXAMPLE = (57, 8, 0.6)
"""Subject, slice and level."""
WINDOWS = (("", 1.0), ("dark window", 0.25))


def draw(study: Study, data: Path) -> None:
    """All figures that the scores allow."""
    for kind in KINDS:
        if {"acquired", "synthetic"} <= set(study.methods(kind)):
            agreement(study, kind)
        examples(study, data, kind)
        for measure in study.measures[2:]:
            boxes(study, kind, measure)


def boxes(study: Study, kind: str, measure: str) -> None:
    """A score without reference by method, over all slices and levels."""
    figure, axis = plt.subplots(figsize=(4.6, 3.2))
    methods = study.methods(kind)
    values = [study.values(kind, method, measure)[0] for method in methods]
    axis.boxplot([own[np.isfinite(own)] for own in values], tick_labels=methods, showfliers=False)
    axis.set(ylabel=measure if measure == "scorer" else "NIQE (less is better)", title=kind)
    figure.tight_layout()
    _save(study, figure, f"{measure}-{kind}")


def agreement(study: Study, kind: str) -> None:
    """SSIM of both trainings against each other, and their Bland-Altman plot, a dot for each slice."""
    (one, subjects), (other, _) = (study.values(kind, name, "ssim") for name in ("acquired", "synthetic"))
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8))
    left.scatter(one, other, c=subjects, cmap="tab10", s=8)
    low = min(one.min(), other.min())
    left.plot([low, 1], [low, 1], "k-", lw=0.6)
    r = pearson(one, other)
    left.set(xlabel="SSIM, trained on acquired pairs (simulated)", ylabel="SSIM, trained on synthetic pairs")
    left.set_title(f"{kind}: r = {r.r:.4f} [{r.interval[0]:.4f}, {r.interval[1]:.4f}]", fontsize=9)
    limits = bland_altman(one, other)
    right.scatter((one + other) / 2, other - one, c=subjects, cmap="tab10", s=8)
    for value, style in ((limits.bias, "k-"), (limits.lower, "k--"), (limits.upper, "k--")):
        right.axhline(value, linestyle=style[1:], color="k", lw=0.8)
    right.axhspan(*limits.bias_interval, color="k", alpha=0.15)
    right.set(xlabel="mean SSIM", ylabel="synthetic less acquired")
    right.set_title(f"bias {limits.bias:+.5f}, colours are subjects", fontsize=9)
    figure.tight_layout()
    _save(study, figure, f"agreement-{kind}")


def examples(study: Study, data: Path, kind: str) -> None:
    """A test slice, given and enhanced by each network, at two windows."""
    from enhancement import restored

    subject, number, level = EXAMPLE
    images, subjects = read_slices(data)
    clean = np.asarray(images[subjects == subject][number : number + 1] / np.float32(255), np.float32)
    low = acquired(clean, kind, level, subject, 0)
    columns = [("full scan", clean[0], False), (f"given, level {level:g}\n(simulated)", low[0], False)]
    for (method, own), network in study.networks.items():
        if own == kind:
            columns.append((method, restored(network, low, kind, level)[0][0], True))
    figure, axes = plt.subplots(2, len(columns), figsize=(2.3 * len(columns), 5.4), squeeze=False)
    middle = (slice(40, 216), slice(48, 208))
    for row, (window, peak) in enumerate(WINDOWS):
        for axis, (title, image, made) in zip(axes[row], columns):
            show(axis, image[middle], title if row == 0 else "", window, peak=peak, synthetic=made)
    figure.tight_layout()
    _save(study, figure, f"examples-{kind}")


def _save(study: Study, figure: plt.Figure, name: str) -> None:
    figure.savefig(study.out / f"{name}.png", dpi=DPI)
    plt.close(figure)
    print(f"wrote {study.out / name}.png")
