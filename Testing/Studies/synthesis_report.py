"""The tables of the synthesis study: mean over a patient's slices, then mean ± standard deviation over patients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from synthesis_measures import ERROR, LEAST_ML, OVERLAP

from MRDiffusionLib.errors import InputError
from MRDiffusionLib.evaluation import bland_altman, paired_t_test, pearson

if TYPE_CHECKING:
    from synthesis import Part, Patient, Row, Study

MEASURES = (("psnr", "PSNR (dB)", 2), ("ssim", "SSIM", 4))
REGIONS = ("whole", "heart", "object", "lesion")
BOUNDS = ("copy", "autoencoder", "autoencoder-f2")
"""Floor and ceiling, which do not compete."""

Values = NDArray[np.float64]
Variant = tuple[str, "Row", str]
"""A line of a table: its name, the row, and which of its images: 'mean' of the samples or the 'first' one."""


def write_report(study: Study, parts: list[Part]) -> None:
    """`tables.md` in the output folder, also printed."""
    data = "**simulated** patients" if study.archive.simulated else "patients"
    patients = {p.name for part in parts for p in part.patients}
    people = {p.person for part in parts for p in part.patients}
    precision = " and ".join(sorted({entry["precision"] for entry in study.done.values()}))
    of = "slices" if study.archive.every == 1 else f"slices (each {study.archive.every}.)"
    lines = [
        f"{len(patients)} test {data}; {precision} on {study.device.type}. Mean over a patient's {of}, then "
        "mean ± standard deviation over patients. PSNR and SSIM on the archive's scale (range 1). Differences: paired "
        f"t-test over people ({len(people)}; patients with one person's anatomy are averaged), with the 95 % interval.",
        "",
    ]
    written: dict[str, Callable[[Study, list[Part]], Iterator[str]]] = {
        "main": _main,
        "ablations": _ablations,
        "scales": _scales,
        "hallucination": _hallucination,
    }
    for title, tables in written.items():
        own = [part for part in parts if part.title == title and study.rows(part)]
        if own:
            lines += [f"## {title.capitalize()}", "", *tables(study, own)]
    path = study.out / "tables.md"
    path.write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))
    print(f"wrote {path}")


def variants(study: Study, part: Part) -> list[Variant]:
    """The lines of a part: of a row with several samples one for the first alone and one for their mean."""
    lines: list[Variant] = []
    for label, row in study.rows(part):
        samples = 1 if row.chosen is None else row.chosen.samples
        if samples > 1:
            lines.append((f"{label}, one sample", row, "first"))
            label = f"{label}, mean of {samples}"
        lines.append((label, row, "mean"))
    return lines


def per_patient(study: Study, part: Part, variant: Variant, region: str, measure: str) -> Values:
    """(patients,) means over each patient's slices; NaN where no slice has the region."""
    _, row, image = variant

    def mean(patient: Patient) -> float:
        entries = [study.done[row.key, patient.name, n][image] for n in part.slices(patient)]
        values = [entry[region][measure] for entry in entries if region in entry]
        return float(np.mean(values)) if values else np.nan

    return np.array([mean(patient) for patient in part.patients])


def table(titles: list[str], rows: list[list[str]]) -> Iterator[str]:
    for cells in (titles, ["---"] * len(titles), *rows):
        yield "| " + " | ".join(cells) + " |"
    yield ""


def counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def spread(values: Values, digits: int) -> str:
    """Mean ± standard deviation over the patients that have a value."""
    known = values[np.isfinite(values)]
    if not len(known):
        return ""
    return f"{known.mean():.{digits}f}" + (f" ± {known.std(ddof=1):.{digits}f}" if len(known) > 1 else "")


def difference(first: Values, second: Values, people: list[str], digits: int = 2) -> str:
    """Paired over people: `+0.31 [0.10, 0.52], p 0.004`. Examinations of one person are averaged: they are alike."""
    both = np.isfinite(first) & np.isfinite(second)
    known = np.array(people)[both]
    pair = [[values[both][known == person].mean() for person in dict.fromkeys(known)] for values in (first, second)]
    try:
        test = paired_t_test(*map(np.array, pair))
    except InputError:
        return ""
    low, high = test.interval
    return f"{test.difference:+.{digits}f} [{low:.{digits}f}, {high:.{digits}f}], p {test.p:.2g}"


