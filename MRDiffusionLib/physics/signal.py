"""Signal equations of the sequences that are simulated: bSSFP, T2-prepared bSSFP, T2 STIR and LGE. NumPy.

Times are in ms, flip angles in degrees; `t1`, `t2` and `density` are numbers or arrays that broadcast. A signal of 1 is
the whole equilibrium magnetisation of `density` 1. All protons are on resonance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def bssfp(
    t1: ArrayLike, t2: ArrayLike, density: ArrayLike, tr: float = 3.2, te: float = 1.6, flip: float = 60
) -> Array:
    """Steady state of balanced SSFP with alternating pulses (Scheffler, Lehnhardt, Eur Radiol 2003; 13:2409, eq. 1).

    `M = density sin(a) (1 - E1) / (1 - (E1 - E2) cos(a) - E1 E2) exp(-te / t2)`.
    """
    t1, t2, density = map(_floats, (t1, t2, density))
    a, e1, e2 = np.radians(flip), np.exp(-tr / t1), np.exp(-tr / t2)
    steady = np.sin(a) * (1 - e1) / (1 - (e1 - e2) * np.cos(a) - e1 * e2)
    return np.asarray(density * steady * np.exp(-te / t2))


def t2_prepared_bssfp(
    t1: ArrayLike,
    t2: ArrayLike,
    density: ArrayLike,
    preparation: float = 55,
    pulses: int = 30,
    tr: float = 3.2,
    te: float = 1.6,
    flip: float = 60,
) -> Array:
    """Single-shot bSSFP after a T2 preparation, at the pulse that measures the centre of k-space.

    The magnetisation that a half pulse tips up decays towards the steady state by
    `E2 sin^2(a/2) + E1 cos^2(a/2)` a pulse (Scheffler, Magn Reson Med 2003; 49:781), from `exp(-preparation / t2)`.

    Args:
        preparation: echo time of the preparation.
        pulses: from the half pulse to the centre of k-space.
    """
    t1, t2, density = map(_floats, (t1, t2, density))
    a, e1, e2 = np.radians(flip), np.exp(-tr / t1), np.exp(-tr / t2)
    decay = e2 * np.sin(a / 2) ** 2 + e1 * np.cos(a / 2) ** 2
    first = np.exp(-preparation / t2) * np.sin(a / 2) * np.exp(-te / t2)
    last = bssfp(t1, t2, 1, tr, te, flip)
    return np.asarray(density * (last + (first - last) * decay**pulses))


def t2_stir(
    t1: ArrayLike, t2: ArrayLike, density: ArrayLike, ti: float = 170, te: float = 65, tr: float = 1800
) -> Array:
    """Magnitude of a fat-nulled inversion-recovery turbo spin echo (Bydder, Young, J Comput Assist Tomogr 1985; 9:659).

    `M = density |1 - 2 exp(-ti / t1) + exp(-tr / t1)| exp(-te / t2)`, for a read-out that leaves no magnetisation.
    Flowing blood, nulled by a second pair of inversions, is for the caller to darken.
    """
    t1, t2, density = map(_floats, (t1, t2, density))
    recovered = 1 - 2 * np.exp(-ti / t1) + np.exp(-tr / t1)
    return np.asarray(density * np.abs(recovered) * np.exp(-te / t2))


def inversion_recovery(t1: ArrayLike, density: ArrayLike, ti: float, tr: float = 1600) -> Array:
    """Signed signal of an LGE acquisition: inversion every `tr`, read out `ti` later with small flip angles.

    `M = density (1 - 2 exp(-ti / t1) / (1 + exp(-tr / t1)))`: the steady state of inversions whose read-out disturbs
    nothing. Its magnitude is the magnitude image, itself it is the phase-sensitive one (PSIR; Kellman et al., Magn
    Reson Med 2002; 47:372).
    """
    t1, density = _floats(t1), _floats(density)
    return np.asarray(density * (1 - 2 * np.exp(-ti / t1) / (1 + np.exp(-tr / t1))))


def nulling_time(t1: ArrayLike, tr: float = 1600) -> Array:
    """The `ti` at which `inversion_recovery` is zero: `t1 ln(2 / (1 + exp(-tr / t1)))`."""
    t1 = _floats(t1)
    return np.asarray(t1 * np.log(2 / (1 + np.exp(-tr / t1))))


@dataclass(frozen=True)
class Gadolinium:
    """A contrast agent in equilibrium between plasma and the extracellular space.

    `1/T1' = 1/T1 + r1 ecv c` and the same for T2 with r2: fast exchange of water (Arheden et al., Radiology 1999;
    211:698).

    Attributes:
        plasma: concentration c in plasma, mmol/l; 10 to 20 minutes after 0.15 to 0.2 mmol/kg it is 0.5 to 1.2.
        r1, r2: relaxivities in plasma at 37 degrees, l/(mmol s); those of gadobutrol at 1.5 T (Rohrer et al., Invest
            Radiol 2005; 40:715).
    """

    plasma: float
    r1: float = 5.2
    r2: float = 6.1

    def t1(self, native: ArrayLike, ecv: ArrayLike) -> Array:
        """T1 in ms with the agent, from the native one and the share of the voxel that the agent reaches."""
        return np.asarray(1 / (1 / _floats(native) + self.r1 * 1e-3 * _floats(ecv) * self.plasma))

    def t2(self, native: ArrayLike, ecv: ArrayLike) -> Array:
        """T2 in ms with the agent."""
        return np.asarray(1 / (1 / _floats(native) + self.r2 * 1e-3 * _floats(ecv) * self.plasma))


def _floats(value: ArrayLike) -> Array:
    return np.asarray(value, np.float64)
