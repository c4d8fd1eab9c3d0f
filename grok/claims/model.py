"""A paper's claims: statements that are checked on runs, and the findings of these checks.

A claim that cannot be evaluated, because a run or a value is missing, has not passed.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from inspect import cleandoc
from itertools import pairwise
from math import inf, isnan, nan
from typing import Any, Literal

import numpy as np

from grok.claims.statistics import jackknife_interval, wilson_interval
from grok.engine.events import DIVERGED
from grok.experiment.execution import Series
from grok.experiment.experiment import Experiment
from grok.phases import first_crossing, first_step_held

State = Literal["evaluated", "undecided", "not run"]
Word = Literal["passed", "mostly", "failed", "not decided", "not run", "not tried"]


class Missing(Exception):
    """Something that a claim needs and that the runs do not have."""


class Undecided(Exception):
    """Why these runs cannot decide a claim, such as a baseline that never reaches its threshold."""


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
        """The value logged last, up to this step; the first one if all are of later steps."""
        steps, values = self.logged(metric)
        index = int(np.searchsorted(steps, step, side="right")) - 1
        return float(values[max(index, 0)])

    def at_or_after(self, metric: str, step: float) -> float:
        """The value logged first from this step on; Missing if all are of earlier steps."""
        steps, values = self.logged(metric)
        index = int(np.searchsorted(steps, step))
        if index == len(steps):
            raise Missing(f"the metric {metric} from step {step:g} on")
        return float(values[index])

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


class _Unknown(Mapping[str, Any]):
    """The result and the metrics of a run that has diverged or not finished: to read of them is
    Missing."""

    def __init__(self, why: str):
        self.why = why

    def __getitem__(self, name: str) -> Any:
        raise Missing(f"a run that has {self.why}")

    def __iter__(self) -> Iterator[str]:
        raise Missing(f"a run that has {self.why}")

    def __len__(self) -> int:
        raise Missing(f"a run that has {self.why}")


def unfinished_run(
    experiment: Experiment, config: Mapping[str, Any], has_diverged: bool = False
) -> Run:
    """A run that was asked for and has diverged or not finished, as claims see it: its configuration
    alone."""
    unknown = _Unknown("diverged" if has_diverged else "not finished")
    return Run(config, unknown, unknown, experiment.matching_named_configs(config))


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


Outcome = tuple[bool, dict[str, float]]
Check = Callable[["Runs"], Outcome]
# Runs on which a claim must fail: config updates that are applied to the runs of its sweep, or a
# function that changes these runs.
NegativeControl = Mapping[str, Any] | Callable[["Runs"], "Runs"]


@dataclass(frozen=True)
class Claim:
    """One statement of a paper.

    id: its name on the scorecard, such as "03-C1".
    statement: its sentence, and in brackets the figure or section that it is from.
    check: gives from runs whether they agree, and the numbers that were measured.
    sweep: name of the sweep file whose runs it is checked on.
    pooled: it is checked on all runs of the sweep together, not seed by seed.
    effects: if it is pooled, names of the measured numbers that are given with an interval.
    report_only: its sweep is not part of `grok replicate`, because it takes too long.
    control: it is a statement of this project, not of the paper; it is counted apart.
    not_tried: why it has no check, if it has none.
    fails_on: its negative control, runs of one seed on which it must fail. A test checks that it
        does, on runs that `python -m tools.controls` has trained.
    """

    id: str
    statement: str
    check: Check
    sweep: str
    pooled: bool = False
    report_only: bool = False
    control: bool = False
    not_tried: str = ""
    fails_on: NegativeControl | None = None
    effects: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """The outcome of a claim on the runs of one seed, or on all runs if it is pooled.

    claim: the claim's id.
    passed: whether the runs agree with it.
    measured: the numbers that its check gave.
    intervals: the ends of the 95 % confidence intervals of the claim's effects, by name.
    why: why it could not be evaluated or decided, if so.
    seed: the seed, None if the claim is pooled.
    state: whether the check gave an outcome ("evaluated"), which it has not passed if a run has
        diverged; could not decide ("undecided"); or lacks a run that was asked for and has not
        finished ("not run").
    version: of the claim (`grok.claims.versions`); None if it was not determined.
    stated_after: whether that version was registered only after the first of the runs began.
    restated: whether it was registered after another version had been checked on one of the seeds.
    """

    claim: str
    passed: bool
    measured: dict[str, float]
    why: str | None = None
    seed: int | None = None
    state: State = "evaluated"
    version: str | None = None
    stated_after: bool = False
    restated: bool = False
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """What the findings of a claim say together.

    word: "passed" on all seeds; "mostly" on more than half; "not decided" if the undecided seeds
        could still make it pass on more than half; "not run" if no seed was run; else "failed".
    asked, run, passed: the numbers of seeds that were asked for, whose runs finished or diverged, and on
        which the claim passed. A seed that failed to run counts against the claim.
    """

    word: Word
    asked: int
    run: int
    passed: int

    def __str__(self) -> str:
        """The word, with the interval of the fraction of seeds if only most of them passed."""
        if self.word != "mostly":
            return self.word
        low, high = wilson_interval(self.passed, self.asked)
        return f"mostly ({low:.0%} to {high:.0%})"


class Claims(list[Claim]):
    """The claims of one paper, each a decorated function that checks it.

        claim = Claims(ex)

        @claim("03-C1", source="figure 2", fails_on={"weight_decay": 0.0})
        def groks(runs: Runs) -> Outcome:
            "The network generalizes long after it has memorized."
            ...

    The docstring is the statement. When a run ends, the claims that it decides without other runs
    are stored with it.
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
        control: bool = False,
        fails_on: NegativeControl | None = None,
        effects: tuple[str, ...] = (),
    ) -> Callable[[Check], Check]:
        """Decorator of a function that checks one claim: runs -> (passed, measured numbers).

        Arguments:
            id: its name on the scorecard.
            source: figure, table or section of the paper.
            sweep: name of the sweep file whose runs it is checked on; EXPERIMENT_cpu if None.
            pooled: as in Claim.
            report_only: as in Claim.
            control: as in Claim.
            fails_on: as in Claim.
            effects: as in Claim.
        """

        def add(check: Check) -> Check:
            sentence = " ".join(cleandoc(check.__doc__ or "").split("\n\n")[0].split())
            statement = f"{sentence.removesuffix('.')} ({source})"
            where = sweep or f"{self.experiment.path}_cpu"
            self.append(
                Claim(
                    id,
                    statement,
                    check,
                    where,
                    pooled,
                    report_only,
                    control,
                    fails_on=fails_on,
                    effects=effects,
                )
            )
            return check

        return add

    def not_tried(self, id: str, statement: str, source: str, reason: str) -> None:
        """List a claim of the paper that is not checked here.

        Arguments:
            id: its name on the scorecard.
            statement: its sentence.
            source: figure, table or section of the paper.
            reason: why it is not checked, as a sentence.
        """

        def check(runs: Runs) -> Outcome:
            raise Missing("a check")

        self.append(Claim(id, f"{statement} ({source})", check, "", not_tried=reason))

    def _evaluate_alone(
        self, config: Mapping[str, Any], result: Mapping[str, Any], series: Series
    ) -> dict[str, Any]:
        runs = Runs([run_of(self.experiment, config, result, series)])
        is_read = result.get("ended") != DIVERGED
        claims = [one for one in self if is_read and not one.pooled and not one.not_tried]
        findings = [evaluate(claim, runs) for claim in claims]
        return {"claims": [asdict(finding) for finding in findings if finding.why is None]}


