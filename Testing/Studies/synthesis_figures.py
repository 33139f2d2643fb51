"""The pictures of the synthesis study. Every synthetic image carries the word SYNTHETIC."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from figures import show
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from synthesis_measures import scar
from synthesis_report import BOUNDS, scale_means, scar_entries, variants

from MRDiffusionLib.evaluation import bland_altman
from MRDiffusionLib.training.myops import LABELS

if TYPE_CHECKING:
    from synthesis import Part, Patient, Row, Study

SHOWN = 3
"""Patients in a comparison."""
CENTRE = 96
"""Pixels of a cardiac slice that are shown: the heart."""
DPI = 120
KINDS = {"acute": ("tab:red", "o"), "old": ("tab:blue", "s"), "none": ("tab:gray", "^")}


def draw_figures(study: Study, parts: list[Part], which: str) -> None:
    """The pictures of a set ('all': of all sets) whose parts are complete."""
    for part in parts:
        if not study.rows(part) or which not in ("all", part.title):
            continue
        target = part.rows[0][1].target
        if part.title == "main":
            _save(study, comparison(study, part), f"comparison-{target}")
        if part.title == "scales":
            _save(study, closeness_curves(study, part), f"closeness-{target}")
            if target == study.sequences[-1]:
                _save(study, grid_of_scales(study, part), f"scales-{target}")
        if part.title == "hallucination":
            _save(study, examples(study, part), "hallucination")
            _save(study, volumes(study, part), "scar-volume")


def _save(study: Study, figure: Figure, name: str) -> None:
    for text in (text for axis in figure.axes for text in axis.texts if text.get_color() in ("yellow", "white")):
        text.set_path_effects([withStroke(linewidth=1.5, foreground="black")])
    figure.savefig(study.out / f"{name}.png", dpi=DPI)
    plt.close(figure)
    print(f"wrote {study.out / name}.png")


def _data(study: Study) -> str:
    return "Simulated patients" if study.archive.simulated else "Test patients"


def chosen_patients(patients: list[Patient]) -> list[Patient]:
    """Some that differ: in their anatomy's origin and, of hearts, in their scar (acute, old)."""
    oedema = LABELS["oedema"]
    different = {(patient.kind, bool((patient.labels == oedema).any())): patient for patient in reversed(patients)}
    first = list(dict.fromkeys([*(p for p in patients if p in different.values()), *patients]))
    return first[:SHOWN]


def shown_slice(patient: Patient) -> int:
    """Where most of the lesion is; the middle one where none is drawn."""
    lesion = np.isin(patient.labels, (1, LABELS["scar"])).sum((1, 2))
    return int(lesion.argmax()) if lesion.any() else patient.middle


