import pytest

from grok.phases import first_step_held, phase, stability


def test_a_step_counts_when_the_next_logged_one_holds():
    steps = [0, 10, 20, 30, 40]
    assert first_step_held(steps, [0.1, 0.95, 0.5, 0.9, 0.9], 0.9) == 30
    assert first_step_held(steps, [0.1, 0.1, 0.1, 0.1, 0.9], 0.9) == 40
    assert first_step_held(steps, [0.1, 0.1, 0.1, 0.1, 0.89], 0.9) is None
    assert first_step_held(steps, [float("nan")] * 5, 0.9) is None
    assert first_step_held([], [], 0.9) is None


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
    assert stability([0.1, 0.2], 0.99) is None
