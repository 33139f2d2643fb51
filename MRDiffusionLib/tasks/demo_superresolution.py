"""The demonstration of super-resolution: the shipped brain, with a picture and a table. A request like any other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ..errors import InputError, StorageError
from ..evaluation import haarpsi, psnr, ssim
from ..imaging.volume import Volume, read_volume, write_volume
from ..physics.kspace import resize_image
from ..request import Request, Result
from ..settings import SuperResolutionSettings
from . import OnProgress, PackCache, run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SAMPLE_DATA = Path(__file__).resolve().parents[2] / "MRDiffusion" / "Resources" / "SampleData"
PACK = "brain-t1-128"
SAMPLES = 4
MEAN = f"mean of {SAMPLES}"
STEPS = SuperResolutionSettings().steps

SLICE = 6
DETAIL = (slice(62, 106), slice(56, 100))
"""Rows and columns of the enlarged part of that slice: ventricle and folded cortex."""

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Demonstration:
    """What came out.

    Attributes:
        scores: method to 'psnr_db', 'ssim' and 'haarpsi'.
        table: the scores in Markdown, with what they were measured on.
        picture: the PNG file.
        warnings: sentences for the person.
    """

    scores: dict[str, dict[str, float]]
    table: str
    picture: Path
    warnings: tuple[str, ...]


def main(
    folder: str | Path, *, pack: str = PACK, steps: int = STEPS, progress: OnProgress | None = None
) -> Demonstration:
    """Super-resolve the sample from 64x64 to 128x128, and compare with the reference that it was made from.

    Writes into `folder`: superresolution.png, superresolution.md, result.nii.gz, standard_deviation.nii.gz and
    result.json (provenance, measurements and scores).

    Raises:
        UserError: no sample (the package was installed without its source tree), no such pack, no room to write.
    """
    folder = make_folder(Path(folder))
    low_path, reference_path = sample_path("brain-t1-low-resolution.nii.gz"), sample_path("brain-t1-reference.nii.gz")
    low, reference = read_volume(low_path), read_volume(reference_path)
    single, mean = _runs(_request(low_path, pack, steps), len(low.array), progress)
    images = {
        **enlarged(low.array, reference.array.shape[1:]),
        "single sample": single.volumes["result"].array,
        MEAN: mean.volumes["result"].array,
    }
    scores = {name: score(reference.array, image) for name, image in images.items()}
    text, path = table(scores, mean, len(low.array)), folder / "superresolution.png"
    _write(folder, mean, scores)
    write_text(folder / "superresolution.md", text)
    picture(path, low, images, mean.volumes["standard_deviation"].array, reference)
    return Demonstration(scores, text, path, mean.warnings)


def enlarged(low: Array, matrix: tuple[int, ...]) -> dict[str, Array]:
    """What needs no model, (slices, h, w) to (slices, *matrix): zero filling of k-space, and bicubic interpolation."""
    x = torch.from_numpy(low)
    size = (matrix[0], matrix[1])
    bicubic = F.interpolate(x[:, None], size, mode="bicubic", align_corners=False)[:, 0]
    return {"zero filling": resize_image(x, size).numpy(), "bicubic": bicubic.numpy()}


def score(reference: Array, image: Array) -> dict[str, float]:
    """Mean over slices of PSNR, SSIM and HaarPSI; data range is 0 to the reference's maximum, negatives count as 0."""
    peak = float(reference.max())
    pairs = [(truth, np.clip(slice_, 0, None)) for truth, slice_ in zip(reference, image)]
    return {
        "psnr_db": float(np.mean([psnr(truth, x, peak) for truth, x in pairs])),
        "ssim": float(np.mean([ssim(truth, x, peak) for truth, x in pairs])),
        "haarpsi": float(np.mean([haarpsi(truth, x, peak) for truth, x in pairs])),
    }


def table(scores: Mapping[str, Mapping[str, float]], result: Result, slices: int) -> str:
    """The scores as a Markdown table, with what they were measured on."""
    pack, request = result.provenance["pack"], result.provenance["request"]
    seconds = result.measurements["seconds"]
    lines = [
        "| method | PSNR (dB) | SSIM | HaarPSI |",
        "| --- | --- | --- | --- |",
        *(f"| {name} | {s['psnr_db']:.2f} | {s['ssim']:.4f} | {s['haarpsi']:.4f} |" for name, s in scores.items()),
        "",
        f"One subject, mean over {slices} slices; data range 0 to the reference's maximum. Low resolution simulated",
        "by cropping k-space. Results are SYNTHETIC: not for diagnosis.",
        f"Pack {pack['name']} {pack['version']}, {request['settings']['steps']} steps, {seconds:.0f} s for the "
        f"{SAMPLES} samples on {request['device']} in {request['precision']}.",
    ]
    return "\n".join(lines) + "\n"


