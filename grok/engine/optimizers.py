"""Optimizers as pure functions of one replica's tensors; the engine maps them over replicas.

The way of a hyperparameter such as `lr`: `Group.lr` -> `hyperparameters(optimizer).lr`, one number
per parameter group -> `step_scalars`, computed for many steps at once -> a row of a tensor, read
back as `StepScalars` in `update`.
"""

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from grok.engine.spec import Optimizer
from grok.randomness import normal
from grok.tensors import Tensors

Value = TypeVar("Value")
ACCUMULATORS = {
    "adamw": ("mean", "square"),
    "adam": ("mean", "square"),
    "sgd": ("velocity",),
    "lion": ("mean",),
    "muon": ("mean", "square"),  # of the matrices that Muon updates, square stays zero
}
# Of the polynomial s -> a s + b s^3 + c s^5 that moves singular values to about 1 (Jordan et al. 2024,
# "Muon: An optimizer for hidden layers in neural networks").
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5
NEWTON_SCHULZ_EPS = 1e-7


class Hyperparameters(NamedTuple):
    """The numbers of an optimizer, each (groups,) float64, or (R, groups) of R replicas."""

    lr: np.ndarray
    weight_decay: np.ndarray
    beta1: np.ndarray
    beta2: np.ndarray
    eps: np.ndarray
    momentum: np.ndarray
    warmup_steps: np.ndarray
    anneal_steps: np.ndarray
    lr_floor: np.ndarray


class StepScalars(NamedTuple, Generic[Value]):
    """What a step multiplies by, for one parameter group: scalar tensors, or arrays of many steps.

    They are computed ahead, outside the compiled step, which would otherwise compute them again for
    every vector of weights. Adam's bias corrections are in `step_size` and `eps`: Kingma & Ba 2015,
    end of section 2.
    """

    lr: Value
    step_size: Value  # lr * sqrt(bias_correction2) / bias_correction1, as torch.optim names them
    lr_times_decay: Value
    weight_decay: Value
    one_minus_beta1: Value
    beta2: Value
    one_minus_beta2: Value
    eps: Value  # the hyperparameter * sqrt(bias_correction2)
    momentum: Value
    t: Value  # number of the step, from 1


def hyperparameters(optimizer: Optimizer) -> Hyperparameters:
    """The numbers of an optimizer, each (groups,)."""
    schedule = (optimizer.warmup_steps, optimizer.anneal_steps, optimizer.lr_floor)
    groups = [
        (group.lr, group.weight_decay, *group.betas, group.eps, group.momentum, *schedule)
        for group in optimizer.groups
    ]
    return Hyperparameters(*np.array(groups, dtype=np.float64).T)


def initial_state(optimizer: Optimizer, params: Tensors) -> dict[str, Tensors]:
    """Zeros for every accumulator, by its name and the parameter's."""
    kinds = optimizer.accumulators if optimizer.rule else ACCUMULATORS[optimizer.kind]
    return {key: {name: torch.zeros_like(v) for name, v in params.items()} for key in kinds}


