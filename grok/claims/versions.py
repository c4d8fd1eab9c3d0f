"""Versions of claims: what a claim says and how it is checked, as one hash."""

import ast
import dis
import hashlib
import inspect
import json
import textwrap
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import yaml

import grok
from grok.claims.model import Claim, Run, Runs
from grok.experiment.command_line import arguments_of
from grok.experiment.experiment import KEYS_OF_ANY_VALUE, Experiment
from grok.paths import PROJECT
from grok.values import with_numbers

DIGITS = 12  # of a version
OUR_FOLDERS = (PROJECT / "experiments", Path(grok.__file__).parent)
CONSTANTS = (bool, int, float, str, bytes, tuple, list, dict, set, frozenset, range, type(None))
# Parts of a sweep file that say how it is run, not what is trained.
NOT_OF_A_RECIPE = ("program", "command", "metric", "name", "description", "project", "entity")


def version_of(experiment: Experiment, claim: Claim) -> str:
    """The hash of a claim's sentence, check, thresholds and recipes, in hexadecimal digits.

    It changes with the statement, with any function or constant of this project that the check
    uses, directly or through another one, with the experiment's threshold and delay, which entries of
    results such as `steps_to_test` depend on, and with the sweep and the named configs whose runs it
    is checked on. Comments and layout do not change it.
    """
    content = {
        "statement": claim.statement,
        "pooled": claim.pooled,
        "control": claim.control,
        "check": claim.not_tried or check_of(claim),
        "reached": [experiment.threshold, experiment.delay],
        "recipes": _recipes(experiment, claim.sweep),
    }
    text = json.dumps(content, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def check_of(claim: Claim) -> dict[str, str]:
    """The code of a claim's check, of the functions that it uses, and its constants, by name."""
    return _parts(claim.check)


@cache
def _parts(check: Callable[..., Any]) -> dict[str, str]:
    parts: dict[str, str] = {}
    _add(check, parts)
    return parts


def _add(function: Callable[..., Any], parts: dict[str, str]) -> None:
    name = f"{function.__module__}.{function.__qualname__}"
    if name in parts:
        return
    tree = _syntax(function)
    parts[name] = ast.unparse(tree)
    for used, value in _names(function, tree):
        if isinstance(value, FunctionType):
            if _is_ours(value):
                _add(value, parts)
        elif isinstance(value, CONSTANTS):
            parts[f"{function.__module__}.{used}"] = repr(value)


def _syntax(function: Callable[..., Any]) -> ast.AST:
    """The syntax tree of a function, without decorators, annotations and docstring."""
    module = ast.parse(textwrap.dedent(inspect.getsource(function)))
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef):
            node.decorator_list, node.returns = [], None
            if ast.get_docstring(node) is not None:
                node.body = node.body[1:] or [ast.Pass()]
        elif isinstance(node, ast.arg):
            node.annotation = None
    return module


def _names(function: Callable[..., Any], tree: ast.AST) -> Iterator[tuple[str, Any]]:
    """What the names in a function stand for: its module's, a module's attributes, and methods of
    runs. A local variable stands for nothing, even if the module has one of its name."""
    used = {*_global_names(function.__code__), *_names_of_defaults(tree)}
    known = {name: value for name, value in function.__globals__.items() if name in used}
    known |= inspect.getclosurevars(function).nonlocals
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in known:
            yield node.id, known[node.id]
        elif isinstance(node, ast.Attribute):
            owner = known.get(node.value.id) if isinstance(node.value, ast.Name) else None
            owners = (owner,) if isinstance(owner, ModuleType) else (Run, Runs)
            for one in owners:
                if hasattr(one, node.attr):
                    yield node.attr, getattr(one, node.attr)


def _global_names(code: CodeType) -> Iterator[str]:
    """The global names that a function and the functions in it read."""
    for instruction in dis.get_instructions(code):
        if instruction.opname == "LOAD_GLOBAL":
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _global_names(constant)


def _names_of_defaults(tree: ast.AST) -> Iterator[str]:
    """The names in the default values of arguments, which are read where a function is defined."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arguments):
            for default in (*node.defaults, *filter(None, node.kw_defaults)):
                yield from (one.id for one in ast.walk(default) if isinstance(one, ast.Name))


def _is_ours(function: FunctionType) -> bool:
    """Whether a function is part of this project."""
    file = Path(function.__code__.co_filename).resolve()
    return any(file.is_relative_to(folder) for folder in OUR_FOLDERS)


def is_of_file(sweep: Mapping[str, Any]) -> bool:
    """Whether a stored sweep asks for the same runs as the project's sweep file of its name."""
    path = PROJECT / "sweeps" / f"{sweep['name']}.yaml"
    return path.exists() and asked_for(yaml.safe_load(path.read_text())) == asked_for(
        sweep["config"]
    )


def asked_for(config: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a sweep file asks for, the same before and after `grok.sweep.file.check`."""
    return (
        config.get("method"),
        config.get("run_cap"),
        with_numbers(config.get("parameters")),
        arguments_of(config.get("command", ())),
    )


@cache
def _recipes(experiment: Experiment, sweep: str) -> dict[str, Any]:
    """The points of a sweep file, and the configurations that its runs start from.

    These are the named configs in it, those of the runs that these continue (`initial_run`), and the
    defaults if it names none. Values that switch something off (None, False, 0 and empty ones) are
    left out, so that a new configuration key does not change the version of every claim.
    """
    path = PROJECT / "sweeps" / f"{sweep}.yaml"
    if not path.exists():
        return {}
    content = yaml.safe_load(path.read_text())
    defaults, named = experiment.defaults(), experiment.named_configs
    configs = {word: {**defaults, **named[word]()} for word in _words(content) if word in named}
    parents = {str(config.get("initial_run")) for config in configs.values()}
    configs |= {name: {**defaults, **named[name]()} for name in parents if name in named}
    return {
        "sweep": {key: value for key, value in content.items() if key not in NOT_OF_A_RECIPE},
        "fixed": [word for word in content.get("command", ()) if "$" not in str(word)],
        "configs": {
            name: {k: v for k, v in config.items() if v and k not in KEYS_OF_ANY_VALUE}
            for name, config in (configs or {"": defaults}).items()
        },
    }


def _words(content: Any) -> Iterator[str]:
    """All text in a parsed file."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict):
        for value in content.values():
            yield from _words(value)
    elif isinstance(content, list):
        for value in content:
            yield from _words(value)