def _cut(patient: Patient, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """The heart; a brain as it is."""
    if patient.labels.max() <= 1:
        return image
    top, left = ((side - CENTRE) // 2 for side in image.shape)
    return image[top : top + CENTRE, left : left + CENTRE]


def comparison(study: Study, part: Part) -> Figure:
    """Sources, reference and all methods, a patient a line (the abstract's figure 5)."""
    target = part.rows[0][1].target
    lines = [line for line in variants(study, part) if line[1].method not in BOUNDS]
    lines = [line for line in lines if (line[1].method, line[2]) != ("plain", "mean")]
    patients = chosen_patients(part.patients)
    columns = len(study.given(target)) + 1 + len(lines)
    figure, axes = plt.subplots(
        len(patients), columns, figsize=(1.55 * columns, 1.6 * len(patients) + 0.75), squeeze=False
    )
    for at, (axis_row, patient) in enumerate(zip(axes, patients)):
        number = shown_slice(patient)
        truth = patient.images[number, study.sequences.index(target)]
        cells = [(name, patient.images[number, study.sequences.index(name)], "") for name in study.given(target)]
        cells.append((f"true {target}", truth, ""))
        made: dict[str, NDArray[np.float32]] = {}
        for label, row, image in lines:
            samples = made.setdefault(row.key, study.made(row, patient, [number])[0])
            scores = study.done[row.key, patient.name, number][image]["whole"]
            note = f"{scores['psnr']:.1f} dB  {scores['ssim']:.3f}"
            cells.append((label.replace(", ", "\n").replace("latent ", "latent\n"), _one(samples, image), note))
        for axis, (title, image, note) in zip(axis_row, cells, strict=True):
            show(axis, _cut(patient, image), title if at == 0 else "", note, 1.0, bool(note))
        _side(axis_row[0], f"{patient.name}\n{patient.kind}".strip())
    figure.suptitle(f"{_data(study)}: {' and '.join(study.given(target))} to {target}", fontsize=10)
    figure.tight_layout(pad=0.3, rect=(0.01, 0, 1, 0.99))
    return figure


def _one(samples: NDArray[np.float32], image: str) -> NDArray[np.float32]:
    return samples[0] if image == "first" else np.asarray(samples.mean(0))


def grid_of_scales(study: Study, part: Part) -> Figure:
    """One slice over both scales, with what is given and what is true."""
    rows = [row for _, row in study.rows(part)]
    target = rows[0].target
    down, across = study.given(target)
    scales = sorted({row.settings["scales"][down] for row in rows})
    patient = next((p for p in part.patients if (p.labels == LABELS["scar"]).any()), part.patients[0])
    count = len(scales)
    figure, axes = plt.subplots(count, count + 1, figsize=(1.6 * (count + 1), 1.62 * count + 0.9))
    for row in rows:
        i, j = (scales.index(row.settings["scales"][name]) for name in (down, across))
        image = study.made(row, patient, [patient.middle])[0, 0]
        title = f"{across} {scales[j]:g}" if i == 0 else ""
        show(axes[i, j], _cut(patient, image), title, "", 1.0, True)
        if j == 0:
            _side(axes[i, 0], f"{down} {scales[i]:g}")
    for axis in axes[:, count]:
        axis.axis("off")
    for axis, name in zip(axes[:, count], (down, across, target)):
        image = patient.images[patient.middle, study.sequences.index(name)]
        show(axis, _cut(patient, image), "", f"given {name}" if name != target else f"true {name}", 1.0)
    figure.suptitle(
        f"{_data(study)}: {target} over the guidance scales of {down} and {across}, one sample", fontsize=10
    )
    figure.tight_layout(pad=0.3, rect=(0.02, 0, 1, 0.985))
    return figure


def closeness_curves(study: Study, part: Part) -> Figure:
    """Closeness to each condition over its scale, the other scale at 1: thin lines are patients, thick ones means."""
    target = part.rows[0][1].target
    names = {"nmi": "normalised mutual information", "edges": "agreement of edges"}
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.2))
    for axis, (measure, name) in zip(axes, names.items()):
        for role, colour in zip(study.given(target), ("tab:orange", "tab:green")):
            levels, values = scale_means(study, part, role, measure)
            own = values[:, :, levels.index(1.0)]
            places = range(len(levels))
            for line in own:
                axis.plot(places, line, color=colour, linewidth=0.6, alpha=0.4)
            axis.plot(places, own.mean(0), color=colour, linewidth=2, marker="o", label=f"with {role}")
        axis.set_xticks(list(places), [f"{s:g}" for s in levels])
        axis.set_xlabel("scale of the condition (other scale 1)")
        axis.set_ylabel(name)
        axis.legend(fontsize=8)
    figure.suptitle(f"{_data(study)}: closeness of synthetic {target} to what is given", fontsize=10)
    figure.tight_layout()
    return figure


def _posterior(study: Study, part: Part) -> Row:
    return study.rows(part)[-1][1]