def people_of(part: Part) -> list[str]:
    return [patient.person for patient in part.patients]


def known_regions(study: Study, part: Part) -> list[str]:
    entry = next(e for e in study.done.values() if e["patient"] == part.patients[0].name and "whole" in e["mean"])
    return [
        region for region in REGIONS if region in entry["mean"] or (region == "lesion" and "object" in entry["mean"])
    ]


def _direction(study: Study, row: Row) -> str:
    return f"{', '.join(study.given(row.target))} to {row.target}"


def _main(study: Study, parts: list[Part]) -> Iterator[str]:
    everybody = parts[0].patients
    kinds = sorted({patient.kind for patient in everybody} - {""})
    for kind in ["", *(kinds if len(kinds) > 1 else [])]:
        chosen = [replace(part, patients=[p for p in everybody if kind in ("", p.kind)]) for part in parts]
        count = sum(len(chosen[0].slices(p)) for p in chosen[0].patients)
        who = (
            f"{kind or 'all test patients'} ({counted(len(chosen[0].patients), 'patient')}, {counted(count, 'slice')})"
        )
        for region in known_regions(study, chosen[0]):
            yield from _comparison(study, chosen, f"{who}, {region if region == 'whole' else 'inside the ' + region}")
    yield from _copied(study, parts)
    for region in known_regions(study, parts[0]):
        for image in ("first", "mean"):
            yield from _differences(study, parts, region, image)


def _comparison(study: Study, parts: list[Part], title: str) -> Iterator[str]:
    """As in the abstract's figure 4: a line for each method, the directions side by side, the best in bold."""
    region = title.rsplit(" ", 1)[-1]
    columns: list[list[str]] = []
    lines = variants(study, parts[0])
    for part in parts:
        own = variants(study, part)
        for measure, _, digits in MEASURES:
            values = [per_patient(study, part, variant, region, measure) for variant in own]
            if not any(np.isfinite(v).any() for v in values):
                return
            competing = [np.nanmean(v) for v, line in zip(values, own) if line[1].method not in BOUNDS]
            best = max(competing, default=np.inf)
            bold = [np.nanmean(v) == best and line[1].method not in BOUNDS for v, line in zip(values, own)]
            columns.append([f"**{spread(v, digits)}**" if b else spread(v, digits) for v, b in zip(values, bold)])
    yield f"### {title}"
    yield ""
    heads = [f"{_direction(study, part.rows[0][1])}: {name}" for part in parts for _, name, _ in MEASURES]
    rows = [[line[0], *(column[i] for column in columns)] for i, line in enumerate(lines)]
    yield from table(["", *heads], rows)


def _copied(study: Study, parts: list[Part]) -> Iterator[str]:
    pairs = []
    for part in parts:
        target = part.rows[0][1].target
        copied = sorted({study.nearest(target, patient) for patient in part.patients})
        pairs.append(f"{' or '.join(copied)} for {target}")
    yield f"Copied is {', '.join(pairs)}: the nearest in mean squared distance over patients that are not tested."
    yield ""


def _differences(study: Study, parts: list[Part], region: str, image: str) -> Iterator[str]:
    """CMRDiff less each other method, one sample with one sample ('first'), mean with mean."""
    columns: dict[str, list[str]] = {}
    heads = []
    for part in parts:
        own = [v for v in variants(study, part) if v[2] == image or v[1].chosen is None]
        reference = next((v for v in own if v[1].method == "cmrdiff"), None)
        if reference is None:
            return
        heads += [f"{_direction(study, reference[1])}: {name}" for _, name, _ in MEASURES]
        for variant in own:
            if variant is reference or variant[1].method in BOUNDS:
                continue
            for measure, _, digits in MEASURES:
                pair = (per_patient(study, part, each, region, measure) for each in (reference, variant))
                columns.setdefault(variant[0], []).append(difference(*pair, people_of(part), digits))
    if any(any(cells) for cells in columns.values()):
        yield f"### {reference[0]} less each other method, {region}"
        yield ""
        yield from table(["", *heads], [[label, *cells] for label, cells in columns.items()])


