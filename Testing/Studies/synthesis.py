"""The evidence for synthesis: every row of `docs/results/synthesis.md`, from one command.

    python Testing/Studies/synthesis.py ARCHIVE.npz RUNS --out docs/results/synthesis
        [--set main|ablations|scales|hallucination|all]

ARCHIVE is made by `python -m MRDiffusionLib prepare`. RUNS holds the training runs by method: `cmrdiff` (synthesis),
`plain` (without heatmap and features), `no-heatmap`, `no-features`, `regression` (translation), `gan` (translation with
an adversarial loss), `autoencoder-f2` (another autoencoder, for its ceiling), each a folder with best.ckpt. The
autoencoder is what the synthesis run was trained with, or RUNS/autoencoder/best.ckpt; where there is no regression, the
guided start takes that of the pack whose weights the run began with. What has no run is left out, and named.
Tested are the patients of the archive's group `test`; where RUNS has folders with patients' names instead, each patient
with the runs in their folder.

Every slice's scores are written as they come, so the command can be stopped and goes on where it was. On a CPU with
several cores, run one process for each wanted sequence with OMP_NUM_THREADS=1 (--target LGE), then the command without
--target for tables and figures.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from superresolution import read_scores
from synthesis_measures import Lge, closeness

from MRDiffusionLib.errors import InputError, PackError
from MRDiffusionLib.evaluation.metrics import WINDOW, psnr, ssim
from MRDiffusionLib.imaging.geometry import Geometry
from MRDiffusionLib.networks.autoencoder import Autoencoder
from MRDiffusionLib.packs import find_pack
from MRDiffusionLib.request import Request
from MRDiffusionLib.settings import DEFAULT_SCALE, SynthesisSettings, settings_to
from MRDiffusionLib.tasks.conditions import Conditions
from MRDiffusionLib.tasks.device import faster_precision, resolve_device
from MRDiffusionLib.tasks.models import PackCache, Synthesiser
from MRDiffusionLib.tasks.slicewise import chunks
from MRDiffusionLib.tasks.synthesis import Guided, check, sample_slices
from MRDiffusionLib.training.config import config_from, is_checkpoint, read_config
from MRDiffusionLib.training.export import pack_from_checkpoint
from MRDiffusionLib.training.paired import Paired, read_paired
from MRDiffusionLib.training.synthesis_job import trained_autoencoder

DIFFUSION = ("cmrdiff", "plain", "no-heatmap", "no-features")
ONE_PASS = ("regression", "gan")
WITHOUT_NETWORK = ("copy",)
ROUND_TRIPS = ("autoencoder", "autoencoder-f2")
"""Runs whose encoding and decoding of the truth is what no result can surpass: the one in use, and another."""
SCALES = (0.0, 0.5, 1.0, 2.0, 4.0)
SEED = 2024


@dataclass(frozen=True, eq=False)
class Patient:
    """A test patient.

    Attributes:
        images: (slices, S, H, W) float32 in [0, 1].
        labels: (slices, H, W).
        kind: where the anatomy is from, '' where the archive does not say.
        person: who it is, as several simulated patients may have the anatomy of one person.
        every: of the slices each so many-th is judged.
    """

    name: str
    images: NDArray[np.float32]
    labels: NDArray[np.uint16]
    kind: str
    person: str
    every: int = 1

    @property
    def middle(self) -> int:
        """The slice that stands for the patient in the costly sets; without labels, which may be of two examinations
        one after the other, the slice that shows most."""
        return len(self.images) // 2 if self.labels.any() else int((self.images > 0.05).sum((1, 2, 3)).argmax())

    @property
    def seed(self) -> int:
        return zlib.crc32(self.name.encode()) + SEED


@dataclass(frozen=True)
class Row:
    """A method with its settings and the wanted sequence; what is one pass has no settings."""

    method: str
    target: str
    settings: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def chosen(self) -> SynthesisSettings | None:
        if self.method not in DIFFUSION:
            return None
        scales = tuple(self.settings.get("scales", {}).items())
        return SynthesisSettings(target=self.target, **{**self.settings, "scales": scales})

    @cached_property
    def key(self) -> str:
        """All settings are named, so that a row stays what it is when a default changes."""
        settings = settings_to(self.chosen) if self.chosen else None
        if settings and not settings["scales"]:
            settings["scales"] = DEFAULT_SCALE
        return json.dumps([self.method, self.target, settings], sort_keys=True)


@dataclass(frozen=True)
class Part:
    """Rows under their names in the tables, on all slices or on one of each patient (`Patient.middle`)."""

    title: str
    rows: list[tuple[str, Row]]
    patients: list[Patient]
    all_slices: bool = True

    def slices(self, patient: Patient) -> list[int]:
        return list(range(0, len(patient.images), patient.every)) if self.all_slices else [patient.middle]


@dataclass(frozen=True)
class Archive:
    """The archive, and what its patients are.

    Attributes:
        path: of its file.
        origin: patient to the anatomy's source, of simulated patients; empty for measured ones.
        slice_spacing_mm: for volumes.
        every: as of `Patient`.
    """

    path: Path
    paired: Paired
    origin: dict[str, str]
    slice_spacing_mm: float
    every: int = 1

    @property
    def simulated(self) -> bool:
        return bool(self.origin)

    @property
    def voxel_ml(self) -> float:
        return self.paired.pixel_size_mm**2 * self.slice_spacing_mm / 1000

    def patient(self, name: str) -> Patient:
        own = self.paired.of([name])
        kind, person = str(own.group[0]), name
        if self.origin:
            real = self.origin[name].startswith("real")
            kind, person = ("real anatomy", self.origin[name]) if real else ("modelled anatomy", name)
        elif kind == "test":
            kind = ""
        return Patient(name, own.images.astype(np.float32) / 255, own.labels, kind, person, self.every)

    def nearest(self, target: str, tested: Sequence[str]) -> str:
        """The sequence with the smallest squared distance to the target over the patients that are not tested."""
        names = self.paired.sequences
        images = self.paired.images[~np.isin(self.paired.patient, list(tested))].astype(np.float32)
        wanted = images[:, names.index(target)]
        distance = {n: float(np.square(images[:, names.index(n)] - wanted).mean()) for n in names if n != target}
        return min(distance, key=lambda name: distance[name])


class Runs:
    """The trained networks in a folder of runs, as packs, which are made when they are wanted."""

    def __init__(self, folder: Path, archive: Archive, device: torch.device, precision: str, scratch: Path) -> None:
        self.folder, self.archive, self.scratch = folder, archive, scratch
        self.device, self.precision = device, precision
        self.cache = PackCache()
        self._models: dict[str, Synthesiser] = {}
        self._autoencoders: dict[str, Autoencoder] = {}

    def has(self, method: str) -> bool:
        if method == ROUND_TRIPS[1]:
            return self._trained(method)
        if method in (*WITHOUT_NETWORK, ROUND_TRIPS[0]):
            return any(map(self._trained, DIFFUSION))
        return self._trained(method) and any(map(self._trained, DIFFUSION))

    def has_start(self, method: str) -> bool:
        """Whether there is a one-pass prediction to start from."""
        return self._one_pass(method, "regression") is not None

    def model(self, method: str) -> Synthesiser:
        """The networks of a method. A one-pass network comes with a diffusion that is not used."""
        diffusion = method if method in DIFFUSION else next(filter(self._trained, DIFFUSION))
        one_pass = "gan" if method == "gan" else "regression"
        name = f"{diffusion}-{one_pass}"
        if name not in self._models:
            self._models[name] = self._pack(name, diffusion, one_pass)
        return self._models[name]

    def autoencoder(self, method: str) -> Autoencoder:
        """One of `ROUND_TRIPS`, in float32."""
        if method not in self._autoencoders:
            own = str(self._checkpoint(method))
            source = self._autoencoder(next(filter(self._trained, DIFFUSION))) if method == ROUND_TRIPS[0] else own
            self._autoencoders[method] = trained_autoencoder(source).to(self.device)
        return self._autoencoders[method]

    def weights(self, method: str) -> str:
        """What tells one training's networks from another's."""
        if method in WITHOUT_NETWORK:
            return "none"
        if method in ROUND_TRIPS:
            # A layer is enough to tell one training from another.
            return f"{zlib.crc32(next(self.autoencoder(method).parameters()).cpu().numpy().tobytes()):08x}"
        return self.model(method).info.weights_sha256[:12]

    def _trained(self, method: str) -> bool:
        return self._checkpoint(method).exists()

    def _checkpoint(self, run: str) -> Path:
        return self.folder / run / "best.ckpt"

    def _autoencoder(self, method: str) -> str:
        """The one that a run was trained with: another one's latents would look like its own and mean nothing."""
        source = self._configured(method, "autoencoder")
        if source and (not is_checkpoint(source) or Path(source).exists()):
            return source
        if self._trained("autoencoder"):
            return str(self._checkpoint("autoencoder"))
        hint = f"Put its run at {self.folder / 'autoencoder'}"
        raise InputError(f"nothing names the autoencoder of {self.folder / method}", hint)

    def _one_pass(self, diffusion: str, one_pass: str) -> str | None:
        """Checkpoint of a one-pass network; in the place of a regression that was not trained, the pack with one."""
        if self._trained(one_pass):
            return str(self._checkpoint(one_pass))
        pack = self._configured(diffusion, "start") if one_pass == "regression" else ""
        if not pack or is_checkpoint(pack):
            return None
        try:
            return pack if find_pack(pack).network.get("regression") else None
        except PackError:  # it is no longer here; what starts from noise can be judged without
            return None

    def _configured(self, run: str, name: str) -> str:
        """An entry of the configuration that a run was made with; empty where there is none."""
        config = self.folder / run / "config.json"
        return str(getattr(read_config(config), name, "")) if config.exists() else ""

    def _pack(self, name: str, diffusion: str, one_pass: str) -> Synthesiser:
        paired = self.archive.paired
        # Of the configuration the export reads the autoencoder, and for warnings that do not matter here the data.
        config = config_from(
            {
                "name": name,
                "task": "synthesis",
                "data": str(self.archive.path),
                "train_patients": [str(paired.patient[0])],
                "validation_patients": [str(paired.patient[-1])],
                "phases": [{"steps": 1, "batch": 1, "crop": 1}],
                "autoencoder": self._autoencoder(diffusion),
            }
        )
        pixel, matrix = paired.pixel_size_mm, paired.images.shape[-2:]
        described = {
            "version": "0",
            "title": name,
            "roles": list(paired.sequences),
            "matrix": list(matrix),
            "pixel_size_mm": [pixel, pixel],
            "domain": {"plane": "any"},
            "training_data": "of a study",
            "licence": "none",
            "quality": {},
            "intended_use": "of a study",
            "limits": [],
        }
        folder = self.scratch / f"{self.folder.name}-{name}"
        pack_from_checkpoint(
            self._checkpoint(diffusion),
            config,
            folder,
            regression=self._one_pass(diffusion, one_pass),
            description=described,
            model_card="of a study",
            licence="none",
            largest=10**10,
        )
        return self.cache.synthesiser(str(folder), self.device, self.precision)


