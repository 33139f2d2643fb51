"""The evidence for super-resolution: every row of `docs/results/superresolution.md`, from one command.

    python Testing/Studies/superresolution.py DATA --out runs/superresolution [--set main|sweeps|costly|validation|all]

DATA is a folder with `brain_t1/axial128_u8.npz` and, for the external test, `brain_t2/*_inplaneT2.nii.gz`
(docs/data.md says where they come from). Low-resolution images are simulated by cropping k-space. Every slice's scores
are written as they come, so the command can be stopped and goes on where it was. On a CPU with several cores, run one
process for each factor with OMP_NUM_THREADS=1 (--low 64, --low 32), then the command without --low for the tables.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from MRDiffusionLib.evaluation.metrics import haarpsi, psnr, ssim
from MRDiffusionLib.imaging.geometry import Geometry
from MRDiffusionLib.packs.intensity import intensity_scale
from MRDiffusionLib.physics.guidance import METHODS
from MRDiffusionLib.physics.kspace import k_space_report, resize_image
from MRDiffusionLib.request import Request
from MRDiffusionLib.settings import SuperResolutionSettings
from MRDiffusionLib.tasks.acquisition import Acquisition
from MRDiffusionLib.tasks.device import faster_precision, resolve_device
from MRDiffusionLib.tasks.models import PackCache
from MRDiffusionLib.tasks.superresolution import on_model_scale, sample_slices, to_intensity

FULL = (128, 128)
PRIOR, REGRESSION = "brain-t1-128", "brain-t1-128-regression"
LAMBDAS = (0.0, 0.05, 0.25, 0.5, 1.0)
CHEAP = ("conditional", "projection", "replacement")
"""Guidance without a backward pass."""


@dataclass(frozen=True)
class Subject:
    """One subject's slices, (n, 128, 128) float32, with their numbers; intensities as stored."""

    name: str
    slices: np.ndarray
    numbers: tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """One row of the table: a method with its settings at one factor, on some slices of every subject.

    Attributes:
        noise: of the simulated measurement: standard deviation of the real and of the imaginary part of the
            low-resolution image, as a share of the subject's largest intensity.
    """

    method: str
    low: int
    settings: dict[str, Any] = field(default_factory=dict)
    noise: float = 0.0

    @property
    def key(self) -> str:
        return json.dumps([self.method, self.low, self.settings, *([self.noise] if self.noise else [])], sort_keys=True)


def t1_subjects(data: Path, first: int, last: int) -> list[Subject]:
    with np.load(data / "brain_t1" / "axial128_u8.npz") as archive:
        images, subject = archive["images"], archive["subject"]
    return [
        Subject(f"T1 {s}", images[subject == s].astype(np.float32), tuple(range(int((subject == s).sum()))))
        for s in range(first, last + 1)
    ]


def t2_subjects(data: Path) -> list[Subject]:
    import SimpleITK as sitk

    found = sorted((data / "brain_t2").glob("*_inplaneT2.nii.gz"))
    return [
        Subject(
            f"T2 {path.name[:6]}",
            sitk.GetArrayFromImage(sitk.ReadImage(str(path))).astype(np.float32),
            tuple(range(30)),
        )
        for path in found
    ]


def pick(subjects: list[Subject], numbers: range) -> list[Subject]:
    """The same slices of every subject."""
    return [Subject(s.name, s.slices[list(numbers)], tuple(numbers)) for s in subjects]


def low_resolution(subject: Subject, low: int, noise: float = 0.0) -> np.ndarray:
    """(n, low, low): the centre of k-space, with the anatomy where it was; a magnitude image where there is noise.

    Each slice has its own noise, the same whichever other slices are computed.
    """
    images = resize_image(torch.from_numpy(subject.slices), (low, low)).numpy()
    if not noise:
        return images
    sigma, subject_number = noise * float(subject.slices.max()), zlib.crc32(subject.name.encode())
    seeds = [(subject_number, number, low) for number in subject.numbers]
    drawn = np.stack([np.random.default_rng(seed).normal(0, sigma, (2, low, low)) for seed in seeds])
    return np.hypot(images + drawn[:, 0], drawn[:, 1]).astype(np.float32)


