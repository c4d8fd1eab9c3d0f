"""What defines one run (a problem), and what comes out of training it (records and outcomes)."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from grok.training.watch import Watching

WEIGHTS = "weights/"  # a record's arrays of this prefix are the parameters


@dataclass(frozen=True)
class Group:
    """Optimizer settings of the parameters whose names start with `prefix` and have `part` in them."""

    prefix: str = ""
    lr: float = 1e-3
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    momentum: float = 0.0  # SGD only
    part: str = ""


@dataclass(frozen=True)
class Grokfast:
    """A gradient filter (Lee et al. 2024): kind "ema" (alpha) or "window"; gain of the slow part."""

    kind: str
    gain: float
    alpha: float = 0.98
    window: int = 100


@dataclass(frozen=True)
class Optimizer:
    """An optimizer and its schedule; a parameter belongs to the first group that its name matches.

    kind: "adamw" (decoupled decay), "adam" (decay added to the gradient) or "sgd" (likewise).
    decay_to: "zero", or "init" for a pull towards the initial weights (adamw; Power et al. 2022).
    warmup_steps: the learning rate rises linearly from 0 over that many updates.
    anneal_steps: if positive, a cosine takes it down to `lr_floor` times its value by that update,
        in stairs of `anneal_every` updates.
    weight_noise: std of noise on the weights at which the gradient is taken, drawn at each update.
    update_noise: std of noise on Adam's direction before the learning rate.
    clip_norm: the gradient is scaled down to this norm where it is longer, 0 for never.
    sam_rho: radius of sharpness-aware minimization (Foret et al. 2021), 0 for none.
    orthogonal: each tensor's gradient without its part along the weights (Prieto et al. 2025).
    fixed_norm: after each update all weights are scaled alike to their initial norm (Omnigrok, section 2).
    """

    kind: str = "adamw"
    groups: tuple[Group, ...] = (Group(),)
    decay_to: str = "zero"
    warmup_steps: int = 0
    anneal_steps: int = 0
    lr_floor: float = 0.1
    anneal_every: int = 1
    weight_noise: float = 0.0
    update_noise: float = 0.0
    clip_norm: float = 0.0
    sam_rho: float = 0.0
    grokfast: Grokfast | None = None
    orthogonal: bool = False
    fixed_norm: bool = False

    def noises(self) -> list[str]:
        """Which kinds of noise there are."""
        return [name for name in ("weight_noise", "update_noise") if getattr(self, name)]

    def group_of(self, name: str) -> int:
        """Index of the group of the parameter `name`; ValueError if none matches."""
        for index, group in enumerate(self.groups):
            if name.startswith(group.prefix) and group.part in name:
                return index
        raise ValueError(f"no optimizer group matches the parameter {name!r}")


@dataclass(frozen=True)
class Stop:
    """Retire a replica once every metric named here is at its threshold at two logged steps running."""

    thresholds: tuple[tuple[str, float], ...]

    def met(self, metrics: dict[str, float]) -> bool:
        return all(metrics[name] >= value for name, value in self.thresholds)


@dataclass
class Problem:
    """Everything that defines one run; nothing has run yet.

    module: an initialized torch module for ONE replica.
    data: tensors that the loss and the metrics read, by name.
    loss, metrics: `f(module, data)` -> scalar / dict of tensors. Module-level functions or frozen
        dataclasses, so that two problems can be told to compute the same thing. A metric of more
        than zero dimensions is kept as an array (a trajectory).
    batched: the entries of `data` that mini-batches index; unused for full-batch training.
    sampling: how mini-batches come: "epochs" (a fresh permutation for each), "in_order" (every epoch
        through the data as it lies), or "replacement" (drawn independently).
    remembers: the metrics read data["previous"], the weights before the last update.
    draws: the loss or the metrics draw random numbers, from `data["key"]` (models/randomness.py).
    kept: entries of `data` to be stored with the run.
    checkpoint_every: updates between the states that `train` yields; None for none.
    watching: the measures that the run takes (training/instruments.py).
    origin: id of the run that the module's weights, or its mask, come from; None if they were drawn.
    keep_weights: the weights are among the record's arrays, as WEIGHTS + name.
    arrays_every: records have arrays at every so-many-th logged step only, and at the last.
    """

    module: nn.Module
    data: dict[str, Tensor]
    loss: Callable[[nn.Module, dict[str, Tensor]], Tensor]
    metrics: Callable[[nn.Module, dict[str, Tensor]], dict[str, Tensor]]
    optimizer: Optimizer
    train_steps: int
    log_steps: list[int]
    seed: int = 0
    batch_size: int | None = None
    batched: tuple[str, ...] = ()
    sampling: str = "epochs"
    draws: bool = False
    remembers: bool = False
    stop: Stop | None = None
    kept: tuple[str, ...] = field(default=())
    checkpoint_every: int | None = None
    keep_weights: bool = False
    arrays_every: int = 1
    watching: "Watching | None" = None
    origin: int | None = None

    def has_arrays(self, step: int) -> bool:
        """Whether the record of this logged step, if it is not the last, has arrays."""
        return self.arrays_every == 1 or self.log_steps.index(step) % self.arrays_every == 0

    def signature(self) -> tuple:
        """What two problems must share to be trained as one program: shapes and code, not values."""
        optimizer = self.optimizer
        groups = tuple(Group(group.prefix, part=group.part) for group in optimizer.groups)
        schedule = {"warmup_steps": 0, "anneal_steps": 0, "lr_floor": 0.0, "anneal_every": 1}
        return (
            repr(self.module),
            _shapes(dict(self.module.named_parameters())),
            _shapes(dict(self.module.named_buffers())),
            _shapes(self.data),
            self.loss,
            self.metrics,
            replace(optimizer, groups=groups, **schedule),  # what is not a number per replica
            self.batch_size,
            self.batched,
            self.sampling,
            self.draws,
            self.remembers,
            self.watching is not None,
        )


@dataclass(frozen=True)
class Start:
    """Replica `replica` takes slot `slot` of a program of `slots`, compiled or not."""

    replica: int
    slot: int
    slots: int
    compiled: bool


@dataclass(frozen=True)
class Record:
    """What was measured of one replica after `step` updates.

    between: (step, metrics) of what was measured at updates since the last record.
    """

    replica: int
    step: int
    metrics: dict[str, float]
    arrays: dict[str, np.ndarray]
    between: tuple[tuple[int, dict[str, float]], ...] = ()


@dataclass(frozen=True)
class Outcome:
    """A replica has retired: `reason` is "budget", "stopped" (its stop rule fired), "diverged" or
    "terminated" (by whoever drives the training)."""

    replica: int
    step: int
    reason: str
    weights: dict[str, Tensor]


@dataclass(frozen=True)
class Saved:
    """All that a replica needs to go on after `step` updates.

    met: logged steps running at which its stop rule was met.
    """

    replica: int
    step: int
    met: int
    tensors: dict[str, Tensor]


Event = Start | Record | Saved | Outcome


def stacked(records: list[Record]) -> dict[str, np.ndarray]:
    """The arrays of the records that have some, over time: (logged steps, ...) each."""
    pictured = [record.arrays for record in records if record.arrays]
    names = pictured[0] if pictured else ()
    return {name: np.stack([arrays[name] for arrays in pictured]) for name in names}


def log_steps(train_steps: int, points: int) -> list[int]:
    """At most `points` + 1 logarithmically spaced steps: 0, 1, ..., train_steps, all different."""
    spaced = np.geomspace(1, train_steps, min(points, train_steps))
    return [0, *sorted({int(step) for step in np.round(spaced)})]


def _shapes(tensors: dict[str, Tensor]) -> tuple:
    return tuple(
        (name, tuple(tensor.shape), tensor.dtype, tensor.device.type)
        for name, tensor in tensors.items()
    )


def batch_order(seed: int, epoch: int, examples: int) -> Tensor:
    """A permutation (examples,) that depends on seed and epoch alone, so that a run can resume anywhere."""
    return torch.randperm(examples, generator=_generator(seed, epoch))


def drawn_batches(seed: int, block: int, examples: int, shape: tuple[int, int]) -> Tensor:
    """Indices (batches, size) drawn with replacement, of the block-th such draw of a run."""
    return torch.randint(examples, shape, generator=_generator(seed, block))


def _generator(seed: int, part: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed * 1_000_003 + part)
