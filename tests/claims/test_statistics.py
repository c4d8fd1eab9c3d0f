"""Statistics of claims against their formulas."""

from math import atanh, e, inf, isnan, sqrt, tanh

import numpy as np
import pytest
from scipy.stats import norm

from grok.claims import statistics


def test_kaplan_meier_multiplies_the_fractions_that_survive_each_event():
    """Events at 5 (of 4 at risk), 10 (of 3) and 30 (of 1); the run censored at 20 leaves the risk set."""
    times, probabilities = statistics.kaplan_meier([10, 20, 30, 5], [True, False, True, True])
    assert times.tolist() == [5, 10, 20, 30]
    assert probabilities == pytest.approx([3 / 4, 3 / 4 * 2 / 3, 1 / 2, 0])


def test_the_median_counts_censored_runs():
    """It is the first time at which half of the runs are through, and inf where none is."""
    assert statistics.median([3, 1, 2], [True] * 3) == 2
    assert statistics.median([10, 20, 30, 5], [True, False, True, True]) == 10
    assert statistics.median([5, 100, 100, 100], [True, False, False, False]) == inf


def test_half_of_the_runs_is_half_in_floating_point_too():
    """Half of an even number of runs reach the event: the median is the last of their times. As a
    product of 12 fractions the probability of 24 runs is 0.5000000000000001."""
    for count in range(2, 61, 2):
        times = [*range(1, count // 2 + 1), *[1000] * (count // 2)]
        reached = [time < 1000 for time in times]
        assert statistics.median(times, reached) == count // 2


def test_the_interval_of_a_mean_is_students():
    """Of 1, 2 and 3, with two degrees of freedom: 2 -+ 4.302653 / sqrt(3)."""
    half_width = 4.302653 / sqrt(3)
    assert statistics.mean_interval([1, 2, 3]) == pytest.approx((2, 2 - half_width, 2 + half_width))


def test_wilson_interval_of_none_and_all_of_five():
    """Published values, which a normal approximation would put outside of [0, 1]."""
    assert statistics.wilson_interval(0, 5) == pytest.approx((0, 0.4345), abs=1e-4)
    assert statistics.wilson_interval(5, 5) == pytest.approx((0.5655, 1), abs=1e-4)


def test_paired_ratio_is_geometric_with_percentiles_of_resampled_pairs():
    """Of two ratios 1 and 4, a quarter of the samples has 1 twice and a quarter 4 twice. Of nine ratios
    1 and one 2^10, the 97.5th percentile of the number of times that the last is drawn is 3."""
    assert statistics.paired_ratio([3, 8], [3, 2]) == pytest.approx((2, 1, 4))
    assert statistics.paired_ratio([1] * 9 + [2**10], [1] * 10) == pytest.approx((2, 1, 2**3))


def test_paired_ratio_of_two_ratios_a_factor_of_e_apart():
    """Only equal ratios, whose logarithms span nothing, make the interval a point."""
    assert statistics.paired_ratio([1, e], [1, 1]) == pytest.approx((sqrt(e), 1, e))


def test_paired_ratio_gives_the_same_interval_at_every_call():
    """A verdict must not depend on random numbers that nobody can draw again."""
    numerators = np.random.default_rng(0).uniform(1, 10, 40)
    intervals = {statistics.paired_ratio(numerators, np.ones(40)) for _ in range(3)}
    assert len(intervals) == 1


def test_paired_ratio_of_equal_ratios_one_pair_and_none():
    """An interval needs two pairs; equal ratios make it a point."""
    assert statistics.paired_ratio([2, 4], [1, 2]) == (2, 2, 2)
    ratio, low, high = statistics.paired_ratio([3], [2])
    assert ratio == pytest.approx(1.5) and isnan(low) and isnan(high)
    assert all(map(isnan, statistics.paired_ratio([], [])))


def test_log_rank_is_the_sum_of_observed_less_expected_events():
    """Events of one group at 1 and 2, of the other at 3 and 4. Expected of the first group: 1/2 and
    1/3; variance 1/4 + 2/9. A run that is censored after all events weighs as one that comes last."""
    z = (2 - 1 / 2 - 1 / 3) / sqrt(1 / 4 + 2 / 9)
    expected = 2 * norm.sf(z)
    assert statistics.log_rank([1, 2], [1, 1], [3, 4], [1, 1]) == pytest.approx(expected)
    assert statistics.log_rank([1, 2], [1, 1], [9, 9], [0, 0]) == pytest.approx(expected)


def test_rank_correlation_has_an_interval_by_fishers_transformation():
    """Ten values of which two neighbours are exchanged: rho = 1 - 6 * 2 / (10 * 99)."""
    x, y = range(10), [1, 0, *range(2, 10)]
    rho = 1 - 12 / 990
    half = 1.959964 * sqrt((1 + rho**2 / 2) / 7)
    expected = (rho, tanh(atanh(rho) - half), tanh(atanh(rho) + half))
    assert statistics.rank_correlation(x, y) == pytest.approx(expected)
    assert statistics.rank_correlation(x, [v**3 for v in x]) == pytest.approx((1, 1, 1))
    at_half = statistics.rank_correlation(x, y, level=0.5)
    half = 0.674490 * sqrt((1 + rho**2 / 2) / 7)
    assert at_half == pytest.approx((rho, tanh(atanh(rho) - half), tanh(atanh(rho) + half)))
    reversed_order = statistics.rank_correlation(x, [-v for v in x])
    assert reversed_order == pytest.approx((-1, -1, -1))


def test_a_rank_correlation_of_fewer_than_four_pairs_has_no_interval():
    """Its deviation has n - 3 in the denominator. At n = 4 and rho = 0.8 it is sqrt(1.32)."""
    half = 1.959964 * sqrt(1.32)
    expected = (0.8, tanh(atanh(0.8) - half), tanh(atanh(0.8) + half))
    assert statistics.rank_correlation([1, 2, 3, 4], [2, 1, 3, 4]) == pytest.approx(expected)
    few = statistics.rank_correlation([1, 2, 3], [1, 3, 2])
    assert few[0] == pytest.approx(0.5) and isnan(few[1]) and isnan(few[2])


def test_the_jackknife_gives_students_interval_of_a_mean():
    """Of the mean the jackknife is Student's t exactly; for other estimates there is no exact one."""
    values = np.array([1.0, 2.0, 4.0, 9.0])
    without_one = [np.delete(values, i).mean() for i in range(4)]
    expected = statistics.mean_interval(values)[1:]
    assert statistics.jackknife_interval(values.mean(), without_one) == pytest.approx(expected)


@pytest.mark.parametrize("without_one", [[1.0, 2.0], [1.0, inf, 2.0], [1.0, np.nan, 2.0]])
def test_the_jackknife_needs_three_numbers(without_one):
    """Two groups or an estimate that does not exist say nothing of the spread: there is no interval."""
    assert np.isnan(statistics.jackknife_interval(1.0, without_one)).all()
