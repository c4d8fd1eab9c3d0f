"""The run that another one begins from: `initial_run`."""

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
from grok.engine.problem import Problem
from grok.errors import UserError
from grok.experiment.validation import ConfigError
from grok.store import connection as stores
from grok.store.connection import Store


@dataclass(frozen=True)
class Ancestor:
    """A stored run that another one begins from."""

    store: Store
    number: int

    @cached_property
    def run(self) -> Mapping[str, Any]:
        """Its document; UserError if there is none."""
        return stores.find_run(stores.require_database(self.store), self.number)

    @property
    def seed(self) -> int:
        """What its initial weights, among others, were drawn from."""
        return self.run["config"]["seed"]

    def after(self, event: str, delay: int) -> int:
        """`delay` updates after an event of its result; UserError if it never happened."""
        found = (self.run["result"] or {}).get(event)
        if found is None:
            raise UserError(f"run {self.number}, the initial_run, has no {event}")
        return found + delay

    def final(self) -> dict[str, Tensor]:
        """The weights that it ended with; UserError if it kept none."""
        return stores.final_weights(self.store, self.number)

    def at(self, step: float) -> tuple[int, dict[str, Tensor]]:
        """The first step from `step` on whose weights it has kept, and they; UserError if there is none."""
        content = stores.artifact(
            stores.require_database(self.store), self.number, "trajectory.npz"
        )
        with np.load(io.BytesIO(content), allow_pickle=False) as kept:
            weights = below(kept, WEIGHTS)
            place = int(np.searchsorted(kept["steps"], step))
            if place == len(kept["steps"]) or not weights:
                raise UserError(f"run {self.number} has kept no weights from step {step} on")
            found = {name: torch.from_numpy(values[place]) for name, values in weights.items()}
            return int(kept["steps"][place]), found


def latest(
    store: Store, paper: str, recipe: str, seed: int, recipes_of: Callable[[Mapping], frozenset]
) -> Ancestor:
    """A paper's latest finished run with a named config and seed; UserError if there is none."""
    wanted = {"experiment.name": paper, "config.seed": seed, "status": "COMPLETED"}
    runs = stores.require_database(store).runs.find(wanted, {"config": 1}).sort("_id", -1)
    found = next((run["_id"] for run in runs if recipe in recipes_of(run["config"])), None)
    if found is None:
        first = f"python experiments/{paper}.py with {recipe} seed={seed}"
        raise UserError(f"initial_run={recipe}: run this first: {first}")
    return Ancestor(store, found)


def fitting(c: SimpleNamespace, problem: Problem, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The ancestor's weights; ConfigError unless the problem's have their names and shapes."""
    wanted = {name: p.shape for name, p in problem.module.named_parameters()}
    if {name: w.shape for name, w in weights.items()} != wanted:
        expected = "a run with weights of these names and shapes"
        raise ConfigError("initial_run", c.initial_run, expected)
    return weights


def go_on(c: SimpleNamespace, problem: Problem, ancestor: Ancestor) -> Problem:
    """The problem with the ancestor's final weights; ConfigError if they do not fit."""
    weights = fitting(c, problem, ancestor.final())
    problem.module.load_state_dict(weights, strict=False)  # buffers are the module's own
    return problem