class Study:
    """Computes rows, slice by slice, and remembers what is done."""

    def __init__(self, out: Path, device: str, packs: tuple[str, str], batch: int, seed: int = 0) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.device = resolve_device(device)
        self.precision = faster_precision(self.device)
        cache = PackCache()
        self.prior = cache.model(packs[0], self.device, self.precision)
        self.regression = cache.model(packs[1], self.device, self.precision) if packs[1] else None
        self.batch, self.seed = batch, seed
        self.path = out / f"scores-{self.prior.info.weights_sha256[:12]}.jsonl"
        self.done: dict[tuple[str, str, int], dict[str, Any]] = {}
        for entry in read_scores(self.path):
            self.done[entry["row"], entry["subject"], entry["slice"]] = entry

    def complete(self, part: Part) -> bool:
        """Whether every score of a part is there."""
        return all(
            (row.key, subject.name, number) in self.done
            for row in self.rows(part)
            for subject in part.subjects
            for number in subject.numbers
        )

    def rows(self, part: Part) -> list[Row]:
        """The rows that can be computed: that of the regression needs its pack."""
        return [row for row in part.rows if row.method != "regression" or self.regression is not None]

    def run(self, part: Part) -> None:
        """Scores of every row on every slice that has none yet."""
        for row in self.rows(part):
            began, count = time.monotonic(), 0
            for subject in part.subjects:
                missing = [i for i, n in enumerate(subject.numbers) if (row.key, subject.name, n) not in self.done]
                if not missing:
                    continue
                count += len(missing)
                self._store(row, subject, missing)
            if count:
                what = f"{part.title}: {row.method} {row.low} {row.settings}"
                print(f"{what} {count} slices {time.monotonic() - began:.0f} s", flush=True)

    def _store(self, row: Row, subject: Subject, missing: list[int]) -> None:
        # The noise estimate and the scale are of the whole volume, as in a real run.
        low = low_resolution(subject, row.low, row.noise)
        extras: list[dict[str, Any]] = [{} for _ in missing]
        with torch.no_grad():
            if row.method in METHODS:
                images, extras = self._guided(row, low, subject, missing)
            elif row.method == "regression":
                images = self._regressed(low, missing)
            else:
                images = enlarge(low[missing], row.method)
        # Line by line, so that two processes do not write into each other's lines.
        with self.path.open("a", buffering=1) as stream:
            for i, image, extra in zip(missing, images, extras, strict=True):
                truth = subject.slices[i]
                entry = _rounded(
                    {
                        "row": row.key,
                        "subject": subject.name,
                        "slice": subject.numbers[i],
                        **scores(truth, image, float(subject.slices.max())),
                        **extra,
                    }
                )
                self.done[row.key, subject.name, subject.numbers[i]] = entry
                stream.write(json.dumps(entry) + "\n")

    def _guided(
        self, row: Row, low: np.ndarray, subject: Subject, missing: list[int]
    ) -> tuple[np.ndarray, list[dict[str, Any]]]:
        acquisition = Acquisition(low, _geometry(low), "")
        noise = self._noise(row, subject, acquisition)
        settings = SuperResolutionSettings(method=row.method, noise=noise, **row.settings)
        request = Request("superresolution", PRIOR, {"low_resolution": "-"}, settings, self.seed, batch=self.batch)
        scale = intensity_scale(low, self.prior.info.normalisation)
        measured = on_model_scale(acquisition.measure(missing, FULL, settings.noise or 0.0, self.device), scale)
        numbers = [subject.numbers[i] for i in missing]
        drawn = to_intensity(sample_slices(measured, numbers, self.prior, request), scale)
        extras = []
        peak = float(subject.slices.max())
        for n, (images, i) in enumerate(zip(drawn, missing, strict=True)):
            one = torch.from_numpy(images[:1, None]).to(self.device) * (2 / scale) - 1
            report = k_space_report(one, measured.select([n]))
            names = ["residual_over_signal", *(["residual_over_noise"] if row.noise else [])]
            extra: dict[str, Any] = {name: report[name] for name in names}
            if settings.samples > 1:
                truth = subject.slices[i]
                error, spread = np.abs(images.mean(0) - truth), images.std(0, ddof=1)
                inside = truth > 0.05 * peak
                extra |= {
                    "first": scores(truth, images[0], peak),
                    "uncertainty_r": float(np.corrcoef(spread[inside], error[inside])[0, 1]),
                    "uncertainty_ratio": float(
                        np.sqrt(
                            (spread[inside] ** 2).mean()
                            * (1 + 1 / len(images))
                            / ((images.mean(0) - truth)[inside] ** 2).mean()
                        )
                    ),
                }
            extras.append(extra)
        return drawn.mean(1), extras

    @staticmethod
    def _noise(row: Row, subject: Subject, acquisition: Acquisition) -> float:
        """Known where it was simulated: the images have no air to estimate it from but what the skull left."""
        return row.noise * float(subject.slices.max()) if row.noise else acquisition.noise()

    def _regressed(self, low: np.ndarray, missing: list[int]) -> np.ndarray:
        assert self.regression is not None
        scale = intensity_scale(low, self.regression.info.normalisation)
        filled = torch.from_numpy(enlarge(low[missing], "zero filling")).to(self.device)[:, None] * (2 / scale) - 1
        fraction = low.shape[-1] / FULL[-1]
        return to_intensity(
            torch.cat([self.regression.regress(x, fraction) for x in filled.split(self.batch)])[:, 0], scale
        )


