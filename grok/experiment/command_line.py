"""Checks of an experiment's command line: one clear line where Sacred prints its usage or a traceback."""

import logging
import shlex
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from docopt import DocoptExit
from sacred.commandline_options import CLIOption

from grok.errors import UserError, did_you_mean
from grok.experiment import config_files
from grok.store.archive_schema import ID_FORM, is_named_id
from grok.values import parse_value

# Options of Sacred's whose packages are not part of this project's environment.
PACKAGES = {"--sql": "sqlalchemy", "--s3": "boto3", "--tiny_db": "tinydb"}
MACRO_PREFIX = "${"  # of what W&B replaces in a sweep's command
CAPTURE_MODES = ("no", "sys", "fd")


def check(
    words: Sequence[str],
    commands: Iterable[str],
    named_configs: Iterable[str],
    options: Iterable[CLIOption],
) -> None:
    """UserError for an unknown command, a configuration without `with` before it, and words not in UTF-8.

    Arguments:
        words: the command line, with the program first.
        commands, named_configs, options: those that the experiment has.
    """
    for word in words[1:]:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise UserError(f"{word}: expected an argument in UTF-8") from None
    with_value = {flag for option in options if option.arg for flag in option.get_flags()}
    places = _positions_before_with(words, with_value)
    if not places or words[places[0]] == "help":
        return
    if words[places[0]] in commands:
        places = places[1:]
    for place in places:
        word = words[place]
        if "=" in word or word in named_configs or config_files.is_file_name(word):
            corrected = shlex.join(["python", *words[:place], "with", *words[place:]])
            raise UserError(f'{word}: write "with" before the configuration: {corrected}')
        if word not in commands:
            hint = did_you_mean(word, [*commands, *named_configs])
            raise UserError(f"unknown command {word}{hint or '; --help lists the commands'}")


def _positions_before_with(words: Sequence[str], with_value: set[str]) -> list[int]:
    """Where the words before `with` are that are neither options nor values of options."""
    places: list[int] = []
    skips = True  # the program's name
    for place, word in enumerate(words):
        if skips:
            skips = False
        elif word == "with":
            break
        elif word.startswith("-"):
            skips = word in with_value
        else:
            places.append(place)
    return places


def explain(error: DocoptExit, words: Sequence[str]) -> UserError:
    """The error of a command line that does not follow the usage, in one line."""
    reason = str(error.code).split("\n")[0]
    if reason.startswith(("Usage", "Warning")):
        reason = f"{shlex.join(words[1:])} is not understood"
    return UserError(f"{reason}; --help lists commands and options")


def check_options(options: Mapping[str, Any]) -> None:
    """UserError for an option whose value, or whose package, is missing."""
    for flag, package in PACKAGES.items():
        if options.get(flag) and find_spec(package) is None:
            raise UserError(
                f"{flag} needs the package {package}, which is not installed; -m names a MongoDB, "
                "and -F a folder of files"
            )
    for flag in ("--beat-interval", "--priority"):
        if options.get(flag) and not _is_number(options[flag]):
            raise UserError(f"{flag} {options[flag]}: expected a number")
    name = options.get("--id")
    if name is not None and not is_named_id(str(name)):
        raise UserError(f"--id {name!s:.200}: expected {ID_FORM}")
    mode = options.get("--capture")
    if mode and mode not in CAPTURE_MODES:
        raise UserError(f"--capture {mode}: expected one of {', '.join(CAPTURE_MODES)}")
    level = str(options.get("--loglevel") or "WARNING")
    if not level.isdigit() and level not in logging.getLevelNamesMapping():
        raise UserError(f"--loglevel {level}: expected 0 to 50, or a name such as DEBUG")


def arguments_of(command: Iterable[str]) -> tuple[list[str], dict[str, Any]]:
    """The named configs and the key=value updates that a sweep's command gives after `with`.

    Arguments:
        command: its words; W&B's macros, such as `${args_no_hyphens}`, stand for a point's values.
    """
    words = [*command]
    words = words[words.index("with") + 1 :] if "with" in words else []
    plain = [word for word in words if not word.startswith(MACRO_PREFIX)]
    named = [word for word in plain if "=" not in word]
    pairs = (word.split("=", 1) for word in plain if "=" in word)
    return named, {key: parse_value(text) for key, text in pairs}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
