from math import inf, nan

import numpy as np
import pytest

from grok.phases import first_crossing, first_step_held, phase, stability

STEPS = [0, 10, 20, 30, 40]


@pytest.mark.parametrize(
    ("values", "held", "crossing"),
    [
        ([0.1, 0.95, 0.5, 0.9, 0.9], 30, 10 * 0.8 / 0.85),  # a spike counts as a crossing only
        ([0.1, 0.1, 0.1, 0.1, 0.9], 40, 40.0),  # the last step has no next one
        ([0.1, 0.1, 0.1, 0.1, 0.89], None, inf),
        ([0.9, 0.9, 0.1, 0.1, 0.1], 0, 0.0),
        ([1.0, 0.1, 0.1, 0.1, 0.1], None, 0.0),
        ([0.5, 0.5, 1.0, 1.0, 1.0], 20, 18.0),  # interpolated between 10 and 20
        ([0.1, 0.1, 0.9, 0.89, 0.9], 40, 20.0),
        ([0.1, 0.9, 0.8, 1.0, 1.0], 30, 10.0),  # it falls again before it holds
        ([nan] * 5, None, inf),
        ([0.1, 0.9, nan, 0.9, 0.9], 30, 10.0),
    ],
)
def test_steps_to_a_threshold(values, held, crossing):
    assert first_step_held(STEPS, values, 0.9) == held
    assert first_crossing(STEPS, values, 0.9) == pytest.approx(crossing)


def test_a_metric_that_was_never_logged_reaches_nothing():
    assert first_step_held([], [], 0.9) is None
    assert first_crossing([], [], 0.9) == inf


@pytest.mark.parametrize(
    ("train", "test", "expected"),
    [
        (1130, 1530, "comprehension"),  # the authors' golden run
        (4486, 6413, "grokking"),  # their figure 5b at 2.154e-5, decay 0
        (100, 1100, "grokking"),
        (100, 1099, "comprehension"),
        (100, None, "memorization"),
        (None, None, "confusion"),
        (None, 50, "confusion"),
        (500, 100, "comprehension"),
    ],
)
def test_phases_of_table_1(train, test, expected):
    assert phase(train, test, delay=1000) == expected


def test_stability_after_grokking():
    assert stability([0.1, 0.99, 1.0, 0.7, 1.0], 0.99) == (0.75, pytest.approx(0.3))
    assert stability([0.99, 1.0], 0.99) == (1.0, 0.0)
    assert stability([0.0, 0.99, 0.5, 1.0, 0.9], 0.99) == (0.5, pytest.approx(0.49))
    assert stability([0.1, 0.2], 0.99) is None
    assert stability([], 0.99) is None
    assert stability([0.1, 0.99, nan, 0.99], 0.99) == (pytest.approx(2 / 3), 0.0)


def test_stability_of_float32_values_is_computed_in_float64():
    values = np.array([0.99, 0.1], dtype=np.float32)
    assert stability(values, 0.9) == (0.5, float(values[0]) - float(values[1]))
