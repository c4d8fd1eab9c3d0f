"""What comes out of training, replica by replica, as it happens."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

WEIGHTS = "weights/"  # a record's arrays of this prefix are the parameters


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