def conditions(patient: Patient, given: Sequence[str], sequences: Sequence[str]) -> Conditions:
    """A patient's given sequences as a request would read them: the archive is on a pack's grid and scale already."""
    count, _, height, width = patient.images.shape
    present = np.tile([name in given for name in sequences], (count, 1))
    images = np.where(present[:, :, None, None], 2 * patient.images - 1, -1).astype(np.float32)
    grid = Geometry((width, height, count), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    return Conditions(tuple(given), images, present, grid, {}, ())


class Study:
    """Computes rows, patient by patient, and remembers what is done.

    Attributes:
        done: (row, patient, slice) to its entry; slice 'all' is the patient's scar in a synthetic LGE.
    """

    def __init__(self, archive: Archive, out: Path, device: str, precision: str, batch: int) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.archive, self.out, self.batch = archive, out, batch
        self.device = resolve_device(device)
        self.precision = faster_precision(self.device) if precision == "auto" else precision
        self.sequences = archive.paired.sequences
        self.path = out / "scores.jsonl"
        self.stored = read_scores(self.path)
        self.done: dict[tuple[str, str, int | str], dict[str, Any]] = {}
        self.runs: dict[str, Runs] = {}
        """Patient to the runs that have not seen them."""

    def add(self, runs: Runs, patients: Sequence[Patient]) -> None:
        """These patients are tested with these runs."""
        self.runs |= {patient.name: runs for patient in patients}
        own = [entry for entry in self.stored if entry["patient"] in {patient.name for patient in patients}]
        for entry in own:
            if runs.has(entry["method"]) and entry["weights"] == runs.weights(entry["method"]):
                self.done[entry["row"], entry["patient"], entry["slice"]] = entry

    def given(self, target: str) -> tuple[str, ...]:
        return tuple(name for name in self.sequences if name != target)

    def nearest(self, target: str, patient: Patient) -> str:
        """The sequence that is copied: chosen on the patients whom this one's runs may have seen."""
        runs = self.runs[patient.name]
        return self.archive.nearest(target, [name for name, other in self.runs.items() if other is runs])

    def rows(self, part: Part) -> list[tuple[str, Row]]:
        """The rows that can be computed: each needs its runs."""
        return [(label, row) for label, row in part.rows if all(self._possible(row, p) for p in part.patients)]

    def _possible(self, row: Row, patient: Patient) -> bool:
        runs = self.runs[patient.name]
        return runs.has(row.method) and not (
            row.chosen and row.chosen.start == "regression" and not runs.has_start(row.method)
        )

    def complete(self, part: Part) -> bool:
        return all(not self._missing(part, row, patient) for _, row in self.rows(part) for patient in part.patients)

    def run(self, part: Part) -> None:
        """Scores of every row of every patient who lacks some."""
        possible = self.rows(part)
        for label in (label for label, row in part.rows if (label, row) not in possible):
            print(f"{part.title}: {label} is left out, as there are no runs for it", flush=True)
        for label, row in possible:
            began, count = time.monotonic(), 0
            for patient in part.patients:
                if self._missing(part, row, patient):
                    self._store(row, patient, part.slices(patient))
                    count += len(part.slices(patient))
            if count:
                seconds = time.monotonic() - began
                what = f"{part.title}: {label} to {row.target}"
                print(f"{what}, {count} slices, {seconds:.0f} s ({seconds / count:.2f} s each)", flush=True)

    def _missing(self, part: Part, row: Row, patient: Patient) -> bool:
        wanted: list[int | str] = [*part.slices(patient)]
        if part.all_slices and self._has_scar(row, patient):
            wanted.append("all")
        return any((row.key, patient.name, n) not in self.done for n in wanted)

    def _has_scar(self, row: Row, patient: Patient) -> bool:
        return row.target == "LGE" and bool(patient.labels.any())

    def _store(self, row: Row, patient: Patient, numbers: list[int]) -> None:
        began = time.monotonic()
        images = self.made(row, patient, numbers)
        seconds = (time.monotonic() - began) / len(numbers)
        start = {
            "row": row.key,
            "method": row.method,
            "weights": self.runs[patient.name].weights(row.method),
            "precision": self.precision,
            "patient": patient.name,
        }
        entries = [
            {**start, "slice": n, "seconds": seconds, **self._scores(row, patient, n, own)}
            for n, own in zip(numbers, images, strict=True)
        ]
        if len(numbers) == len(patient.images) and self._has_scar(row, patient):
            entries.append({**start, "slice": "all", **self._scar(row, patient, images)})
        # Line by line, so that two processes do not write into each other's lines.
        with self.path.open("a", buffering=1) as stream:
            for entry in map(rounded, entries):
                self.done[row.key, patient.name, entry["slice"]] = entry
                stream.write(json.dumps(entry) + "\n")

    def made(self, row: Row, patient: Patient, numbers: list[int]) -> NDArray[np.float32]:
        """All samples of some slices, (slices, samples, H, W) in [0, 1]."""
        if row.method == "copy":
            return patient.images[numbers][:, [self.sequences.index(self.nearest(row.target, patient))]]
        if row.method in ROUND_TRIPS:
            autoencoder = self.runs[patient.name].autoencoder(row.method)
            truth = torch.from_numpy(patient.images[numbers][:, [self.sequences.index(row.target)]])
            restored = autoencoder.decode(autoencoder.encode(truth.to(self.device) * 2 - 1)).clamp(-1, 1)
            return ((restored + 1) / 2).cpu().numpy()
        model = self.runs[patient.name].model(row.method)
        given = conditions(patient, self.given(row.target), self.sequences)
        with torch.no_grad():
            if row.chosen is None:
                settings = SynthesisSettings(target=row.target)
                made = Guided(given, numbers, model, settings).regression[:, None]
            else:
                check(row.chosen, given.roles, model)
                inputs = dict.fromkeys(given.roles, "-")
                request = Request("synthesis", model.info.name, inputs, row.chosen, patient.seed, batch=self.batch)
                # A batch at a time: the start of all slices is computed for each batch.
                together = chunks(numbers, row.chosen.samples, self.batch)
                made = torch.cat([sample_slices(given, chunk, model, request) for chunk in together])
        return ((made.float() + 1) / 2).cpu().numpy()

    def _scores(self, row: Row, patient: Patient, number: int, samples: NDArray[np.float32]) -> dict[str, Any]:
        truth = patient.images[number, self.sequences.index(row.target)]
        masks = regions(patient, number)
        result: dict[str, Any] = {"mean": scores(truth, samples.mean(0), masks)}
        if len(samples) > 1:
            result["first"] = scores(truth, samples[0], masks)
        if row.settings.get("scales"):
            result["closeness"] = {
                name: closeness(samples[0], patient.images[number, self.sequences.index(name)])
                for name in self.given(row.target)
            }
        return result

    def _scar(self, row: Row, patient: Patient, images: NDArray[np.float32]) -> dict[str, Any]:
        lge = Lge(patient.images[:, self.sequences.index(row.target)], patient.labels, self.archive.voxel_ml)
        mean = images.mean(1)
        result: dict[str, Any] = {"truth": lge.reference(), "mean": lge.compare(mean)}
        if images.shape[1] > 1:
            result["first"] = lge.compare(images[:, 0])
            result["deviation"] = lge.flags(mean, images.std(1, ddof=1))
        return result


def regions(patient: Patient, number: int) -> dict[str, NDArray[np.bool_]]:
    """Where scores are taken besides the whole slice: the heart; of a brain the object, and the lesions where drawn."""
    labels = patient.labels[number]
    if patient.labels.max() > 1:
        return {"heart": labels > 0}
    return {"object": patient.images[number].max(0) > 0.05, "lesion": labels > 0}


def scores(truth: NDArray[Any], image: NDArray[Any], masks: dict[str, NDArray[np.bool_]]) -> dict[str, Any]:
    """PSNR (dB) and SSIM by region; the range is 1. A region that is not in the slice has none."""
    result = {"whole": {"psnr": psnr(truth, image, 1.0), "ssim": ssim(truth, image, 1.0)}}
    inner = slice(WINDOW // 2, -(WINDOW // 2))
    for name, mask in masks.items():
        if mask[inner, inner].any():
            result[name] = {"psnr": psnr(truth, image, 1.0, mask), "ssim": ssim(truth, image, 1.0, mask)}
    return result


def rounded(value: Any) -> Any:
    """Six digits are enough, and keep the file short."""
    if isinstance(value, dict):
        return {name: rounded(entry) for name, entry in value.items()}
    return float(f"{value:.6g}") if isinstance(value, float) and math.isfinite(value) else value


FROM_NOISE = {"start": "noise", "steps": 30}
POSTERIOR = {**FROM_NOISE, "samples": 8, "scales": {"bSSFP": 1.0, "T2": 1.0}}
"""Without a guided start, at scales of 1, samples are those of the posterior, and so is their deviation."""


def rows_main(target: str) -> list[tuple[str, Row]]:
    """Floor and ceiling, the baselines, and CMRDiff with its defaults; one sample and the mean of 4 in one go."""
    return [
        ("copy of the nearest given", Row("copy", target)),
        ("regression U-Net", Row("regression", target)),
        ("GAN", Row("gan", target)),
        ("plain latent diffusion", Row("plain", target, {**FROM_NOISE, "samples": 4})),
        ("CMRDiff", Row("cmrdiff", target, {"samples": 4})),
        ("autoencoder round trip", Row("autoencoder", target)),
        ("autoencoder round trip, factor 2", Row("autoencoder-f2", target)),
    ]


def rows_ablations(target: str, given: Sequence[str]) -> list[tuple[str, Row]]:
    """One thing changed at a time; two samples are enough to see what it does to one and to a mean."""

    def cmrdiff(**changes: Any) -> Row:
        return Row("cmrdiff", target, {"samples": 2, **changes})

    def scaled(mode: str, first: float, second: float) -> tuple[str, Row]:
        scales = dict(zip(given, (first, second)))
        return f"{mode}, scales {first:g} and {second:g}", cmrdiff(guidance=mode, scales=scales)

    return [
        ("CMRDiff", cmrdiff()),
        ("without heatmap", Row("no-heatmap", target, {"samples": 2})),
        ("without features", Row("no-features", target, {"samples": 2})),
        ("without both", Row("plain", target, {"samples": 2})),
        ("start noise", cmrdiff(**FROM_NOISE)),
        (f"start {given[0]}", cmrdiff(start=given[0])),
        *((f"strength {s:g}", cmrdiff(strength=s)) for s in (0.3, 0.5, 0.7, 1.0)),
        # Where the scales are equal, nested and averaged are the same (`diffusion.classifier_free`).
        *(scaled("averaged", s, s) for s in (0.5, 1.0, 2.0, 4.0)),
        scaled("composable", DEFAULT_SCALE, DEFAULT_SCALE),
        *(scaled(mode, 2.0, 1.0) for mode in ("nested", "averaged", "composable")),
        *((f"{n} steps", cmrdiff(steps=n)) for n in (5, 10, 50)),
    ]


def rows_scales(target: str, given: Sequence[str]) -> list[tuple[str, Row]]:
    """The grid of scales, from noise, so that nothing but the guidance carries the conditions."""
    settings = [dict(zip(given, (a, b))) for a in SCALES for b in SCALES]
    common = {**FROM_NOISE, "samples": 1}
    return [
        (", ".join(f"{n} {s:g}" for n, s in scales.items()), Row("cmrdiff", target, {**common, "scales": scales}))
        for scales in settings
    ]


def rows_hallucination() -> list[tuple[str, Row]]:
    """The LGE of the comparison (made there already), and the posterior."""
    kept = [(label, row) for label, row in rows_main("LGE") if row.method not in (*WITHOUT_NETWORK, *ROUND_TRIPS)]
    return [*kept, ("CMRDiff, start noise", Row("cmrdiff", "LGE", POSTERIOR))]


SETS = ("main", "ablations", "scales", "hallucination")


def parts(study: Study, patients: list[Patient], which: str, targets: Sequence[str]) -> Iterator[Part]:
    """The study's parts; 'all' is all of them. A third of the patients has the grid of scales."""
    for target in targets:
        given = study.given(target)
        if which in ("main", "all"):
            yield Part("main", rows_main(target), patients)
        if which in ("ablations", "all"):
            yield Part("ablations", rows_ablations(target, given), patients, all_slices=False)
        if which in ("scales", "all"):
            yield Part("scales", rows_scales(target, given), patients[::3], all_slices=False)
        if which in ("hallucination", "all") and target == "LGE":
            labelled = [patient for patient in patients if patient.labels.any()]
            if labelled:
                yield Part("hallucination", rows_hallucination(), labelled)


def folds(paired: Paired, runs: Path) -> list[tuple[Path, list[str]]]:
    """Folders of runs, each with the patients that they are tested on."""
    names = sorted(set(paired.patient.tolist()))
    left_out = [(runs / name, [name]) for name in names if (runs / name).is_dir()]
    if left_out:
        return left_out
    tested = sorted(set(paired.patient[paired.group == "test"].tolist()))
    if not tested:
        raise InputError(
            f"the archive has no group test, and {runs} no folder with a patient's name",
            f"Known are {', '.join(names)}",
        )
    return [(runs, tested)]


def read_archive(path: Path, cohort: Path | None, slice_spacing_mm: float) -> Archive:
    """The archive, with the origin of simulated patients. Raises InputError where nothing says if cardiac ones are."""
    paired = read_paired(path)
    found = [c for c in ([cohort] if cohort else [path.parent]) if (c / "simulated.json").exists()]
    if found:
        manifest = json.loads((found[0] / "simulated.json").read_text(encoding="utf-8"))
        origin = {name: entry["anatomy"] for name, entry in manifest["patients"].items()}
        unknown = set(paired.patient.tolist()) - set(origin)
        if unknown:
            raise InputError(f"{found[0] / 'simulated.json'} knows no {min(unknown)}", "Name the archive's cohort")
        return Archive(path, paired, origin, slice_spacing_mm)
    if cohort is None and "LGE" in paired.sequences:
        hint = "Name with --cohort the folder that it was prepared from"
        raise InputError(f"nothing says whether the patients of {path} are simulated", hint)
    return Archive(path, paired, {}, slice_spacing_mm)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/synthesis"))
    parser.add_argument("--set", default="all", choices=(*SETS, "all"))
    parser.add_argument(
        "--cohort", type=Path, help="what the archive was prepared from, with simulated.json if simulated [its folder]"
    )
    parser.add_argument("--target", nargs="+", help="compute these wanted sequences alone, without tables and figures")
    parser.add_argument("--slice-spacing", type=float, default=10.0, metavar="MM", help="for volumes of scars")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="judge each Nth slice of a patient [1]")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    parser.add_argument("--batch", type=int, default=4)
    options = parser.parse_args(arguments)
    archive = replace(read_archive(options.archive, options.cohort, options.slice_spacing), every=options.every)
    study = Study(archive, options.out, options.device, options.precision, options.batch)
    patients = []
    with tempfile.TemporaryDirectory() as scratch:
        for folder, names in folds(archive.paired, options.runs):
            runs = Runs(folder, archive, study.device, study.precision, Path(scratch))
            tested = [archive.patient(name) for name in names]
            study.add(runs, tested)
            patients += tested
        for part in parts(study, patients, options.set, options.target or study.sequences):
            study.run(part)
        if options.target:
            return
        # The tables hold all that is complete by now, whichever set was asked for.
        from synthesis_figures import draw_figures
        from synthesis_report import write_report

        complete = [part for part in parts(study, patients, "all", study.sequences) if study.complete(part)]
        write_report(study, complete)
        draw_figures(study, complete, options.set)


if __name__ == "__main__":
    main()
