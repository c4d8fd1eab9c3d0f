"""`grok measures`: the measures there are, and what each costs in an experiment."""

import time
from collections.abc import Mapping
from dataclasses import replace

from rich.table import Table

from grok.engine.instruments import BY_NAME, MEASURES, NEEDS
from grok.engine.measurement import Measure, MeasurementState
from grok.engine.problem import Problem
from grok.engine.train import train
from grok.experiment.experiment import load
from grok.experiment.show import wide_console
from grok.paths import experiment_file

EVALUATIONS = 12  # evaluation steps of a profiled run, after the first


def show(experiment: str | None, named: tuple[str, ...]) -> None:
    """Print all measures, or what each costs in an experiment."""
    table = measures_table() if experiment is None else profile(experiment, named)
    wide_console().print(table)


def measures_table() -> Table:
    """A table of all measures: when each is taken, what it is, and what a run must have for it."""
    table = Table()
    for column in ("measure", "group", "taken", "what it is", "needs"):
        table.add_column(column, no_wrap=column in ("measure", "group"))
    for measure in MEASURES:
        burst = measure.burst
        taken = f"{burst[1]} of {burst[0]} steps" if burst else f"every {measure.when}"
        needs = ", ".join(NEEDS[need] for need in measure.needs)
        table.add_row(measure.name, measure.group, taken, measure.description, needs)
    return table


def profile(experiment: str, named: tuple[str, ...]) -> Table:
    """A table of how often each measure was taken in a short run, and the least time it took.

    Arguments:
        experiment: name of its file.
        named: its named configs.
    """
    paper = load(experiment_file(experiment.removesuffix(".py")))
    config = paper.full_config({"measures": "full", "snapshot_every": 4}, named)
    problem = paper.problem_of(config)
    steps = sorted(problem.log_steps)[: EVALUATIONS + 1]
    short = replace(problem, log_steps=steps, train_steps=steps[-1])
    times: dict[str, list[float]] = {}
    timed = {name: _timed(measure, times) for name, measure in BY_NAME.items()}
    plain = seconds(replace(short, measures=None))
    measured = seconds(short, timed)
    table = Table("measure", "takes", "ms each", title=f"{experiment} {' '.join(named)}")
    for name, durations in sorted(times.items(), key=lambda item: -max(item[1])):
        table.add_row(name, str(len(durations)), f"{1000 * min(durations):.2f}")
    table.caption = f"{steps[-1]} steps: {plain:.1f} s without measures, {measured:.1f} s with"
    return table


def _timed(measure: Measure, times: dict[str, list[float]]) -> Measure:
    """The measure, timed; its bursts are shortened so that a short run has some."""

    def compute(state: MeasurementState) -> dict[str, float]:
        began = time.perf_counter()
        values = measure.compute(state)
        if values:
            times.setdefault(measure.name, []).append(time.perf_counter() - began)
        return values

    return replace(measure, compute=compute, burst=measure.burst and (4, 3))


def seconds(problem: Problem, measures: Mapping[str, Measure] = BY_NAME) -> float:
    """The seconds that training a problem takes, uncompiled."""
    began = time.perf_counter()
    for _ in train([problem], compiled=False, measures=measures):
        pass
    return time.perf_counter() - began
