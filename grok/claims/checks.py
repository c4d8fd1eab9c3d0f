"""Measurements that the claims of several papers are made of.

Each takes the runs of a claim and returns measured numbers by name, or a whole verdict. Thresholds
stay in the papers' files.
"""

from collections.abc import Callable, Sequence
from math import inf

import numpy as np

from grok.claims import statistics
from grok.claims.model import Missing, Outcome, Run, Runs, Undecided

Bounds = tuple[str, str, float, float]  # named config, entry of the result, least, most


def within(runs: Runs, *bounds: Bounds) -> Outcome:
    """Whether entries of results lie in their ranges, ends included.

    Arguments:
        bounds: (named config, entry of the result, least, most) each; there must be one run of
            each named config.
    """
    values = [runs.one(named_config)[entry] for named_config, entry, _, _ in bounds]
    passed = (low <= v <= high for v, (_, _, low, high) in zip(values, bounds, strict=True))
    labels = [f"{named_config} {entry}".replace("_", " ") for named_config, entry, _, _ in bounds]
    return all(passed), dict(zip(labels, values, strict=True))


def each(runs: Runs, measure: Callable[[Run], float], *named_configs: str) -> dict[str, float]:
    """A measure of the one run of each of these named configs."""
    return {name: measure(runs.one(name)) for name in named_configs}


def steps_to_test(runs: Runs, *named_configs: str, test: float = 0.95) -> dict[str, float]:
    """Steps to a test accuracy, reached and held, of the one run of each of these named configs."""
    return each(runs, lambda run: run.first_step_held("test_accuracy", test), *named_configs)


def is_slower(slow: Run, fast: Run, ratio: float, test: float = 0.95) -> bool:
    """Whether a run takes at least `ratio` times as many steps to a test accuracy as another one,
    both reached and held.

    Raises:
        Undecided: the slow run does not reach it, and its steps are fewer than the ratio needs.
    """
    steps, fast_steps = (run.first_step_held("test_accuracy", test) for run in (slow, fast))
    budget = slow.config["train_steps"]
    if steps == inf and budget < ratio * fast_steps < inf:
        raise Undecided(f"more than {budget} steps are needed")
    return fast_steps < inf and steps >= ratio * fast_steps


def delays(
    runs: Runs, *named_configs: str, train: float = 0.99, test: float = 0.8
) -> dict[str, float]:
    """`delay` of the one run of each of these named configs."""
    return each(runs, lambda run: delay(run, train, test), *named_configs)


def delay(run: Run, train: float, test: float) -> float:
    """Steps to a test accuracy divided by steps to a train accuracy, both reached and held; inf if
    either is never reached."""
    memorized = run.first_step_held("train_accuracy", train)
    return run.first_step_held("test_accuracy", test) / memorized if memorized < inf else inf


def least_fractions(
    runs: Runs, key: str, *values: str | float, test: float = 0.95
) -> dict[str, float]:
    """The smallest train fraction at which a test accuracy is reached and held, for each value of a
    configuration key; inf if it is at none."""

    def least(runs: Runs) -> float:
        reached = [run for run in runs if run.first_step_held("test_accuracy", test) < inf]
        return min((run.config["train_fraction"] for run in reached), default=inf)

    return _for_each_value(runs, key, values, least)


def median_steps(
    runs: Runs, key: str, *values: str | float, test: float = 0.95
) -> dict[str, float]:
    """The Kaplan-Meier median of the steps to a test accuracy, reached and held, for each value of a
    configuration key; inf if half of the runs never reach it."""
    return _for_each_value(runs, key, values, lambda runs: statistics.median(*_times(runs, test)))


def log_rank(
    runs: Runs, key: str, value: str | float, other: str | float, test: float = 0.95
) -> float:
    """Two-sided p-value of the log-rank test that the steps to a test accuracy, reached and held, do
    not differ between two values of a configuration key."""
    one, two = (_times(runs.where(**{key: chosen}), test) for chosen in (value, other))
    return statistics.log_rank(*one, *two)


def _times(runs: Runs, test: float) -> tuple[list[float], list[bool]]:
    """The steps to a test accuracy, or the last step where it is not reached; and whether it is."""
    steps = [run.first_step_held("test_accuracy", test) for run in runs]
    ends = [float(run.logged("test_accuracy")[0][-1]) for run in runs]
    times = [end if step == inf else step for step, end in zip(steps, ends, strict=True)]
    return times, [step < inf for step in steps]


def _for_each_value(
    runs: Runs, key: str, values: Sequence[str | float], measure: Callable[[Runs], float]
) -> dict[str, float]:
    return {
        f"{key} {value}".replace("_", " "): measure(runs.where(**{key: value})) for value in values
    }


def rank_correlation(
    runs: Runs, a: str, b: str, train: float = 0.99, level: float = 0.95
) -> dict[str, float]:
    """Spearman's rank correlation of two entries of the results, with its confidence interval.

    Arguments:
        a, b: the entries.
        train: runs with a final train accuracy below this are left out.
        level: the probability of the interval.

    Returns:
        "correlation", "low" and "high", the ends of its interval, and "runs", their number.
    """
    fitted = [run for run in runs if run["train_accuracy"] >= train]
    if len(fitted) < 4:
        raise Missing("four runs that fit their train set")
    x, y = [run[a] for run in fitted], [run[b] for run in fitted]
    correlation, low, high = statistics.rank_correlation(x, y, level)
    return {"correlation": correlation, "low": low, "high": high, "runs": len(fitted)}


def weight_decay_law(runs: Runs, train: float, test: float, **config: object) -> dict[str, float]:
    """How the steps to a test accuracy depend on weight decay, over runs that differ in it alone.

    Arguments:
        train, test: the accuracies, reached and held.
        config: configuration values of the runs. One of them must have no weight decay.

    Returns:
        "power": b of steps = a * weight_decay^b; "to memorize, most / least": the ratio of the
        largest to the smallest number of steps to the train accuracy; "without decay": steps to
        the test accuracy without weight decay.
    """
    chosen = runs.where(**config)
    without = chosen.where(weight_decay=0.0)[0].first_step_held("test_accuracy", test)
    decayed = [run for run in chosen if run.config["weight_decay"]]
    to_test = [run.first_step_held("test_accuracy", test) for run in decayed]
    to_train = [run.first_step_held("train_accuracy", train) for run in decayed]
    return {
        "power": exponent([run.config["weight_decay"] for run in decayed], to_test),
        "to memorize, most / least": max(to_train) / min(to_train),
        "without decay": without,
    }


def spread_of_least(runs: Runs, key: str, metric: str) -> float:
    """How much the smallest final value of a metric depends on a configuration key: the largest of
    these smallest values over the key's values, divided by the smallest."""
    least: dict[float, float] = {}
    for run in runs:
        value = run.config[key]
        least[value] = min(run.final(metric), least.get(value, inf))
    return max(least.values()) / min(least.values())


def exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """b of the power law y = a x^b that fits best in logarithms."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])
