"""Optimizers as pure functions of one replica's tensors; the engine maps them over replicas."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from grok.engine.spec import Optimizer
from grok.randomness import normal
from grok.tensors import Tensors

SETTINGS = ("lr", "weight_decay", "beta1", "beta2", "eps", "momentum")
SCHEDULE = ("warmup_steps", "anneal_steps", "lr_floor", "anneal_every")
STATE = {"adamw": ("mean", "square"), "adam": ("mean", "square"), "sgd": ("velocity",)}


def settings(optimizer: Optimizer) -> np.ndarray:
    """The numbers of an optimizer, (groups, 10) float64: SETTINGS, then SCHEDULE."""
    schedule = [float(getattr(optimizer, name)) for name in SCHEDULE]
    return np.array(
        [[g.lr, g.weight_decay, *g.betas, g.eps, g.momentum, *schedule] for g in optimizer.groups]
    )


def initial_state(optimizer: Optimizer, params: Tensors) -> dict[str, Tensors]:
    """Zeros for every accumulator."""
    return {
        key: {name: torch.zeros_like(value) for name, value in params.items()}
        for key in STATE[optimizer.kind]
    }


SCALARS = (
    "lr",
    "size",
    "shrink",
    "decay",
    "fresh1",
    "beta2",
    "fresh2",
    "unbias",
    "eps",
    "momentum",
    "t",
)


def scalars(numbers: np.ndarray, t: np.ndarray) -> np.ndarray:
    """What the updates number t (from 1) multiply by, SCALARS along the last axis.

    numbers: (..., 10) from `settings`; t broadcasts against its leading axes. Computed ahead, outside
    the compiled step, which would otherwise repeat it for every vector of weights.
    """
    row = dict(zip(SETTINGS + SCHEDULE, np.moveaxis(numbers, -1, 0), strict=True))
    lr = learning_rate(row, t)
    columns = {
        "lr": lr,
        "size": lr / (1 - row["beta1"] ** t),
        "shrink": lr * row["weight_decay"],
        "decay": row["weight_decay"],
        "fresh1": 1 - row["beta1"],
        "beta2": row["beta2"],
        "fresh2": 1 - row["beta2"],
        "unbias": 1 / np.sqrt(1 - row["beta2"] ** t),
        "eps": row["eps"],
        "momentum": row["momentum"],
        "t": t,
    }
    return np.stack(np.broadcast_arrays(*(columns[name] for name in SCALARS)), axis=-1)


def learning_rate(row: dict[str, np.ndarray], t: np.ndarray) -> np.ndarray:
    """Learning rates of the updates t (from 1): linear warm-up from 0, then constant or a cosine."""
    done = t - 1
    warmup, anneal = row["warmup_steps"], row["anneal_steps"]
    rise = np.where(warmup > 0, np.minimum(done / np.maximum(warmup, 1), 1.0), 1.0)
    stairs = done // row["anneal_every"] * row["anneal_every"]
    share = np.minimum(stairs / np.maximum(anneal, 1), 1.0)
    cosine = row["lr_floor"] + (1 - row["lr_floor"]) * (1 + np.cos(np.pi * share)) / 2
    return row["lr"] * rise * np.where(anneal > 0, cosine, 1.0)


def gradient(
    optimizer: Optimizer, of: Callable[[Tensors], Tensors], params: Tensors, keys: Tensors
) -> Tensors:
    """The gradient that `of` gives: at the weights, at noisy ones, or at SAM's worst near ones."""
    if optimizer.weight_noise:
        std, key = optimizer.weight_noise, keys["weight_noise"]
        params = {
            name: value + std * normal(key + index, value.shape, value.dtype)
            for index, (name, value) in enumerate(params.items())
        }
    grads = of(params)
    if not optimizer.sam_rho:
        return grads
    norm = sum((g**2).sum() for g in grads.values()).sqrt()
    return of({k: v + optimizer.sam_rho / (norm + 1e-12) * grads[k] for k, v in params.items()})


def update(
    optimizer: Optimizer,
    params: Tensors,
    grads: Tensors,
    state: dict[str, Tensors],
    rates: Tensor,
    goal: Tensors | None = None,
    keys: Tensors | None = None,
) -> tuple[Tensors, dict[str, Tensors]]:
    """One update of one replica: new parameters and state.

    rates: (groups, 11) of this update, from `scalars`. goal: weights that the decay pulls towards,
    zero if None. keys: of the noise, by name.
    """
    if optimizer.clip_norm:
        factor = (optimizer.clip_norm / norm_of(grads).clamp(min=1e-300)).clamp(max=1)
        grads = {name: (grad * factor).to(grad.dtype) for name, grad in grads.items()}
    if optimizer.orthogonal:
        grads = {name: across(grad, params[name]) for name, grad in grads.items()}
    step = _sgd if optimizer.kind == "sgd" else _adam
    named = [dict(zip(SCALARS, row.unbind(), strict=True)) for row in rates.unbind()]
    new_params: Tensors = {}
    new_state: dict[str, Tensors] = {key: {} for key in state}
    for index, (name, value) in enumerate(params.items()):
        noise = 0.0
        if optimizer.update_noise:
            key = keys["update_noise"] + index
            noise = optimizer.update_noise * normal(key, value.shape, value.dtype)
        new_params[name], accumulators = step(
            optimizer.kind,
            value,
            grads[name],
            {key: accumulator[name] for key, accumulator in state.items()},
            named[optimizer.group_of(name)],
            0.0 if goal is None else goal[name],
            noise,
        )
        for key, accumulator in accumulators.items():
            new_state[key][name] = accumulator
    return new_params, new_state


def norm_of(params: Tensors) -> Tensor:
    """Euclidean norm of all parameters together, in float64."""
    return sum((value.double() ** 2).sum() for value in params.values()).sqrt()


def across(grad: Tensor, weights: Tensor) -> Tensor:
    """The gradient without its part along the weights, as long as it was (Prieto et al. 2025)."""
    tiny = torch.finfo(grad.dtype).tiny
    left = grad - (weights * grad).sum() / (weights**2).sum().clamp(min=tiny) * weights
    return left * (grad.norm() / left.norm().clamp(min=tiny))


def _adam(kind, value, grad, state, scalar, goal, noise):
    """Adam (Kingma & Ba 2015) with coupled decay, or AdamW (Loshchilov & Hutter 2019)."""
    if kind == "adam":
        grad = grad + scalar["decay"] * value
    else:
        value = value - scalar["shrink"] * (value - goal)
    mean = state["mean"] + (grad - state["mean"]) * scalar["fresh1"]
    square = state["square"] * scalar["beta2"] + grad * grad * scalar["fresh2"]
    direction = mean / (square.sqrt() * scalar["unbias"] + scalar["eps"])
    value = value - scalar["size"] * direction - scalar["lr"] * noise
    return value, {"mean": mean, "square": square}


def _sgd(kind, value, grad, state, scalar, goal, noise):
    """SGD with momentum, as torch.optim.SGD (dampening 0): v <- mu v + g, w <- w - lr v."""
    decay = scalar["decay"] * (value - goal)
    velocity = scalar["momentum"] * state["velocity"] + grad + decay
    return value - scalar["lr"] * (velocity + noise), {"velocity": velocity}