def _ablations(study: Study, parts: list[Part]) -> Iterator[str]:
    first = parts[0]
    named = ", ".join(f"{p.name} {p.middle}" for p in first.patients)
    yield (
        f"On one slice of each patient: {named}. Nested and averaged guidance are the same where the scales are equal. "
        "Seconds: a slice, all samples."
    )
    yield ""
    for part in parts:
        own = study.rows(part)
        inner = known_regions(study, part)[1]
        samples = own[0][1].chosen.samples if own[0][1].chosen else 1
        heads = [
            f"{name}, {region}, {how}"
            for region in ("whole", inner)
            for _, name, _ in MEASURES
            for how in ("one", f"mean of {samples}")
        ]
        rows = []
        reference = per_patient(study, part, ("", own[0][1], "mean"), inner, "psnr")
        for label, row in own:
            cells = [
                spread(per_patient(study, part, ("", row, image), region, measure), digits)
                for region in ("whole", inner)
                for measure, _, digits in MEASURES
                for image in ("first", "mean")
            ]
            value = per_patient(study, part, ("", row, "mean"), inner, "psnr")
            same = row.key == own[0][1].key
            rows.append(
                [
                    label,
                    *cells,
                    "" if same else difference(value, reference, people_of(part)),
                    f"{_seconds(study, part, row):.2f}",
                ]
            )
        yield f"### {_direction(study, own[0][1])}"
        yield ""
        yield from table(["", *heads, f"PSNR, {inner}, mean: less CMRDiff", "seconds"], rows)


def _seconds(study: Study, part: Part, row: Row) -> float:
    seconds = [study.done[row.key, p.name, n]["seconds"] for p in part.patients for n in part.slices(p)]
    return float(np.median(seconds))


def scale_means(study: Study, part: Part, role: str, measure: str) -> tuple[tuple[float, ...], Values]:
    """Closeness to a given sequence over its own scale: the scales, and (patients, own scales, other's scales)."""
    rows = [row for _, row in study.rows(part)]
    other = next(name for name in study.given(rows[0].target) if name != role)
    levels = tuple(sorted({row.settings["scales"][role] for row in rows}))
    result = np.full((len(part.patients), len(levels), len(levels)), np.nan)
    for row in rows:
        i, j = (levels.index(row.settings["scales"][name]) for name in (role, other))
        for k, patient in enumerate(part.patients):
            result[k, i, j] = study.done[row.key, patient.name, patient.middle]["closeness"][role][measure]
    return levels, result


def rises(means: Values) -> str:
    """Whether the values rise throughout, or how many do before the first fall."""
    falls = np.flatnonzero(np.diff(means) < 0)
    return "yes" if not len(falls) else f"up to {falls[0] + 1} of {len(means)}"


def _scales(study: Study, parts: list[Part]) -> Iterator[str]:
    named = ", ".join(f"{p.name} {p.middle}" for p in parts[0].patients)
    yield (
        f"Does a larger scale bring the result closer to its condition? One sample from noise of {named}. NMI: "
        "normalised mutual information with the condition. Edges: agreement of gradient directions, whatever the "
        "contrast (`synthesis_measures.edge_agreement`). Mean over patients, with the other scale at 1 and averaged "
        "over it."
    )
    yield ""
    for part in parts:
        rows = []
        for role in study.given(part.rows[0][1].target):
            for measure, name in (("nmi", "NMI"), ("edges", "edges")):
                levels, values = scale_means(study, part, role, measure)
                for how, each in (("1", values[:, :, levels.index(1.0)]), ("averaged", values.mean(2))):
                    means = each.mean(0)
                    ends = difference(each[:, -1], each[:, 0], people_of(part), 3)
                    rows.append([role, name, how, *(f"{m:.4f}" for m in means), rises(means), ends])
        yield f"### {_direction(study, part.rows[0][1])}"
        yield ""
        heads = ["scale of", "closeness", "other scale", *(f"{s:g}" for s in levels), "rises", "last less first"]
        yield from table(heads, rows)


def scar_entries(study: Study, part: Part, row: Row) -> list[dict[str, Any]]:
    """Each patient's scar in the truth and in a synthetic LGE."""
    return [study.done[row.key, patient.name, "all"] for patient in part.patients]


