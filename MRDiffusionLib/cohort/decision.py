"""What becomes of an acquired pair: the rule of seed 000, figure 1B, with the limits that it needs. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from ..evaluation.artefacts import MeasuredArtefacts
    from ..evaluation.misalignment import MeasuredMisalignment

KEPT = "kept"
LOW_SYNTHESISED = "low-quality image synthesised"
HIGH_SYNTHESISED = "high-quality image synthesised"
FAILED = "failed"
DECISIONS = (KEPT, LOW_SYNTHESISED, HIGH_SYNTHESISED, FAILED)


@dataclass(frozen=True)
class Limits:
    """From where on something counts; docs/pairs.md says how the defaults were found.

    Attributes:
        explained: share of the low-quality image that the other must explain, or they show different things.
        misaligned_pixels: mean displacement of the object in pixels.
        ghosts_percent: of the object's mean signal.
        ghost_agreement: correlation of neighbours in air below which the signal there is noise.
        spikes: times the root mean square of the neighbours in k-space.
    """

    explained: float = 0.87
    misaligned_pixels: float = 0.5
    ghosts_percent: float = 1.0
    ghost_agreement: float = 0.08
    spikes: float = 6.0

    def misaligned(self, found: MeasuredMisalignment) -> bool:
        """Whether the images lie too far apart for a pair."""
        return found.mean_pixels > self.misaligned_pixels

    def ghosted(self, found: MeasuredArtefacts) -> bool:
        """Whether there are ghosts; never where there is no air to see them in."""
        return found.ghosts_percent > self.ghosts_percent and found.ghost_agreement > self.ghost_agreement

    def spiked(self, found: MeasuredArtefacts) -> bool:
        """Whether a sample of k-space is wrong."""
        return found.spikes > self.spikes


def decide(misalignment: MeasuredMisalignment, artefacts: MeasuredArtefacts, limits: Limits) -> tuple[str, str]:
    """The decision, and its reason in one sentence with what was measured and the limits.

    An aligned pair is kept even if its high-quality image has artefacts, as in the seed.

    Raises:
        InputError: the images show different things.
    """
    if not misalignment.explained >= limits.explained:
        share = f"{misalignment.explained:.0%} of the low-quality image (limit {limits.explained:.0%})"
        hint = "They show different things or lie too far apart: choose images of one part of one patient"
        raise InputError(f"the high-quality image explains {share}", hint)
    misaligned = limits.misaligned(misalignment)
    faulty = limits.ghosted(artefacts) or limits.spiked(artefacts)
    apart = f"{misalignment.mean_pixels:.2f} pixels apart (limit {limits.misaligned_pixels:g})"
    aligned = f"The images are {'misaligned' if misaligned else 'aligned'}, {apart}"
    quality = f"the high-quality image {'has artefacts' if faulty else 'is clean'}: {_seen(artefacts, limits)}."
    decision = KEPT if not misaligned else HIGH_SYNTHESISED if faulty else LOW_SYNTHESISED
    return decision, f"{aligned}; {quality}"


def _seen(found: MeasuredArtefacts, limits: Limits) -> str:
    spikes = f"spikes {found.spikes:.1f} (limit {limits.spikes:g})"
    if not found.ghost_axis:
        return f"no air to see ghosts in, {spikes}"
    agreement = f"agreement {found.ghost_agreement:.2f} (limit {limits.ghost_agreement:g})"
    return f"ghosts {found.ghosts_percent:.1f} % (limit {limits.ghosts_percent:g}) with {agreement}, {spikes}"
