"""Statistics of claims and studies: times that some runs do not reach, fractions, paired ratios.

Scipy takes a second to import, so each function imports it.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from scipy.stats import CensoredData

BOOTSTRAP_SEED = 0
ROUNDING = 1e-9  # of a product of fractions


def median(times: ArrayLike, reached: ArrayLike) -> float:
    """Kaplan-Meier median of the time to an event.

    Arguments:
        times: for each run the time of the event, or else the time until which it was observed.
        reached: for each run whether the event was observed; a run without it is right-censored.

    Returns:
        The first time at which at most half of the runs are expected without the event; inf if the
        observed times do not determine it.
    """
    curve_times, probabilities = kaplan_meier(times, reached)
    at_most_half = np.flatnonzero(probabilities <= 0.5 + ROUNDING)
    return float(curve_times[at_most_half[0]]) if len(at_most_half) else float("inf")


def kaplan_meier(times: ArrayLike, reached: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Kaplan-Meier estimate of the survival function of the time to an event.

    Arguments:
        times, reached: as for `median`.

    Returns:
        Times (T,), ascending, and the probabilities (T,) that the event comes later than each.
    """
    from scipy.stats import ecdf

    curve = ecdf(_censored(times, reached)).sf
    return curve.quantiles, curve.probabilities


def _censored(times: ArrayLike, reached: ArrayLike) -> "CensoredData":
    from scipy.stats import CensoredData

    time_array, is_reached = np.asarray(times, float), np.asarray(reached, bool)
    return CensoredData(uncensored=time_array[is_reached], right=time_array[~is_reached])


def log_rank(
    times: ArrayLike, reached: ArrayLike, other_times: ArrayLike, other_reached: ArrayLike
) -> float:
    """Two-sided p-value of the log-rank test that times to an event do not differ; 1 where nothing can
    tell them apart, as where all events are at one time.

    Arguments:
        times, reached: of the runs of one recipe, as for `median`.
        other_times, other_reached: of the runs of the other one.
    """
    from scipy.stats import logrank

    one, other = _censored(times, reached), _censored(other_times, other_reached)
    with np.errstate(invalid="ignore"):
        p = float(logrank(one, other).pvalue)
    return 1.0 if np.isnan(p) else p


def rank_correlation(x: ArrayLike, y: ArrayLike, level: float = 0.95) -> tuple[float, float, float]:
    """Spearman's rank correlation, and its confidence interval by Fisher's transformation.

    The variance of the transformed correlation is that of Bonett and Wright 2000, "Sample size
    requirements for estimating Pearson, Kendall and Spearman correlations". A correlation of 1 or -1
    has no width there, however few pairs there are: of four it has a p-value of 0.08.

    Arguments:
        x, y: of equal length n. The ends of the interval are NaN for n below 4.
        level: the probability of the interval.
    """
    from scipy.stats import norm, spearmanr

    correlation = float(spearmanr(x, y).statistic)
    count = len(np.asarray(x))
    if count < 4:
        return correlation, np.nan, np.nan
    if abs(correlation) >= 1:
        return correlation, correlation, correlation
    deviation = np.sqrt((1 + correlation**2 / 2) / (count - 3))
    half_width = norm.ppf((1 + level) / 2) * deviation
    low, high = np.tanh(np.arctanh(correlation) + np.array([-half_width, half_width]))
    return correlation, float(low), float(high)


def wilson_interval(successes: int, total: int) -> tuple[float, float]:
    """95 % confidence interval of a probability, given successes among independent trials.

    Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    from scipy.stats import binomtest

    interval = binomtest(successes, total).proportion_ci(method="wilson")
    return interval.low, interval.high


def mean_interval(values: ArrayLike, level: float = 0.95) -> tuple[float, float, float]:
    """The mean of independent values, and the ends of its confidence interval by Student's t.

    Arguments:
        values: at least two.
        level: the probability of the interval.
    """
    from scipy.stats import t

    array = np.asarray(values, float)
    mean, count = float(array.mean()), len(array)
    half_width = t.ppf((1 + level) / 2, count - 1) * array.std(ddof=1) / np.sqrt(count)
    return mean, float(mean - half_width), float(mean + half_width)


def jackknife_interval(
    estimate: float, without_one: ArrayLike, level: float = 0.95
) -> tuple[float, float]:
    """The ends of the confidence interval of an estimate from independent groups, by the jackknife.

    Of a mean it is Student's interval. It is good for smooth functions of means, such as slopes,
    correlations and areas under curves, and rough for medians and extremes. Tukey 1958, "Bias and
    confidence in not-quite large samples".

    Arguments:
        estimate: from all groups.
        without_one: (G,), the estimates from all groups but one each. The ends are NaN for G below 3,
            or if an estimate is not finite.
        level: the probability of the interval.
    """
    from scipy.stats import t

    estimates = np.asarray(without_one, float)
    count = len(estimates)
    if count < 3 or not np.isfinite([estimate, *estimates]).all():
        return np.nan, np.nan
    half_width = t.ppf((1 + level) / 2, count - 1) * np.sqrt((count - 1) * estimates.var())
    return float(estimate - half_width), float(estimate + half_width)


def paired_ratio(numerators: ArrayLike, denominators: ArrayLike) -> tuple[float, float, float]:
    """Geometric mean of the ratios of pairs, and its 95 % bootstrap interval.

    The interval is of percentiles, which are too narrow for few pairs: of normal logarithms it has the
    mean in about 75 % of the cases for three pairs, 84 % for five, and 91 % for ten.

    Arguments:
        numerators, denominators: positive numbers, of equal length.

    Returns:
        The mean and the ends of the interval. The ends are NaN below two pairs, and all three are
        NaN without a pair.
    """
    from scipy.stats import bootstrap

    logs = np.log(np.asarray(numerators, float) / np.asarray(denominators, float))
    if len(logs) == 0:
        return np.nan, np.nan, np.nan
    mean = float(np.exp(logs.mean()))
    if len(logs) == 1:
        return mean, np.nan, np.nan
    if np.ptp(logs) == 0:  # scipy warns of a degenerate distribution
        return mean, mean, mean
    result = bootstrap(
        (logs,),
        np.mean,
        method="percentile",
        rng=np.random.default_rng(BOOTSTRAP_SEED),
    )
    low, high = result.confidence_interval
    return mean, float(np.exp(low)), float(np.exp(high))
