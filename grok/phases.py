"""Thresholds, steps to them, the four phases, stability after grokking."""

from collections.abc import Sequence
from math import inf

import numpy as np

PHASES = ("comprehension", "grokking", "memorization", "confusion")

# The colours of Liu et al. 2022, figure 6, as RGB in 0..1.
PHASE_COLOURS = {
    "comprehension": (160 / 255, 218 / 255, 57 / 255),
    "grokking": (253 / 255, 231 / 255, 37 / 255),
    "memorization": (70 / 255, 50 / 255, 126 / 255),
    "confusion": (30 / 255, 30 / 255, 30 / 255),
}


def first_step_at(steps: Sequence[int], values: Sequence[float], threshold: float) -> int | None:
    """First logged step at which the value reaches the threshold and holds it at the next one.

    The last logged step has no next one and counts when reached there. None if never; NaN never is.
    """
    last = len(values) - 1
    for index, step in enumerate(steps):
        if values[index] >= threshold and values[min(index + 1, last)] >= threshold:
            return int(step)
    return None


def crossing(steps: Sequence[int], values: Sequence[float], threshold: float) -> float:
    """The step, between two logged ones if need be, at which the value first rises to the threshold;
    inf if never."""
    above = np.flatnonzero(np.asarray(values) >= threshold)
    if not len(above):
        return inf
    first = above[0]
    if first == 0:
        return float(steps[0])
    pair = slice(first - 1, first + 1)
    return float(np.interp(threshold, values[pair], steps[pair]))


def phase(steps_to_train: int | None, steps_to_test: int | None, delay: int) -> str:
    """The phase of a run within its budget (Liu et al. 2022, table 1).

    A run whose train accuracy never reaches the threshold is confusion, whatever its test accuracy.
    """
    if steps_to_train is None:
        return "confusion"
    if steps_to_test is None:
        return "memorization"
    return "grokking" if steps_to_test - steps_to_train >= delay else "comprehension"


def stability(values: Sequence[float], threshold: float) -> tuple[float, float] | None:
    """After the threshold is first reached: fraction of values still at it, and largest drop below
    the best value so far. None if it is never reached."""
    reached = next((i for i, value in enumerate(values) if value >= threshold), None)
    if reached is None:
        return None
    best, drop, held = values[reached], 0.0, 0
    for value in values[reached:]:
        held += value >= threshold
        best = max(best, value)
        drop = max(drop, best - value)
    return held / (len(values) - reached), drop
