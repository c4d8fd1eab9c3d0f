"""Instruments of a user's own: what their functions see, and how they become measures."""

from collections.abc import Callable, Mapping
from functools import cached_property
from inspect import signature
from typing import Any

from grok.engine.measure import SCHEDULES, Measure, MeasureError, Option
from grok.engine.measurement import MeasurementState
from grok.errors import UserError
from grok.measures.vectors import slashed
from grok.tensors import Tensors


class Observation:
    """A replica after a step, as an instrument of a user's own sees it.

    All tensors are copies made for this instrument: what is written into them is lost.

    step: number of steps made.
    lr: learning rate of the last step, in the first parameter group.
    metrics: the metrics of this evaluation step; empty in a burst.
    stride: of the data's order.
    """

    def __init__(self, state: MeasurementState):
        self._state = state
        self.step = state.program.steps[state.slot]
        self.lr, self.stride = state.lr, state.stride
        self.metrics = dict(state.metrics)

    @cached_property
    def weights(self) -> Tensors:
        """The parameters by name."""
        return _copies(self._state.weights)

    @cached_property
    def gradient(self) -> Tensors:
        """The gradient of the last step, by parameter."""
        return _copies(self._state.gradient)

    @cached_property
    def mean_gradient(self) -> Tensors:
        """The mean gradient since the evaluation step before, by parameter, without biases.

        In a burst it is that of the interval that has ended last.
        """
        return _copies(self._state.mean_gradient()) if self._state.history.mean_gradients else {}

    @cached_property
    def optimizer(self) -> dict[str, Tensors]:
        """The optimizer's state by kind ("mean", "square" of Adam) and parameter."""
        return self._state.moments()

    @cached_property
    def batch(self) -> Tensors:
        """The train rows of the last step, by name; all of the data in full-batch training."""
        return self._state.batch()


OwnInstrument = Callable[..., Mapping[str, float]]  # of an Observation, and options


def own_measure(
    name: str,
    description: str,
    when: str,
    function: OwnInstrument,
    options: Mapping[str, Option],
) -> Measure:
    """The measure that a user's function becomes.

    Its values are checked when it is taken: UserError unless they are numbers by name.

    Raises:
        TypeError: `when` is not a schedule, an option cannot be one or has a default that it would
            refuse, or the function does not take the options.
    """
    if when not in SCHEDULES:
        raise TypeError(f"instrument {name}: when={when!r}; expected one of {', '.join(SCHEDULES)}")
    for key, option in options.items():
        if not isinstance(option, Option):
            raise TypeError(f"instrument {name}: {key}={option!r}; expected an Option")
        try:
            option.with_value(option.value)
        except MeasureError as error:
            wrong = f"the default {key}={option.value!r}; expected {error.expected}"
            raise TypeError(f"instrument {name}: {wrong}") from None

    def compute(state: MeasurementState, **values: Any) -> dict[str, float]:
        metrics = function(Observation(state), **values)
        if not isinstance(metrics, Mapping):
            raise UserError(f"instrument {name}: expected numbers by name, not {metrics!r:.80}")
        return {slashed(str(key)): _number(name, key, value) for key, value in metrics.items()}

    measure = Measure(name, "own", description, when, compute, options=options)
    try:
        signature(function).bind(None, **measure.values)
    except TypeError as error:
        raise TypeError(
            f"instrument {name}: the function and its options differ: {error}"
        ) from None
    return measure


def _number(name: str, key: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        raise UserError(f"instrument {name}: {key} is {value!r:.80}, not a number") from None


def _copies(tensors: Tensors) -> Tensors:
    return {name: value.clone() for name, value in tensors.items()}