def evaluate(claim: Claim, runs: Runs, seed: int | None = None) -> Finding:
    """The outcome of one claim; whatever goes wrong is the reason why it has not passed."""
    try:
        passed, measured = claim.check(runs)
    except Undecided as reason:
        return Finding(claim.id, False, {}, str(reason), seed, "undecided")
    except Missing as missing:
        return Finding(claim.id, False, {}, f"needs {missing}", seed)
    except Exception as error:  # a run's end must not fail on a claim
        return Finding(claim.id, False, {}, f"{type(error).__name__}: {error}", seed)
    numbers = {name: float(value) for name, value in measured.items()}
    return Finding(claim.id, bool(passed), numbers, None, seed)


def evaluate_sweep(
    claims: Iterable[Claim], sweep: str, runs: Runs, unfinished: Sequence[Run] = ()
) -> list[Finding]:
    """The outcomes of the claims that are checked on a sweep file: on all its runs, or seed by seed.

    Arguments:
        claims: those of a paper.
        sweep: name of the sweep file.
        runs: its finished runs.
        unfinished: those that were asked for and have diverged or not finished (`unfinished_run`). A
            claim that reads one of them has not passed on its seed.
    """
    seeds = sorted({run.config["seed"] for run in (*runs, *unfinished)})
    findings = []
    for claim in claims:
        if claim.sweep != sweep or claim.not_tried:
            continue
        if claim.pooled:
            finding = evaluate(claim, runs)
            finding = replace(finding, intervals=_intervals(claim, runs, finding.measured))
            findings.append(_incomplete(finding, unfinished))
            continue
        for seed in seeds:
            of_seed = Runs(run for run in (*runs, *unfinished) if run.config["seed"] == seed)
            finding = evaluate(claim, of_seed, seed)
            if finding.why and finding.state != "undecided":
                left = [run for run in unfinished if run.config["seed"] == seed]
                finding = _incomplete(finding, left)
            findings.append(finding)
    return findings


