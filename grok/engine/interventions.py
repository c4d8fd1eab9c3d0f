"""Interventions: changes of a run at a step, or when a metric is at a value.

They are data: a condition is one comparison, and the changes are numbers. They act between two steps
on numbers and tensors that each replica has of its own, so that the step's program is the same with
and without them.
"""

import math
import operator
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch

from grok import randomness
from grok.engine.measure import BURST
from grok.engine.metric_names import metric_names_of
from grok.engine.problem import Problem
from grok.engine.spec import NO_GRADIENT_STEPS, Condition, Intervention, Optimizer
from grok.errors import near_match

STEP = "step"
EVENTS = {"memorized": "train_accuracy", "generalized": "test_accuracy"}
COMPARISONS = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
CONDITION = re.compile(r"\s*([A-Za-z_][\w/.-]*)\s*(>=|<=|>|<)\s*([-+.\deE]+)\s*")
WHEN = 'a step, an event (memorized, generalized), or a comparison such as "test_loss < 0.5"'
ENTRIES = ("when", "set", "parameters", "reset")
AT_LEAST_ZERO, ABOVE_ZERO = "a number of at least 0", "a number above 0"
SETTINGS = {  # what can be set, and what it is set to
    "lr": AT_LEAST_ZERO,
    "weight_decay": AT_LEAST_ZERO,
    "fixed_norm": f"True, False or {ABOVE_ZERO}",
    "temperature": ABOVE_ZERO,
    "grokfast_gain": AT_LEAST_ZERO,
}
OF_PARAMETERS = ("lr", "weight_decay")  # settings that each parameter group has of its own


class InterventionError(ValueError):
    """An entry that is not an intervention.

    expected: what was expected, in words.
    """

    def __init__(self, expected: str):
        super().__init__(expected)
        self.expected = expected


def parse(entry: Mapping[str, Any], threshold: float) -> Intervention:
    """The intervention that an entry of a configuration describes.

    Arguments:
        entry: `when` it happens, and one or more of `set` (new values of SETTINGS), `reset` (True
            puts parameters back to their initial values) and `parameters` (the beginning of the
            names of those that lr, weight_decay and reset act on).
        threshold: the accuracy from which a run has memorized, or generalized.

    Raises:
        InterventionError: it cannot be read.
    """
    for name in entry:
        if name not in ENTRIES:
            raise InterventionError(f"entries of {', '.join(ENTRIES)}, not {name!r}")
    if "when" not in entry:
        raise InterventionError(f"an entry `when`: {WHEN}")
    settings, reset = entry.get("set", {}), entry.get("reset", False)
    parameters = entry.get("parameters", "")
    if not isinstance(settings, Mapping):
        raise InterventionError("`set` to be names and values")
    for name, value in settings.items():
        if name not in SETTINGS:
            near = near_match(str(name), SETTINGS)
            hint = f" (did you mean {near}?)" if near else ""
            raise InterventionError(f"`set` to be of {', '.join(SETTINGS)}, not {name!r}{hint}")
        if not _is_allowed(name, value):
            raise InterventionError(f"{name} to be set to {SETTINGS[name]}, not {value!r}")
    if not isinstance(reset, bool) or not isinstance(parameters, str):
        raise InterventionError("`reset` to be True or False, and `parameters` a name")
    if not settings and not reset:
        raise InterventionError("something to `set`, or `reset`")
    others = [name for name in settings if name not in OF_PARAMETERS]
    if parameters and others:
        raise InterventionError(f"{others[0]} to be set for all parameters alike")
    when = condition(entry["when"], threshold)
    return Intervention(when, tuple(settings.items()), parameters, reset)


def condition(when: Any, threshold: float) -> Condition:
    """The condition that a number of steps, an event or a comparison stands for.

    Raises:
        InterventionError: it is not one.
    """
    if isinstance(when, int) and not isinstance(when, bool) and when >= 0:
        return Condition(STEP, ">=", when)
    if not isinstance(when, str):
        raise InterventionError(f"`when` to be {WHEN}")
    if when in EVENTS:
        return Condition(EVENTS[when], ">=", threshold)
    match = CONDITION.fullmatch(when)
    if match is None:
        raise InterventionError(f"`when` to be {WHEN}")
    metric, comparison, number = match.groups()
    try:
        value = float(number)
    except ValueError:
        raise InterventionError(f"`when` to be {WHEN}") from None
    if metric == STEP and (comparison not in (">=", ">") or value < 0 or value % 1):
        raise InterventionError('a step as in `"when": "step >= 500"`')
    return Condition(metric, comparison, value)


