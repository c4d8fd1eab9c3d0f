"""Steps to a threshold, the four phases of a run, and stability after grokking."""

from collections.abc import Sequence
from math import inf

import numpy as np

PHASES = ("comprehension", "grokking", "memorization", "confusion")
UNDECIDED = "undecided"  # in place of a phase: the run was given up before it could show one


Steps = Sequence[int] | np.ndarray
Values = Sequence[float] | np.ndarray


def first_step_held(steps: Steps, values: Values, threshold: float) -> int | None:
    """The first logged step at which a metric is at the threshold and still is at the next one.

    It is always a logged step, and a single spike does not count. Compare `first_crossing`, which
    interpolates between logged steps and counts a spike.

    Arguments:
        steps: logged steps, increasing.
        values: the metric at these steps.
        threshold: the value that the metric must reach.

    Returns:
        The step; None if there is none. The last logged step has no next one and counts if the
        threshold is reached there. NaN is below every threshold.
    """
    reached = np.asarray(values) >= threshold
    held = reached & np.append(reached[1:], True)
    return int(steps[held.argmax()]) if held.any() else None


def first_crossing(steps: Steps, values: Values, threshold: float) -> float:
    """The step, in general between two logged ones, at which a metric first rises to the threshold.

    It is linearly interpolated, and the metric may fall below the threshold again at the next
    logged step. Compare `first_step_held`, which returns a logged step and demands the next one.

    Arguments:
        steps: logged steps, increasing.
        values: the metric at these steps.
        threshold: the value that the metric must reach.

    Returns:
        The step; the first logged one if the metric starts at the threshold, inf if it never gets
        there.
    """
    reached = np.flatnonzero(np.asarray(values) >= threshold)
    if not len(reached):
        return inf
    first = reached[0]
    if first == 0:
        return float(steps[0])
    pair = slice(first - 1, first + 1)
    return float(np.interp(threshold, values[pair], steps[pair]))


def phase(steps_to_train: int | None, steps_to_test: int | None, delay: int) -> str:
    """The phase of a run: an entry of PHASES (Liu et al. 2022, table 1).

    Arguments:
        steps_to_train: step at which the train accuracy reaches the threshold, None if never.
        steps_to_test: the same for the test accuracy.
        delay: steps between the two from which a run groks.

    A run whose train accuracy never reaches the threshold is in confusion, whatever its test
    accuracy.
    """
    if steps_to_train is None:
        return "confusion"
    if steps_to_test is None:
        return "memorization"
    return "grokking" if steps_to_test - steps_to_train >= delay else "comprehension"


def stability(values: Values, threshold: float) -> tuple[float, float] | None:
    """How stable a metric is from the first value at the threshold on.

    Returns:
        The fraction of these values that are at the threshold, and the largest drop of one below
        the best value before it; None if no value is at the threshold.
    """
    array = np.asarray(values, dtype=np.float64)
    reached = array >= threshold
    if not reached.any():
        return None
    first = reached.argmax()
    after = array[first:]
    drops = np.fmax.accumulate(after) - after
    return float(reached[first:].mean()), float(np.nanmax(drops))
