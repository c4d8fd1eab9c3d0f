"""Checks of claims that many papers share. Each makes a check, or is a piece of one."""

from collections.abc import Callable, Sequence
from math import inf

import numpy as np

from grok.claims.model import Check, Run, Runs, Verdict

Rule = tuple[str, str, float, float]  # named config, entry of the result, least, most


def within(*rules: Rule) -> Check:
    """A check that entries of the results of runs, one of each named config, are in their ranges."""

    def check(runs: Runs) -> Verdict:
        values = [runs.one(recipe)[entry] for recipe, entry, _, _ in rules]
        passed = (low <= v <= high for v, (_, _, low, high) in zip(values, rules, strict=True))
        labels = [f"{recipe} {entry}".replace("_", " ") for recipe, entry, _, _ in rules]
        return all(passed), dict(zip(labels, values, strict=True))

    return check


def delay(run: Run, train: float, test: float) -> float:
    """Steps to a test accuracy over those to a train accuracy; inf if either never comes."""
    memorized = run.first_crossing("train_accuracy", train)
    return run.first_crossing("test_accuracy", test) / memorized if memorized < inf else inf


def compared(holds: Callable[..., bool], *names: str, of: Callable[[Run], float]) -> Check:
    """A check of what `of` says of the runs of these named configs; `holds` takes it in order."""

    def check(runs: Runs) -> Verdict:
        found = {name: of(runs.one(name)) for name in names}
        return holds(*found.values()), found

    return check


def steps(holds: Callable[..., bool], *names: str, test: float = 0.95) -> Check:
    """A check of the steps of these named configs to a test accuracy; `holds` takes them in order."""
    return compared(holds, *names, of=lambda run: run.first_step_held("test_accuracy", test))


def delays(
    holds: Callable[..., bool], *names: str, train: float = 0.99, test: float = 0.8
) -> Check:
    """A check of the delays of these named configs; `holds` takes them in order."""
    return compared(holds, *names, of=lambda run: delay(run, train, test))


def fractions(
    holds: Callable[..., bool], key: str, *values: str | float, test: float = 0.95
) -> Check:
    """A check of the smallest train fractions at which a test accuracy is ever reached, for these values of
    a config key (inf where at none of those tried); `holds` takes them in order."""

    def least(runs: Runs) -> float:
        reached = [run for run in runs if run.logged("test_accuracy")[1].max() >= test]
        return min((run.config["train_fraction"] for run in reached), default=inf)

    return _by_value(holds, key, values, least)


def medians(
    holds: Callable[..., bool], key: str, *values: str | float, test: float = 0.95
) -> Check:
    """A check of the median steps to a test accuracy for these values of a config key; `holds` takes them
    in order."""

    def median(runs: Runs) -> float:
        return float(np.median([run.first_step_held("test_accuracy", test) for run in runs]))

    return _by_value(holds, key, values, median)


def _by_value(
    holds: Callable[..., bool], key: str, values: Sequence[str | float], of: Callable[[Runs], float]
) -> Check:
    def check(runs: Runs) -> Verdict:
        found = {
            f"{key} {value}".replace("_", " "): of(runs.where(**{key: value})) for value in values
        }
        return holds(*found.values()), found

    return check


def correlation(a: str, b: str, low: float, high: float, least: int = 15) -> Check:
    """A check of the rank correlation of two entries of the results of the runs that fit their train set at
    the end, at least so many: its range, and p < 0.05."""

    def check(runs: Runs) -> Verdict:
        from scipy.stats import spearmanr  # a second that few need

        fitted = [run for run in runs if run["train_accuracy"] >= 0.99]
        found = spearmanr([run[a] for run in fitted], [run[b] for run in fitted])
        passed = len(fitted) >= least and low <= found.statistic <= high and found.pvalue < 0.05
        return passed, {"rank correlation": found.statistic, "p": found.pvalue, "runs": len(fitted)}

    return check


def decays(
    train: float, test: float, least: float, most: float, spread: float = inf, **config
) -> Check:
    """A check, over runs with these config values, that the steps to a test accuracy are a power of weight
    decay between `least` and `most`, and without decay never come; and that the steps to a train accuracy
    differ by less than a factor `spread`."""

    def check(runs: Runs) -> Verdict:
        mine = runs.where(**config)
        never = mine.where(weight_decay=0.0)[0].first_crossing("test_accuracy", test)
        decayed = [run for run in mine if run.config["weight_decay"]]
        tests, trains = ([run.first_crossing(f"{part}_accuracy", level) for run in decayed]
                         for part, level in (("test", test), ("train", train)))  # fmt: skip
        power = exponent([run.config["weight_decay"] for run in decayed], tests)
        factor = max(trains) / min(trains)
        numbers = {"power": power, "to memorize, most / least": factor, "without decay": never}
        return least <= power <= most and never == inf and factor < spread, numbers

    return check


def dependences(key: str, metric: str, **bounds: tuple[float, float]) -> Check:
    """A check, for each data set that bounds name, of how much the least that a metric ends at depends on a
    config key: most over least, over its values, is between two numbers."""

    def check(runs: Runs) -> Verdict:
        found = {}
        for dataset in bounds:
            least: dict[float, float] = {}
            for run in runs.where(dataset=dataset):
                value = run.config[key]
                least[value] = min(run.final(metric), least.get(value, inf))
            found[dataset] = max(least.values()) / min(least.values())
        return all(low <= found[name] <= high for name, (low, high) in bounds.items()), found

    return check


def exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """b of the power law y = a x^b nearest to these points, in logarithms."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])
