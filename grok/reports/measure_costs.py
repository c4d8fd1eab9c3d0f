"""`grok measures`: the measures there are, and what each costs in an experiment."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich.table import Table

from grok.engine.instruments import BY_NAME, GROUPS, GROUPS_WITH_OWN, MEASURES, NEEDS
from grok.engine.measure import BURST, Measure
from grok.engine.measurement import MeasurementState
from grok.engine.problem import Problem
from grok.engine.train import train
from grok.experiment.experiment import load
from grok.experiment.show import wide_console
from grok.paths import experiment_file

EVALUATIONS = 12  # evaluation steps of a profiled run, after the first
CHOICES = ("minimal", "observers", "interventions")  # groups that say how many are wanted


def show(
    name: str | None,
    experiment: str | None,
    named: tuple[str, ...],
    own: Mapping[str, Sequence[str]] = {},
) -> None:
    """Print all measures, the options of one, or what each costs in an experiment.

    Arguments:
        own: measures that experiments define, by name, with the names of these experiments.
    """
    console = wide_console()
    if experiment is not None:
        console.print(profile(experiment, named))
    elif name is None:
        console.print(measures_table([one for each in own for one in own_measures(each, own)]))
    elif name in BY_NAME:
        console.print(options_table(BY_NAME[name]))
    else:
        for measure in own_measures(name, own):
            console.print(options_table(measure))


def own_measures(name: str, own: Mapping[str, Sequence[str]]) -> list[Measure]:
    """The measures of this name that experiments define; their group is "own (EXPERIMENT)"."""
    papers = {experiment: load(experiment_file(experiment)) for experiment in own[name]}
    return [
        replace(paper.instruments[name], group=f"own ({experiment})")
        for experiment, paper in papers.items()
        if name in paper.instruments
    ]


def measures_table(own: Sequence[Measure] = ()) -> Table:
    """A table of all measures: when each is taken, what it is, what it needs, and its options.

    Arguments:
        own: measures that experiments define, which come last.
    """
    table = Table(caption="\n".join(f"{name}: {', '.join(GROUPS[name])}" for name in CHOICES))
    columns = ("measure", "group", "taken", "what it is", "needs", "options")
    for column in columns:
        table.add_column(column, no_wrap=column in ("measure", "group"))
    for measure in (*MEASURES, *own):
        taken = f"every {measure.when}"
        if measure.when == BURST:
            taken = f"{measure.options['burst'].value} of {measure.every} steps"
        needs = ", ".join(NEEDS[need] for need in measure.needs)
        options = ", ".join(measure.options)
        table.add_row(measure.name, measure.group, taken, measure.description, needs, options)
    return table


def options_table(measure: Measure) -> Table:
    """A table of a measure's options, with what it is and needs."""
    needs = [NEEDS[need] for need in measure.needs]
    groups = [name for name, names in GROUPS.items() if measure.name in names]
    if measure.name not in BY_NAME:
        groups = [measure.group, *GROUPS_WITH_OWN]
    table = Table("option", "default", "value", "meaning")
    table.title = f"{measure.name}: {measure.description}"
    table.caption = "\n".join(
        [
            f"groups: {', '.join(groups)}",
            *([f"needs {', '.join(needs)}"] if needs else []),
            f"set by: measure_options.{measure.name}.{next(iter(measure.options))}=VALUE",
        ]
    )
    for name, option in measure.options.items():
        default = list(option.value) if isinstance(option.value, tuple) else option.value
        table.add_row(name, str(default), option.expected(), option.meaning)
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
    assert short.measures is not None, "some measures fit every problem"
    timed = tuple(_timed(measure, times) for measure in short.measures.measures)
    plain = seconds(replace(short, measures=None))
    measured = seconds(replace(short, measures=replace(short.measures, measures=timed)))
    table = Table("measure", "takes", "ms each", title=f"{experiment} {' '.join(named)}")
    for name, durations in sorted(times.items(), key=lambda item: -max(item[1])):
        table.add_row(name, str(len(durations)), f"{1000 * min(durations):.2f}")
    table.caption = f"{steps[-1]} steps: {plain:.1f} s without measures, {measured:.1f} s with"
    return table


def _timed(measure: Measure, times: dict[str, list[float]]) -> Measure:
    """The measure, timed; its bursts are shortened so that a short run has some."""

    def compute(state: MeasurementState, **values: Any) -> Mapping[str, float]:
        began = time.perf_counter()
        metrics = measure.compute(state, **values)
        if metrics:
            times.setdefault(measure.name, []).append(time.perf_counter() - began)
        return metrics

    if measure.when == BURST:
        measure = measure.with_option("every", 4).with_option("burst", 3)
    return replace(measure, compute=compute)


def seconds(problem: Problem) -> float:
    """The seconds that training a problem takes, uncompiled."""
    began = time.perf_counter()
    for _ in train([problem], compiled=False):
        pass
    return time.perf_counter() - began