def _intervals(
    claim: Claim, runs: Runs, measured: Mapping[str, float]
) -> dict[str, tuple[float, float]]:
    """The intervals of a pooled claim's effects: its check again without the runs of each seed."""
    if not measured or not claim.effects:
        return {}
    seeds = sorted({run.config["seed"] for run in runs})
    others = [
        evaluate(claim, Runs(run for run in runs if run.config["seed"] != seed)).measured
        for seed in seeds
    ]
    intervals = {
        name: jackknife_interval(measured[name], [one.get(name, nan) for one in others])
        for name in claim.effects
    }
    return {name: ends for name, ends in intervals.items() if not isnan(ends[0])}


def _incomplete(finding: Finding, unfinished: Sequence[Run]) -> Finding:
    """The finding, which does not count as a pass while runs that it needs have no result."""
    if not unfinished:
        return finding
    whys = Counter(run.result.why for run in unfinished if isinstance(run.result, _Unknown))
    counts = [
        f"1 run has {why}" if count == 1 else f"{count} runs have {why}"
        for why, count in whys.items()
    ]
    state: State = "not run" if "not finished" in whys else "evaluated"
    why = "; ".join(filter(None, [finding.why, *counts]))
    return replace(finding, passed=False, why=why, state=state)


def judge(findings: Sequence[Finding]) -> Verdict:
    """What the findings of one claim say together."""
    asked, passed = len(findings), sum(finding.passed for finding in findings)
    states = [finding.state for finding in findings]
    undecided, run = states.count("undecided"), asked - states.count("not run")
    word: Word
    if not run:
        word = "not run"
    elif passed == asked:
        word = "passed"
    elif 2 * passed > asked:
        word = "mostly"
    elif 2 * (passed + undecided) > asked:
        word = "not decided"
    else:
        word = "failed"
    return Verdict(word, asked, run, passed)


def first_reason(findings: Sequence[Finding]) -> str | None:
    """The first reason why a seed could not be evaluated or decided; None if there is none."""
    return next((finding.why for finding in findings if finding.why), None)


def measured_numbers(findings: Sequence[Finding]) -> dict[str, tuple[float, float, float]]:
    """The numbers that a claim measured: the median over its seeds, the smallest and the largest; or
    the number, and the ends of its interval, if it is an effect of a pooled claim.

    Seeds for which a number is undefined (NaN) are left out, and so is a number that is undefined
    for all of them.
    """
    numbers: dict[str, list[float]] = {}
    for finding in findings:
        for name, value in finding.measured.items():
            if not isnan(value):
                numbers.setdefault(name, []).append(value)
    intervals = {name: ends for finding in findings for name, ends in finding.intervals.items()}
    return {
        name: (float(np.median(values)), *intervals.get(name, (min(values), max(values))))
        for name, values in numbers.items()
    }
