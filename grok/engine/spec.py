"""The settings of one run's training: optimizer, early stopping, measures."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from grok.engine.measure import Measure
from grok.tensors import Tensors

# An update rule of one tensor: f(weights, gradient, state, step) -> new weights and new state. The state
# has one tensor of the weights' shape for each accumulator; `step` is `grok.engine.optimizers.StepScalars`
# of the tensor's group (lr, weight_decay, momentum, t and others).
UpdateRule = Callable[[Tensor, Tensor, Tensors, Any], tuple[Tensor, Tensors]]

NO_GRADIENT_STEPS = "the steps of this run do not follow the gradient of a loss"


@dataclass(frozen=True)
class Group:
    """Optimizer settings of the parameters whose names start with `prefix` and contain `part`.

    momentum is read by SGD and Muon only; betas by Adam, AdamW and Lion, and eps by Adam and AdamW
    only. Where `decayed` is False, an intervention that sets the weight decay of all parameters
    leaves these alone. muon: with the kind "muon", their matrices are updated by Muon; each of them is
    `stacked` matrices of equal size, one below the other, which Muon takes one by one.
    """

    prefix: str = ""
    lr: float = 1e-3
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    momentum: float = 0.0
    part: str = ""
    decayed: bool = True
    muon: bool = False
    stacked: int = 1


@dataclass(frozen=True)
class Grokfast:
    """A gradient filter that amplifies slow components (Lee et al. 2024).

    kind: "ema" (algorithm 2: an exponential average with factor `alpha`) or "window" (algorithm 1:
        the mean of the last `window` gradients).
    gain: what the slow component is multiplied by before it is added to the gradient.
    """

    kind: str
    gain: float
    alpha: float = 0.98
    window: int = 100


@dataclass(frozen=True)
class Optimizer:
    """An optimizer and its learning-rate schedule.

    kind: "adamw" (decoupled decay), "adam" (decay added to the gradient), "sgd" (likewise), "lion"
        (decoupled), "muon" (decoupled; matrices of the groups with `muon`, and AdamW for the
        others), or "own" for `rule`.
    rule: an update rule of the user's own, a function of a module or a frozen dataclass.
    gradient_steps: whether a step follows the gradient of a loss; False for a rule that does not, and
        so has no learning rate and no decay. What changes or reads these is then refused.
    accumulators: the names of the rule's state, tensors of zeros at first.
    schedule: factor of the learning rate, a function of the numbers of steps made before, float64 in any
        shape; it multiplies those of warm-up and annealing.
    groups: a parameter belongs to the first group that its name matches.
    decay_to: "zero", or "init" for decay towards the initial weights (not with adam; Power et al.
        2022).
    warmup_steps: the learning rate rises linearly from 0 over so many steps.
    anneal_steps: if positive, a cosine lowers the learning rate to `lr_floor` times its value by
        that step.
    weight_noise: std of noise on the weights at which the gradient is taken, drawn at each step.
    update_noise: std of noise on Adam's direction, or SGD's velocity, before the learning rate.
    clip_norm: norm that longer gradients are scaled down to; 0 for none.
    sam_rho: radius of sharpness-aware minimization (Foret et al. 2021); 0 for none.
    orthogonal: each tensor's gradient is used without its component along the weights (Prieto et
        al. 2025).
    fixed_norm: after each step all weights are scaled alike to this norm, or, if True, to their
        initial one (Liu et al. 2023, Omnigrok, section 2).
    norm_changes: an intervention fixes the norm, or frees it.
    """

    kind: str = "adamw"
    groups: tuple[Group, ...] = (Group(),)
    decay_to: str = "zero"
    warmup_steps: int = 0
    anneal_steps: int = 0
    lr_floor: float = 0.1
    weight_noise: float = 0.0
    update_noise: float = 0.0
    clip_norm: float = 0.0
    sam_rho: float = 0.0
    grokfast: Grokfast | None = None
    orthogonal: bool = False
    fixed_norm: bool | float = False
    norm_changes: bool = False
    rule: UpdateRule | None = None
    gradient_steps: bool = True
    accumulators: tuple[str, ...] = ()
    schedule: Callable[[np.ndarray], np.ndarray] | None = None

    def __post_init__(self) -> None:
        if (self.kind == "own") != (self.rule is not None):
            expected = "with" if self.kind == "own" else "without"
            raise ValueError(f"Optimizer({self.kind!r}): expected {expected} a rule")
        if self.rule is None and not self.gradient_steps:
            raise ValueError(f"Optimizer({self.kind!r}): its steps follow the gradient")

    @property
    def rescales(self) -> bool:
        """Whether the norm is fixed, at some steps at least."""
        return self.norm_changes or self.fixed_norm is not False

    def noises(self) -> list[str]:
        """The names of the kinds of noise that are on."""
        return [name for name in ("weight_noise", "update_noise") if getattr(self, name)]

    def group_of(self, name: str) -> int:
        """Index of the group of the parameter `name`; ValueError if none matches."""
        for index, group in enumerate(self.groups):
            if name.startswith(group.prefix) and group.part in name:
                return index
        raise ValueError(f"no optimizer group matches the parameter {name!r}")


@dataclass(frozen=True)
class Condition:
    """A metric compared with a number. The metric "step" is the number of steps made."""

    metric: str
    comparison: str  # one of >=, <=, > and <
    value: float


@dataclass(frozen=True)
class Intervention:
    """A change of a run, made once: as soon as a condition holds, between two steps.

    settings: new values by name, those of `grok.engine.interventions.SETTINGS`. A fixed norm of True
        is the norm at that step.
    parameters: the beginning of the names of the parameters whose lr, weight_decay and values are
        changed.
    reset: whether the parameters go back to their initial values, with an empty optimizer state.
    """

    when: Condition
    settings: tuple[tuple[str, float], ...] = ()
    parameters: str = ""
    reset: bool = False


@dataclass(frozen=True)
class Stop:
    """Early stopping: when every metric named here is at its threshold at two consecutive logged steps."""

    thresholds: tuple[tuple[str, float], ...]

    def reached(self, metrics: dict[str, float]) -> bool:
        """Whether every metric is at its threshold."""
        return all(metrics[name] >= value for name, value in self.thresholds)


@dataclass(frozen=True)
class MeasureConfig:
    """Which measures a run takes.

    measures: with the options of this run.
    stride: of the token groups and harmonics that the Fourier measures look at.
    reference: weights of another run, to measure the direction towards them.
    """

    measures: tuple[Measure, ...]
    stride: int = 1
    reference: dict[str, Tensor] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The measures' names."""
        return tuple(measure.name for measure in self.measures)
