"""Which configuration keys a run reads; one that it does not is refused where the user has set it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from grok.engine.measure import SNAPSHOT
from grok.engine.problem import Problem
from grok.experiment.validation import ConfigError


@dataclass(frozen=True)
class OtherThan:
    """Every value of a key but these."""

    values: tuple[Any, ...]


@dataclass(frozen=True)
class ReadRule:
    """Keys that are read only where other keys have certain values.

    alternatives: conditions of which one has to hold. Each gives, for each of the other keys, its
        value, a tuple of its values, or `OtherThan` some.
    """

    keys: tuple[str, ...]
    alternatives: tuple[Mapping[str, Any], ...]

    def lacking(self, config: Mapping[str, Any]) -> str | None:
        """What a configuration would have to be for the keys to be read, in words; None if they are."""
        lacking = [
            " and ".join(
                _in_words(key, wanted)
                for key, wanted in conditions.items()
                if key in config and not _has(config[key], wanted)
            )
            for conditions in self.alternatives
        ]
        return " or ".join(lacking) if all(lacking) else None


def other_than(*values: Any) -> OtherThan:
    """Every value of a key but these."""
    return OtherThan(values)


# Of keys that have the same meaning in every experiment that has them.
COMMON_RULES = (
    ReadRule(("train_fraction",), ({"train_count": None},)),
    ReadRule(("log_points",), ({"eval_steps": None},)),
    ReadRule(("betas",), ({"optimizer": other_than("sgd")},)),
    ReadRule(("eps",), ({"optimizer": other_than("sgd", "lion")},)),
    ReadRule(("grokfast_gain",), ({"grokfast": other_than(None)},)),
    ReadRule(("grokfast_alpha",), ({"grokfast": "ema"},)),
    ReadRule(("grokfast_window",), ({"grokfast": "window"},)),
)


# Instruments with metrics of the direction to the weights of `reference_run`.
REFERENCE_READERS = (
    "gradient_projection",
    "subspace_gradient_info",
    "hessian",
    "adam_dynamics",
    "counterfactual",
    "counterfactual_validator",
)


def check(
    updates: Mapping[str, Any],
    before: Mapping[str, Any],
    rules: Iterable[ReadRule],
    config: Mapping[str, Any],
    problem: Problem,
) -> None:
    """ConfigError for the first key that the user has set and that the run does not read.

    Arguments:
        updates: the keys that the user has set.
        before: the configuration without them.
        rules: of the experiment, besides the common ones.
        config: of the run.
        problem: of the configuration.
    """
    asked = [key for key, value in updates.items() if _differs(value, before.get(key))]
    for key in asked:
        for rule in (*COMMON_RULES, *rules):
            lacking = rule.lacking(config) if key in rule.keys else None
            if lacking is not None:
                expected = f"{before[key]!r}, or {lacking}: otherwise it is not read"
                raise ConfigError(key, config[key], expected)
    measures = problem.measures.measures if problem.measures is not None else ()
    names = {measure.name for measure in measures}
    if "reference_run" in asked and not names.intersection(REFERENCE_READERS):
        readers = ", ".join(REFERENCE_READERS)
        expected = f"None, or measures with one of those that read it: {readers}"
        raise ConfigError("reference_run", config["reference_run"], expected)
    if "snapshot_every" in asked and not any(measure.when == SNAPSHOT for measure in measures):
        expected = f"{before['snapshot_every']!r}, or measures with one that is taken so often"
        raise ConfigError("snapshot_every", config["snapshot_every"], expected)


def _differs(value: Any, other: Any) -> bool:
    """Whether two values differ, where a tuple is a list."""
    value, other = (list(one) if isinstance(one, tuple) else one for one in (value, other))
    return value != other


def _has(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, OtherThan):
        return value not in wanted.values
    return value in wanted if isinstance(wanted, tuple) else value == wanted


def _in_words(key: str, wanted: Any) -> str:
    if isinstance(wanted, OtherThan):
        return f"{key} other than {' or '.join(map(str, wanted.values))}"
    values = wanted if isinstance(wanted, tuple) else (wanted,)
    return f"{key}={' or '.join(map(str, values))}"
