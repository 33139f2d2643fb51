"""Are synthetic pairs worth training on? Enhancers trained on acquired, synthetic, misaligned and combined pairs.

    python Testing/Studies/enhancement.py data/axial256_u8.npz runs/enhance --out docs/results/enhancement

After seed 000 (Zhou, Chamberlain, Proc. ISMRM 2024, 2246). RUNS holds a folder for each training: acquired-noise,
acquired-blur, synthetic-*, misaligned-* and combined (docs/results/enhancement.md has the commands). Test subjects 53
to 60; their low-quality images are simulated acquisitions. Goes on where it was stopped; writes scores.jsonl, tables.md
and figures. Every generated image carries the word SYNTHETIC.

The built-in score without a reference is NIQE. Whoever has weights of another scorer, such as MANIQA's (their licence
forbids commercial use, so they are not here), gives it with --scorer FILE, saved by torch.export.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from degrader import acquired
from numpy.typing import NDArray

from MRDiffusionLib.errors import InputError
from MRDiffusionLib.evaluation import bland_altman, paired_t_test, pearson, psnr, ssim
from MRDiffusionLib.evaluation.naturalness import Naturalness, load
from MRDiffusionLib.networks.enhancer import Enhancer
from MRDiffusionLib.settings import KINDS
from MRDiffusionLib.training.data import read_slices
from MRDiffusionLib.training.enhancer_job import trained_enhancer

TEST = range(53, 61)
LEVELS = (0.3, 0.6, 0.9)
METHODS = ("given", "acquired", "synthetic", "misaligned", "combined")
COMPARED = (("synthetic", "misaligned"), ("synthetic", "acquired"), ("combined", "acquired"), ("combined", "synthetic"))
MEASURES = ("psnr", "ssim", "niqe")
TITLES = {"psnr": "PSNR (dB)", "ssim": "SSIM", "niqe": "NIQE", "scorer": "scorer"}
HEAD = "ssim_head"
"""SSIM where the clean image is not 0: 0.5 % of white in the air, which nobody sees, cost 0.1 of the whole."""
CROP, CROPS = 224, 3
"""Of a scorer's images in pixels, and how many along each side: what MANIQA takes."""
NIQE = Path(__file__).resolve().parents[2] / "MRDiffusionLib" / "evaluation" / "naturalness-brain-t1.json"

Floats = NDArray[np.float32]
Scorer = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Case:
    """A slice at a level, and what a method makes of it."""

    subject: int
    slice: int
    kind: str
    level: float
    method: str

    @property
    def key(self) -> str:
        return json.dumps([self.subject, self.slice, self.kind, self.level, self.method])


