"""Which points of a sweep can share a program."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from grok.engine.problem import Problem
from grok.engine.program import Program
from grok.engine.train import choose_slots, decide_compiled
from grok.experiment.experiment import Connect
from grok.experiment.resume import ResumePoint
from grok.store import connection
from grok.sweep.file import SweepFile
from grok.sweep.search import Point

PROBE_STEPS = 200


@dataclass
class Planned:
    """One run to be: its number in the sweep, config updates (seed included), and problem; what it
    has behind it, if it was begun before."""

    number: int
    updates: dict[str, Any]
    problem: Problem
    resume_point: ResumePoint | None = None


def plan(
    file: SweepFile, points: dict[int, Point], connect: Connect = connection.connect
) -> list[list[Planned]]:
    """The points, grouped by what they can share; groups in the order of their first point.

    UserError, before anything has run, if a point's configuration is wrong.
    """
    return grouped(planned(file, number, point, connect) for number, point in points.items())


def planned(
    file: SweepFile, number: int, point: Point, connect: Connect = connection.connect
) -> Planned:
    """One point's run; UserError if its configuration is wrong."""
    updates = file.updates(point)
    if "seed" not in updates:
        updates["seed"] = default_seed(file)
    config = file.experiment.full_config(updates, file.named_configs)
    return Planned(number, updates, file.experiment.problem_of(config, connect))


def grouped(runs: Iterable[Planned]) -> list[list[Planned]]:
    """The runs by what they can share, in the order of each group's first."""
    groups: dict[tuple, list[Planned]] = {}
    for one in runs:
        groups.setdefault(one.problem.signature(), []).append(one)
    return list(groups.values())


def default_seed(file: SweepFile) -> int:
    """The seed that the sweep's named configs or command fix, else 0."""
    if "seed" in file.fixed:
        return file.fixed["seed"]
    seeds = [file.experiment.named_configs[name]().get("seed") for name in file.named_configs]
    return next((seed for seed in reversed(seeds) if seed is not None), 0)


def slots_of(group: list[Planned], slots: int | None) -> int:
    """How many of the group train at once."""
    return min(slots or choose_slots(group[0].problem), len(group))


def estimate(group: list[Planned], slots: int | None) -> float:
    """Seconds that the group takes at most (nobody retires early), from a short trial of it."""
    problems = [one.problem for one in group]
    count = slots_of(group, slots)
    began = time.perf_counter()
    program = Program(problems[0], count, set(), decide_compiled(problems, count))
    for slot in range(count):
        program.load(slot, problems[slot])
    program.step()
    warm = time.perf_counter()
    for _ in range(PROBE_STEPS):
        program.step()
    per_step = (time.perf_counter() - warm) / PROBE_STEPS / count
    return warm - began + per_step * sum(problem.train_steps for problem in problems)
