"""Times that were not always reached within the budget: survival statistics."""

from collections.abc import Sequence

import numpy as np
from scipy import stats


def median(times: Sequence[float], reached: Sequence[bool]) -> float:
    """Kaplan-Meier median of times of which some are only known to be larger; inf if unknown."""
    curve = kaplan_meier(times, reached)
    below = np.flatnonzero(curve.probabilities <= 0.5)
    return float(curve.quantiles[below[0]]) if len(below) else float("inf")


def kaplan_meier(times: Sequence[float], reached: Sequence[bool]):
    """scipy's survival function: `quantiles` (times) and `probabilities` (share not there yet)."""
    times, reached = np.asarray(times, float), np.asarray(reached, bool)
    data = stats.CensoredData(uncensored=times[reached], right=times[~reached])
    return stats.ecdf(data).sf


def wilson(successes: int, total: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    interval = stats.binomtest(successes, total).proportion_ci(method="wilson")
    return interval.low, interval.high


def paired_ratio(first: Sequence[float], second: Sequence[float]) -> tuple[float, float, float]:
    """Geometric mean of first/second over pairs, and its 95 % bootstrap interval (nan below 2 pairs)."""
    logs = np.log(np.asarray(first, float) / np.asarray(second, float))
    if len(logs) < 2:
        return float(np.exp(logs.mean())) if len(logs) else float("nan"), float("nan"), float("nan")
    if np.ptp(logs) == 0:
        return (float(np.exp(logs[0])),) * 3
    found = stats.bootstrap((logs,), np.mean, method="percentile", rng=np.random.default_rng(0))
    low, high = found.confidence_interval
    return tuple(float(np.exp(value)) for value in (logs.mean(), low, high))
