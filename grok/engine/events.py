"""The events that `grok.engine.train.train` yields, replica by replica, as they happen."""

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

DIVERGED = "diverged"  # the reason to end of a run whose train loss is not finite
HOPELESS = "hopeless"  # the reason to end of a run that was predicted not to grok
WEIGHTS = "weights/"  # prefix of the parameters among a record's arrays


@dataclass(frozen=True)
class Start:
    """A replica starts, or continues, in slot `slot` of a program of `slots` slots.

    compiled: whether the step is compiled, as a fused step always is.
    threads: of the CPU, that the program uses.
    fused: whether the program has a fused step.
    gigabytes: memory that the replica's instruments need for gradients of earlier steps, by instrument.
    """

    replica: int
    slot: int
    slots: int
    compiled: bool
    threads: int
    fused: bool
    gigabytes: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """What was measured of one replica after `step` steps.

    burst_metrics: (step, metrics) of what was measured in bursts of steps since the last record.
    """

    replica: int
    step: int
    metrics: dict[str, float]
    arrays: dict[str, np.ndarray]
    burst_metrics: tuple[tuple[int, dict[str, float]], ...] = ()


@dataclass(frozen=True)
class Intervened:
    """A replica was changed after `step` steps; told again when it is resumed.

    number: of the intervention, among those of its problem.
    """

    replica: int
    step: int
    number: int


@dataclass(frozen=True)
class Outcome:
    """A replica has ended after `step` steps.

    reason: "budget" (all its steps are made), "stopped" (by its early-stopping rule), "hopeless" (it
    was predicted not to grok), "diverged" (its train loss is not finite) or "terminated" (by the
    caller of `train`).
    compiled: whether its step was compiled; false if the compiler failed.
    """

    replica: int
    step: int
    reason: str
    weights: dict[str, Tensor]
    compiled: bool


@dataclass(frozen=True)
class Saved:
    """All that a replica needs to continue from `step`.

    stop_streak: consecutive logged steps at which its early-stopping rule has been met.
    """

    replica: int
    step: int
    stop_streak: int
    tensors: dict[str, Tensor]


@dataclass(frozen=True)
class Timing:
    """How fast a replica is, told once if its first record after steps is long in coming.

    step: that it has reached.
    step_seconds, evaluation_seconds: that a step and the last evaluation have taken, without their
        compilation.
    """

    replica: int
    step: int
    step_seconds: float
    evaluation_seconds: float


Event = Start | Record | Intervened | Saved | Timing | Outcome


def stacked(records: list[Record]) -> dict[str, np.ndarray]:
    """The arrays of the records that have some, over time: (logged steps, ...) each."""
    recorded = [record.arrays for record in records if record.arrays]
    names = recorded[0] if recorded else ()
    return {name: np.stack([arrays[name] for arrays in recorded]) for name in names}
