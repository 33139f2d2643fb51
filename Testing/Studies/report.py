"""Tables and plots of the super-resolution study, from the scores on disk."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from superresolution import Part, Row, Study, Subject

MEASURES = (("psnr", "PSNR (dB)", 2), ("ssim", "SSIM", 4), ("haarpsi", "HaarPSI", 4))


def write_report(study: Study, parts: list[Part], out: Path) -> None:
    """`tables.md` in the output folder: a table per part."""
    info = study.prior.info
    lines = [
        f"Prior `{info.name}` version {info.version}, weights `{info.weights_sha256[:12]}`, {study.precision} on "
        f"{study.device.type}. Mean over subjects of each subject's mean, ± standard deviation over subjects; "
        "p: paired t-test over subjects against the first row (PSNR). Residual: root mean square of measurement less "
        "result inside the measured band, one sample; s is the noise level. Where several samples were drawn: "
        "correlation of their standard deviation with the absolute error of their mean, and the ratio of the two "
        "(1 is right), in the object.",
        "",
    ]
    for part in parts:
        lines += [*_table(study, part), ""]
    path = out / "tables.md"
    path.write_text("\n".join(lines), encoding="utf-8")
    print(f"wrote {path}")


def _table(study: Study, part: Part) -> list[str]:
    low = part.rows[0].low
    count = sum(len(s.numbers) for s in part.subjects)
    slices = ", ".join(str(n) for n in part.subjects[0].numbers)
    head = f"### {part.title}: {low} to 128 ({len(part.subjects)} subjects, {count} slices: number {slices} of each)"
    titles = ["method", "settings", *(name for _, name, _ in MEASURES), "p", "residual", "r(sd, error)", "sd / error"]
    lines = [head, "", f"| {' | '.join(titles)} |", "| --- " * len(titles) + "|"]
    reference = _per_subject(study, part.rows[0], part.subjects, "psnr")
    for row in study.rows(part):
        for name, pick in _variants(row):
            cells = [f"{row.method}{name}", _settings(row)]
            for key, _, digits in MEASURES:
                values = _per_subject(study, row, part.subjects, key, pick)
                cells.append(
                    f"{values.mean():.{digits}f} ± {values.std(ddof=1):.{digits}f}"
                    if len(values) > 1
                    else f"{values.mean():.{digits}f}"
                )
            values = _per_subject(study, row, part.subjects, "psnr", pick)
            same = row is part.rows[0] or len(values) < 2
            cells.append("" if same else f"{stats.ttest_rel(values, reference).pvalue:.1g}")
            averaged = row.settings.get("samples", 1) > 1 and not pick
            cells.append("" if averaged else _residual(study, row, part.subjects))
            for key in ("uncertainty_r", "uncertainty_ratio"):
                cells.append(f"{_per_subject(study, row, part.subjects, key).mean():.2f}" if averaged else "")
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def _residual(study: Study, row: Row, subjects: list[Subject]) -> str:
    """Of one sample, inside the measured band: in noise levels, or, of exact data, relative to the signal."""
    first = study.done[row.key, subjects[0].name, subjects[0].numbers[0]]
    for key, unit in (("residual_over_noise", "s"), ("residual_over_signal", "of signal")):
        if key in first:
            return f"{_per_subject(study, row, subjects, key).mean():.2g} {unit}"
    return ""


def _variants(row: Row) -> list[tuple[str, str | None]]:
    samples = row.settings.get("samples", 1)
    return [("", None)] if samples == 1 else [(", single sample", "first"), (f", mean of {samples}", None)]


def _settings(row: Row) -> str:
    shown = {k: v for k, v in row.settings.items() if k != "samples"} | ({"noise": row.noise} if row.noise else {})
    return ", ".join(
        f"{'lambda' if k == 'weight' else k} {v:g}" if isinstance(v, (int, float)) else f"{k} {v}"
        for k, v in shown.items()
    )


def _per_subject(study: Study, row: Row, subjects: list[Subject], key: str, pick: str | None = None) -> np.ndarray:
    """(subjects,) means over each subject's slices."""
    means = []
    for subject in subjects:
        entries: list[dict[str, Any]] = [study.done[row.key, subject.name, n] for n in subject.numbers]
        values = [(e[pick] if pick else e)[key] for e in entries]
        means.append(float(np.mean([v for v in values if math.isfinite(v)])))
    return np.array(means)
