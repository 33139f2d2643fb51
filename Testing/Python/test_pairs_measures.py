"""What decides about a pair: measured displacement, artefacts, and the rule; on real slices with known faults."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cohort_support import brain, ghosted, lowered, placed, slicewise, spiked

from MRDiffusionLib.cohort.decision import HIGH_SYNTHESISED, KEPT, LOW_SYNTHESISED, Limits, decide
from MRDiffusionLib.errors import InputError
from MRDiffusionLib.evaluation.artefacts import MeasuredArtefacts, measure_artefacts
from MRDiffusionLib.evaluation.misalignment import MeasuredMisalignment, local_noise, measure_misalignment, object_of
from MRDiffusionLib.imaging.resample import Rigid, resample
from MRDiffusionLib.imaging.volume import Volume
from MRDiffusionLib.physics.faults import Misalignment, rigid, smooth
from MRDiffusionLib.physics.noise import rician_mean

LOW = [("noise", 0.7), ("blur", 1.0)]
FINE = (128, 128)


def true_mean(volume: Volume, motion: Misalignment) -> float:
    """Mean length of a displacement over the object, in pixels."""
    length = motion.displacement.square().sum(0).sqrt().numpy()
    return float(np.broadcast_to(length, volume.array.shape)[object_of(volume.array)].mean())


# Misalignment.


@pytest.mark.parametrize(("kind", "level"), LOW)
@pytest.mark.parametrize(
    "motion",
    [
        rigid(FINE, 0.0, (0.0, 0.0)),
        rigid(FINE, 1.5, (1.5, -1.0)),
        smooth(FINE, 1.0, 16.0, torch.Generator().manual_seed(0)),
    ],
    ids=["none", "rigid", "smooth"],
)
def test_a_known_displacement_is_found(motion: Misalignment, kind: str, level: float) -> None:
    high = brain("reference", pixel_mm=1.5)
    found = measure_misalignment(high, lowered(high, motion, kind, level))
    assert found.mean_pixels == pytest.approx(true_mean(high, motion), abs=0.15)
    assert found.mean_mm == pytest.approx(1.5 * found.mean_pixels)
    assert found.explained > 0.95


def test_rigid_and_smooth_parts_are_told_apart() -> None:
    high = brain("reference", pixel_mm=1.5)
    turned = measure_misalignment(high, lowered(high, rigid(FINE, 2.0, (0.0, 0.0)), "blur"))
    assert turned.rotation_degrees == pytest.approx(2.0, abs=0.2) and turned.smooth_mm < 0.2 < turned.rigid_mm
    # Column by row: `rigid` shifts along rows first.
    shifted = measure_misalignment(high, lowered(high, rigid(FINE, 0.0, (2.0, -1.0)), "blur"))
    assert shifted.shift_mm == pytest.approx((-1.5, 3.0, 0.0), abs=0.2)


def test_motion_across_the_slices_of_a_stack_is_found() -> None:
    high = brain("reference", tuple(range(1, 11)), 1.5)
    motion = Rigid(np.eye(3), np.zeros(3), 1.5 * np.array(high.geometry.normal))
    moved = resample(high, high.geometry, motion)
    assert measure_misalignment(high, lowered(moved, level=0.3)).rigid_mm == pytest.approx(1.5, abs=0.3)


def test_slices_that_moved_out_of_the_volume_do_not_matter() -> None:
    high = brain("reference", tuple(range(1, 11)), 1.5)
    motion = Rigid(np.eye(3), np.zeros(3), 5.0 * np.array(high.geometry.normal))
    found = measure_misalignment(high, lowered(resample(high, high.geometry, motion), level=0.3))
    assert np.isfinite([found.mean_mm, found.explained]).all() and found.mean_mm > 1


def test_pixels_of_two_sizes_count_as_what_they_measure() -> None:
    high = brain()
    high = placed(high, spacing=(2.0, 1.0, 4.0))
    found = measure_misalignment(high, lowered(high, rigid((64, 64), 0.0, (0.0, 2.0))))
    assert found.mean_mm == pytest.approx(4.0, abs=0.3)
    assert found.mean_pixels == pytest.approx(found.mean_mm / math.sqrt(2))


def test_units_and_another_contrast_are_no_motion() -> None:
    high = brain()
    low = lowered(high)
    other = Volume((250 * np.sqrt(low.array)).astype(np.float32), low.geometry)
    assert measure_misalignment(high, other).mean_pixels < 0.2
    assert measure_misalignment(Volume(1e-3 * high.array, high.geometry), low).mean_pixels < 0.2


@pytest.mark.parametrize("change", [lambda image: image.flip(0), lambda image: image.T.roll(20, 0)])
def test_something_else_is_not_explained(change) -> None:
    high = brain("reference", pixel_mm=1.5)
    assert measure_misalignment(high, lowered(slicewise(high, change))).explained < Limits().explained


def test_noise_is_found_where_it_is() -> None:
    noise = np.random.default_rng(0).normal(0, 1, (3, 96, 96)) * np.linspace(1, 4, 96)
    array = (100 + noise).astype(np.float32)
    sigma = local_noise(array, np.ones(array.shape, bool))[0]
    assert sigma[:, 20].mean() == pytest.approx(1.6, rel=0.15) and sigma[:, 76].mean() == pytest.approx(3.4, rel=0.15)


@pytest.mark.parametrize("signal", [0.0, 1.0, 3.0, 60.0])
def test_mean_of_rician_magnitudes(signal: float) -> None:
    noise = np.random.default_rng(0).normal(0, 2, (2, 200_000))
    drawn = np.hypot(signal + noise[0], noise[1]).mean()
    assert rician_mean(np.array([signal]), np.array([2.0]))[0] == pytest.approx(drawn, rel=0.01)


# Artefacts.


@pytest.mark.parametrize("change", [lambda v: v, lambda v: lowered(v, level=0.4), lambda v: lowered(v, kind="blur")])
def test_clean_noisy_and_blurred_images_have_no_artefacts(change) -> None:
    found = measure_artefacts(change(brain("fine", (0, 2, 4))).array)
    assert not Limits().ghosted(found) and not Limits().spiked(found)


@pytest.mark.parametrize(("axis", "name"), [(-2, "rows"), (-1, "columns")])
def test_ghosts_are_found_along_their_axis(axis: int, name: str) -> None:
    found = measure_artefacts(ghosted(brain("fine", (0, 2, 4)), axis).array)
    assert Limits().ghosted(found) and not Limits().spiked(found) and found.ghost_axis == name


def test_a_spike_in_one_slice_is_found() -> None:
    clean = brain("fine", (0, 2, 4))
    array = clean.array.copy()
    array[1] = spiked(clean).array[1]
    found = measure_artefacts(array)
    assert Limits().spiked(found) and found.spike_slice == 1


def test_scores_have_no_units() -> None:
    image = ghosted(brain("fine", (2,))).array
    one, other = measure_artefacts(image), measure_artefacts(np.float32(700) * image)
    assert other.ghosts_percent == pytest.approx(one.ghosts_percent, rel=1e-3)
    assert other.spikes == pytest.approx(one.spikes, rel=1e-3)


def test_without_air_ghosts_cannot_be_seen_and_that_is_told() -> None:
    found = measure_artefacts(brain("fine", (2,)).array[:, 96:160, 96:160])
    assert math.isnan(found.ghosts_percent) and not Limits().ghosted(found)
    assert "no air to see ghosts in" in decide(MISALIGNED, found, Limits())[1]


def test_an_image_that_shows_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="largest intensity of the volume is 0"):
        measure_artefacts(np.zeros((1, 32, 32), np.float32))


# The rule.

ALIGNED = MeasuredMisalignment(0.2, 0.2, 0.1, 0.1, 0.0, (0.1, 0.0, 0.0), 0.98)
MISALIGNED = MeasuredMisalignment(1.2, 0.6, 1.1, 0.1, 0.0, (1.1, 0.0, 0.0), 0.98)
CLEAN = MeasuredArtefacts(3.0, 0, 0.3, 0.02, "rows")
NOISE = MeasuredArtefacts(3.0, 0, 4.0, 0.02, "rows")
GHOSTS = MeasuredArtefacts(3.0, 0, 2.0, 0.4, "rows")
SPIKE = MeasuredArtefacts(9.0, 0, 0.3, 0.02, "rows")


@pytest.mark.parametrize(
    ("misalignment", "artefacts", "decision"),
    [
        (ALIGNED, CLEAN, KEPT),
        (ALIGNED, GHOSTS, KEPT),
        (MISALIGNED, CLEAN, LOW_SYNTHESISED),
        (MISALIGNED, NOISE, LOW_SYNTHESISED),
        (MISALIGNED, GHOSTS, HIGH_SYNTHESISED),
        (MISALIGNED, SPIKE, HIGH_SYNTHESISED),
    ],
)
def test_the_rule_of_the_seed(misalignment, artefacts, decision: str) -> None:
    found, reason = decide(misalignment, artefacts, Limits())
    assert found == decision
    assert f"{misalignment.mean_pixels:.2f} pixels apart (limit 0.5)" in reason
    assert f"spikes {artefacts.spikes:.1f} (limit 6)" in reason


def test_limits_can_be_chosen() -> None:
    assert decide(MISALIGNED, CLEAN, Limits(misaligned_pixels=0.7))[0] == KEPT
    assert decide(MISALIGNED, GHOSTS, Limits(ghosts_percent=3.0))[0] == LOW_SYNTHESISED


def test_different_things_are_no_pair() -> None:
    other = MeasuredMisalignment(0.2, 0.2, 0.1, 0.1, 0.0, (0.1, 0.0, 0.0), 0.6)
    with pytest.raises(InputError, match=r"explains 60% of the low-quality image \(limit 87%\)"):
        decide(other, CLEAN, Limits())