def examples(study: Study, part: Part) -> Figure:
    """What is given, true and synthetic LGE with the scar that the rule finds in them, and where the samples differ."""
    row = _posterior(study, part)
    patients = chosen_patients(part.patients)
    lge = study.sequences.index("LGE")
    columns = len(study.given("LGE")) + 3
    figure, axes = plt.subplots(
        len(patients), columns, figsize=(1.9 * columns + 0.3, 1.95 * len(patients) + 1.1), squeeze=False
    )
    for at, (line, patient) in enumerate(zip(axes, patients)):
        number, entry = shown_slice(patient), study.done[row.key, patient.name, "all"]
        samples = study.made(row, patient, [number])[0]
        truth, labels = patient.images[number, lge], patient.labels[number]
        drawn, oedema = labels == LABELS["scar"], labels == LABELS["oedema"]
        true, found = (
            scar(image[None], labels[None], entry[which]["threshold"])[0]
            for image, which in ((truth, "truth"), (samples.mean(0), "mean"))
        )
        cells = [
            (f"given {n}", patient.images[number, study.sequences.index(n)], False, []) for n in study.given("LGE")
        ]
        cells[-1][3].append((oedema, "deepskyblue"))
        cells.append(("true LGE", truth, False, [(drawn, "red"), (true, "yellow")]))
        cells.append((f"LGE, mean of {len(samples)}", samples.mean(0), True, [(found, "cyan")]))
        outlines = [(true, "yellow"), (found, "cyan")]
        for axis, (title, image, synthetic, lines) in zip(line, cells):
            show(axis, _cut(patient, image), title if at == 0 else "", "", 1.0, synthetic)
            _outline(axis, patient, lines)
        title = "deviation, 0 to 0.3" if at == 0 else ""
        show(line[-1], _cut(patient, samples.std(0, ddof=1)), title, "", 0.3, True, cmap="magma")
        _outline(line[-1], patient, outlines)
        told = f"{entry['truth']['ml']:.1f} ml true, {entry['mean']['ml']:.1f} ml synthetic"
        _side(line[0], f"{patient.name}, {entry['truth']['kind']} scar\n{told}")
    legend = {
        "oedema, drawn": "deepskyblue",
        "scar, drawn": "red",
        "scar by the rule, true": "yellow",
        "scar by the rule, synthetic": "cyan",
    }
    handles = [Line2D([], [], color=colour, label=name) for name, colour in legend.items()]
    figure.legend(handles=handles, loc="lower center", ncols=4, fontsize=8, facecolor="lightgray")
    figure.suptitle(f"{_data(study)}: scar in LGE made from {' and '.join(study.given('LGE'))}", fontsize=10)
    figure.tight_layout(pad=0.3, rect=(0.01, 0.05, 1, 0.99))
    return figure


def _outline(axis: plt.Axes, patient: Patient, outlines: list[tuple[NDArray[np.bool_], str]]) -> None:
    for mask, colour in outlines:
        if mask.any():
            axis.contour(_cut(patient, mask.astype(np.float32)), [0.5], colors=colour, linewidths=0.8)


def _side(axis: plt.Axes, text: str) -> None:
    """What a line of pictures is, along its left edge."""
    place = {"rotation": 90, "va": "center", "ha": "right", "fontsize": 7, "transform": axis.transAxes}
    axis.text(-0.04, 0.5, text, multialignment="center", **place)


def volumes(study: Study, part: Part) -> Figure:
    """Scar volumes, synthetic against true, and their differences with the limits of agreement (Bland-Altman)."""
    row = _posterior(study, part)
    entries = scar_entries(study, part, row)
    true, made = (np.array([entry[which]["ml"] for entry in entries]) for which in ("truth", "mean"))
    kinds = np.array([entry["truth"]["kind"] for entry in entries])
    figure, (scatter, differences) = plt.subplots(1, 2, figsize=(8, 3.6))
    for kind, (colour, marker) in KINDS.items():
        own = kinds == kind
        if own.any():
            style = {
                "color": colour,
                "marker": marker,
                "alpha": 0.8,
                "label": f"{kind} scar" if kind != "none" else kind,
            }
            scatter.scatter(true[own], made[own], **style)
            differences.scatter((true + made)[own] / 2, (made - true)[own], **style)
    most = 1.05 * max(true.max(), made.max(), 1e-3)
    scatter.plot([0, most], [0, most], color="gray", linewidth=0.8)
    scatter.set(xlabel="true scar (ml)", ylabel="synthetic scar (ml)")
    scatter.legend(fontsize=8)
    if len(true) >= 3:
        agreement = bland_altman(true, made)
        for value, style in ((agreement.bias, "-"), (agreement.lower, "--"), (agreement.upper, "--")):
            differences.axhline(value, color="gray", linestyle=style, linewidth=1)
            differences.annotate(
                f"{value:+.1f}",
                (1, value),
                xycoords=("axes fraction", "data"),
                xytext=(3, 0),
                fontsize=8,
                textcoords="offset points",
                va="center",
            )
    differences.set(xlabel="mean of both (ml)", ylabel="synthetic less true (ml)")
    what = f"scar in SYNTHETIC LGE (start noise, mean of {row.chosen.samples if row.chosen else 1})"
    figure.suptitle(f"{_data(study)}: {what}", fontsize=10)
    figure.tight_layout()
    return figure
