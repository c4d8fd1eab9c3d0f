"""A paper's claims: statements that are checked against runs, and how they came out.

A claim that cannot be evaluated, because a run or a value is missing, is not passed.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf
from typing import Any

import numpy as np

from grok.phases import first_crossing, first_step_held

ENOUGH = 2 / 3  # of the seeds


class Missing(Exception):
    """What a claim needs and the runs do not have."""


@dataclass(frozen=True)
class Run:
    """What a claim may look at. series: steps and values by metric. recipes: the named configs of its
    paper that it was run with, exactly."""

    config: Mapping[str, Any]
    result: Mapping[str, Any]
    series: Mapping[str, tuple[list[int], list[float]]] = field(repr=False)
    recipes: frozenset[str] = frozenset()

    def __getitem__(self, name: str) -> Any:
        """An entry of the result; Missing if there is none."""
        if self.result.get(name) is None:
            raise Missing(f"{name} in the result")
        return self.result[name]

    def logged(self, metric: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps and values of a metric; Missing if it was not logged."""
        if metric not in self.series:
            raise Missing(f"the metric {metric}")
        steps, values = self.series[metric]
        return np.asarray(steps), np.asarray(values, dtype=float)

    def first_step_held(self, metric: str, threshold: float) -> float:
        """First logged step at which the threshold is reached and held at the next; inf if never."""
        found = first_step_held(*self.logged(metric), threshold)
        return inf if found is None else found

    def steps_to_both(self, threshold: float) -> tuple[float, float]:
        """Steps of train and test accuracy to a threshold."""
        return tuple(
            self.first_step_held(f"{part}_accuracy", threshold) for part in ("train", "test")
        )

    def at(self, metric: str, step: float) -> float:
        """The value logged last, up to this step."""
        steps, values = self.logged(metric)
        return float(values[max(np.searchsorted(steps, step, side="right") - 1, 0)])

    def final(self, metric: str) -> float:
        """The value logged last."""
        return float(self.logged(metric)[1][-1])

    def first_crossing(self, metric: str, threshold: float) -> float:
        """The step, between two logged ones if need be, at which a metric first rises to a threshold."""
        return first_crossing(*self.logged(metric), threshold)

    def half_fallen(self, metric: str) -> float:
        """First logged step after its largest value at which a metric is below half of it."""
        steps, values = self.logged(metric)
        top = int(values.argmax())
        below = steps[top:][values[top:] < values[top] / 2]
        return float(below[0]) if len(below) else inf

    def peaks(self, metric: str, steps: Iterable[int]) -> np.ndarray:
        """The largest value within one look of each of these steps, in medians of all values."""
        logged, values = self.logged(metric)
        places = [int(np.searchsorted(logged, step)) for step in steps]
        found = np.array([np.nanmax(values[max(i - 1, 0) : i + 2]) for i in places])
        return found / max(np.nanmedian(np.abs(values)), 1e-30)

    def rates(self, metric: str, steps: Sequence[float]) -> list[float]:
        """Mean change per update from each of these steps to the next; Missing if one never came."""
        if inf in steps:
            raise Missing("all the phases")
        pairs = pairwise(steps)
        return [(self.at(metric, b) - self.at(metric, a)) / (b - a) for a, b in pairs]


class Runs(list[Run]):
    """The runs that a claim is checked on."""

    def where(self, **config) -> "Runs":
        """Those with these config values; Missing if there are none."""
        found = Runs(r for r in self if all(r.config.get(k) == v for k, v in config.items()))
        if not found:
            raise Missing("a run with " + " ".join(f"{k}={v}" for k, v in config.items()))
        return found

    def all(self, *recipes: str) -> "Runs":
        """Those run with one of these named configs, by seed; Missing if there are none."""
        found = Runs(run for run in self if run.recipes & {*recipes})
        found.sort(key=lambda run: run.config.get("seed", 0))
        if not found:
            raise Missing(f"a run with {' or '.join(recipes)}")
        return found

    def one(self, *recipes: str) -> Run:
        """The only one run with one of these named configs; Missing if there are none, or several."""
        found = self.all(*recipes)
        if len(found) > 1:
            raise Missing(f"only one run with {' or '.join(recipes)}")
        return found[0]

    def mean(self, recipe: str, entry: str) -> float:
        """An entry of the result, meaned over the runs with a named config."""
        return float(np.mean([run[entry] for run in self.all(recipe)]))


Verdict = tuple[bool, dict[str, float]]
Check = Callable[[Runs], Verdict]


@dataclass(frozen=True)
class Claim:
    """One statement of a paper.

    says: its sentence, with figure or section. check: runs -> (passed, measured numbers). sweep: the
    sweep file that it is checked on. pooled: on all of the sweep's runs together, not seed by seed.
    report_only: shown, not counted.
    """

    id: str
    says: str
    check: Check
    sweep: str
    pooled: bool = False
    report_only: bool = False


@dataclass(frozen=True)
class Finding:
    """How a claim came out on some runs. why: what was missing, if it could not be evaluated."""

    claim: str
    passed: bool
    measured: dict[str, float]
    why: str | None = None
    seed: int | None = None


def evaluate(claim: Claim, runs: Runs, seed: int | None = None) -> Finding:
    """Check one claim; whatever goes wrong on the way is the reason why it is not passed."""
    try:
        passed, measured = claim.check(runs)
    except Missing as missing:
        return Finding(claim.id, False, {}, f"needs {missing}", seed)
    except Exception as error:  # a run's end must not fail on a claim
        return Finding(claim.id, False, {}, f"{type(error).__name__}: {error}", seed)
    numbers = {name: float(value) for name, value in measured.items()}
    return Finding(claim.id, bool(passed), numbers, None, seed)


def of_sweep(claims: Iterable[Claim], sweep: str, runs: Runs) -> list[Finding]:
    """The claims that are checked on this sweep file: on all runs if pooled, else seed by seed."""
    seeds = sorted({run.config["seed"] for run in runs})
    found = []
    for claim in claims:
        if claim.sweep != sweep:
            continue
        if claim.pooled:
            found.append(evaluate(claim, runs))
        else:
            found += [evaluate(claim, runs.where(seed=seed), seed) for seed in seeds]
    return found


def stands(findings: list[Finding]) -> bool:
    """Whether a claim passed on at least two of three seeds."""
    return bool(findings) and sum(f.passed for f in findings) >= ENOUGH * len(findings) - 1e-9


def numbers(measured: Mapping[str, float]) -> str:
    """Measured numbers in one line; `never` for infinity."""
    return ", ".join(
        f"{name} {'never' if value == inf else f'{value:.4g}'}" for name, value in measured.items()
    )
