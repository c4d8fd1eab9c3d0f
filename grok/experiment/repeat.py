"""A stored run, run again (equal bit for bit, or not from which step?), or brought to its end."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from sacred.run import Run

from grok.engine.events import Event, Saved
from grok.engine.problem import Problem
from grok.engine.train import train
from grok.errors import UserError
from grok.experiment.environment import differences, environment
from grok.experiment.experiment import MAIN, Paper, load
from grok.experiment.resume import Past, check_ended, past_of
from grok.paths import PROJECT
from grok.store.connection import find_run


@dataclass(frozen=True)
class Verdict:
    """run: the repetition's id. values: how many logged values were compared. first: the first
    differing (step, metric, value then, value now), None if all are equal. environment: what differs."""

    run: int
    values: int
    first: tuple[int, str, float, float] | None
    environment: list[str]


def repeat(store, number: int) -> Verdict:
    """Run a stored run again, as its own new run, and compare; UserError if it cannot be repeated."""
    run = find_run(store.database, number)
    if run["status"] != "COMPLETED":
        raise UserError(f"run {number} is {run['status']}; only a completed run can be repeated")
    paper = paper_of(store, run)
    config = run["config"]
    if "initial_run" in run["info"]:  # that very run, not the latest of its kind
        config = {**config, "initial_run": run["info"]["initial_run"]}
    again = paper.run(MAIN, config_updates=config, meta_info={"repeats": number})
    values, first = compare(series(store, number), series(store, again._id))
    changed = differences(run["info"].get("environment", {}), environment())
    return Verdict(again._id, values, first, changed)


def resume(store, number: int) -> tuple[Run, int]:
    """Bring a run that was killed to its end, under its own id, and the step that it went on from.

    From its last checkpoint on this machine, else from the start: it ends as if never interrupted.
    UserError if it is complete or alive, or its checkpoint cannot be trusted.
    """
    run = find_run(store.database, number)
    check_ended(store, run)
    past = past_of(store, run)
    paper = paper_of(store, run, past)
    paper.past, paper.is_script = past, True
    return paper.run(MAIN, config_updates=run["config"]), past.saved.step if past.saved else 0


def paper_of(store, run: dict[str, Any], past: Past | None = None) -> Paper:
    """The paper of a stored run, made to train it in the place that it had in its program."""
    paper = load(PROJECT / run["experiment"]["mainfile"])
    lost = sorted({*run["config"]} - {*paper.defaults(), "seed"})
    if lost:
        raise UserError(
            f"run {run['_id']} has config keys that {paper.path} no longer has: {', '.join(lost)}"
        )
    paper.store = store
    program = run["info"].get("program", {"slot": 0, "slots": 1, "compiled": None})
    paper.events = lambda problem: alone_as_in(problem, program, past and past.saved)
    return paper


def alone_as_in(problem: Problem, program: dict[str, Any], saved: Saved | None) -> Iterator[Event]:
    """The events of a replica that sits where the recorded one sat, among copies of itself."""
    slot, slots = program["slot"], program["slots"]
    states = {i: replace(saved, replica=i) for i in range(slots)} if saved else {}
    for event in train([problem] * slots, slots, program["compiled"], resume=states):
        if event.replica == slot:
            yield replace(event, replica=0)


def series(store, number: int) -> dict[str, dict[int, float]]:
    """A run's logged values by metric and step."""
    found = store.database.metrics.find({"run_id": number})
    return {m["name"]: dict(zip(m["steps"], m["values"], strict=True)) for m in found}


def compare(first: dict, second: dict) -> tuple[int, tuple[int, str, float, float] | None]:
    """How many values there are, and the first by step that is not the same in both."""
    differing = []
    missing = float("nan")
    for name in sorted({*first, *second}):
        then, now = first.get(name, {}), second.get(name, {})
        for step in sorted({*then, *now}):
            a, b = then.get(step, missing), now.get(step, missing)
            if a != b and not (a != a and b != b and step in then and step in now):
                differing.append((step, name, a, b))
                break
    return sum(map(len, first.values())), min(differing, default=None)
