"""`grok measures`: which there are, and what each costs in an experiment."""

import time
from dataclasses import replace

from rich.console import Console
from rich.table import Table

from grok.engine.instruments import MEASURES, NEEDS, Measure
from grok.engine.measurement import Watch
from grok.engine.problem import Problem
from grok.engine.train import train
from grok.experiment.experiment import load
from grok.paths import PROJECT

LOOKS = 12  # of a profiled run


def show(experiment: str | None, named: tuple[str, ...]) -> None:
    """Print all measures, or what each costs in an experiment."""
    if experiment is None:
        table = Table("measure", "group", "taken", "what it is", "needs")
        for one in MEASURES:
            taken = (
                f"{one.burst[1]} of {one.burst[0]} updates" if one.burst else f"every {one.when}"
            )
            needs = ", ".join(NEEDS[need] for need in one.needs)
            table.add_row(one.name, one.group, taken, one.says, needs)
        Console().print(table)
        return
    Console().print(profile(experiment, named))


def profile(experiment: str, named: tuple[str, ...]) -> Table:
    """How often every measure was taken in a short run, and the milliseconds of its quickest taking."""
    paper = load(PROJECT / "experiments" / f"{experiment.removesuffix('.py')}.py")
    config = paper.config_of({"measures": "full", "snapshot_every": 4}, named)
    problem = paper.problem_of(config)
    looks = sorted(problem.log_steps)[: LOOKS + 1]
    short = replace(problem, log_steps=looks, train_steps=looks[-1])
    times: dict[str, list[float]] = {}
    timed = tuple(_timed(measure, times) for measure in problem.watching.measures)
    plain = seconds(replace(short, watching=None))
    measured = seconds(replace(short, watching=replace(problem.watching, measures=timed)))
    table = Table("measure", "takes", "ms each", title=f"{experiment} {' '.join(named)}")
    for name, spent in sorted(times.items(), key=lambda item: -max(item[1])):
        table.add_row(name, str(len(spent)), f"{1000 * min(spent):.2f}")
    table.caption = f"{looks[-1]} updates: {plain:.1f} s without measures, {measured:.1f} s with"
    return table


def _timed(measure: Measure, times: dict[str, list[float]]) -> Measure:
    """The measure with a clock, its bursts drawn together."""

    def take(watch: Watch) -> dict:
        began = time.perf_counter()
        found = measure.take(watch)
        if found:
            times.setdefault(measure.name, []).append(time.perf_counter() - began)
        return found

    return replace(measure, take=take, burst=measure.burst and (4, 3))


def seconds(problem: Problem) -> float:
    """What training a problem takes, uncompiled."""
    began = time.perf_counter()
    for _ in train([problem], compiled=False):
        pass
    return time.perf_counter() - began
