"""A paper's claims: statements that are checked on runs, and the findings of these checks.

A claim that cannot be evaluated, because a run or a value is missing, has not passed.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from inspect import cleandoc
from itertools import pairwise
from math import inf
from typing import Any

import numpy as np

from grok.experiment.execution import Series
from grok.experiment.experiment import Experiment
from grok.phases import first_crossing, first_step_held

LEAST_PASSED = 2 / 3  # fraction of the seeds on which a claim must pass


class Missing(Exception):
    """Something that a claim needs and that the runs do not have."""


@dataclass(frozen=True)
class Run:
    """A finished run, as claims see it.

    config, result: its configuration and its result.
    series: steps and values of each logged metric.
    named_configs: those that its configuration agrees with.
    """

    config: Mapping[str, Any]
    result: Mapping[str, Any]
    series: Series = field(repr=False)
    named_configs: frozenset[str] = frozenset()

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
        """First logged step at which a metric reaches a threshold and holds it at the next logged step;
        inf if there is none."""
        step = first_step_held(*self.logged(metric), threshold)
        return inf if step is None else step

    def steps_to_both(self, threshold: float) -> tuple[float, float]:
        """`first_step_held` of train and of test accuracy."""
        train, test = (
            self.first_step_held(f"{part}_accuracy", threshold) for part in ("train", "test")
        )
        return train, test

    def at(self, metric: str, step: float) -> float:
        """The value logged last, up to this step."""
        steps, values = self.logged(metric)
        index = int(np.searchsorted(steps, step, side="right")) - 1
        return float(values[max(index, 0)])

    def final(self, metric: str) -> float:
        """The value logged last."""
        return float(self.logged(metric)[1][-1])

    def first_crossing(self, metric: str, threshold: float) -> float:
        """The step at which a metric first rises to a threshold, interpolated between logged steps;
        inf if there is none."""
        return first_crossing(*self.logged(metric), threshold)

    def step_halved(self, metric: str) -> float:
        """First logged step, after its largest value, at which a metric is below half of that value;
        inf if there is none."""
        steps, values = self.logged(metric)
        peak = int(values.argmax())
        below = steps[peak:][values[peak:] < values[peak] / 2]
        return float(below[0]) if len(below) else inf

    def peaks(self, metric: str, steps: Iterable[int]) -> np.ndarray:
        """The largest value within one logged step of each of these steps, divided by the median of all
        absolute values."""
        logged, values = self.logged(metric)
        indices = [int(np.searchsorted(logged, step)) for step in steps]
        largest = np.array([np.nanmax(values[max(i - 1, 0) : i + 2]) for i in indices])
        return largest / max(np.nanmedian(np.abs(values)), 1e-30)

    def rates(self, metric: str, steps: Sequence[float]) -> list[float]:
        """Mean change per step from each of these steps to the next; Missing if one is inf."""
        if inf in steps:
            raise Missing("all the phases")
        pairs = pairwise(steps)
        return [(self.at(metric, b) - self.at(metric, a)) / (b - a) for a, b in pairs]


def run_of(
    experiment: Experiment, config: Mapping[str, Any], result: Mapping[str, Any], series: Series
) -> Run:
    """A finished run of an experiment, as claims see it."""
    return Run(config, result, series, experiment.matching_named_configs(config))


class Runs(list[Run]):
    """The runs that a claim is checked on."""

    def where(self, **config: Any) -> "Runs":
        """The runs with these configuration values; Missing if there are none."""
        runs = Runs(r for r in self if all(r.config.get(k) == v for k, v in config.items()))
        if not runs:
            raise Missing("a run with " + " ".join(f"{k}={v}" for k, v in config.items()))
        return runs

    def all(self, *named_configs: str) -> "Runs":
        """The runs with one of these named configs, by seed; Missing if there are none."""
        runs = Runs(run for run in self if run.named_configs & {*named_configs})
        runs.sort(key=lambda run: run.config.get("seed", 0))
        if not runs:
            raise Missing(f"a run with {' or '.join(named_configs)}")
        return runs

    def one(self, *named_configs: str) -> Run:
        """The only run with one of these named configs; Missing if there are none, or several."""
        runs = self.all(*named_configs)
        if len(runs) > 1:
            raise Missing(f"only one run with {' or '.join(named_configs)}")
        return runs[0]

    def mean(self, named_config: str, entry: str) -> float:
        """The mean of an entry of the result over the runs with a named config."""
        return float(np.mean([run[entry] for run in self.all(named_config)]))


Verdict = tuple[bool, dict[str, float]]
Check = Callable[["Runs"], Verdict]


@dataclass(frozen=True)
class Claim:
    """One statement of a paper.

    id: its name on the scorecard, such as "03-C1".
    statement: its sentence, and in brackets the figure or section that it is from.
    check: gives from runs whether they agree, and the numbers that were measured.
    sweep: name of the sweep file whose runs it is checked on.
    pooled: it is checked on all runs of the sweep together, not seed by seed.
    report_only: it is shown on the scorecard but does not count.
    """

    id: str
    statement: str
    check: Check
    sweep: str
    pooled: bool = False
    report_only: bool = False


@dataclass(frozen=True)
class Finding:
    """The outcome of a claim on some runs. why: what was missing, if it could not be evaluated."""

    claim: str
    passed: bool
    measured: dict[str, float]
    why: str | None = None
    seed: int | None = None


class Claims(list[Claim]):
    """The claims of one paper, each a decorated function that checks it.

        claim = Claims(ex)

        @claim("03-C1", source="figure 2")
        def groks(runs: Runs) -> Verdict:
            "The network generalizes long after it has memorized."
            ...

    The docstring is the statement. When a run ends, the claims that need no other runs are
    evaluated on it and stored with it.
    """

    def __init__(self, experiment: Experiment):
        super().__init__()
        self.experiment = experiment
        experiment.claims = self
        experiment.on_finish(self._evaluate_alone)

    def __call__(
        self,
        id: str,
        source: str,
        sweep: str | None = None,
        pooled: bool = False,
        report_only: bool = False,
    ) -> Callable[[Check], Check]:
        """Decorator of a function that checks one claim: runs -> (passed, measured numbers).

        Arguments:
            id: its name on the scorecard.
            source: figure, table or section of the paper.
            sweep: name of the sweep file whose runs it is checked on; EXPERIMENT_cpu if None.
            pooled: as in Claim.
            report_only: as in Claim.
        """

        def add(check: Check) -> Check:
            sentence = " ".join(cleandoc(check.__doc__ or "").split("\n\n")[0].split())
            statement = f"{sentence.removesuffix('.')} ({source})"
            where = sweep or f"{self.experiment.path}_cpu"
            self.append(Claim(id, statement, check, where, pooled, report_only))
            return check

        return add

    def _evaluate_alone(
        self, config: Mapping[str, Any], result: Mapping[str, Any], series: Series
    ) -> dict[str, Any]:
        runs = Runs([run_of(self.experiment, config, result, series)])
        findings = [evaluate(claim, runs) for claim in self if not claim.pooled]
        return {"claims": [asdict(finding) for finding in findings]}


def evaluate(claim: Claim, runs: Runs, seed: int | None = None) -> Finding:
    """The outcome of one claim; whatever goes wrong is the reason why it has not passed."""
    try:
        passed, measured = claim.check(runs)
    except Missing as missing:
        return Finding(claim.id, False, {}, f"needs {missing}", seed)
    except Exception as error:  # a run's end must not fail on a claim
        return Finding(claim.id, False, {}, f"{type(error).__name__}: {error}", seed)
    numbers = {name: float(value) for name, value in measured.items()}
    return Finding(claim.id, bool(passed), numbers, None, seed)


def evaluate_sweep(claims: Iterable[Claim], sweep: str, runs: Runs) -> list[Finding]:
    """The outcomes of the claims that are checked on a sweep file: on all its runs, or seed by seed."""
    seeds = sorted({run.config["seed"] for run in runs})
    findings = []
    for claim in claims:
        if claim.sweep != sweep:
            continue
        if claim.pooled:
            findings.append(evaluate(claim, runs))
        else:
            findings += [evaluate(claim, runs.where(seed=seed), seed) for seed in seeds]
    return findings


def has_passed(findings: Sequence[Finding]) -> bool:
    """Whether a claim passed on at least two of three seeds."""
    passed = sum(finding.passed for finding in findings)
    return bool(findings) and passed >= LEAST_PASSED * len(findings) - 1e-9
