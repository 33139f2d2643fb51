"""Do two sets of measurements agree? Slices of one subject are not independent, so tests count subjects.

All functions raise InputError for values that are not finite, shapes that differ, and too few or constant values.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from ..errors import InputError, SettingError

Floats = NDArray[np.float64]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Correlation:
    """Pearson's r with its confidence interval, the p-value of r = 0, and the number of pairs."""

    r: float
    interval: Interval
    p: float
    n: int


@dataclass(frozen=True)
class BlandAltman:
    """Differences test - reference: their mean (bias) and the limits that hold most of them, with intervals."""

    bias: float
    bias_interval: Interval
    standard_deviation: float
    lower: float
    lower_interval: Interval
    upper: float
    upper_interval: Interval
    n: int


@dataclass(frozen=True)
class PairedTest:
    """Student's paired t-test: mean of first - second, its interval, t, the two-sided p, and the pairs tested."""

    difference: float
    interval: Interval
    t: float
    p: float
    n: int


@dataclass(frozen=True)
class Estimate:
    """A statistic, its interval, and the subjects that it rests on."""

    value: float
    interval: Interval
    subjects: int


def pearson(first: ArrayLike, second: ArrayLike, confidence: float = 0.95) -> Correlation:
    """Pearson's correlation; interval by Fisher's z, `tanh(atanh r -+ z / sqrt(n - 3))`. At least 4 pairs."""
    a, b = _pairs(first, second, 4)
    level = _confidence(confidence)
    for values, name in ((a, "first"), (b, "second")):
        if np.ptp(values) == 0:
            raise InputError(f"all {name} values are {values[0]:g}, so a correlation has no meaning")
    result = stats.pearsonr(a, b)
    low, high = result.confidence_interval(level)
    return Correlation(float(result.statistic), (float(low), float(high)), float(result.pvalue), len(a))


def bland_altman(
    reference: ArrayLike, test: ArrayLike, confidence: float = 0.95, coverage: float = 0.95
) -> BlandAltman:
    """Bias and limits of agreement, `bias -+ z s`, after Bland and Altman (Stat Methods Med Res 1999, 8:135-160).

    The interval of the bias uses its standard error `s / sqrt(n)`; that of a limit `s sqrt(1/n + z^2 / (2 (n - 1)))`;
    both with Student's t of n - 1 degrees of freedom. At least 3 pairs.

    Args:
        reference, test: (n,).
        confidence: of the intervals.
        coverage: share of the differences between the limits.
    """
    a, b = _pairs(reference, test, 3)
    t = _t_quantile(_confidence(confidence), len(a) - 1)
    z = float(stats.norm.ppf(0.5 + _confidence(coverage) / 2))
    difference = b - a
    n, bias, spread = len(a), float(difference.mean()), float(difference.std(ddof=1))
    half_bias = t * spread / math.sqrt(n)
    half_limit = t * spread * math.sqrt(1 / n + z**2 / (2 * (n - 1)))
    lower, upper = bias - z * spread, bias + z * spread
    return BlandAltman(
        bias,
        (bias - half_bias, bias + half_bias),
        spread,
        lower,
        (lower - half_limit, lower + half_limit),
        upper,
        (upper - half_limit, upper + half_limit),
        n,
    )


def paired_t_test(
    first: ArrayLike, second: ArrayLike, subjects: ArrayLike | None = None, confidence: float = 0.95
) -> PairedTest:
    """Paired t-test of first - second.

    Args:
        first, second: (n,) measurements of the same slices or subjects.
        subjects: (n,) labels; each subject's measurements are averaged first, so that n counts subjects. Without
            labels every pair counts, which is right only where each is another subject.
        confidence: of the interval of the mean difference.

    Raises:
        InputError: also for fewer than 2 subjects, and for differences that are all the same but not zero.
    """
    a, b = _pairs(first, second, 2)
    difference = a - b
    if subjects is not None:
        difference = np.array([part.mean() for part in _by_subject(difference, subjects)])
    if len(difference) < 2:
        raise InputError(f"a paired test needs at least 2 subjects, not {len(difference)}")
    if np.ptp(difference) == 0:
        if difference[0] != 0:
            raise InputError(f"all differences are {difference[0]:g}, so they have no spread to test against")
        return PairedTest(0.0, (0.0, 0.0), 0.0, 1.0, len(difference))
    result = stats.ttest_1samp(difference, 0.0)
    low, high = result.confidence_interval(_confidence(confidence))
    return PairedTest(
        float(difference.mean()),
        (float(low), float(high)),
        float(result.statistic),
        float(result.pvalue),
        len(difference),
    )


def cluster_bootstrap(
    values: ArrayLike,
    subjects: ArrayLike,
    statistic: Callable[[Floats], Any] = np.mean,
    *,
    draws: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """A statistic of slices with an interval that respects subjects: whole subjects are drawn again, with replacement.

    Args:
        values: (n,) or (n, k), a row for each slice.
        subjects: (n,) labels.
        statistic: rows to one number, for example the mean or a correlation of two columns.
        draws: bootstrap samples; the interval is between their percentiles.
        confidence: of the interval.
        seed: of the draws; the same seed gives the same interval.

    Raises:
        InputError: also for fewer than 2 subjects, and where the statistic is not finite.
        SettingError: fewer than 100 draws.
    """
    level = _confidence(confidence)
    if draws < 100:
        raise SettingError(f"draws = {draws} is below 100", "Use 1000 or more")
    rows = np.asarray(values, dtype=np.float64)
    if rows.ndim not in (1, 2) or not len(rows) or not np.isfinite(rows).all():
        raise InputError(f"the values of shape {rows.shape} are no finite numbers (n,) or (n, k)")
    groups = _by_subject(rows, subjects)
    if len(groups) < 2:
        raise InputError(f"a bootstrap over subjects needs at least 2 of them, not {len(groups)}")
    random = np.random.default_rng(seed)
    drawn = np.empty(draws)
    for i in range(draws):
        chosen = random.integers(len(groups), size=len(groups))
        drawn[i] = float(statistic(np.concatenate([groups[c] for c in chosen])))
    value = float(statistic(rows))
    if not (math.isfinite(value) and np.isfinite(drawn).all()):
        raise InputError("the statistic is not finite for some draws of subjects", "Use more subjects")
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, (float(low), float(high)), len(groups))


def _pairs(first: ArrayLike, second: ArrayLike, least: int) -> tuple[Floats, Floats]:
    a, b = (np.asarray(values, dtype=np.float64) for values in (first, second))
    if a.ndim != 1 or a.shape != b.shape:
        raise InputError(
            f"the values have the shapes {a.shape} and {b.shape}", "Give as many of the one as of the other"
        )
    if len(a) < least:
        raise InputError(f"there are {len(a)} pairs; at least {least} are needed")
    bad = int(np.count_nonzero(~(np.isfinite(a) & np.isfinite(b))))
    if bad:
        raise InputError(f"{bad} pairs hold NaN or infinite values", "Leave them out and say so")
    return a, b


def _by_subject(rows: Floats, subjects: ArrayLike) -> list[Floats]:
    labels = np.asarray(subjects)
    if labels.shape != rows.shape[:1]:
        raise InputError(f"there are {labels.size} subject labels for {len(rows)} values", "Give one label for each")
    return [rows[labels == label] for label in np.unique(labels)]


def _confidence(level: float) -> float:
    if not 0 < level < 1:
        raise SettingError(f"confidence = {level} is not between 0 and 1", "Use 0.95")
    return level


def _t_quantile(level: float, freedom: int) -> float:
    return float(stats.t.ppf(0.5 + level / 2, freedom))