def picture(path: Path, low: Volume, images: Mapping[str, Array], deviation: Array, reference: Volume) -> None:
    """One slice of everything, whole and enlarged, in the same window; PNG."""
    from matplotlib.figure import Figure

    window = float(np.percentile(reference.array[SLICE], 99.8))
    spread = float(np.percentile(deviation[SLICE], 99.8))
    matrix = "x".join(str(n) for n in low.array.shape[1:])
    panels: list[tuple[str, Array, float, str, bool]] = [
        (f"input {matrix}\n(simulated)", low.array[SLICE], window, "gray", False),
        ("zero-filled\n", images["zero filling"][SLICE], window, "gray", False),
        ("one sample\n", images["single sample"][SLICE], window, "gray", True),
        (f"mean of {SAMPLES} samples\n", images[MEAN][SLICE], window, "gray", True),
        (f"standard deviation\n(black 0, yellow {spread:.0f})", deviation[SLICE], spread, "inferno", True),
        ("truth\n", reference.array[SLICE], window, "gray", False),
    ]
    figure = Figure(figsize=(2.2 * len(panels), 5.0), facecolor="black", layout="constrained")
    axes = figure.subplots(2, len(panels))
    for column, (title, image, high, colours, synthetic) in enumerate(panels):
        shrink = reference.array.shape[1] // image.shape[0]
        detail = image[tuple(slice(s.start // shrink, s.stop // shrink) for s in DETAIL)]
        for axis, shown in ((axes[0, column], image), (axes[1, column], detail)):
            axis.imshow(shown, cmap=colours, vmin=0, vmax=high, interpolation="nearest")
            axis.axis("off")
            if synthetic:
                mark(axis)
        axes[0, column].set_title(title, color="white", fontsize=9)
    try:
        figure.savefig(path, dpi=150, facecolor="black")
    except OSError as error:
        raise StorageError(f"{path} cannot be written ({error.strerror})", "Free some space") from error


def mark(axis: Axes) -> None:
    """SYNTHETIC on a picture."""
    box = {"facecolor": "black", "edgecolor": "none", "pad": 1.5}
    axis.text(0.03, 0.03, "SYNTHETIC", color="yellow", fontsize=7, transform=axis.transAxes, bbox=box)


def _request(low: Path, pack: str, steps: int) -> Request:
    settings = SuperResolutionSettings(steps=steps)
    return Request(task="superresolution", pack=pack, inputs={"low_resolution": str(low)}, settings=settings)


def _runs(request: Request, slices: int, progress: OnProgress | None) -> tuple[Result, Result]:
    """One sample a slice, then `SAMPLES`, the first of which is the same again."""

    def part(before: int) -> OnProgress | None:
        # Both runs as one: the second one's time left is not known during the first.
        return progress and (
            lambda p: progress(
                replace(p, slice=before + p.slice, slices=2 * slices, seconds_left=p.seconds_left if before else None)
            )
        )

    cache = PackCache()
    several = request.resolved(settings=replace(request.settings, samples=SAMPLES))
    return run(request, cache=cache, progress=part(0)), run(several, cache=cache, progress=part(slices))


def sample_path(name: str) -> Path:
    """A file of the shipped sample. Raises InputError where it is missing."""
    path = SAMPLE_DATA / name
    if not path.is_file():
        raise InputError(
            f"the sample {path} is not there",
            "The demonstration runs in a clone of the repository; elsewhere use `superresolve` on a volume of your own",
        )
    return path


def make_folder(folder: Path) -> Path:
    """The folder, made if it is not there. Raises StorageError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder} cannot be made ({error.strerror})", "Choose another folder") from error
    return folder


def _write(folder: Path, result: Result, scores: Mapping[str, Any]) -> None:
    for role, volume in result.volumes.items():
        write_volume(volume, folder / f"{role}.nii.gz")
    record = {**result.provenance, "measurements": result.measurements, "scores": scores}
    write_text(folder / "result.json", json.dumps(record, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Raises StorageError."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{path} cannot be written ({error.strerror})", "Free some space") from error
