"""Signal equations against a numerical solution of the Bloch equations."""

from __future__ import annotations

import numpy as np
import pytest

from MRDiffusionLib.physics.signal import (
    Gadolinium,
    bssfp,
    inversion_recovery,
    nulling_time,
    t2_prepared_bssfp,
    t2_stir,
)
from MRDiffusionLib.physics.tissue import FIELDS, TISSUES

TISSUE_TIMES = [(1000.0, 52.0), (1441.0, 290.0), (343.0, 58.0), (2800.0, 900.0)]


def pulse(m: np.ndarray, degrees: float) -> np.ndarray:
    """Rotate magnetisation (x, y, z) about x."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([m[0], c * m[1] + s * m[2], -s * m[1] + c * m[2]])


def wait(m: np.ndarray, time: float, t1: float, t2: float) -> np.ndarray:
    """Relax towards z = 1."""
    e1, e2 = np.exp(-time / t1), np.exp(-time / t2)
    return np.array([m[0] * e2, m[1] * e2, 1 + (m[2] - 1) * e1])


def train(m: np.ndarray, t1: float, t2: float, pulses: int, tr: float, te: float, flip: float) -> float:
    """Magnitude at the echo of the last of alternating pulses, after a half pulse half a repetition earlier."""
    m, echo = wait(pulse(m, -flip / 2), tr / 2, t1, t2), 0.0
    for n in range(pulses):
        m = pulse(m, flip if n % 2 == 0 else -flip)
        echo = float(np.hypot(*wait(m, te, t1, t2)[:2]))
        m = wait(m, tr, t1, t2)
    return echo


@pytest.mark.parametrize(("t1", "t2"), TISSUE_TIMES)
@pytest.mark.parametrize("flip", [20.0, 60.0, 90.0])
def test_bssfp_is_the_steady_state_of_the_bloch_equations(t1: float, t2: float, flip: float) -> None:
    simulated = train(np.array([0.0, 0.0, 1.0]), t1, t2, int(8 * t1 / 3.2), 3.2, 1.6, flip)
    assert float(bssfp(t1, t2, 1, 3.2, 1.6, flip)) == pytest.approx(simulated, rel=1e-3)


@pytest.mark.parametrize(("t1", "t2"), TISSUE_TIMES)
@pytest.mark.parametrize("pulses", [1, 10, 40])
def test_prepared_bssfp_follows_the_transient_of_the_bloch_equations(t1: float, t2: float, pulses: int) -> None:
    prepared = np.array([0.0, 0.0, np.exp(-55 / t2)])
    simulated = train(prepared, t1, t2, pulses, 3.2, 1.6, 60)
    # The published decay is that of the magnetisation along the alternating direction, good to a few percent.
    assert float(t2_prepared_bssfp(t1, t2, 1, 55, pulses)) == pytest.approx(simulated, rel=0.04)


def test_prepared_bssfp_ends_in_the_steady_state() -> None:
    assert float(t2_prepared_bssfp(1000, 52, 0.8, pulses=5000)) == pytest.approx(float(bssfp(1000, 52, 0.8)), rel=1e-6)


@pytest.mark.parametrize("t1", [250.0, 480.0, 1400.0])
@pytest.mark.parametrize("tr", [800.0, 1600.0])
def test_inversion_recovery_is_the_steady_state_of_repeated_inversions(t1: float, tr: float) -> None:
    z = 1.0
    for _ in range(40):
        z = 1 + (-z - 1) * np.exp(-tr / t1)
    at_readout = 1 + (-z - 1) * np.exp(-300 / t1)
    assert float(inversion_recovery(t1, 1, 300, tr)) == pytest.approx(at_readout, abs=1e-9)


def test_the_nulling_time_nulls() -> None:
    t1 = np.array([250.0, 500.0, 1000.0])
    for value, ti in zip(t1, nulling_time(t1), strict=True):
        assert float(inversion_recovery(value, 1, ti)) == pytest.approx(0, abs=1e-12)


def test_stir_nulls_fat_and_is_the_recovery_of_a_saturated_read_out() -> None:
    t1, t2, tr, ti, te = 1000.0, 52.0, 1800.0, 170.0, 65.0
    # The read-out leaves nothing, so `tr - ti` of recovery are inverted.
    z = -(1 - np.exp(-(tr - ti) / t1))
    expected = abs(1 + (z - 1) * np.exp(-ti / t1)) * np.exp(-te / t2)
    assert float(t2_stir(t1, t2, 1)) == pytest.approx(expected, rel=1e-9)
    fat, heart = TISSUES["fat"], TISSUES["myocardium"]
    ti = float(np.log(2) * fat.t1[0])
    signals = [float(t2_stir(t.t1[0], t.t2[0], t.density, ti=ti, tr=1e9)) for t in (fat, heart)]
    assert signals[0] < 1e-6 < 0.05 < signals[1]


def test_gadolinium_adds_rates() -> None:
    agent = Gadolinium(0.8)
    assert float(agent.t1(1000, 0)) == 1000
    assert 1000 / float(agent.t1(1000, 0.5)) == pytest.approx(1 + 5.2 * 0.5 * 0.8)
    assert 1000 / float(agent.t2(50, 0.5)) == pytest.approx(20 + 6.1 * 0.5 * 0.8)


@pytest.mark.parametrize("field", range(len(FIELDS)))
def test_contrast_is_that_of_the_clinic(field: int) -> None:
    """bSSFP: blood above fat above muscle. Late: scar above blood above nulled myocardium. T2: oedema is bright."""

    def times(name: str) -> tuple[float, float, float]:
        tissue = TISSUES[name]
        return tissue.t1[field], tissue.t2[field], tissue.density

    cine = {name: float(bssfp(*times(name))) for name in ("blood", "fat", "myocardium", "lung")}
    assert cine["blood"] > 1.8 * cine["myocardium"] > 5 * cine["lung"] and cine["fat"] > cine["myocardium"]
    agent = Gadolinium(0.8)
    ti = float(nulling_time(agent.t1(TISSUES["myocardium"].t1[field], TISSUES["myocardium"].ecv)))
    late = {name: float(inversion_recovery(agent.t1(t.t1[field], t.ecv), t.density, ti)) for name, t in TISSUES.items()}
    assert late["myocardium"] == pytest.approx(0, abs=1e-9)
    assert min(late["acute scar"], late["chronic scar"], late["blood"]) > 0.15
    assert late["obstruction"] < 0 < late["oedema"] < 0.5 * late["acute scar"]
    # Skeletal muscle is past zero as well, but in the magnitude it stays dark grey, and an obstruction dark.
    assert max(-late["muscle"], -late["obstruction"]) < 0.4 * late["blood"] and late["fat"] > 2 * abs(late["muscle"])
    for equation in (t2_prepared_bssfp, t2_stir):
        oedema, healthy = (float(equation(*times(name))) for name in ("oedema", "myocardium"))
        assert oedema > 1.15 * healthy


def test_signals_broadcast_and_stay_finite() -> None:
    t1, t2 = np.full((4, 5), 1000.0), np.full((4, 5), 50.0)
    for image in (bssfp(t1, t2, 1), t2_prepared_bssfp(t1, t2, 1), t2_stir(t1, t2, 1), inversion_recovery(t1, 1, 300)):
        assert image.shape == (4, 5) and np.isfinite(image).all()
