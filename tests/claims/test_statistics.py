"""Statistics of claims against their formulas."""

from math import atanh, isnan, sqrt, tanh

import pytest
from scipy.stats import norm

from grok.claims import statistics


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
    few = statistics.rank_correlation([1, 2, 3], [1, 3, 2])
    assert few[0] == pytest.approx(0.5) and isnan(few[1]) and isnan(few[2])


def test_holm_multiplies_the_smallest_p_value_by_the_number_of_tries():
    """0.005 * 4, 0.01 * 3, 0.03 * 2; 0.04 * 1 is raised to the one before it. At most 1."""
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.7, 0.9]) == [1, 1]
    assert statistics.holm([0.2]) == [0.2]
