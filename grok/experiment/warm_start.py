"""The run that another one starts from: `initial_run`."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from grok.engine.checkpoint import below
from grok.engine.events import WEIGHTS
from grok.engine.functional import learned
from grok.engine.problem import Problem
from grok.errors import UserError
from grok.experiment.validation import ConfigError
from grok.store import connection
from grok.store.connection import Store


@dataclass(frozen=True)
class ParentRun:
    """A stored run that another run starts from."""

    store: Store
    number: int | str

    @cached_property
    def document(self) -> Mapping[str, Any]:
        """Its stored document; UserError if there is none."""
        return connection.find_run(connection.require_database(self.store), self.number)

    @property
    def seed(self) -> int:
        """The seed of its initial weights, among other things."""
        return self.document["config"]["seed"]

    def step_after(self, event: str, delay: int) -> int:
        """The step `delay` after an event in its result; UserError if the event never happened.

        Arguments:
            event: an entry of the result, such as "steps_to_test".
            delay: number of steps; negative for a step before the event.
        """
        step = (self.document["result"] or {}).get(event)
        if step is None:
            raise UserError(f"run {self.number}, the initial_run, has no {event}")
        return step + delay

    def final_weights(self) -> dict[str, Tensor]:
        """The weights that it ended with; UserError if it kept none."""
        return connection.final_weights(self.store, self.number)

    def weights_at(self, step: float) -> tuple[int, dict[str, Tensor]]:
        """The weights at the first kept step from `step` on, and that step; UserError if none is kept."""
        database = connection.require_database(self.store)
        content = connection.artifact(database, self.number, "trajectory.npz")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            weights = below(arrays, WEIGHTS)
            index = int(np.searchsorted(arrays["steps"], step))
            if index == len(arrays["steps"]) or not weights:
                raise UserError(f"run {self.number} has kept no weights from step {step} on")
            return int(arrays["steps"][index]), {
                name: torch.from_numpy(values[index]) for name, values in weights.items()
            }


def latest_run(
    store: Store,
    experiment: str,
    named_config: str,
    seed: int,
    matching_named_configs: Callable[[Mapping[str, Any]], frozenset[str]],
) -> ParentRun:
    """An experiment's latest complete run with a named config and seed; UserError if there is none."""
    wanted = {"experiment.name": experiment, "config.seed": seed, "status": "COMPLETED"}
    runs = connection.require_database(store).runs.find(wanted, {"config": 1}).sort("_id", -1)
    for run in runs:
        if named_config in matching_named_configs(run["config"]):
            return ParentRun(store, run["_id"])
    first = f"python experiments/{experiment}.py with {named_config} seed={seed}"
    raise UserError(f"initial_run={named_config}: run this first: {first}")


def check_fit(c: SimpleNamespace, problem: Problem, weights: Mapping[str, Tensor]) -> None:
    """ConfigError unless the parent run's weights have the names and shapes of the problem's."""
    expected = {name: tensor.shape for name, tensor in learned(problem.module).items()}
    if {name: w.shape for name, w in weights.items()} != expected:
        raise ConfigError(
            "initial_run", c.initial_run, "a run with weights of these names and shapes"
        )


def load_parent_weights(c: SimpleNamespace, problem: Problem, parent: ParentRun) -> Problem:
    """The problem with its parent run's final weights; ConfigError if they do not fit."""
    weights = parent.final_weights()
    check_fit(c, problem, weights)
    problem.module.load_state_dict(weights, strict=False)  # other buffers are its own
    return problem
