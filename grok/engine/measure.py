"""What a measure of a run is: how it is computed, when, and with which options."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from grok.errors import near_match

EVALUATION, SNAPSHOT, BURST = "evaluation", "snapshot", "burst"


class MeasureError(ValueError):
    """A run cannot take the measures, or not with the options, that were asked for.

    expected: what could be asked for, to be put after "expected".
    """

    def __init__(self, expected: str):
        super().__init__(expected)
        self.expected = expected


@dataclass(frozen=True)
class Option:
    """An option of a measure: True or False, a number, or a list of numbers.

    value: of this run; in the catalogue, the default. A default of None is a whole number that
        depends on the run.
    meaning: in a few words.
    least: the smallest number that is accepted; with `above`, a number must be larger than it.
    """

    value: Any
    meaning: str
    least: float = 1
    above: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.value, list):
            object.__setattr__(self, "value", tuple(self.value))

    def with_value(self, value: Any) -> "Option":
        """The option with another value of the same type; MeasureError if the option cannot have it."""
        if value is None and self.value is None:
            return self
        is_list = isinstance(self.value, tuple)
        default = self.value[0] if is_list else self.value
        if isinstance(value, bool) and isinstance(default, bool):
            return replace(self, value=value)
        kinds = (int, float) if isinstance(default, float) else (int,)
        numbers = list(value) if isinstance(value, list | tuple) else [value]
        if (
            isinstance(default, bool)
            or isinstance(value, list | tuple) != is_list
            or not all(
                isinstance(n, kinds) and not isinstance(n, bool) and self._is_allowed(n)
                for n in numbers or [None]
            )
        ):
            raise MeasureError(self.expected())
        return replace(self, value=tuple(value) if is_list else value)

    def expected(self) -> str:
        """What a value has to be, in words."""
        is_list = isinstance(self.value, tuple)
        default = self.value[0] if is_list else self.value
        if isinstance(default, bool):
            return "True or False"
        kind = "number" if isinstance(default, float) else "whole number"
        bound = f"{'above' if self.above else 'of at least'} {self.least:g}"
        or_none = " or None" if self.value is None else ""
        return f"{f'a list of {kind}s' if is_list else f'a {kind}'} {bound}{or_none}"

    def _is_allowed(self, number: float) -> bool:
        return self.least <= number < math.inf and not (self.above and number == self.least)


def burst(every: int, length: int) -> dict[str, Option]:
    """The options of a measure that is taken at `length` steps in a row, every so many steps."""
    return {
        "every": Option(every, "steps from the beginning of a burst to that of the next"),
        "burst": Option(length, "steps of a burst, one after the other"),
    }


EVERY = "evaluation steps from one to the next"
SCHEDULES = {
    EVALUATION: {"every": Option(1, EVERY)},
    SNAPSHOT: {"every": Option(None, f"{EVERY}; None for snapshot_every")},
    BURST: burst(1000, 10),
}


@dataclass(frozen=True)
class Measure:
    """A measure that a run can take.

    group: name under which several are chosen at once.
    when: EVALUATION, SNAPSHOT (at every `snapshot_every`-th evaluation) or BURST.
    compute: `f(state, **options)` -> the metrics, by name, of a `MeasurementState`; none where
        there is not enough to compute them from.
    needs: what the run must have, keys of `grok.engine.instruments.NEEDS`.
    options: by name; those of its schedule are among them.
    reads_past: it reads steps before the interval at whose end it is taken. Other measures let the
        steps between them be made without any record.
    """

    name: str
    group: str
    description: str
    when: str
    compute: Callable[..., Mapping[str, float]]
    needs: tuple[str, ...] = ()
    options: Mapping[str, Option] = field(default_factory=dict)
    reads_past: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", {**SCHEDULES[self.when], **self.options})

    def with_option(self, name: str, value: Any) -> "Measure":
        """The measure with another value of an option.

        Raises:
            MeasureError: it has no such option, or the option cannot have the value.
        """
        if name not in self.options:
            near = near_match(name, self.options)
            hint = f" (did you mean {near}?)" if near else ""
            raise MeasureError(f"an option of {self.name}: {', '.join(self.options)}{hint}")
        return replace(self, options={**self.options, name: self.options[name].with_value(value)})

    @property
    def values(self) -> dict[str, Any]:
        """The values of the options that are not of the schedule."""
        schedule = SCHEDULES[self.when]
        return {name: o.value for name, o in self.options.items() if name not in schedule}

    @property
    def every(self) -> int:
        """Evaluation steps, or steps of a measure in bursts, from one to the next."""
        return self.options["every"].value

    def is_due(self, interval: int) -> bool:
        """Whether it is taken at the end of an interval, the first of which is 1."""
        return self.when != BURST and interval % self.every == 0

    def is_in_burst(self, step: int) -> bool:
        """Whether it is taken after a step: step % every < burst, but none before `every`."""
        if self.when != BURST:
            return False
        return step >= self.every and step % self.every < self.options["burst"].value