def read_scores(path: Path) -> list[dict[str, Any]]:
    """What is on disk. A last line that was cut off by a kill is taken off the file, and so computed again."""
    if not path.exists():
        return []
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole)
    return [json.loads(line) for line in whole.splitlines()]


def enlarge(low: np.ndarray, method: str) -> np.ndarray:
    """(n, h, w) to (n, 128, 128) without a model."""
    x = torch.from_numpy(np.ascontiguousarray(low))
    if method == "zero filling":
        return resize_image(x, FULL).numpy()
    return F.interpolate(x[:, None], FULL, mode=method, align_corners=False)[:, 0].numpy()


def scores(truth: np.ndarray, image: np.ndarray, peak: float) -> dict[str, float]:
    """PSNR (dB), SSIM, HaarPSI of one slice; the range is the subject's maximum; negative values are air."""
    t, x = truth.astype(np.float64) / peak, np.clip(image.astype(np.float64) / peak, 0, None)
    return {"psnr": psnr(t, x, 1.0), "ssim": ssim(t, x, 1.0), "haarpsi": haarpsi(t, x, 1.0)}


def _rounded(value: Any) -> Any:
    """Six digits are enough, and keep the file short."""
    if isinstance(value, dict):
        return {name: _rounded(entry) for name, entry in value.items()}
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _geometry(low: np.ndarray) -> Geometry:
    n, rows, columns = low.shape
    return Geometry((columns, rows, n), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))


CLASSICAL = ("zero filling", "bilinear", "bicubic")


def rows_main(low: int) -> list[Row]:
    """The comparison: classical, regression, and the guided prior with single sample and mean of 4 in one go."""
    guided = [Row(method, low, {"steps": 20, "samples": 4}) for method in CHEAP]
    return [*(Row(m, low) for m in CLASSICAL), Row("regression", low), *guided]


def rows_sweeps(low: int) -> list[Row]:
    """lambda at 50 steps and steps at lambda 1, for the methods without a backward pass."""
    weights = [Row(m, low, {"steps": 50, "weight": w}) for m in CHEAP for w in LAMBDAS]
    return weights + [Row(m, low, {"steps": s}) for m in CHEAP for s in (10, 20, 200)]


