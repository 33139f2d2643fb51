"""What the demonstrations share: the shipped sample, the folder, pictures that say SYNTHETIC."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, StorageError
from ..imaging.volume import write_volume
from ..request import Progress, Result
from . import OnProgress

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SAMPLE_DATA = Path(__file__).resolve().parents[2] / "MRDiffusion" / "Resources" / "SampleData"

Array = NDArray[np.float32]
Detail = tuple[slice, slice]
"""Rows and columns."""

Scores = Mapping[str, Mapping[str, float]]
"""Method to its scores by name."""


@dataclass(frozen=True)
class Demonstration:
    """What came out.

    Attributes:
        scores: of each method.
        table: the scores in Markdown, with what they were measured on.
        picture: the PNG file.
        warnings: sentences for the person.
    """

    scores: Scores
    table: str
    picture: Path
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Tile:
    """A picture of a figure: its title, the image (rows, columns), which value is white, and the colours."""

    title: str
    image: Array
    white: float
    synthetic: bool = False
    colours: str = "gray"

    def detail(self, place: Detail, matrix: int) -> Tile:
        """Its part at `place`, which is in pixels of an image with `matrix` rows."""
        shrink = matrix // len(self.image)
        return replace(self, image=self.image[tuple(slice(s.start // shrink, s.stop // shrink) for s in place)])

    def draw(self, axis: Axes) -> None:
        axis.imshow(self.image, cmap=self.colours, vmin=0, vmax=self.white, interpolation="nearest")
        axis.axis("off")
        if self.synthetic:
            box = {"facecolor": "black", "edgecolor": "none", "pad": 1.5}
            axis.text(0.03, 0.03, "SYNTHETIC", color="yellow", fontsize=7, transform=axis.transAxes, bbox=box)


def draw(tiles: Sequence[Tile], place: Detail) -> Figure:
    """All tiles side by side, a detail of each below."""
    from matplotlib.figure import Figure

    matrix = max(len(tile.image) for tile in tiles)
    figure = Figure(figsize=(2.2 * len(tiles), 5.0), facecolor="black", layout="constrained")
    for tile, (whole, detail) in zip(tiles, figure.subplots(2, len(tiles)).T, strict=True):
        tile.draw(whole)
        tile.detail(place, matrix).draw(detail)
        whole.set_title(tile.title, color="white", fontsize=9)
    return figure


def part(progress: OnProgress | None, number: int, parts: int) -> OnProgress | None:
    """Progress of one of several runs that a person sees as one; the time left is known in the last alone."""
    if progress is None:
        return None

    def told(p: Progress) -> None:
        left = p.seconds_left if number == parts - 1 else None
        progress(replace(p, slice=number * p.slices + p.slice, slices=parts * p.slices, seconds_left=left))

    return told


def sample_path(name: str) -> Path:
    """A file of the shipped sample. Raises InputError where it is missing."""
    path = SAMPLE_DATA / name
    if not path.is_file():
        raise InputError(
            f"the sample {path} is not there",
            "The demonstration runs in a clone of the repository; elsewhere use `superresolve` or `synthesize` on "
            "volumes of your own",
        )
    return path


def make_folder(folder: Path) -> Path:
    """The folder, made if it is not there. Raises StorageError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder} cannot be made ({error.strerror})", "Choose another folder") from error
    return folder


def save(folder: Path, task: str, result: Result, scores: Scores, table: str, figure: Figure) -> Demonstration:
    """The demonstration, after writing it as TASK.png, .md, .json and .nii.gz, and TASK_standard_deviation.nii.gz.

    Raises:
        StorageError: no room to write.
    """
    picture = folder / f"{task}.png"
    record = {**result.provenance, "measurements": result.measurements, "scores": scores}
    for role, volume in result.volumes.items():
        write_volume(volume, folder / (f"{task}.nii.gz" if role == "result" else f"{task}_{role}.nii.gz"))
    try:
        (folder / f"{task}.md").write_text(table, encoding="utf-8")
        (folder / f"{task}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        figure.savefig(picture, dpi=150, facecolor="black")
    except OSError as error:
        raise StorageError(f"{folder} cannot be written ({error.strerror})", "Free some space") from error
    return Demonstration(scores, table, picture, result.warnings)
