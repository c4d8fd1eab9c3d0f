"""W&B sweep files, checked against W&B's schema and the configuration of their experiment.

A checked config differs from the file where W&B's form and ours do: numbers such as `1e-4`, which
YAML reads as texts, are numbers; nested parameters have the names of config keys; the command gives
its arguments as Sacred reads them.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sacred.utils import set_by_dotted_path

from grok import limited_yaml
from grok.errors import UserError, check_names, read_text
from grok.experiment.command_line import arguments_of
from grok.experiment.config_types import is_valid
from grok.experiment.experiment import Experiment, load_registered
from grok.experiment.validation import canonical_names, check_choice, check_keys
from grok.paths import PROJECT
from grok.sweep import search
from grok.values import parse_value, whole_if_integral, with_numbers

METHODS = ("grid", "random", "bayes")
KEYS_OUTSIDE_SCHEMA = ("run_cap",)  # W&B knows them, the schema of its package `sweeps` does not
IGNORED_PREFIX = "x-"  # of top-level keys that only hold YAML anchors
NUMBERS = {"min", "max", "mu", "sigma", "q", "a", "b"}  # of a distribution
ARGUMENTS_PREFIX = "${args"  # of W&B's macros for a point's parameters: args, args_json, ...
SACRED_ARGUMENTS = "${args_no_hyphens}"  # the one that Sacred reads: key=value
PROGRAM = "${program}"
DEFAULT_COMMAND = ["${env}", "${interpreter}", PROGRAM, "with", SACRED_ARGUMENTS]
# Distributions whose bounds are exponents of e, and the same ones with bounds that are values.
EXPONENT_DISTRIBUTIONS = {
    "log_uniform": "log_uniform_values",
    "q_log_uniform": "q_log_uniform_values",
    "inv_log_uniform": "inv_log_uniform_values",
}
# What a command may have before its program: agents execute it, and a sweep may come from anywhere.
LAUNCHERS = ("${env}", "/usr/bin/env", "${interpreter}", "python", "python3")
IDENTIFYING_KEYS = ("program", "method", "command", "parameters")


@dataclass(frozen=True)
class SweepFile:
    """A checked sweep.

    Attributes:
        name: The file's name without its suffix.
        config: W&B's config, checked.
        experiment: The experiment that the sweep runs.
        named_configs: Named configs that the command gives after `with`.
        fixed: Config updates that the command gives after `with`.
    """

    name: str
    config: dict[str, Any]
    experiment: Experiment
    named_configs: tuple[str, ...]
    fixed: dict[str, Any]

    def updates(self, point: dict[str, Any]) -> dict[str, Any]:
        """The config updates of one point, with the command's fixed ones.

        The points of W&B's own server are nested as the file's parameters are.
        """
        updates: dict[str, Any] = {}
        for key, value in self.fixed.items():
            set_by_dotted_path(updates, key, value)
        for path, value in _leaves(point):
            set_by_dotted_path(updates, _joined(path, self.experiment.types), parse_value(value))
        return updates


def read(path: Path) -> SweepFile:
    """The sweep in a YAML file; UserError with the first mistake if it is wrong."""
    text = read_text(path)
    try:
        config = limited_yaml.load(text)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return check(config, path.stem, str(path))


def check(config: Any, name: str, where: str) -> SweepFile:
    """The sweep that a W&B config describes.

    Arguments:
        where: What the config comes from, for the error message.

    Raises:
        UserError: The config is wrong; the message begins with `where`.
    """
    if not _is_mapping(config):
        raise UserError(f"{where}: expected a mapping with program, method and parameters")
    try:
        for key in ("program", "method", "parameters"):
            if not config.get(key):
                raise UserError(f"{key} is missing or empty")
        if not _is_mapping(config["parameters"]):
            raise UserError("parameters: expected a mapping of names to values")
        check_choice("method", config["method"], METHODS)
        experiment = load_registered(config["program"])
        _check_command(config.get("command", DEFAULT_COMMAND))
        config = _normalized(config, experiment)
        run_cap = config.get("run_cap", 1)
        if not isinstance(run_cap, int) or run_cap < 1:
            raise UserError(f"run_cap={run_cap!r}: expected a whole number of at least 1")
        violations = _violations(config)
        if violations:
            raise UserError(violations[0])
        if "early_terminate" in config and "metric" not in config:
            raise UserError("early_terminate needs a metric")
        sweep = checked(config, name, experiment)
        named, fixed = sweep.named_configs, sweep.fixed
        check_names(named, experiment.named_configs, f"named config of {experiment.path}")
        known = {*experiment.defaults(), "seed"}
        names = [name.partition(".")[0] for name in (*fixed, *config["parameters"])]
        swept = canonical_names(dict.fromkeys(names), known)
        check_keys(swept, known, f"config key of {experiment.path}")
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    return sweep


def checked(config: dict[str, Any], name: str, experiment: Experiment | None = None) -> SweepFile:
    """The sweep that a config describes which `check` has returned before; it takes no seconds.

    Arguments:
        experiment: The config's program, if it is loaded.
    """
    named, fixed = arguments_of(config["command"])
    experiment = experiment or load_registered(config["program"])
    return SweepFile(name, config, experiment, tuple(named), fixed)


def name_of(config: dict[str, Any]) -> str:
    """The name of a sweep that arrived without its file.

    This is the name of the project's sweep file with the same content, so that claims on that file
    are checked on the sweep; otherwise the config's own name, or "sweep".
    """
    for path in sorted((PROJECT / "sweeps").glob("*.yaml")):
        known = limited_yaml.load(path.read_text())
        if all(known.get(key) == config.get(key) for key in IDENTIFYING_KEYS):
            return path.stem
    return config.get("name") or "sweep"


def _normalized(config: dict[str, Any], experiment: Experiment) -> dict[str, Any]:
    """The config in the one form that the project's programs and W&B's search both read."""
    config = {key: value for key, value in config.items() if not key.startswith(IGNORED_PREFIX)}
    for key in ("metric", "early_terminate"):
        if isinstance(config.get(key), dict):
            items = with_numbers(config[key]).items()
            config[key] = {name: whole_if_integral(value) for name, value in items}
    if "run_cap" in config:
        config["run_cap"] = whole_if_integral(with_numbers(config["run_cap"]))
    config["command"] = _sacred_command(config.get("command") or DEFAULT_COMMAND)
    config["parameters"] = _parameters(config["parameters"], experiment)
    return config


def _parameters(parameters: dict[str, Any], experiment: Experiment) -> dict[str, Any]:
    """The swept parameters by config key, their numbers as the key's type wants them."""
    known = {*experiment.defaults(), "seed"}
    flat: dict[str, Any] = {}
    for path, spec in _specs(parameters):
        for key in canonical_names({_joined(path, known): None}, known):
            if key in flat:
                raise UserError(f"parameters: {key} is given twice")
            is_mapping = isinstance(spec, dict)
            flat[key] = _typed(key, spec, experiment.types.get(key, Any)) if is_mapping else spec
    return flat