def _is_allowed(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return name == "fixed_norm"
    if not isinstance(value, int | float) or not 0 <= value < math.inf:
        return False
    return value > 0 or SETTINGS[name] == AT_LEAST_ZERO


def add(problem: Problem, interventions: Iterable[Intervention]) -> Problem:
    """The problem with these interventions, and an optimizer whose settings they can change.

    Raises:
        InterventionError: the problem does not have what they change, or wait for.
    """
    interventions = tuple(interventions)
    changed = {name for one in interventions for name, _ in one.settings}
    optimizer = problem.optimizer
    if not optimizer.gradient_steps and changed & {*OF_PARAMETERS}:
        name = next(name for name in OF_PARAMETERS if name in changed)
        raise InterventionError(f"no change of {name}, which is not used: {NO_GRADIENT_STEPS}")
    if "grokfast_gain" in changed and optimizer.grokfast is None:
        raise InterventionError("grokfast_gain to be set in runs with grokfast only")
    names = [name for name, _ in problem.module.named_parameters()]
    for one in interventions:
        if not any(name.startswith(one.parameters) for name in names):
            near = near_match(one.parameters, names) or names[0]
            raise InterventionError(
                f"the beginning of a parameter's name, such as {near}, not {one.parameters!r}"
            )
    _check_metrics(problem, interventions)
    optimizer = replace(
        with_own_groups(optimizer, {one.parameters for one in interventions}),
        norm_changes="fixed_norm" in changed,
    )
    return replace(problem, optimizer=optimizer, interventions=interventions)


def with_own_groups(optimizer: Optimizer, prefixes: Iterable[str]) -> Optimizer:
    """The optimizer with the same numbers, and groups of their own for parameters by prefix."""
    groups = []
    for group in optimizer.groups:
        for prefix in sorted(prefixes, key=len, reverse=True):
            if prefix != group.prefix and prefix.startswith(group.prefix):
                groups.append(replace(group, prefix=prefix))
        groups.append(group)
    return replace(optimizer, groups=tuple(groups))


def _check_metrics(problem: Problem, interventions: Iterable[Intervention]) -> None:
    """InterventionError if one of them waits for a metric that the problem does not have."""
    waited = {one.when.metric for one in interventions} - {STEP}
    measures = problem.measures.measures if problem.measures is not None else ()
    for measure in measures:
        of_it = {name for name in waited if name.partition("/")[0] == measure.name}
        waited -= of_it
        if of_it and measure.when == BURST:
            raise InterventionError(
                f"no metric of {measure.name}, which is not taken at evaluation steps"
            )
        known = metric_names_of(measure, problem) if of_it else None
        if known is not None:
            _check_known(of_it, known)
    _check_known(waited, metric_names(problem) if waited else set())


def _check_known(waited: set[str], known: set[str]) -> None:
    """InterventionError that names the first metric which is not known, and one like it."""
    for name in sorted(waited - known):
        near = near_match(name, known)
        hint = f" (did you mean {near}?)" if near else f": {', '.join(sorted(known))}"
        raise InterventionError(f"a metric of this run{hint}, not {name!r}")


def metric_names(problem: Problem) -> set[str]:
    """The names of the metrics of one number each, without those of instruments."""
    data = dict(problem.data)
    if problem.needs_rng:
        seed, step = (torch.tensor(n, device=problem.device) for n in (problem.seed, 0))
        data["key"] = randomness.key_of(seed, step, 0)
    if problem.needs_previous_params:
        data["previous"] = dict(problem.module.named_parameters())  # type: ignore[assignment]  # a dictionary, as the program's
    with torch.no_grad():
        metrics = problem.metrics(problem.module, data)
    return {name for name, value in metrics.items() if value.ndim == 0} | {"weight_norm"}


def holds(condition: Condition, step: int, metrics: Mapping[str, float]) -> bool:
    """Whether a condition holds after a step.

    Arguments:
        metrics: of this step; empty if it is not an evaluation step.
    """
    values = {STEP: float(step), **metrics}
    value = values.get(condition.metric, math.nan)
    return COMPARISONS[condition.comparison](value, condition.value)


def step_of(condition: Condition) -> int | None:
    """The step at which a condition holds; None if it waits for a metric."""
    if condition.metric != STEP:
        return None
    return int(condition.value) + (condition.comparison == ">")


def describe(change: Intervention) -> str:
    """What an intervention does, in words."""
    settings = [f"{name}={value}" for name, value in change.settings]
    reset = ["reset"] if change.reset else []
    of = f" of {change.parameters}*" if change.parameters else ""
    return ", ".join(settings + reset) + of
