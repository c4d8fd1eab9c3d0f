"""Whether a command in the documentation could be run: what it names exists, and its options do.

Nothing is run.
"""

import re
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec

import click
from docopt import DocoptExit, docopt
from sacred.arg_parser import get_config_updates

from grok.cli import main as grok
from grok.errors import UserError
from grok.experiment import command_line
from grok.experiment.experiment import Experiment, load
from grok.paths import experiment_file, experiment_names
from tests.conftest import PROJECT

# Programs that are not this project's; only their names are checked.
FOREIGN = {
    *(
        "apptainer",
        "cat",
        "cd",
        "cp",
        "curl",
        "docker",
        "echo",
        "export",
        "git",
        "head",
        "kill",
        "ls",
        "mkdir",
    ),
    *("mongod", "mongosh", "pip", "rm", "sbatch", "scancel", "sinfo", "sleep", "squeue", "srun"),
    *("ssh", "scp", "rsync", "tail", "tee", "unset", "unzip", "wandb", "wait", "watch"),
    *(".", "source", "du", "grep", "diff", "pytest", "ruff", "mypy", "jupyter"),
    *(
        "omniboard",
        "npx",
        "set",
        "true",
        "test",
        "timeout",
        "xdg-open",
        "for",
        "done",
        "if",
        "fi",
        "while",
    ),
}
PREFIXES = ("time", "nohup", "env", "do", "then", "else")  # of a command
PYTHON = ("python", "python3", ".venv/bin/python")
ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)
# Keys of filters of runs that are no configuration keys.
SELECTION = {"experiment", "run", "sweep", "status", "tag", "claim", "since", "until"}
# Of a sweep on this machine, or one of W&B's.
SWEEP_ID = re.compile(r"[\w]+-[0-9a-f]{6}|[a-z0-9]{8}")


def problem(words: Sequence[str]) -> str | None:
    """Why a command cannot be run, in one line; None if it can."""
    words = list(words)
    while words and (ASSIGNMENT.fullmatch(words[0]) or words[0] in PREFIXES):
        words.pop(0)
    if not words or ("$" in words[0] and not words[0].startswith("$(")):
        return None
    program, arguments = words[0].removeprefix(".venv/bin/"), words[1:]
    try:
        if program == "grok":
            return _click_problem(grok, "grok", arguments) or _names_problem(arguments)
        if program == "make":
            return _make_problem(arguments)
        if program in PYTHON and arguments:
            return _python_problem(arguments)
    except UserError as error:
        return str(error)
    return None if program in FOREIGN else f"unknown program {program}"


def _python_problem(arguments: list[str]) -> str | None:
    script, rest = arguments[0], arguments[1:]
    if script in ("-c", "--version", "-V", "-"):
        return None
    if script == "-m":
        return None if find_spec(rest[0]) else f"no module {rest[0]}"
    if not (PROJECT / script).is_file():
        return f"no file {script}"
    folder, _, name = script.removesuffix(".py").rpartition("/")
    if folder == "experiments":
        return _experiment_problem(_experiment(name), rest)
    if folder == "analysis":
        main = import_module(f"analysis.{name}").main
        return _click_problem(main, script, rest) or _names_problem(rest)
    return None


def _experiment_problem(experiment: Experiment, arguments: list[str]) -> str | None:
    """Options and command as Sacred's parser reads them, then the configuration."""
    words = [f"experiments/{experiment.path}.py", *arguments]
    commands = dict(experiment.gather_commands())
    command_line.check(words, commands, experiment.named_configs, experiment.all_cli_options)
    try:
        parsed = docopt(experiment.get_usage()[2], arguments, default_help=False)
    except DocoptExit as error:
        raise command_line.explain(error, words) from error
    updates, named_configs = get_config_updates(parsed["UPDATE"])
    if parsed["COMMAND"] == "save_config":
        updates.pop("config_filename", None)
    for name in named_configs:
        if name not in experiment.named_configs and name.endswith((".json", ".yaml", ".yml")):
            return None  # a file that an earlier command writes
    experiment.full_config(updates, named_configs)
    return None


def _click_problem(command: click.Command, name: str, arguments: list[str]) -> str | None:
    """What click says of a command's arguments."""
    if not {"-h", "--help"}.isdisjoint(arguments):
        arguments = [word for word in arguments if word not in ("-h", "--help")]
        if not isinstance(command, click.Group):
            return None
    try:
        while isinstance(command, click.Group):
            if not arguments or arguments[0] == "--version":
                return None
            chosen = command.get_command(
                click.Context(command, **grok.context_settings), arguments[0]
            )
            if chosen is None:
                return f"{name} has no command {arguments[0]}"
            command, name, arguments = chosen, f"{name} {arguments[0]}", arguments[1:]
            if isinstance(command, click.Group) and not arguments:
                return None
        # click keeps a command's option --help, with the names that it had at first
        with command.make_context(name, list(arguments), **grok.context_settings):
            return None
    except click.ClickException as error:
        message = error.format_message()
        if "does not exist" in message and not _is_path_of_project(message):
            return None  # a file that is made by an earlier command, or the reader's own
        return f"{name}: {message}"


def _is_path_of_project(message: str) -> bool:
    """Whether a message names a file in a folder of the repository."""
    folders = "|".join(path.name for path in PROJECT.iterdir() if path.is_dir())
    return re.search(rf"'(\./)?({folders})/", message) is not None


def _names_problem(arguments: list[str]) -> str | None:
    """Sweep files, papers and filters that are named must exist."""
    if arguments[:2] == ["store", "attach"]:
        return None  # its values have names of the user's own
    for word in arguments:
        if word.startswith("sweeps/") and not (PROJECT / word).is_file():
            return f"no file {word}"
        key, is_filter, value = word.partition("=")
        if not is_filter or word.startswith("-"):
            continue
        if key == "sweep" and not _is_sweep(value):
            return f"no sweep file {value}"
        if key == "experiment" and value not in experiment_names():
            return f"no experiment {value}"
        if key == "tag" and value not in _named_configs():
            return f"no named config {value}"
        if key == "claim" and value.lstrip("-") not in _claims():
            return f"no claim {value}"
        is_key = key not in SELECTION and not key.startswith(("result.", "config."))
        if is_key and key not in _keys():
            return f"no configuration key {key}"
    return None


def _is_sweep(name: str) -> bool:
    return (PROJECT / "sweeps" / f"{name}.yaml").is_file() or bool(SWEEP_ID.fullmatch(name))


def _make_problem(arguments: list[str]) -> str | None:
    targets = set(re.findall(r"^([\w-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    unknown = [w for w in arguments if not ASSIGNMENT.fullmatch(w) and w not in targets]
    return f"make has no target {unknown[0]}" if unknown else None


@cache
def _experiment(name: str) -> Experiment:
    return load(experiment_file(name))


def _collected(part: Callable[[Experiment], set[str]]) -> set[str]:
    return set[str]().union(*(part(_experiment(name)) for name in experiment_names()))


@cache
def _named_configs() -> set[str]:
    return _collected(lambda experiment: {*experiment.named_configs})


@cache
def _claims() -> set[str]:
    return _collected(lambda experiment: {claim.id for claim in experiment.claims})


@cache
def _keys() -> set[str]:
    return _collected(lambda experiment: {*experiment.types})
