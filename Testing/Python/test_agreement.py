"""Agreement statistics: published examples, closed forms, and intervals that hold what they promise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from MRDiffusionLib.errors import InputError, SettingError
from MRDiffusionLib.evaluation import bland_altman, cluster_bootstrap, paired_t_test, pearson

# Peak expiratory flow (l/min) of 17 people by two meters: the example of Bland and Altman, Lancet 1986, i:307-310.
LARGE_METER = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI_METER = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]


def test_bland_altman_of_the_published_example() -> None:
    result = bland_altman(MINI_METER, LARGE_METER)
    assert result.n == 17
    assert result.bias == pytest.approx(-2.1, abs=0.05)
    assert result.standard_deviation == pytest.approx(38.8, abs=0.05)
    assert result.bias_interval == pytest.approx((-22.0, 17.8), abs=0.1)
    # The paper rounds 1.96 to 2; its limits are -79.7 and 75.5, and their standard error 16.3.
    assert (result.lower, result.upper) == pytest.approx((-2.1 - 1.96 * 38.8, -2.1 + 1.96 * 38.8), abs=0.15)
    half = (result.upper_interval[1] - result.upper_interval[0]) / 2
    assert half == pytest.approx(2.12 * 16.3, rel=0.02)
    assert result.upper_interval == pytest.approx((result.upper - half, result.upper + half))
    assert result.lower_interval == pytest.approx((result.lower - half, result.lower + half))


def test_correlation_of_the_published_example() -> None:
    result = pearson(LARGE_METER, MINI_METER)
    assert result.r == pytest.approx(0.943, abs=5e-4)
    assert result.p < 0.001 and result.n == 17
    z, half = math.atanh(result.r), 1.959964 / math.sqrt(17 - 3)
    assert result.interval == pytest.approx((math.tanh(z - half), math.tanh(z + half)), abs=1e-6)


def test_bland_altman_intervals_hold_the_true_values() -> None:
    random = np.random.default_rng(0)
    runs, held = 2000, np.zeros(3)
    for _ in range(runs):
        reference = random.normal(100, 30, 25)
        result = bland_altman(reference, reference + random.normal(3, 2, 25))
        for i, (interval, true) in enumerate(
            [(result.bias_interval, 3), (result.lower_interval, 3 - 1.96 * 2), (result.upper_interval, 3 + 1.96 * 2)]
        ):
            held[i] += interval[0] <= true <= interval[1]
    assert held / runs == pytest.approx(0.95, abs=0.015)


def test_narrower_coverage_narrows_the_limits() -> None:
    wide, narrow = (bland_altman(MINI_METER, LARGE_METER, coverage=c) for c in (0.95, 0.8))
    ratio = (narrow.upper - narrow.lower) / (wide.upper - wide.lower)
    assert ratio == pytest.approx(1.281552 / 1.959964, rel=1e-5)


def test_paired_test_is_students() -> None:
    result = paired_t_test(LARGE_METER, MINI_METER)
    difference = np.subtract(LARGE_METER, MINI_METER)
    error = difference.std(ddof=1) / math.sqrt(17)
    assert result.difference == pytest.approx(difference.mean())
    assert result.t == pytest.approx(difference.mean() / error)
    assert result.p == pytest.approx(2 * stats.t.sf(abs(result.t), 16))
    assert result.interval == pytest.approx((-22.0, 17.8), abs=0.1)


def test_paired_test_counts_subjects_and_not_slices() -> None:
    # No true difference, but each subject has its own: slices as if independent find one far too often.
    random = np.random.default_rng(0)
    subjects = np.repeat(np.arange(8), 20)
    by_slice, by_subject, runs = 0, 0, 400
    for _ in range(runs):
        first = np.repeat(random.normal(0, 1, 8), 20) + random.normal(0, 1, 160)
        second = np.zeros(160)
        by_slice += paired_t_test(first, second).p < 0.05
        result = paired_t_test(first, second, subjects)
        by_subject += result.p < 0.05
        assert result.n == 8
    assert by_slice / runs > 0.4
    assert by_subject / runs == pytest.approx(0.05, abs=0.03)


def test_paired_test_takes_labels_of_any_kind_in_any_order() -> None:
    first, second = np.array([1.0, 5.0, 3.0, 2.0]), np.zeros(4)
    result = paired_t_test(first, second, ["b", "a", "b", "a"])
    assert (result.difference, result.n) == (pytest.approx((2.0 + 3.5) / 2), 2)


def test_paired_test_of_equal_measurements_finds_nothing() -> None:
    result = paired_t_test([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert (result.difference, result.t, result.p) == (0.0, 0.0, 1.0)
    with pytest.raises(InputError, match=r"all differences are 0\.5"):
        paired_t_test([1.5, 2.5, 3.5], [1.0, 2.0, 3.0])


def test_bootstrap_has_the_spread_of_subject_means() -> None:
    random = np.random.default_rng(0)
    per_subject = random.normal(30, 2, 60)
    values = np.repeat(per_subject, 16) + random.normal(0, 0.5, 960)
    labels = np.repeat(np.arange(60), 16)
    result = cluster_bootstrap(values, labels)
    expected = 2 * 1.96 * per_subject.std(ddof=1) / math.sqrt(60)
    assert result.value == pytest.approx(values.mean()) and result.subjects == 60
    assert result.interval[1] - result.interval[0] == pytest.approx(expected, rel=0.1)
    naive = cluster_bootstrap(values, np.arange(960), draws=500)
    assert naive.interval[1] - naive.interval[0] < expected / 2
    assert cluster_bootstrap(values, labels) == result
    assert cluster_bootstrap(values, labels, seed=1) != result


def test_bootstrap_takes_any_statistic_of_rows() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=200)
    rows = np.stack([x, x + random.normal(0, 0.5, 200)], axis=1)

    def correlation(part: np.ndarray) -> Any:
        return np.corrcoef(part.T)[0, 1]

    result = cluster_bootstrap(rows, np.repeat(np.arange(20), 10), correlation, draws=300)
    assert result.value == pytest.approx(pearson(rows[:, 0], rows[:, 1]).r)
    assert result.interval[0] < result.value < result.interval[1]


@pytest.mark.parametrize("function", [pearson, bland_altman, paired_t_test])
def test_unfit_values_are_refused(function: Any) -> None:
    good = [1.0, 2.0, 4.0, 3.0, 6.0]
    with pytest.raises(InputError, match=r"\(5,\) and \(4,\)"):
        function(good, good[:4])
    with pytest.raises(InputError, match="2 pairs hold NaN"):
        function([1.0, math.nan, 4.0, 3.0, 6.0], [1.0, 2.0, 4.0, math.inf, 6.0])
    with pytest.raises(InputError, match="at least"):
        function([1.0], [2.0])
    with pytest.raises(InputError, match="shapes"):
        function([good], [good])
    with pytest.raises(SettingError, match="confidence = 95"):
        function(good, [2.0, 1.0, 4.5, 3.0, 5.0], confidence=95)


def test_constant_values_have_no_correlation() -> None:
    with pytest.raises(InputError, match="all second values are 2"):
        pearson([1.0, 2.0, 3.0, 4.0], [2.0] * 4)


def test_unfit_subjects_are_refused() -> None:
    values = [1.0, 2.0, 3.0, 4.0]
    with pytest.raises(InputError, match="3 subject labels for 4 values"):
        cluster_bootstrap(values, [1, 2, 3])
    with pytest.raises(InputError, match="at least 2"):
        cluster_bootstrap(values, [1, 1, 1, 1])
    with pytest.raises(InputError, match="at least 2 subjects"):
        paired_t_test(values, [0.0, 0, 0, 1], [1, 1, 1, 1])
    with pytest.raises(InputError, match="no finite"):
        cluster_bootstrap([1.0, math.nan, 2.0, 3.0], [1, 2, 3, 4])
    with pytest.raises(SettingError, match="draws"):
        cluster_bootstrap(values, [1, 2, 3, 4], draws=10)
    with pytest.raises(InputError, match="statistic is not finite"):
        cluster_bootstrap(values, [1, 2, 3, 4], lambda part: math.nan)
