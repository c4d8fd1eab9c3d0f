"""The runs of a sweep's points, grouped by which can train as one program."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from grok.engine import denormals
from grok.engine.problem import Problem
from grok.engine.threads import single_thread
from grok.engine.train import choose_slots, runnable_program
from grok.experiment.experiment import Connect
from grok.experiment.resume import ResumePoint
from grok.store import connection
from grok.sweep.file import SweepFile
from grok.sweep.search import Point

PROBE_STEPS = 200  # that `estimate` times
MOST_PARTS = 8  # of a group: each has fewer runs to take the places of those that end early


@dataclass
class PlannedRun:
    """A run that has not started.

    Attributes:
        number: The number of its point in the sweep.
        updates: Config updates, the seed included.
        problem: What it trains.
        resume_point: Where it resumes, if it was begun before.
    """

    number: int
    updates: dict[str, Any]
    problem: Problem
    resume_point: ResumePoint | None = None


@dataclass
class Part:
    """Runs that train as one program, independently of all others.

    Attributes:
        runs: The runs.
        slots: How many of them train at once.
        steps: How many steps, one after the other, its group of runs makes.
        threads: Threads of the CPU; None to choose.
    """

    runs: list[PlannedRun]
    slots: int
    steps: float
    threads: int | None = None

    @property
    def device(self) -> torch.device:
        """Where the runs train."""
        return self.runs[0].problem.device


def plan(
    file: SweepFile, points: dict[int, Point], connect: Connect = connection.connect
) -> list[list[PlannedRun]]:
    """The runs of these points, in groups that can train as one program.

    Arguments:
        points: Points of the sweep, by number.
        connect: Gives the store, if a point starts from a stored run.

    Raises:
        UserError: A point's configuration is wrong.
    """
    return group_by_program(
        plan_run(file, number, point, connect) for number, point in points.items()
    )


def plan_run(
    file: SweepFile, number: int, point: Point, connect: Connect = connection.connect
) -> PlannedRun:
    """The run of one point; UserError if its configuration is wrong."""
    updates = file.updates(point)
    if "seed" not in updates:
        updates["seed"] = default_seed(file)
    config = file.experiment.full_config(updates, file.named_configs)
    problem = file.experiment.problem_of(config, connect)
    file.experiment.check_read(updates, file.named_configs, config, problem)
    return PlannedRun(number, updates, problem)


def group_by_program(runs: Iterable[PlannedRun]) -> list[list[PlannedRun]]:
    """The runs in groups that can train as one program, ordered by each group's first run."""
    groups: dict[tuple, list[PlannedRun]] = {}
    for run in runs:
        groups.setdefault(run.problem.signature(), []).append(run)
    return list(groups.values())


def split(groups: Iterable[list[PlannedRun]], slots: int | None) -> list[Part]:
    """The parts of these groups, each of which may train in a process of its own.

    They depend on the groups and on `slots` alone, so that the numbers of a run do not depend on how
    many processes there are. If there are several parts, each trains with one thread.

    Arguments:
        groups: Runs that can train as one program.
        slots: How many runs train at once, or None to choose.
    """
    parts = []
    for group in groups:
        at_once = slots_of(group, slots)
        is_gpu = group[0].problem.device.type == "cuda"
        count = 1 if is_gpu else min(MOST_PARTS, max(1, len(group) // at_once))
        # runs that are neighbours in a grid take similar numbers of steps: spread over the parts
        steps = sum(run.problem.train_steps for run in group) / at_once
        parts += [Part(group[first::count], at_once, steps) for first in range(count)]
    if len(parts) > 1:
        for part in parts:
            part.threads = single_thread()
    return parts


def default_seed(file: SweepFile) -> int:
    """The seed that the sweep's named configs or command fix, else 0."""
    if "seed" in file.fixed:
        return file.fixed["seed"]
    return file.experiment.default_seed(file.named_configs)


def slots_of(group: list[PlannedRun], slots: int | None) -> int:
    """How many runs of the group train at once: `slots`, or a number that suits the machine."""
    return min(slots or choose_slots(group[0].problem), len(group))


def estimate(part: Part) -> float:
    """Seconds that the part takes without early stopping, from a short trial.

    Instruments and the storing of runs are not counted.
    """
    problems = [run.problem for run in part.runs]
    count = part.slots
    denormals.set_for(problems)
    started = time.perf_counter()
    program = runnable_program(problems, count, threads=part.threads, steps=part.steps)
    count = program.slots  # one, of a model that trains one run after the other
    for slot in range(count):
        program.load(slot, problems[slot])
    program.step()
    program.evaluate(range(count))
    warmed_up = time.perf_counter()
    left = PROBE_STEPS
    while left > 0:
        left -= program.advance(left, range(count))
    trained = time.perf_counter()
    program.evaluate(range(count))
    evaluated = time.perf_counter()
    steps = sum(problem.train_steps for problem in problems) / count
    evaluations = sum(len(problem.log_steps) for problem in problems) / count
    training = (trained - warmed_up) / PROBE_STEPS * steps
    return warmed_up - started + training + (evaluated - trained) * evaluations