def rows_validation(low: int) -> list[Row]:
    """What the defaults are chosen by, on subjects that are neither trained nor tested on."""
    settings = [{"steps": n} for n in (10, 15, 20, 50)]
    settings += [{"steps": 20, "eta": 0.0}, {"steps": 20, "eta": 0.5}, {"steps": 20, "sampler": "dpmpp_2m"}]
    settings += [{"steps": n, "strength": 0.65} for n in (10, 20)]
    return [Row(m, low, {**chosen, "samples": 4}) for m in CHEAP for chosen in settings]


def rows_noise(low: int, noise: float) -> list[Row]:
    """Noisy measurements: does the result agree with them at their noise level, instead of copying the noise?"""
    guided = [Row(m, low, {"steps": 20, "samples": 4}, noise) for m in CHEAP]
    return [Row("zero filling", low, {}, noise), Row("regression", low, {}, noise), *guided]


def rows_costly(low: int) -> list[Row]:
    """1000 steps, and the gradient method."""
    gradient = [Row("gradient", low, {"steps": 50, "weight": w}) for w in LAMBDAS]
    gradient += [Row("gradient", low, {"steps": s}) for s in (10, 20, 200)]
    return gradient + [Row(m, low, {"steps": 1000}) for m in METHODS]


@dataclass(frozen=True)
class Part:
    """A set of rows and the slices they run on."""

    title: str
    rows: list[Row]
    subjects: list[Subject]


def parts(data: Path, which: str, lows: Sequence[int]) -> Iterator[Part]:
    """The study's parts in the order of their use; 'all' is main, sweeps and costly, 'quick' a first look."""
    test = t1_subjects(data, 53, 60)
    for low in lows:
        baseline = [*(Row(m, low) for m in CLASSICAL), Row("regression", low)]
        if which == "quick":
            yield Part(
                "quick", [*baseline, Row("projection", low, {"steps": 20, "samples": 4})], pick(test, range(15, 16))
            )
        if which == "validation":
            chosen = pick(t1_subjects(data, 47, 52), range(15, 16))
            yield Part("T1 validation", [Row("zero filling", low), *rows_validation(low)], chosen)
        if which in ("main", "all"):
            yield Part("T1 test", rows_main(low), pick(test, range(2, 40, 4)))
            external = t2_subjects(data)
            if external:
                guided = Row("projection", low, {"steps": 20, "samples": 4})
                yield Part("T2 external", [*baseline, guided], pick(external, range(5, 26, 5)))
        if which in ("sweeps", "all"):
            yield Part("T1 sweeps", [*baseline, *rows_sweeps(low)], pick(test, range(10, 31, 20)))
            for noise in (0.01, 0.03):
                yield Part(f"T1 with {noise:.0%} noise", rows_noise(low, noise), pick(test, range(10, 31, 20)))
        if which in ("costly", "all"):
            yield Part("T1 costly", [*baseline, *rows_sweeps(low), *rows_costly(low)], pick(test[:4], range(10, 11)))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/superresolution"))
    parser.add_argument("--set", default="all", choices=("quick", "validation", "main", "sweeps", "costly", "all"))
    parser.add_argument("--low", type=int, nargs="+", default=[64, 32], help="measured matrices")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--prior", default=PRIOR)
    parser.add_argument("--regression", default=REGRESSION, help="empty to leave the row out")
    options = parser.parse_args(arguments)
    study = Study(options.out, options.device, (options.prior, options.regression), options.batch)
    for part in parts(options.data, options.set, options.low):
        study.run(part)
    # The tables hold all that is complete by now, whichever set was asked for.
    shown = options.set if options.set in ("quick", "validation") else "all"
    from report import write_report

    write_report(study, [part for part in parts(options.data, shown, (64, 32)) if study.complete(part)], options.out)


if __name__ == "__main__":
    main()
