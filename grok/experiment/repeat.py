"""A stored run, repeated (equal bit for bit, or up to which step?) or resumed to its end."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sacred.run import Run

from grok.engine.events import Event, Saved
from grok.engine.problem import Problem
from grok.engine.train import train
from grok.errors import UserError
from grok.experiment.environment import differences, environment
from grok.experiment.experiment import Experiment, load, load_registered
from grok.experiment.initial_weights import check_unchanged
from grok.experiment.resume import ResumePoint, check_can_resume, load_resume_point
from grok.store.connection import Store, find_run
from grok.store.documents import RUN_KEYS, commits_of, find_metrics, named_run
from grok.store.observer import check_recorded

Difference = tuple[int, str, float, float]  # step, metric, value then, value now


@dataclass(frozen=True)
class Repetition:
    """How a repeated run compares with the stored one.

    run: the id of the repetition.
    values: the number of logged values that were compared.
    first: the first difference, None if all values are equal.
    environment: what differs in the environment and in the commit of the code, a line each.
    """

    run: int
    values: int
    first: Difference | None
    environment: list[str]


def repeat(store: Store, number: int | str, program: Path | None = None) -> Repetition:
    """Run a stored run again, as a new run, and compare; UserError if it cannot be repeated.

    Arguments:
        program: the file of its experiment; None for the one of this project that the run names.
    """
    run = find_run(store.database, number)
    if run["status"] != "COMPLETED":
        raise UserError(f"run {number} is {run['status']}; only a completed run can be repeated")
    experiment = experiment_of(run, program)
    named = named_runs(run)
    # a named config in `initial_run` means the run that it started from, not the latest of its kind
    config = {**run["config"], **named}
    again = _execute(store, run, experiment, config, named, None, {"repeats": number})
    new = again._id
    assert isinstance(new, int), "a store that has runs gives them numbers"
    values, first = compare(logged_values(store, number), logged_values(store, new))
    changes = differences(run["info"].get("environment", {}), environment())
    then, now = (commits_of(one) for one in (run, find_run(store.database, new)))
    if then and now and then != now:
        changes.append(f"commit: {', '.join(then)} then, {', '.join(now)} now")
    return Repetition(new, values, first, changes)


def resume(store: Store, number: int | str, program: Path | None = None) -> tuple[Run, int]:
    """Bring a run that was cut short to its end, under its own id.

    It goes on from its last checkpoint on this machine, or else from the start, and ends as if it
    had never been interrupted.

    Arguments:
        program: the file of its experiment; None for the one of this project that the run names.

    Returns:
        the Sacred run, and the step from which it went on.

    Raises:
        UserError: the run is complete or still running, or its checkpoint cannot be trusted.
    """
    run = find_run(store.database, number)
    check_can_resume(store, run)
    experiment = experiment_of(run, program)
    point = load_resume_point(store, run)
    ended = _execute(store, run, experiment, run["config"], named_runs(run), point, None)
    return ended, point.step


def _execute(
    store: Store,
    run: Mapping[str, Any],
    experiment: Experiment,
    config: Mapping[str, Any],
    named: Mapping[str, int | str],
    point: ResumePoint | None,
    meta: Mapping[str, Any] | None,
) -> Run:
    """A run of a stored configuration, trained in the slot that the stored run had."""
    config = {**experiment.defaults(), **config}  # a key that was added since has its default
    problem = experiment.problem_of(config, lambda: store, named)
    weights_then = (run["info"].get("initial_weights") or {}).get("sha256")
    check_unchanged(problem, weights_then, run["_id"])
    threads = run["info"].get("environment", {}).get("threads")  # where older runs have it
    # of a run that was killed before its first heartbeat, only the checkpoint knows the program
    recorded = (point and point.program) or run["info"].get("program")
    chosen_anew = {"slot": 0, "slots": 1, "compiled": None, "fused": None}
    program = {"threads": threads, "fused": False, **(recorded or chosen_anew)}
    execution = experiment.execution(
        problem,
        lambda problem: train_in_slot(problem, program, point.saved if point else None),
        point,
        shows_progress=True,
    )
    again = experiment.prepare_run(execution, store, config, (), meta, capture="sys")
    again()
    check_recorded(again)
    return again


def named_runs(run: Mapping[str, Any]) -> dict[str, int | str]:
    """The ids of the runs of this store that the keys of a run's configuration name.

    UserError if that is not known: the number that an imported configuration has is that of another
    run here. A run that was cut short before it said which run its named config means has none.
    """
    named = {}
    for key in RUN_KEYS:
        value, known = run["config"].get(key), named_run(run, key)
        if known is not None:
            named[key] = known
        elif value is not None and not (isinstance(value, str) and "uid" in run):
            raise UserError(
                f"run {run['_id']} was imported without the run that its {key}={value} names"
            )
    return named


def experiment_of(run: Mapping[str, Any], program: Path | None = None) -> Experiment:
    """The experiment of a stored run.

    Arguments:
        program: its file. If it is None, the run must name an experiment of this project: a run may
            have come from an archive, and what it names is not loaded from anywhere else.

    Raises:
        UserError: the run names no experiment of this project, or the experiment no longer has all
            of the run's keys.
    """
    named = (run.get("experiment") or {}).get("mainfile")
    if not named or not run.get("config"):
        raise UserError(f"run {run['_id']} is of no experiment of this project")
    if program is None:
        try:
            experiment = load_registered(named)
        except UserError as error:
            raise UserError(f"run {run['_id']}: {error} (--program FILE names its file)") from error
    else:
        experiment = load(program)
    lost = sorted({*run["config"]} - {*experiment.defaults(), "seed"})
    if lost:
        raise UserError(
            f"run {run['_id']} has config keys that {experiment.path} no longer has: "
            + ", ".join(lost)
        )
    return experiment


def train_in_slot(
    problem: Problem, program: Mapping[str, Any], saved: Saved | None
) -> Iterator[Event]:
    """The events of a replica in the slot of the recorded one, with copies of itself in the others.

    A replica with a fused step is trained alone.

    Arguments:
        program: the recorded `slot`, number of `slots`, whether it was `compiled` or `fused`, and
            `threads`.
        saved: the state to go on from, if any.
    """
    slot, slots = program["slot"], program["slots"]
    if program["fused"]:  # its numbers do not depend on neighbours
        slot, slots = 0, 1
    states = {i: replace(saved, replica=i) for i in range(slots)} if saved else {}
    how = {key: program[key] for key in ("compiled", "fused", "threads")}
    for event in train([problem] * slots, slots, resume=states, **how):
        if event.replica == slot:
            yield replace(event, replica=0)


def logged_values(store: Store, number: int | str) -> dict[str, dict[int, float]]:
    """A run's logged values by metric and step."""
    metrics = find_metrics(store.database.metrics, {"run_id": number})
    return {m["name"]: dict(zip(m["steps"], m["values"], strict=True)) for m in metrics}


def compare(
    first: Mapping[str, Mapping[int, float]], second: Mapping[str, Mapping[int, float]]
) -> tuple[int, Difference | None]:
    """The number of values of the first run, and the earliest value that differs in the second."""
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
