"""Checks of a run's configuration: one clear line for the first thing that is wrong."""

import ast
import inspect
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from typing import Any

import torch
from sacred.config.config_scope import (
    ConfigScope,
    add_doc,
    dedent_function_body,
    get_function_body,
)

from grok.errors import UserError, near_match
from grok.experiment.config_types import choices, description, is_valid

# Names that mean the same as a configuration key and are read in its place.
SYNONYMS = {
    "ood_fraction": "ood_share",
    "test_fraction": "test_share",
    "keep_fraction": "keep",
    "overlap_fraction": "overlap_frac",
    "tolerance": "near",
    "noisy_labels": "noisy_answers",
}


class ConfigError(UserError):
    """A configuration value that the experiment cannot run with."""

    def __init__(self, key: str, value: Any, expected: str):
        super().__init__(f"{key}={value!r}: expected {expected}")


class TypedConfigScope(ConfigScope):
    """A Sacred config scope whose keys are annotated with their types.

    types: the declared type of each annotated key.
    """

    def __init__(self, function: Callable[[], None]):
        super().__init__(function)
        self.types: dict[str, Any] = _annotations(self._body_code, function)
        self._var_docs.update(_annotated_comments(function))

    def __call__(self, fixed: Any = None, preset: Any = None, fallback: Any = None) -> Any:
        """Sacred's; without the annotations, which Python keeps among the variables."""
        values = super().__call__(fixed, preset, fallback)
        values.pop("__annotations__", None)
        return values


def canonical_names(updates: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """The updates with each synonym replaced by the key that it stands for."""
    known = set(known)
    return {
        key if key in known else SYNONYMS.get(key, key): value for key, value in updates.items()
    }


def check_names(names: Iterable[str], known: Iterable[str], kind: str) -> None:
    """UserError that names the first unknown name and the known name nearest to it."""
    known = sorted(known)
    for name in names:
        if name not in known:
            near = near_match(name, known)
            hint = f"did you mean {near}?" if near else f"there are: {', '.join(known)}"
            raise UserError(f"unknown {kind} {name}; {hint}")


def check_values(values: Mapping[str, Any], types: Mapping[str, Any]) -> None:
    """ConfigError for the first value that is not of the type declared for its key."""
    for key, value in values.items():
        if key in types and not is_valid(value, types[key]):
            raise ConfigError(
                key, value, description(types[key]) + _hint(value, choices(types[key]))
            )


def check_choice(key: str, value: Any, allowed: Iterable[Any]) -> None:
    """ConfigError unless the value is one of those allowed."""
    allowed = list(allowed)
    if value not in allowed:
        listed = ", ".join(map(str, allowed))
        raise ConfigError(key, value, f"one of {listed}" + _hint(value, allowed))


def device_of(name: str) -> torch.device:
    """The device that a configuration names; "auto" is CUDA where there is a CUDA device.

    Raises:
        ConfigError: "cuda" is asked for on a machine without a CUDA device.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device", name, "a CUDA device, and this machine has none")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def _hint(value: Any, allowed: list[Any]) -> str:
    near = near_match(str(value), map(str, allowed), cutoff=0.6) if allowed else None
    return f" (did you mean {near}?)" if near else ""


def _annotations(body_code: Any, function: Callable[[], None]) -> dict[str, Any]:
    """The annotations of a config function's local variables, which Python does not keep."""
    local_variables: dict[str, Any] = {}
    exec(body_code, copy(function.__globals__), local_variables)
    return local_variables.get("__annotations__", {})


def _annotated_comments(function: Callable[[], None]) -> dict[str, str]:
    """The comments beside annotated keys; Sacred finds those of plain assignments only."""
    source = dedent_function_body(get_function_body(function)[0])
    comments: dict[str, str] = {}
    for statement in ast.parse(source, inspect.getfile(function)).body:
        if isinstance(statement, ast.AnnAssign):
            add_doc(statement.target, comments, source.split("\n"))
    return comments