def _hallucination(study: Study, parts: list[Part]) -> Iterator[str]:
    (part,) = parts
    lines = variants(study, part)
    truths = [entry["truth"] for entry in scar_entries(study, part, part.rows[-1][1])]
    drawn = [t["drawn_ml"] for t in truths]
    true = [t["ml"] for t in truths]
    overlap = _mean([t["dice_with_drawn"] for t in truths])
    yield (
        "Scar in LGE, true and synthetic by one rule (`synthesis_measures.scar`): wall brighter than the midpoint "
        "between remote myocardium and blood, without an edge that is bright alone. Acute: with oedema, which T2 "
        f"shows; old: in LGE alone. In the true images the rule finds {np.mean(true):.1f} ml; {np.mean(drawn):.1f} ml "
        f"are drawn (Dice {overlap}). A scar has {LEAST_ML:g} ml or more; it is missed where the synthetic image shows "
        f"less than {OVERLAP:.0%} of it, and invented the other way round."
    )
    yield ""
    for kind in ("all", "acute", "old", "none"):
        chosen = [i for i, t in enumerate(truths) if kind in ("all", t["kind"])]
        if chosen:
            yield f"### Scar volume: {kind} ({counted(len(chosen), 'patient')})"
            yield ""
            rows = [[line[0], *_agreement(study, part, line, chosen)] for line in lines]
            heads = ["true (ml)", "synthetic (ml)", "bias (ml)", "limits of agreement (ml)", "r", "Dice"]
            yield from table(["", *heads, "missed", "invented", "patients with one missed", "invented"], rows)
    yield "### Does the standard deviation over the samples flag errors in the wall?"
    yield ""
    yield (
        "Mean standard deviation (intensity scale 0 to 1) by region, and area under the curve of the standard "
        f"deviation for absolute errors of the mean above {ERROR:g} in the wall (0.5 is chance); mean over patients."
    )
    yield ""
    rows = []
    person = {patient.name: patient.person for patient in part.patients}
    for label, row, image in lines:
        entries = scar_entries(study, part, row)
        for kind in ("all", "acute", "old"):
            own = [entry for entry in entries if kind in ("all", entry["truth"]["kind"])]
            if own and image == "mean" and "deviation" in own[0]:
                rows.append([label, kind, *_flags(own, person)])
    regions = ("missed scar", "invented scar", "agreed scar", "remote myocardium")
    yield from table(["", "patients", *regions, "missed less remote", "AUROC"], rows)


def _agreement(study: Study, part: Part, line: Variant, chosen: list[int]) -> list[str]:
    _, row, image = line
    entries = [scar_entries(study, part, row)[i] for i in chosen]
    true, made = (np.array([e[which]["ml"] for e in entries]) for which in ("truth", image))
    try:
        b = bland_altman(true, made)
        bias = f"{b.bias:+.2f} [{b.bias_interval[0]:.2f}, {b.bias_interval[1]:.2f}]"
        limits = f"{b.lower:.2f} to {b.upper:.2f}"
    except InputError:
        bias, limits = f"{(made - true).mean():+.2f}", ""
    try:
        c = pearson(true, made)
        r = f"{c.r:.2f} [{c.interval[0]:.2f}, {c.interval[1]:.2f}]"
    except InputError:
        r = ""
    own = [e[image] for e in entries]
    missed, invented = (sum(e[name] for e in own) for name in ("missed", "invented"))
    with_missed = sum(e["missed"] > 0 for e in own)
    return [
        f"{true.mean():.2f}",
        f"{made.mean():.2f}",
        bias,
        limits,
        r,
        _mean([e["dice"] for e in own]),
        f"{missed} of {sum(e['true_scars'] for e in own)}",
        f"{invented} of {sum(e['made_scars'] for e in own)}",
        f"{with_missed} of {sum(e['true_scars'] > 0 for e in own)}",
        f"{sum(e['invented'] > 0 for e in own)} of {len(own)}",
    ]


def _flags(entries: list[dict[str, Any]], person: dict[str, str]) -> list[str]:
    names = ("missed", "invented", "agreed", "remote")
    values = {
        name: np.array([np.nan if (v := e["deviation"][name]) is None else v for e in entries], float)
        for name in (*names, "auroc")
    }
    return [
        *(spread(values[name], 3) for name in names),
        difference(values["missed"], values["remote"], [person[entry["patient"]] for entry in entries], 3),
        spread(values["auroc"], 2),
    ]


def _mean(values: list[float | None]) -> str:
    known = [v for v in values if v is not None]
    return f"{np.mean(known):.2f}" if known else ""
