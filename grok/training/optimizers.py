"""Optimizers as pure functions of one replica's tensors; the engine maps them over replicas."""

import torch
from torch import Tensor

from grok.training.problem import Optimizer

Tensors = dict[str, Tensor]

SETTINGS = ("lr", "weight_decay", "beta1", "beta2", "eps", "momentum")
SCHEDULE = ("warmup_steps", "anneal_steps", "lr_floor")
STATE = {"adamw": ("mean", "square"), "adam": ("mean", "square"), "sgd": ("velocity",)}


def settings(optimizer: Optimizer) -> Tensor:
    """The numbers of an optimizer, (groups, 9) float64: SETTINGS, then SCHEDULE."""
    schedule = [float(getattr(optimizer, name)) for name in SCHEDULE]
    rows = [
        [g.lr, g.weight_decay, *g.betas, g.eps, g.momentum, *schedule] for g in optimizer.groups
    ]
    return torch.tensor(rows, dtype=torch.float64)


def initial_state(optimizer: Optimizer, params: Tensors) -> dict[str, Tensors]:
    """Zeros for every accumulator."""
    return {
        key: {name: torch.zeros_like(value) for name, value in params.items()}
        for key in STATE[optimizer.kind]
    }


def learning_rate(row: Tensors, t: Tensor) -> Tensor:
    """Learning rates of update t (from 1): linear warm-up from 0, then constant or a cosine."""
    done = t - 1
    rise = torch.where(row["warmup_steps"] > 0, done / row["warmup_steps"].clamp(min=1), 1.0)
    share = (done / row["anneal_steps"].clamp(min=1)).clamp(max=1.0)
    cosine = row["lr_floor"] + (1 - row["lr_floor"]) * (1 + torch.cos(torch.pi * share)) / 2
    anneal = torch.where(row["anneal_steps"] > 0, cosine, 1.0)
    return row["lr"] * rise.clamp(max=1.0) * anneal


def update(
    optimizer: Optimizer,
    params: Tensors,
    grads: Tensors,
    state: dict[str, Tensors],
    numbers: Tensor,
    t: Tensor,
    goal: Tensors | None = None,
) -> tuple[Tensors, dict[str, Tensors]]:
    """One update of one replica: new parameters and state.

    numbers: from `settings`. t: this update's number, from 1. goal: weights that the decay pulls
    towards, zero if None.
    """
    step = _sgd if optimizer.kind == "sgd" else _adam
    dtype = next(iter(params.values())).dtype
    scalars = _scalars(numbers, t, dtype)
    new_params: Tensors = {}
    new_state: dict[str, Tensors] = {key: {} for key in state}
    for name, value in params.items():
        group = optimizer.group_of(name)
        new_params[name], accumulators = step(
            optimizer.kind,
            value,
            grads[name],
            {key: accumulator[name] for key, accumulator in state.items()},
            {key: scalar[group] for key, scalar in scalars.items()},
            0.0 if goal is None else goal[name],
        )
        for key, accumulator in accumulators.items():
            new_state[key][name] = accumulator
    return new_params, new_state


def _scalars(numbers: Tensor, t: Tensor, dtype: torch.dtype) -> Tensors:
    """Per-group scalars of update t, each (groups,); formed in float64, then cast once."""
    row = dict(zip(SETTINGS + SCHEDULE, numbers.unbind(-1), strict=True))
    lr = learning_rate(row, t)
    scalars = {
        "lr": lr,
        "size": lr / (1 - row["beta1"] ** t),
        "shrink": lr * row["weight_decay"],
        "decay": row["weight_decay"],
        "fresh1": 1 - row["beta1"],
        "beta2": row["beta2"],
        "fresh2": 1 - row["beta2"],
        "unbias": 1 / (1 - row["beta2"] ** t).sqrt(),
        "eps": row["eps"],
        "momentum": row["momentum"],
    }
    return {key: value.to(dtype) for key, value in scalars.items()}


def _adam(kind, value, grad, state, scalar, goal):
    """Adam (Kingma & Ba 2015) with coupled decay, or AdamW (Loshchilov & Hutter 2019)."""
    if kind == "adam":
        grad = grad + scalar["decay"] * value
    else:
        value = value - scalar["shrink"] * (value - goal)
    mean = state["mean"] + (grad - state["mean"]) * scalar["fresh1"]
    square = state["square"] * scalar["beta2"] + grad * grad * scalar["fresh2"]
    value = value - scalar["size"] * (mean / (square.sqrt() * scalar["unbias"] + scalar["eps"]))
    return value, {"mean": mean, "square": square}


def _sgd(kind, value, grad, state, scalar, goal):
    """SGD with momentum, as torch.optim.SGD (dampening 0): v <- mu v + g, w <- w - lr v."""
    decay = scalar["decay"] * (value - goal)
    velocity = scalar["momentum"] * state["velocity"] + grad + decay
    return value - scalar["lr"] * velocity, {"velocity": velocity}
