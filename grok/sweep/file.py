"""W&B sweep files, checked against W&B's schema and the configuration of their experiment."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sweeps
import yaml

from grok.errors import UserError
from grok.experiment.experiment import Experiment, load
from grok.experiment.validation import canonical_names, check_choice, check_names
from grok.paths import PROJECT
from grok.values import parse_value

METHODS = ("grid", "random", "bayes")
KEYS_OUTSIDE_SCHEMA = ("run_cap",)  # W&B knows them, the schema of its package `sweeps` does not
MACRO_PREFIX = "${"
IDENTIFYING_KEYS = ("program", "method", "command", "parameters")


@dataclass(frozen=True)
class SweepFile:
    """A checked sweep.

    Attributes:
        name: The file's name without its suffix.
        config: W&B's config, as the file has it.
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
        """The config updates of one point, with the command's fixed ones."""
        return {**self.fixed, **{key: parse_value(value) for key, value in point.items()}}


def read(path: Path) -> SweepFile:
    """The sweep in a YAML file; UserError with the first mistake if it is wrong."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {getattr(error, 'strerror', 'not a text in UTF-8')}") from error
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" in line {mark.line + 1}" if mark else ""
        raise UserError(
            f"{path}: broken YAML{place}: {getattr(error, 'problem', error)}"
        ) from error
    return check(config, path.stem, str(path))


def check(config: Any, name: str, where: str) -> SweepFile:
    """The sweep that a W&B config describes.

    Arguments:
        where: What the config comes from, for the error message.

    Raises:
        UserError: The config is wrong; the message begins with `where`.
    """
    if not isinstance(config, dict):
        raise UserError(f"{where}: expected a mapping with program, method and parameters")
    try:
        for key in ("program", "method", "parameters"):
            if not config.get(key):
                raise UserError(f"{key} is missing or empty")
        if not _is_mapping(config["parameters"]):
            raise UserError("parameters: expected a mapping of names to values")
        if not isinstance(config.get("run_cap", 1), int):
            raise UserError(f"run_cap={config['run_cap']!r}: expected a whole number")
        check_choice("method", config["method"], METHODS)
        violations = _violations(config)
        if violations:
            raise UserError(violations[0])
        experiment = load(PROJECT / config["program"])
        named, fixed = _fixed(config.get("command", []))
        check_names(named, experiment.named_configs, f"named config of {experiment.path}")
        known = {*experiment.defaults(), "seed"}
        swept = canonical_names(dict.fromkeys([*fixed, *parameter_names(config)]), known)
        check_names(swept, known, f"config key of {experiment.path}")
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    return SweepFile(name, config, experiment, tuple(named), fixed)


def name_of(config: dict[str, Any]) -> str:
    """The name of a sweep that arrived without its file.

    This is the name of the project's sweep file with the same content, so that claims on that file
    are checked on the sweep; otherwise the config's own name, or "sweep".
    """
    for path in sorted((PROJECT / "sweeps").glob("*.yaml")):
        known = yaml.safe_load(path.read_text())
        if all(known.get(key) == config.get(key) for key in IDENTIFYING_KEYS):
            return path.stem
    return config.get("name") or "sweep"


def parameter_names(config: dict[str, Any]) -> list[str]:
    """Names of the swept parameters; a nested group counts as one."""
    return list(config["parameters"])


def _violations(config: dict[str, Any]) -> list[str]:
    """What W&B's schema has against the config."""
    try:
        known = {key: value for key, value in config.items() if key not in KEYS_OUTSIDE_SCHEMA}
        return sweeps.schema_violations_from_proposed_config(known)
    except ValueError as error:
        return [str(error)]


def _fixed(command: list[str]) -> tuple[list[str], dict[str, Any]]:
    """The named configs and the key=value updates that a command gives after `with`."""
    words = [str(word) for word in command]
    words = words[words.index("with") + 1 :] if "with" in words else []
    plain = [word for word in words if not word.startswith(MACRO_PREFIX)]
    named = [word for word in plain if "=" not in word]
    pairs = (word.split("=", 1) for word in plain if "=" in word)
    return named, {key: parse_value(text) for key, text in pairs}


def _is_mapping(parameters: Any) -> bool:
    return isinstance(parameters, dict) and all(isinstance(name, str) for name in parameters)
