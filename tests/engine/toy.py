"""A small problem for tests of the engine, and what to ask of its events."""

import torch
from torch import nn

from grok.engine.determinism import drawing
from grok.engine.events import Outcome, Record
from grok.engine.problem import Problem, log_steps
from grok.engine.spec import Group, Optimizer
from grok.objectives.losses import squared_error

STEPS = 200


def loss(model, data):
    return squared_error(model(data["inputs"]), data["targets"])


def metrics(model, data):
    return {"train_loss": loss(model, data)}


def problem(seed: int, kind: str = "adamw", lr: float = 1e-3, **settings) -> Problem:
    """A small random regression, different for every seed in data, weights and settings."""
    with drawing(seed, torch.float64):
        module = nn.Sequential(nn.Linear(3, 20), nn.Tanh(), nn.Linear(20, 2))
        data = {"inputs": torch.randn(12, 3), "targets": torch.randn(12, 2)}
    first = Group("0.", lr, weight_decay=0.1 * (seed % 3), momentum=0.9)
    rest = Group("", lr / 2, betas=(0.9, 0.98), momentum=0.5)
    optimizer = Optimizer(kind, (first, rest), warmup_steps=5 * (seed % 2))
    options = {"train_steps": STEPS, "log_steps": log_steps(STEPS, 12), "seed": seed, **settings}
    return Problem(module, data, loss, metrics, optimizer, **options)


def losses(events, replica: int = 0) -> dict[int, float]:
    """Train loss by logged step."""
    return {
        e.step: e.metrics["train_loss"]
        for e in events
        if isinstance(e, Record) and e.replica == replica
    }


def outcome(events, replica: int = 0) -> Outcome:
    return next(e for e in events if isinstance(e, Outcome) and e.replica == replica)