def _specs(parameters: dict[str, Any], *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each parameter's path of names, outermost first, and its specification."""
    for name, spec in parameters.items():
        if isinstance(spec, dict) and _is_mapping(spec.get("parameters")):
            yield from _specs(spec["parameters"], *path, name)
        else:
            yield (*path, name), spec


def _leaves(point: dict[str, Any], *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each value of a nested point with its path of names."""
    for name, value in point.items():
        if isinstance(value, dict):
            yield from _leaves(value, *path, name)
        else:
            yield (*path, name), value


def _joined(path: Sequence[str], known: Collection[str]) -> str:
    """The config key that a path of nested names stands for: decoder, lr is decoder_lr.

    Names below a known key, which is a mapping then, follow it after a dot, as in Sacred.
    """
    return ("." if path[0] in known else "_").join(path)


def _typed(key: str, spec: dict[str, Any], declared: Any) -> dict[str, Any]:
    """A parameter's specification with its numbers as numbers, whole ones where the key wants them.

    Arguments:
        declared: The type of the config key.

    Raises:
        UserError: A bound or another number of a distribution is no number.
    """
    spec = with_numbers(spec)
    for name in NUMBERS.intersection(spec):
        if not isinstance(spec[name], int | float) or not math.isfinite(spec[name]):
            raise UserError(f"{key}: {name}={spec[name]!r}: expected a number")
    distribution = str(spec.get("distribution"))
    if distribution.startswith("q_"):
        spec["q"] = float(spec.get("q", 1))  # the step; W&B gives whole values for a whole one
    if distribution == "int_uniform" or is_whole(declared):
        for name in {"min", "max", "q", "value"}.intersection(spec):
            spec[name] = whole_if_integral(spec[name])
        if isinstance(spec.get("values"), list):
            spec["values"] = [whole_if_integral(value) for value in spec["values"]]
    return _with_value_bounds(spec)


def is_whole(declared: Any) -> bool:
    """Whether a config key of this type takes no fractional numbers."""
    return not (is_valid(0.5, declared) or is_valid(1.5, declared))


def _with_value_bounds(spec: dict[str, Any]) -> dict[str, Any]:
    """The specification, bounds that are exponents of e replaced by values.

    Bounds between 0 and 1 are left for W&B's message, as they are rarely meant to be exponents.
    """
    values = EXPONENT_DISTRIBUTIONS.get(str(spec.get("distribution")))
    low, high = spec.get("min"), spec.get("max")
    if not (values and isinstance(low, int | float) and isinstance(high, int | float)):
        return spec
    if 0 < low < high <= 1:
        return spec
    if spec["distribution"] == "inv_log_uniform":  # the bounds are those of log(1/x)
        low, high = -high, -low
    return {**spec, "distribution": values, "min": math.exp(low), "max": math.exp(high)}


def _check_command(command: Any) -> None:
    """UserError unless an agent that executes the command runs the sweep's program by Python."""
    is_words = isinstance(command, list) and all(isinstance(w, str | int | float) for w in command)
    if not is_words or PROGRAM not in command:
        raise UserError(f"command: expected a list of words with {PROGRAM}")
    for word in command[: command.index(PROGRAM)]:
        if word not in LAUNCHERS:
            raise UserError(f"command: {word!r} before {PROGRAM}; expected {', '.join(LAUNCHERS)}")


def _sacred_command(command: list[Any]) -> list[str]:
    """The command with a point's parameters after `with`, as key=value."""
    words = [
        SACRED_ARGUMENTS if str(word).startswith(ARGUMENTS_PREFIX) else str(word)
        for word in command
    ]
    if SACRED_ARGUMENTS in words and "with" not in words:
        words.insert(words.index(SACRED_ARGUMENTS), "with")
    return words


def _violations(config: dict[str, Any]) -> list[str]:
    """What W&B's schema has against the config."""
    try:
        known = {key: value for key, value in config.items() if key not in KEYS_OUTSIDE_SCHEMA}
        return search.sweeps().schema_violations_from_proposed_config(known)
    except ValueError as error:
        return [str(error)]


def _is_mapping(parameters: Any) -> bool:
    return isinstance(parameters, dict) and all(isinstance(name, str) for name in parameters)
