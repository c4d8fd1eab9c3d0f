"""Files of configuration values, JSON or YAML: `with FILE`, and the command `save_config`.

Sacred's own functions are not used: they create the Python objects that a file asks for, and keep
1e-3, which YAML 1.1 takes for a text.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from grok import limited_yaml
from grok.errors import UserError, read_text, writing
from grok.values import SCIENTIFIC

YAML_SUFFIXES = (".yaml", ".yml")
SUFFIXES = (".json", *YAML_SUFFIXES)
REFUSED_SUFFIXES = (".pickle", ".pkl", ".toml", ".ini", ".py")


class ConfigDumper(yaml.SafeDumper):
    """A safe YAML dumper of what `limited_yaml` reads: the text "1e-3" is quoted."""


ConfigDumper.add_implicit_resolver("tag:yaml.org,2002:float", SCIENTIFIC, list("-+.0123456789"))


def is_file_name(word: str) -> bool:
    """Whether a word after `with` names a file rather than a named config."""
    return Path(word).suffix.lower() in (*SUFFIXES, *REFUSED_SUFFIXES)


def load(name: str) -> dict[str, Any]:
    """The configuration values of a JSON or YAML file.

    Raises:
        UserError: the file cannot be read, or does not map configuration keys to values.
    """
    check_name(name)
    text = read_text(Path(name), "config file ")
    try:
        is_json = Path(name).suffix.lower() == ".json"
        values = json.loads(text) if is_json else limited_yaml.load(text)
    except (UserError, ValueError, RecursionError) as error:
        raise UserError(f"config file {name}: {error}") from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UserError(f"config file {name}: expected configuration keys with values")
    return values


def save(config: Mapping[str, Any], name: str) -> None:
    """Write a configuration to a JSON or YAML file.

    Raises:
        UserError: the name has another suffix, or the file cannot be written.
    """
    check_name(name)
    plain = json.loads(json.dumps(config))  # tuples become lists, and dictionaries plain ones
    with writing(Path(name)):
        if Path(name).suffix.lower() == ".json":
            text = json.dumps(plain, indent=2, sort_keys=True) + "\n"
        else:
            text = yaml.dump(plain, Dumper=ConfigDumper)
        Path(name).write_text(text, encoding="utf-8")


def check_name(name: str) -> None:
    """UserError unless the name is that of a JSON or YAML file."""
    if Path(name).suffix.lower() not in SUFFIXES:
        raise UserError(f"config file {name}: expected a name that ends with {', '.join(SUFFIXES)}")