def step_scalars(
    numbers: Hyperparameters,
    t: np.ndarray,
    schedule: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """The StepScalars of steps t (from 1) along the last axis, (..., 10).

    Arguments:
        numbers: (groups,) or (R, groups) each.
        t: numbers of steps; broadcasts against the hyperparameters.
        schedule: of the learning rate, as in `Optimizer`.

    Raises:
        ValueError: the schedule's factors have another shape, or are not finite.
    """
    lr = learning_rate(numbers, t)
    if schedule is not None:
        done = np.asarray(t - 1, dtype=np.float64)
        factors = np.asarray(schedule(done), dtype=np.float64)
        if factors.shape != done.shape:
            raise ValueError(
                f"the schedule's factors have the shape {factors.shape}; expected {done.shape}, that "
                "of its argument"
            )
        if not np.isfinite(factors).all():
            first = int(done[~np.isfinite(factors)].min())
            raise ValueError(f"the schedule's factor after {first} steps is not finite")
        lr = lr * factors
    root = np.sqrt(1 - numbers.beta2**t)
    columns: StepScalars[np.ndarray] = StepScalars(
        lr=lr,
        step_size=lr * root / (1 - numbers.beta1**t),
        lr_times_decay=lr * numbers.weight_decay,
        weight_decay=numbers.weight_decay,
        one_minus_beta1=1 - numbers.beta1,
        beta2=numbers.beta2,
        one_minus_beta2=1 - numbers.beta2,
        eps=numbers.eps * root,
        momentum=numbers.momentum,
        t=t,
    )
    return np.stack(np.broadcast_arrays(*columns), axis=-1)


def by_group(scalars_GC: Tensor) -> list[StepScalars[Tensor]]:
    """The rows of a tensor (groups, 10) from `step_scalars`, by name."""
    return [StepScalars(*row.unbind()) for row in scalars_GC.unbind()]


def step_number(scalars_GC: Tensor) -> Tensor:
    """The number of the step, from 1, that these scalars (groups, 10) are of."""
    return scalars_GC[0, StepScalars._fields.index("t")]


def learning_rate(numbers: Hyperparameters, t: np.ndarray) -> np.ndarray:
    """Learning rates of steps t (from 1): a linear warm-up from 0, then constant or a cosine."""
    done = t - 1
    warmup, anneal = numbers.warmup_steps, numbers.anneal_steps
    rise = np.where(warmup > 0, np.minimum(done / np.maximum(warmup, 1), 1.0), 1.0)
    annealed = np.minimum(done / np.maximum(anneal, 1), 1.0)
    cosine = numbers.lr_floor + (1 - numbers.lr_floor) * (1 + np.cos(np.pi * annealed)) / 2
    return numbers.lr * rise * np.where(anneal > 0, cosine, 1.0)


def gradient(
    optimizer: Optimizer,
    gradient_at: Callable[[Tensors], Tensors],
    params: Tensors,
    keys: Tensors,
) -> Tensors:
    """The gradient that the update uses: at the weights, at noisy ones, or SAM's.

    Arguments:
        optimizer: its weight_noise and sam_rho are read.
        gradient_at: the gradient of the loss at given parameters.
        params: the parameters.
        keys: of the noise, by its name.
    """
    if optimizer.weight_noise:
        std, key = optimizer.weight_noise, keys["weight_noise"]
        params = {
            name: value + std * normal(key + index, value.shape, value.dtype)
            for index, (name, value) in enumerate(params.items())
        }
    grads = gradient_at(params)
    if not optimizer.sam_rho:
        return grads
    norm = _norm(grads)
    return gradient_at(
        {k: v + optimizer.sam_rho / (norm + 1e-12) * grads[k] for k, v in params.items()}
    )


def update(
    optimizer: Optimizer,
    params: Tensors,
    grads: Tensors,
    state: dict[str, Tensors],
    scalars_GC: Tensor,
    decay_target: Tensors | None = None,
    keys: Tensors | None = None,
) -> tuple[Tensors, dict[str, Tensors]]:
    """One step of one replica: new parameters and accumulators.

    Arguments:
        optimizer: its kind, groups, clip_norm, orthogonal and update_noise are read; the numbers
            of the groups and the schedule are in `scalars_GC`.
        params: the parameters.
        grads: their gradient.
        state: accumulators, by their name and the parameter's.
        scalars_GC: (groups, 10) of this step, from `step_scalars`.
        decay_target: weights that the decay pulls towards; None for zero.
        keys: of the noise, by its name.
    """
    if optimizer.clip_norm:
        factor = (optimizer.clip_norm / norm_of(grads).clamp(min=1e-300)).clamp(max=1)
        grads = {name: (grad * factor).to(grad.dtype) for name, grad in grads.items()}
    if optimizer.orthogonal:
        grads = {name: without_radial_part(grad, params[name]) for name, grad in grads.items()}
    scalars_of_group = by_group(scalars_GC)
    new_params: Tensors = {}
    new_state: dict[str, Tensors] = {key: {} for key in state}
    for index, (name, value) in enumerate(params.items()):
        noise = None
        if optimizer.update_noise and keys is not None:
            noise_key = keys["update_noise"] + index
            noise = optimizer.update_noise * normal(noise_key, value.shape, value.dtype)
        target = None if decay_target is None else decay_target[name]
        scalars = scalars_of_group[optimizer.group_of(name)]
        accumulators = {key: tensors[name] for key, tensors in state.items()}
        group = optimizer.groups[optimizer.group_of(name)]
        if optimizer.rule is not None:
            new_params[name], new = optimizer.rule(value, grads[name], accumulators, scalars)
            if {*new} != {*accumulators}:
                raise ValueError(
                    f"the update rule returns the accumulators {sorted(new)}; expected "
                    f"{sorted(accumulators)}, those of the optimizer"
                )
        elif optimizer.kind == "sgd":
            new_params[name], new = _sgd(value, grads[name], accumulators, scalars, target, noise)
        elif optimizer.kind == "lion":
            new_params[name], new = _lion(value, grads[name], accumulators, scalars, target, noise)
        elif optimizer.kind == "muon" and group.muon and value.ndim == 2:
            new_params[name], new = _muon(
                value, grads[name], accumulators, scalars, target, noise, group.stacked
            )
        else:
            decoupled = optimizer.kind != "adam"
            new_params[name], new = _adam(
                value, grads[name], accumulators, scalars, target, noise, decoupled
            )
        for accumulator_name, accumulator in new.items():
            new_state[accumulator_name][name] = accumulator
    return new_params, new_state


def norm_of(params: Tensors) -> Tensor:
    """Euclidean norm of all parameters together, in float64."""
    return _norm({name: value.double() for name, value in params.items()})


def fixed_norm(optimizer: Optimizer, params: Tensors) -> Tensor:
    """The norm, in float64, that the weights have after every step: a given one, or that of `params`;
    0 if it is free."""
    norm = norm_of(params)
    return norm if optimizer.fixed_norm is True else torch.full_like(norm, optimizer.fixed_norm)


def rescaled(params: Tensors, fixed_norm: Tensor) -> Tensors:
    """The parameters scaled alike to a norm; unchanged if it is 0."""
    factor = torch.where(fixed_norm > 0, fixed_norm / norm_of(params), 1.0)
    return {name: (value * factor).to(value.dtype) for name, value in params.items()}


def without_radial_part(grad: Tensor, weights: Tensor) -> Tensor:
    """The gradient without its component along the weights, rescaled to its norm.

    Source: Prieto et al. 2025, the orthogonal gradient.
    """
    limits = torch.finfo(grad.dtype)
    rest = grad - (weights * grad).sum() / (weights**2).sum().clamp(min=limits.tiny) * weights
    factor = grad.norm() / rest.norm().clamp(min=limits.tiny)
    return rest * factor.clamp(max=limits.max)  # an infinite factor times a rest of 0 is NaN


def _adam(
    value: Tensor,
    grad: Tensor,
    state: Tensors,
    scalars: StepScalars[Tensor],
    decay_target: Tensor | None,
    noise: Tensor | None,
    decoupled: bool,
) -> tuple[Tensor, Tensors]:
    """AdamW (Loshchilov & Hutter 2019), or Adam (Kingma & Ba 2015) with decay in the gradient.

    It makes as few calls as it can: a small network takes as long as its calls, compiled or not.
    """
    if not decoupled:
        grad = torch.addcmul(grad, value, scalars.weight_decay)
    else:
        value = _decayed(value, scalars, decay_target)
    mean = torch.addcmul(state["mean"], grad - state["mean"], scalars.one_minus_beta1)
    square = torch.addcmul(state["square"] * scalars.beta2, grad * grad, scalars.one_minus_beta2)
    value = torch.addcdiv(value, mean * -scalars.step_size, square.sqrt() + scalars.eps)
    if noise is not None:
        value = value - scalars.lr * noise
    return value, {"mean": mean, "square": square}


def _sgd(
    value: Tensor,
    grad: Tensor,
    state: Tensors,
    scalars: StepScalars[Tensor],
    decay_target: Tensor | None,
    noise: Tensor | None,
) -> tuple[Tensor, Tensors]:
    """SGD with momentum as torch.optim.SGD with dampening 0: v <- mu v + g, w <- w - lr v."""
    excess = value if decay_target is None else value - decay_target
    decayed = torch.addcmul(grad, excess, scalars.weight_decay)
    velocity = torch.addcmul(decayed, state["velocity"], scalars.momentum)
    direction = velocity if noise is None else velocity + noise
    return torch.addcmul(value, direction, -scalars.lr), {"velocity": velocity}


def _lion(
    value: Tensor,
    grad: Tensor,
    state: Tensors,
    scalars: StepScalars[Tensor],
    decay_target: Tensor | None,
    noise: Tensor | None,
) -> tuple[Tensor, Tensors]:
    """Lion (Chen et al. 2023, algorithm 2): the sign of a mean of gradient and momentum."""
    difference = grad - state["mean"]
    direction = torch.addcmul(state["mean"], difference, scalars.one_minus_beta1).sign()
    direction = direction if noise is None else direction + noise
    value = torch.addcmul(_decayed(value, scalars, decay_target), direction, -scalars.lr)
    return value, {"mean": torch.addcmul(state["mean"], difference, scalars.one_minus_beta2)}


def _muon(
    value: Tensor,
    grad: Tensor,
    state: Tensors,
    scalars: StepScalars[Tensor],
    decay_target: Tensor | None,
    noise: Tensor | None,
    stacked: int,
) -> tuple[Tensor, Tensors]:
    """Muon (Jordan et al. 2024): Nesterov momentum, orthogonalized; decay as in AdamW."""
    mean = torch.addcmul(grad, state["mean"] - grad, scalars.momentum)
    matrices = torch.addcmul(grad, mean - grad, scalars.momentum).chunk(stacked)
    rows, columns = matrices[0].shape
    direction = torch.cat([orthogonalized(matrix) for matrix in matrices])
    direction = direction * max(1.0, rows / columns) ** 0.5
    direction = direction if noise is None else direction + noise
    value = torch.addcmul(_decayed(value, scalars, decay_target), direction, -scalars.lr)
    return value, {"mean": mean, "square": state["square"]}


def orthogonalized(matrix: Tensor) -> Tensor:
    """A matrix (rows, columns) with singular values of about 1 (0.68 to 1.13) and its singular vectors.

    Five steps of Newton and Schulz, in the dtype of the matrix (Jordan et al. 2024).
    """
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.mT if is_tall else matrix
    x = x / ((x * x).sum().sqrt() + NEWTON_SCHULZ_EPS)
    a, b, c = NEWTON_SCHULZ
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.mT if is_tall else x


def _decayed(value: Tensor, scalars: StepScalars[Tensor], target: Tensor | None) -> Tensor:
    """Weights after decoupled weight decay, towards zero or a target."""
    if target is None:
        return value * (1 - scalars.lr_times_decay)
    return torch.addcmul(value, target - value, scalars.lr_times_decay)


def _norm(tensors: Tensors) -> Tensor:
    squares = [(value**2).sum() for value in tensors.values()]
    return sum(squares[1:], squares[0]).sqrt()
