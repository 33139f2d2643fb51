"""What `pairs build` measures on real slices with faults of known size: the tables of docs/pairs.md.

    python Testing/Studies/pair_checks.py DATA [--parts PART ...] [--slices 24] [--json FILE]

DATA is a folder with the data of docs/data.md. Slices are those of test subjects. Parts:

    slices     displacement of single slices, measured and true
    stacks     the same of stacks of thick slices that moved in all directions
    same       how much of the low-quality image the other explains, of the same and of different things
    artefacts  scores of clean, noisy, blurred and faulty slices
    acquired   scores of volumes as they were scanned
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from MRDiffusionLib.cohort.plan import Limits
from MRDiffusionLib.diffusion.noise import stream_seed
from MRDiffusionLib.evaluation.artefacts import MeasuredArtefacts, measure_artefacts
from MRDiffusionLib.evaluation.misalignment import measure_misalignment, object_of
from MRDiffusionLib.imaging.geometry import Geometry, voxel_positions
from MRDiffusionLib.imaging.resample import Rigid, resample
from MRDiffusionLib.imaging.volume import Volume, read_volume
from MRDiffusionLib.physics.degradation import FastScan, degrade, fast_scan
from MRDiffusionLib.physics.faults import Misalignment, motion_ghosts, rigid, smooth, spikes, together

SUBJECTS = (53, 60)
LOW = (("noise", 0.3), ("noise", 0.7), ("noise", 1.0), ("blur", 0.5), ("blur", 1.0))
SNR = 50
"""Of white in a full scan: noise that a real high-quality image has."""
STRAIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

Image = torch.Tensor


def seeded(*key: int) -> torch.Generator:
    return torch.Generator().manual_seed(stream_seed(*key))


def read_slices(data: Path, count: int, matrix: int = 256) -> tuple[list[Image], float]:
    """So many slices of the test subjects, evenly spread, white 1; and their pixel size."""
    with np.load(data / "brain_t1" / f"axial{matrix}_u8.npz") as archive:
        images, subject, spacing = archive["images"], archive["subject"], archive["spacing_mm"]
    chosen = np.flatnonzero((subject >= SUBJECTS[0]) & (subject <= SUBJECTS[1]))
    chosen = chosen[np.linspace(0, len(chosen) - 1, min(count, len(chosen))).round().astype(int)]
    return [torch.from_numpy(images[n]).float() / 255 for n in chosen], float(spacing[0])


def volume(image: Image, pixel_mm: float) -> Volume:
    rows, columns = image.shape
    geometry = Geometry((columns, rows, 1), (pixel_mm, pixel_mm, 1.0), (0.0, 0.0, 0.0), STRAIGHT)
    return Volume(image.numpy()[None].astype(np.float32), geometry)


def motions(matrix: tuple[int, int], generator: torch.Generator) -> Iterator[tuple[str, Misalignment]]:
    """Displacements of several sizes: none, rigid, smooth, and both."""
    still = rigid(matrix, 0.0, (0.0, 0.0))
    turned, shifted = (torch.randn(2, generator=generator) / 2).tolist(), torch.randn(2, generator=generator)
    shifted = (shifted / shifted.norm()).tolist()
    yield "none", still
    for size in (0.3, 1.0, 2.0):
        yield f"shift {size:g}", rigid(matrix, 0.0, (size * shifted[0], size * shifted[1]))
    yield "turn 1 degree", rigid(matrix, 1.0, (0.0, 0.0))
    for size in (0.2, 0.5, 1.0, 2.0):
        yield f"smooth {size:g}", smooth(matrix, size, 24.0, generator)
    yield (
        "shift 2, smooth 1",
        together(rigid(matrix, turned[0], (2 * shifted[0], 2 * shifted[1])), smooth(matrix, 1.0, 24.0, generator)),
    )


def slices(data: Path, count: int) -> list[dict[str, Any]]:
    """Measured and true displacement of single slices."""
    images, pixel_mm = read_slices(data, count)
    limit = Limits().misaligned_pixels
    rows: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for number, image in enumerate(images):
        shown = object_of(image.numpy()[None])[0]
        for name, motion in motions((image.shape[0], image.shape[1]), seeded(1, number)):
            true = float(motion.displacement.square().sum(0).sqrt()[torch.from_numpy(shown)].mean())
            for index, (kind, level) in enumerate(LOW):
                low = degrade(motion.move(image), kind, level, seeded(2, number, index))
                found = measure_misalignment(volume(image, pixel_mm), volume(low, pixel_mm)).mean_pixels
                rows.setdefault((name, f"{kind} {level:g}"), []).append((true, found))
    table = displacement_table(rows)
    for row, pairs in zip(table, rows.values()):
        row["misaligned"] = float(np.mean([found > limit for _, found in pairs]))
    return table


def displacement_table(rows: dict[tuple[str, str], list[tuple[float, float]]]) -> list[dict[str, Any]]:
    """A row for each motion and low-quality image, of all pairs of true and measured displacements."""
    table = []
    for (motion, low), pairs in rows.items():
        true, found = np.array(pairs).T
        measured = {"measured": found.mean(), "lowest": found.min(), "highest": found.max()}
        table.append({"motion": motion, "low": low, "true": true.mean(), **measured})
    return table


def thick_slices(source: Volume, count: int, motion: Rigid | None = None, thickness: int = 5) -> Volume:
    """A stack of slices of 5 mm, each the mean of five of 1 mm, from the middle of a volume."""
    geometry = source.geometry
    normal = np.array(geometry.normal)
    begin = geometry.size[2] * geometry.spacing[2] / 2 - count * thickness / 2
    origin = np.array(geometry.origin) + begin * normal
    fine = replace(
        geometry,
        size=(*geometry.size[:2], count * thickness),
        spacing=(*geometry.spacing[:2], 1.0),
        origin=tuple(origin.tolist()),
    )
    array = resample(source, fine, motion).array
    array = array.reshape(count, thickness, *array.shape[1:]).mean(1)
    middle = tuple((origin + (thickness - 1) / 2 * normal).tolist())
    grid = replace(fine, size=(*fine.size[:2], count), spacing=(*fine.spacing[:2], float(thickness)), origin=middle)
    return Volume(np.ascontiguousarray(array, np.float32), grid)


def stacks(data: Path, _: int) -> list[dict[str, Any]]:
    """Measured and true displacement of stacks of slices, motion in all directions."""
    rows: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for path in sorted((data / "brain_t1" / "volumes").glob("*.nii.gz")):
        source = read_volume(path)
        for count in (6, 16):
            high = thick_slices(source, count)
            places = voxel_positions(high.geometry)[object_of(high.array)][::50]
            white = float(np.percentile(high.array[high.array > 0.05 * high.array.max()], 99.5))
            for angles, shift in (((0, 0, 0), (0, 0, 0)), ((0, 0, 0), (0, 0, 0.8)), ((0.5, -0.4, 1), (0.5, -0.8, 0.7))):
                turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
                motion = Rigid(turn, places.mean(0), np.array(shift, np.float64))
                moved = thick_slices(source, count, motion)
                true = (places - motion.centre) @ turn.T + motion.centre + motion.shift - places
                for index, (kind, level) in enumerate(LOW):
                    low = degrade(torch.from_numpy(moved.array / white), kind, level, seeded(3, count, index))
                    found = measure_misalignment(high, Volume((low * white).numpy(), high.geometry)).mean_mm
                    name = f"{max(angles)} degrees, {np.linalg.norm(shift):.1f} mm"
                    both = (float(np.linalg.norm(true, axis=1).mean()), found)
                    rows.setdefault((name, f"{kind} {level:g}"), []).append(both)
    return displacement_table(rows)


def same(data: Path, count: int) -> list[dict[str, Any]]:
    """What the high-quality image explains, where both show the same thing and where they do not."""
    return [row for matrix in (256, 128) for row in explained(data, count, matrix)]


def explained(data: Path, count: int, side: int) -> list[dict[str, Any]]:
    images, pixel_mm = read_slices(data, count, side)
    matrix = (side, side)
    with np.load(data / "cardiac_cine" / "contoured_u16.npz") as archive:
        frames = archive["images"][:: max(1, len(archive["images"]) // count)].astype(np.float32)
    hearts = [torch.from_numpy(frame / np.percentile(frame, 99.5))[:: 256 // side, :: 256 // side] for frame in frames]
    step, field = len(images) // 2 or 1, seeded(5)
    far = together(rigid(matrix, 4.0, (8.0, 6.0)), smooth(matrix, 2.0, 24.0, field))
    pairs: dict[str, Callable[[int, Image], tuple[Image, Image]]] = {
        "the same slice": lambda n, image: (image, image),
        "with ghosts": lambda n, image: (motion_ghosts(image, 8.0, 0.5, seeded(6, n)), image),
        "with spikes": lambda n, image: (spikes(image, 3, 0.1, seeded(7, n)), image),
        "shift 10, turn 4 degrees, smooth 2": lambda n, image: (image, far.move(image)),
        "mirrored": lambda n, image: (image, image.flip(0)),
        "a slice of somebody else": lambda n, image: (image, images[(n + step) % len(images)]),
        "a heart and a brain": lambda n, image: (hearts[n % len(hearts)], image),
        "a brain and a heart": lambda n, image: (image, hearts[n % len(hearts)]),
    }
    table = []
    for name, pair in pairs.items():
        for index, (kind, level) in enumerate((("noise", 0.3), ("noise", 1.0), ("blur", 1.0))):
            found = []
            for number, image in enumerate(images):
                high, other = pair(number, image)
                low = degrade(other, kind, level, seeded(8, number, index))
                found.append(measure_misalignment(volume(high, pixel_mm), volume(low, pixel_mm)).explained)
            table.append(
                {
                    "matrix": side,
                    "pair": name,
                    "low": f"{kind} {level:g}",
                    "lowest": min(found),
                    "median": float(np.median(found)),
                    "highest": max(found),
                    "refused": float(np.mean(np.array(found) < Limits().explained)),
                }
            )
    return table


def full_scan(image: Image, generator: torch.Generator) -> Image:
    """With the noise of a full scan: air is no longer zero."""
    noise = torch.randn((2, *image.shape), generator=generator) / SNR
    return torch.complex(image + noise[0], noise[1]).abs()


Change = Callable[[Image, torch.Generator], Image]

CLEAN: dict[str, Change] = {
    "as they are": lambda image, g: image,
    f"noise, SNR {SNR}": full_scan,
    "noise 0.3": lambda image, g: degrade(image, "noise", 0.3, g),
    "noise 0.6": lambda image, g: degrade(image, "noise", 0.6, g),
    "noise 1": lambda image, g: degrade(image, "noise", 1.0, g),
    "blur 0.5": lambda image, g: degrade(image, "blur", 0.5, g),
    "blur 1": lambda image, g: degrade(image, "blur", 1.0, g),
    "half the matrix, zero-filled": lambda image, g: fast_scan(full_scan(image, g), FastScan(0.5)),
}
FAULTS: dict[str, Change] = {
    **{f"spike {s:g}": lambda image, g, s=s: spikes(image, 1, s, g) for s in (0.01, 0.02, 0.05, 0.1)},
    **{
        f"ghosts {shift:g} pixels, {share:.0%} of lines": lambda image, g, shift=shift, share=share: motion_ghosts(
            image, shift, share, g, axis=-1 - int(torch.randint(2, (), generator=g))
        )
        for shift, share in ((1, 0.3), (2, 0.1), (2, 0.3), (4, 0.1), (4, 0.3), (8, 0.3), (8, 0.5))
    },
}


def artefacts(data: Path, count: int) -> list[dict[str, Any]]:
    """Scores and alarms of slices that are clean, noisy, blurred or faulty."""
    return [row for matrix in (256, 128) for row in faults(data, max(count, 112), matrix)]


def faults(data: Path, count: int, matrix: int) -> list[dict[str, Any]]:
    images, _ = read_slices(data, count, matrix)
    limits = Limits()
    cases = [(name, "", change) for name, change in CLEAN.items()]
    for name, change in FAULTS.items():
        cases += [(name, "air 0", change)]
        cases += [(name, f"SNR {SNR}", lambda image, g, change=change: change(full_scan(image, g), g))]
    table = []
    for index, (name, air, change) in enumerate(cases):
        found = [
            measure_artefacts(change(image, seeded(4, index, n)).numpy()[None].astype(np.float32))
            for n, image in enumerate(images)
        ]
        table.append({"matrix": matrix, "image": name, "air": air, **scores(found), "called": alarms(found, limits)})
    return table


def scores(found: list[MeasuredArtefacts]) -> dict[str, Any]:
    spike = [f.spikes for f in found]
    ghost = np.array([f.ghosts_percent for f in found])
    seen = ghost[np.isfinite(ghost)]
    return {
        "spikes": np.percentile(spike, [5, 50, 100]).tolist(),
        "ghosts": np.percentile(seen, [5, 50, 100]).tolist() if len(seen) else None,
    }


def alarms(found: list[MeasuredArtefacts], limits: Limits) -> dict[str, float]:
    return {
        "spikes": float(np.mean([limits.spiked(f) for f in found])),
        "ghosts": float(np.mean([limits.ghosted(f) for f in found])),
    }


def acquired(data: Path, _: int) -> list[dict[str, Any]]:
    """Scores of whole volumes as they were scanned, with heads and real air. Nobody knows which have artefacts."""
    paths = [*sorted((data / "brain_t2").glob("*.nii.gz")), *sorted((data / "brain_gre").glob("*.nii"))]
    paths += sorted((data / "brain_multisequence" / "raw").glob("*/*.nii*"))
    limits, table = Limits(), []
    for path in paths:
        if path.name == "gt.nii.gz":
            continue
        array: NDArray[np.float32] = read_volume(path).array
        found = measure_artefacts(array[:: max(1, len(array) // 24)])
        table.append(
            {
                "volume": f"{path.parent.name}/{path.name}",
                "spikes": found.spikes,
                "ghosts_percent": found.ghosts_percent,
                "agreement": found.ghost_agreement,
                "called": limits.spiked(found) or limits.ghosted(found),
            }
        )
    return table


PARTS = {"slices": slices, "stacks": stacks, "same": same, "artefacts": artefacts, "acquired": acquired}


def text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, dict):
        return ", ".join(f"{share:.0%}" for share in value.values())
    if isinstance(value, list):
        return ", ".join(f"{number:.2f}" for number in value)
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--slices", type=int, default=24)
    parser.add_argument("--json", type=Path, help="write what was measured there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    measured = {}
    for part in options.parts:
        measured[part] = PARTS[part](options.data, options.slices)
        print(f"\n## {part}\n\n| {' | '.join(measured[part][0])} |\n|{' --- |' * len(measured[part][0])}")
        for row in measured[part]:
            print(f"| {' | '.join(text(value) for value in row.values())} |", flush=True)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
