"""Artefacts of one image, found without another: spikes of k-space, and ghosts of a patient who moved.

spikes  a wrong sample of k-space, in multiples of the root mean square of its neighbours. Noise and anatomy stay below
        5; one wrong sample is a wave over the whole image.
ghosts  signal in air beside the object along the phase-encoded axis, its root mean square in per cent of the object's
        mean. Ghosts are the object smeared along that axis alone, so neighbours across it agree, which noise does not.

Both need the air around the object: where it has been masked after the scan, ghosts cannot be seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .misalignment import object_of

NEIGHBOURS, HOLE = 15, 7
"""Sides of the square of neighbours and of the hole in it, in samples: an object spreads a wave over a few of them."""
CENTRE = 0.1
"""Part of k-space, from the middle, that holds the object itself and is not searched."""
ALONG, ACROSS = 8, 2
"""Distances in pixels. Differences along a ghost's axis remove what changes slowly, such as the noise level; 2 pixels
across it, the noise of an image that was interpolated to twice the matrix is independent again."""
BRIGHT, REACH = 0.2, 12
"""A body is brighter than this share of white; what is darker belongs to it, as a scalp does, up to this part of the
image's side away from it. Strong ghosts are as bright as a scalp, but go on to the edge. Ghosts are looked for further
away still, by the same distance: ears and skin near nine real heads read as ghosts of 0.8 to 2.5 % at a third of it."""
LEAST_AREA = 0.25
"""Of the largest slice of the object: a slice that cuts a sliver of it has no mean to compare with."""
SMALLEST_AIR = 0.02
"""Part of the image that must be air beside the object."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MeasuredArtefacts:
    """Scores of a volume.

    Attributes:
        spikes: of the worst slice.
        spike_slice: its number, from 0.
        ghosts_percent: of the upper quartile of the slices, along the worse axis; NaN where there is no air.
        ghost_agreement: correlation of neighbours in air across that axis, -1 to 1; noise has 0 and up to 0.04.
        ghost_axis: 'rows' (from row to row) or 'columns'; empty without air.
    """

    spikes: float
    spike_slice: int
    ghosts_percent: float
    ghost_agreement: float
    ghost_axis: str


def measure_artefacts(array: NDArray[np.float32]) -> MeasuredArtefacts:
    """Measure a magnitude volume (slices, rows, columns) of any units.

    Raises:
        InputError: it shows nothing.
    """
    shown = body_of(array)
    area = shown.sum((1, 2))
    numbers = np.flatnonzero(area >= area.max() * LEAST_AREA).tolist()
    spikes = [spike_score(array[n]) for n in numbers]
    worst = int(np.argmax(spikes))
    ghosts = {"rows": (math.nan, math.nan), "columns": (math.nan, math.nan)}
    for axis, name in enumerate(ghosts):
        scores = [ghost_score(array[n], shown[n], axis) for n in numbers]
        seen = sorted(score for score in scores if not math.isnan(score[0]))
        if seen:
            ghosts[name] = seen[math.ceil(0.75 * (len(seen) - 1))]
    known = [name for name, score in ghosts.items() if not math.isnan(score[0])]
    name = max(known, key=lambda name: ghosts[name][0], default="")
    percent, agreement = ghosts[name] if name else (math.nan, math.nan)
    return MeasuredArtefacts(spikes[worst], numbers[worst], percent, agreement, name)


def body_of(array: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where a volume (slices, rows, columns) shows the object and not its ghosts. Raises InputError if nowhere."""
    bright = object_of(array, BRIGHT)
    reach = ndimage.iterate_structure(np.ones((1, 3, 3), bool), 1)
    near = ndimage.binary_dilation(bright, reach, iterations=max(1, min(array.shape[1:]) // REACH))
    return np.asarray(object_of(array) & near)


def spike_score(image: NDArray[np.floating]) -> float:
    """The largest sample of k-space outside the centre over the root mean square of its neighbours."""
    scale = float(np.abs(image).max()) or 1.0
    power = np.abs(np.fft.fft2(image / scale)) ** 2
    ring = (_sum(power, NEIGHBOURS) - _sum(power, HOLE)) / (NEIGHBOURS**2 - HOLE**2)
    # Rounding leaves differences of what is zero; a part of k-space that was never measured is no spike.
    least = 1e-12 * float(power.max())
    ky, kx = (np.abs(np.fft.fftfreq(n)) * 2 for n in power.shape)
    searched = (ky[:, None] > CENTRE) | (kx[None, :] > CENTRE)
    ratio = np.sqrt(power / (np.maximum(ring, 0) + least))
    return float(ratio[searched].max())


def ghost_score(image: NDArray[np.floating], shown: NDArray[np.bool_], axis: int) -> tuple[float, float]:
    """Ghosts along an axis of a slice: per cent of the object's mean, and how well neighbours in air agree.

    NaN twice where there is too little air. The percentage is negative where neighbours rather disagree, as
    noise makes it half of the time.

    Args:
        shown: where there is object.
        axis: 0 from row to row, 1 from column to column.
    """
    values = np.asarray(image if axis == 0 else image.T, np.float64)
    body = ndimage.binary_fill_holes(shown if axis == 0 else shown.T)
    rows, columns = values.shape
    # Ghosts lie in those columns that the object has.
    air = ~ndimage.binary_dilation(body, iterations=max(2, rows // REACH)) & body.any(0)[None]
    steps = values[ALONG:] - values[:-ALONG]
    there = air[ALONG:] & air[:-ALONG]
    both = there[:, ACROSS:] & there[:, :-ACROSS]
    count = both.sum(1)
    used = count >= columns / 16
    if used.sum() < ALONG or count.sum() < SMALLEST_AIR * values.size:
        return math.nan, math.nan

    def typical(products: Floats, where: NDArray[np.bool_]) -> float:
        """The median over lines: what lies beside the object at one place is no ghost."""
        means = np.where(where, products, 0).sum(1)[used] / where.sum(1)[used]
        # A difference of two pixels has twice the square of one.
        return float(np.median(means)) / 2

    shared = typical(steps[:, ACROSS:] * steps[:, :-ACROSS], both)
    power = typical(steps**2, there)
    percent = 100 * math.copysign(math.sqrt(abs(shared)), shared) / float(values[body].mean())
    return percent, shared / power if power > 0 else 0.0


def _sum(power: Floats, side: int) -> Floats:
    """Over a square around each sample of periodic k-space."""
    return np.asarray(ndimage.uniform_filter(power, side, mode="wrap")) * side**2
