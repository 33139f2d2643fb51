"""The shipped enhancer on what it was not trained on: another contrast, another organ, other scanners.

    python Testing/Studies/enhancement_external.py DATA --out docs/results/enhancement [--pack brain-enhance]

DATA is a folder as docs/data.md describes it. The images are as they were scanned, whole head where there is one; their
low-quality ones are simulated acquisitions. Each volume goes through the task as in 3D Slicer, with the level given and
with the level estimated. Writes external.md and external.png; every generated image carries the word SYNTHETIC.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from degrader import acquired
from figures import show
from numpy.typing import NDArray

from MRDiffusionLib import tasks
from MRDiffusionLib.evaluation import paired_t_test, psnr, ssim
from MRDiffusionLib.imaging.geometry import Geometry
from MRDiffusionLib.imaging.volume import Volume, read_volume, write_volume
from MRDiffusionLib.packs.intensity import intensity_scale
from MRDiffusionLib.request import Request
from MRDiffusionLib.settings import KINDS, EnhancementSettings

LEVELS = (0.3, 0.6, 0.9)
SLICES = 4
"""Of each subject, evenly spread over the middle."""
METHODS = ("given", "level given", "level estimated")
WHITE = {"percentile": 99.5, "value": 0.93}
"""What the simulated scanner's noise refers to: the brain's training images have this level."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Subject:
    """Slices (n, rows, columns), white at 1, and their pixel size in mm (row, column spacing)."""

    group: str
    name: str
    slices: Floats
    pixel_mm: tuple[float, float]


def chosen(array: Floats) -> Floats:
    """Some slices on a scale where white is 1."""
    numbers = (np.linspace(0.3, 0.7, min(SLICES, len(array))) * (len(array) - 1)).round().astype(int)
    return np.asarray(array[numbers] / np.float32(intensity_scale(array, WHITE)), np.float32)


def t2(data: Path) -> Iterator[Subject]:
    for path in sorted((data / "brain_t2").glob("*_inplaneT2.nii.gz")):
        yield _of_volume("T2, another scanner", path)


def t1(data: Path) -> Iterator[Subject]:
    for patient in sorted((data / "brain_multisequence" / "raw").glob("patient*")):
        for path in sorted(patient.glob("*_T1W.nii.gz"))[:1]:
            yield _of_volume("T1 with the skull, another scanner", path)


def cine(data: Path) -> Iterator[Subject]:
    with np.load(data / "cardiac_cine" / "contoured_u16.npz") as archive:
        images, patients, spacing = archive["images"], archive["patient"], archive["spacing_mm"]
    for patient in sorted(set(patients.tolist())):
        own = patients == patient
        pixel = np.broadcast_to(np.atleast_1d(spacing[own][0] if len(spacing) == len(own) else spacing), 2)
        slices = chosen(images[own].astype(np.float32))
        yield Subject("bSSFP cine of the heart", str(patient), slices, (float(pixel[0]), float(pixel[1])))


def _of_volume(group: str, path: Path) -> Subject:
    volume = read_volume(path)
    spacing = volume.geometry.spacing
    return Subject(group, f"{path.parent.name}/{path.name}", chosen(volume.array), (spacing[1], spacing[0]))


GROUPS: tuple[Callable[[Path], Iterator[Subject]], ...] = (t2, t1, cine)


def restored(
    low: Floats, subject: Subject, kind: str, level: float | None, pack: str, cache: tasks.PackCache
) -> Floats:
    """As in 3D Slicer: a file in, the task, a volume out."""
    rows, columns = subject.pixel_mm
    axial = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    geometry = Geometry(low.shape[::-1], (columns, rows, 5.0), (0.0, 0.0, 0.0), axial)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "low.nii.gz"
        write_volume(Volume(low, geometry), path)
        request = Request("enhancement", pack, {"image": str(path)}, EnhancementSettings(kind, level))
        return tasks.run(request, cache=cache).volumes["result"].array


def scores(truth: Floats, image: Floats) -> tuple[float, float]:
    """PSNR (dB) and SSIM of slices, range: white."""
    return float(psnr(truth, image, 1.0)), float(ssim(truth, image, 1.0))


def table(kind: str, found: dict[str, dict[str, list[tuple[float, float]]]]) -> Iterator[str]:
    """Rows of one kind; `found` has group, method, then (PSNR, SSIM) by subject."""
    yield f"## {kind}"
    yield ""
    yield "| images | subjects | given: PSNR (dB), SSIM | level given: gain | p | level estimated: gain | p |"
    yield "| --- " * 7 + "|"
    for group, methods in found.items():
        given = np.array(methods["given"])
        people = np.arange(len(given))
        cells = [f"{given[:, 0].mean():.2f}, {given[:, 1].mean():.3f}"]
        for method in METHODS[1:]:
            own = np.array(methods[method])
            gain = own.mean(0) - given.mean(0)
            tests = [paired_t_test(own[:, i], given[:, i], people) for i in (0, 1)]
            cells += [f"{gain[0]:+.2f} dB, {gain[1]:+.3f}", ", ".join(f"{test.p:.2g}" for test in tests)]
        yield f"| {group} | {len(given)} | {' | '.join(cells)} |"
    yield ""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pack", default="brain-enhance")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    cache = tasks.PackCache()
    subjects = [subject for group in GROUPS for subject in group(options.data)]
    groups = list(dict.fromkeys(subject.group for subject in subjects))
    figure, axes = plt.subplots(len(groups) * len(KINDS), 3, figsize=(6.6, 2.2 * len(groups) * len(KINDS)))
    told = f"Mean over levels {', '.join(map(str, LEVELS))} and {SLICES} slices of a subject; p of paired t-tests over"
    lines = [f"{told} subjects, of PSNR and of SSIM.", ""]
    for number, kind in enumerate(KINDS):
        found: dict[str, dict[str, list[tuple[float, float]]]] = {}
        for person, subject in enumerate(subjects):
            by_level: dict[str, list[tuple[float, float]]] = {method: [] for method in METHODS}
            for level in LEVELS:
                low = acquired(subject.slices, kind, level, person, 0)
                made = {
                    method: low if method == "given" else restored(low, subject, kind, wanted, options.pack, cache)
                    for method, wanted in zip(METHODS, (None, level, None))
                }
                for method, image in made.items():
                    by_level[method].append(scores(subject.slices, image))
                group = subject.group
                if level == LEVELS[1] and group not in found:
                    row = axes[groups.index(group) * len(KINDS) + number]
                    show(row[0], subject.slices[1], group, peak=1.0)
                    show(row[1], low[1], f"{kind} {level:g} (simulated)", peak=1.0)
                    show(row[2], made["level given"][1], "enhanced", peak=1.0, synthetic=True)
            for method, values in by_level.items():
                psnr_mean, ssim_mean = np.mean(values, axis=0).tolist()
                by_method = found.setdefault(subject.group, {name: [] for name in METHODS})
                by_method[method].append((psnr_mean, ssim_mean))
            print(f"{kind}: {subject.group}, {subject.name}", flush=True)
        lines += table(kind, found)
    figure.tight_layout()
    figure.savefig(options.out / "external.png", dpi=110)
    plt.close(figure)
    (options.out / "external.md").write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