class Study:
    """Scores by case, kept in a file.

    Args:
        runs: folder of the trainings.
        out: where scores and reports go.
        scorer: images (N, 3, CROP, CROP) in [0, 1] to scores (N,), more is better.
    """

    def __init__(self, runs: Path, out: Path, scorer: Scorer | None = None) -> None:
        self.out, self.networks, self.scorer = out, _networks(runs), scorer
        self.measures = (*MEASURES, "scorer") if scorer else MEASURES
        self.good: Naturalness = load(NIQE)
        self.path = out / "scores.jsonl"
        self.scores: dict[str, dict[str, float]] = {}
        out.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                try:
                    key, scores = json.loads(line)
                except ValueError:
                    continue  # the last line of a run that was killed
                self.scores[key] = scores
            self.path.write_text("".join(_line(*each) for each in self.scores.items()), encoding="utf-8")

    def compute(self, data: Path) -> None:
        """Score what is missing."""
        images, subjects = read_slices(data)
        for subject in TEST:
            clean = np.asarray(images[subjects == subject] / np.float32(255), np.float32)
            for kind in KINDS:
                for level in LEVELS:
                    self._compute(subject, clean, kind, level)
            print(f"subject {subject}", flush=True)

    def _compute(self, subject: int, clean: Floats, kind: str, level: float) -> None:
        methods = [method for method in METHODS if method == "given" or (method, kind) in self.networks]
        cases = [Case(subject, i, kind, level, method) for method in methods for i in range(len(clean))]
        if all(self._known(case) for case in cases):
            return
        low = acquired(clean, kind, level, subject, 0)
        with self.path.open("a", encoding="utf-8") as stream:
            for method in methods:
                network = None if method == "given" else self.networks[method, kind]
                made, guessed = (low, None) if network is None else restored(network, low, kind, level)
                for i, image in enumerate(made):
                    case = Case(subject, i, kind, level, method)
                    if self._known(case):
                        continue
                    scores = self._score(clean[i], image)
                    if guessed is not None:
                        scores["level"] = float(guessed[i])
                    self.scores[case.key] = scores
                    stream.write(_line(case.key, scores))

    def _known(self, case: Case) -> bool:
        return set(self.measures) <= set(self.scores.get(case.key, ()))

    def _score(self, clean: Floats, image: Floats) -> dict[str, float]:
        scores = {"psnr": float(psnr(clean, image, 1.0)), "ssim": float(ssim(clean[None], image[None], 1.0))}
        scores[HEAD] = float(ssim(clean[None], image[None], 1.0, clean[None] > 0))
        try:
            scores["niqe"] = self.good.distance(image)
        except InputError:  # too little brain
            scores["niqe"] = float("nan")
        if self.scorer:
            scores["scorer"] = score_crops(self.scorer, image)
        return {name: round(value, 5) for name, value in scores.items()}

    def values(self, kind: str, method: str, measure: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Of all slices and levels, in a fixed order, and their subjects."""
        found, subjects = [], []
        for key, scores in sorted(self.scores.items()):
            subject, _number, own, _level, name = json.loads(key)
            if (own, name) == (kind, method):
                found.append(scores.get(measure, np.nan))
                subjects.append(subject)
        return np.array(found), np.array(subjects)

    def methods(self, kind: str) -> list[str]:
        """Those that have been scored."""
        names = {json.loads(key)[4] for key in self.scores if json.loads(key)[2] == kind}
        return [method for method in METHODS if method in names]


def _line(key: str, scores: dict[str, float]) -> str:
    return json.dumps([key, scores]) + "\n"


def _networks(runs: Path) -> dict[tuple[str, str], Enhancer]:
    found: dict[tuple[str, str], Enhancer] = {}
    for kind in KINDS:
        for method in METHODS[1:]:
            folder = runs / ("combined" if method == "combined" else f"{method}-{kind}")
            if (folder / "best.ckpt").exists():
                found[method, kind] = trained_enhancer(str(folder / "best.ckpt"))
            else:
                print(f"{folder} is left out, as there is no checkpoint in it")
    return found


def restored(network: Enhancer, low: Floats, kind: str, level: float) -> tuple[Floats, NDArray[np.float64]]:
    """Enhanced slices, white at 1, with the true level; and the levels that the network would have taken."""
    levels = torch.tensor([[level if own == kind else 0.0 for own in network.kinds]])
    made, guessed = [], []
    for image in torch.from_numpy(low)[:, None, None] * 2 - 1:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            made.append(network.restore(image, levels).float()[0, 0])
            guessed.append(float(network.estimator(image)[0, network.kinds.index(kind)]))
    return ((torch.stack(made) + 1) / 2).clamp(min=0).numpy(), np.array(guessed)


def titles(study: Study) -> str:
    return " | ".join(TITLES[measure] for measure in study.measures)


def read_scorer(path: Path) -> Scorer:
    """Somebody's scorer, saved by `torch.export.save`. It is code: give only a file that you made."""
    return torch.export.load(path).module()


def score_crops(scorer: Scorer, image: Floats) -> float:
    """Mean score of crops of a slice (rows, columns), white at 1, evenly spread; smaller slices are padded with air."""
    levels = torch.from_numpy(image).clamp(0, 1)
    rows, columns = (max(0, CROP - n) for n in levels.shape)
    levels = torch.nn.functional.pad(levels, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
    starts = [np.linspace(0, n - CROP, CROPS).round().astype(int) for n in levels.shape]
    crops = [levels[y : y + CROP, x : x + CROP] for y in starts[0] for x in starts[1]]
    with torch.no_grad():
        return float(scorer(torch.stack(crops)[:, None].expand(-1, 3, -1, -1)).float().mean())


def report(study: Study) -> Iterator[str]:
    """The tables, in Markdown."""
    slices = len(study.values(KINDS[0], "given", "ssim")[0])
    yield f"{len(TEST)} test subjects, {slices} images of each kind (levels {', '.join(map(str, LEVELS))}), simulated "
    yield "acquisitions. Mean ± standard deviation over subjects; p of paired t-tests over subjects."
    for kind in KINDS:
        yield ""
        yield f"## {kind}"
        yield ""
        yield f"| trained on | {titles(study)} | error of the estimated level |"
        yield "| --- " * (len(study.measures) + 2) + "|"
        for method in study.methods(kind):
            cells = [_spread(*study.values(kind, method, measure)) for measure in study.measures]
            yield f"| {method} | {' | '.join(cells)} | {_level_error(study, kind, method)} |"
        yield ""
        yield from _agreement(study, kind)
        yield from _differences(study, kind)


def _agreement(study: Study, kind: str) -> Iterator[str]:
    if not {"acquired", "synthetic"} <= set(study.methods(kind)):
        return
    (one, subjects), (other, _) = (study.values(kind, name, "ssim") for name in ("acquired", "synthetic"))
    r, agreement = pearson(one, other), bland_altman(one, other)
    yield f"SSIM of synthetic-trained against acquired-trained, {len(one)} slices: r {r.r:.4f} {_interval(r.interval)};"
    yield f"bias {agreement.bias:+.5f} {_interval(agreement.bias_interval, 5)}, limits of agreement"
    yield f"{agreement.lower:+.4f} to {agreement.upper:+.4f}. By subject (n = {len(set(subjects))}):"
    means = [np.array([part[subjects == s].mean() for s in sorted(set(subjects))]) for part in (one, other)]
    of_subjects = bland_altman(*means)
    yield f"r {pearson(*means).r:.4f}, bias {of_subjects.bias:+.5f} {_interval(of_subjects.bias_interval, 5)}."
    inside = [study.values(kind, name, HEAD)[0] for name in ("acquired", "synthetic")]
    if np.isfinite(inside).all():
        r, agreement = pearson(*inside), bland_altman(*inside)
        yield f"Inside the head: r {r.r:.4f} {_interval(r.interval)}, bias {agreement.bias:+.5f} "
        yield f"{_interval(agreement.bias_interval, 5)}."
    yield ""


def _differences(study: Study, kind: str) -> Iterator[str]:
    known = [pair for pair in COMPARED if set(pair) <= set(study.methods(kind))]
    if not known:
        return
    yield f"| difference | {titles(study)} |"
    yield "| --- " * (len(study.measures) + 1) + "|"
    for first, second in known:
        cells = []
        for measure in study.measures:
            (a, subjects), (b, _) = (study.values(kind, name, measure) for name in (first, second))
            there = np.isfinite(a) & np.isfinite(b)
            test = paired_t_test(a[there], b[there], subjects[there])
            cells.append(f"{test.difference:+.4f}, p {test.p:.2g}")
        yield f"| {first} less {second} | {' | '.join(cells)} |"
    yield ""


def _level_error(study: Study, kind: str, method: str) -> str:
    errors = defaultdict(list)
    for key, scores in study.scores.items():
        _subject, _number, own, level, name = json.loads(key)
        if (own, name) == (kind, method) and "level" in scores:
            errors[level].append(abs(scores["level"] - level))
    return f"{np.mean([np.mean(part) for part in errors.values()]):.3f}" if errors else ""


def _spread(values: NDArray[np.float64], subjects: NDArray[np.int64]) -> str:
    means = [np.nanmean(values[subjects == subject]) for subject in sorted(set(subjects.tolist()))]
    digits = 4 if np.mean(means) < 1 else 2
    return f"{np.mean(means):.{digits}f} ± {np.std(means, ddof=1):.{digits}f}"


def _interval(interval: tuple[float, float], digits: int = 4) -> str:
    return f"[{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="archive of clean slices")
    parser.add_argument("runs", type=Path, help="folder with a training run for each way")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scorer", type=Path, metavar="FILE", help="a scorer without reference, exported")
    options = parser.parse_args(arguments)
    study = Study(options.runs, options.out, options.scorer and read_scorer(options.scorer))
    study.compute(options.data)
    text = "\n".join(report(study)) + "\n"
    (options.out / "tables.md").write_text(text, encoding="utf-8")
    print(text)
    from enhancement_figures import draw

    draw(study, options.data)


if __name__ == "__main__":
    main()
