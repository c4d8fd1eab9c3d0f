"""Checks of a run's configuration: one clear line for the first thing that is wrong."""

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from fnmatch import fnmatchcase
from math import inf
from typing import Any

import torch

from grok.errors import UserError
from grok.models.transformer import NORMS, POSITIONS


class ConfigError(UserError):
    """A configuration value that the experiment cannot run with."""

    def __init__(self, key: str, value: Any, expected: str):
        super().__init__(f"{key}={value!r}: expected {expected}")


LARGEST_SEED = 2**32 - 1  # numpy's
Rule = tuple[str, Callable[[Any], bool], str]


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    return (_whole(value) or isinstance(value, float)) and value == value


def _at_least(least: int, optional: bool = False, most: float = inf) -> tuple[Callable, str]:
    text = f"of at least {least}" if most == inf else f"from {least} to {most}"
    text = f"a whole number {text}" + (" or None" if optional else "")
    return lambda v: (optional and v is None) or (_whole(v) and least <= v <= most), text


_NOT_NEGATIVE = (lambda v: _number(v) and 0 <= v < float("inf"), "a number of at least 0")

_SHARE = (lambda v: _number(v) and 0 <= v < 1, "a number of at least 0 and below 1")

# First match wins. Keys mean the same in every paper.
RULES: list[Rule] = [
    ("seed", *_at_least(0, most=LARGEST_SEED)),
    ("data_seed", *_at_least(0, optional=True, most=LARGEST_SEED)),
    ("mask_step", *_at_least(0, optional=True)),
    ("keep", lambda v: _number(v) and 0 < v <= 1, "a share above 0, up to 1"),
    ("reference_run", *_at_least(1, optional=True)),
    (
        "initial_run",
        lambda v: v is None or isinstance(v, int | str),
        "a run's id, a named config or None",
    ),
    ("snapshot_every", *_at_least(1)),
    ("trajectory_every", *_at_least(1)),
    ("measures", lambda v: isinstance(v, str | list | tuple), 'a list of names, or "full"'),
    ("checkpoint_every", *_at_least(1, optional=True)),
    ("p", *_at_least(2)),
    ("hidden_dim", *_at_least(1, optional=True)),
    ("terms", *_at_least(2)),
    ("train_fraction", lambda v: _number(v) and 0 < v < 1, "a number between 0 and 1, exclusive"),
    ("train_count", *_at_least(1, optional=True)),
    ("test_count", *_at_least(1)),
    ("eval_*_count", *_at_least(1, optional=True)),
    ("list_*", *_at_least(1)),
    ("noisy_answers", *_at_least(0)),
    ("data_folder", lambda v: v is None or isinstance(v, str), "a folder or None"),
    ("messiness", lambda v: _number(v) and 0 <= v <= 1, "a share from 0 to 1"),
    ("directions", *_at_least(0)),
    ("phi", lambda v: _number(v) and 0 < v < 1e6, "a number above 0"),
    ("repeats", *_at_least(1)),
    ("relations", *_at_least(1)),
    ("values", *_at_least(1)),
    ("near", *_NOT_NEGATIVE),
    ("clip_norm", *_NOT_NEGATIVE),
    ("out_degree", *_at_least(1)),
    ("entities", *_at_least(2)),
    ("*_share", *_SHARE),
    ("batch_size", *_at_least(1, optional=True)),
    ("warmup_steps", *_at_least(0)),
    ("anneal_steps", *_at_least(0)),
    ("eval_steps", *_at_least(1, optional=True)),
    ("*_steps", *_at_least(1)),
    ("*_points", *_at_least(1)),
    ("*width", *_at_least(1)),
    ("*depth", *_at_least(1)),
    ("*_dim", *_at_least(1)),
    ("heads", *_at_least(1)),
    ("*lr", *_NOT_NEGATIVE),
    ("*weight_decay", *_NOT_NEGATIVE),
    ("*scale", *_NOT_NEGATIVE),
    ("eps", *_NOT_NEGATIVE),
    ("*_window", *_at_least(1)),
    ("*_gain", *_NOT_NEGATIVE),
    ("*_noise", *_NOT_NEGATIVE),
    ("*_rho", *_NOT_NEGATIVE),
    ("*_alpha", *_SHARE),
    ("dropout", *_SHARE),
    (
        "betas",
        lambda v: isinstance(v, list | tuple) and len(v) == 2 and all(map(_SHARE[0], v)),
        "two numbers below 1",
    ),
]

CHOICES: dict[str, tuple] = {
    "dtype": ("float32", "float64"),
    "loss_dtype": (None, "float32", "float64"),
    "device": ("auto", "cpu", "cuda"),
    "optimizer": ("adamw", "adam", "sgd"),
    "activation": ("tanh", "relu", "gelu"),
    "loss": ("cross_entropy", "squared_error"),
    "grokfast": (None, "ema", "window"),
    "decay_to": ("zero", "init"),
    "norm": NORMS,
    "positions": POSITIONS,
}


def device_of(name: str) -> torch.device:
    """The device that a config names, "auto" being CUDA where there is one; ConfigError if absent."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device", name, "a CUDA device, and this machine has none")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def check_names(names: Iterable[str], known: Iterable[str], kind: str) -> None:
    """ConfigError naming the first unknown name and its nearest known one."""
    known = sorted(known)
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1, cutoff=0.5)
            near = near or [k for k in known if name.startswith(k)][:1]
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}"
            raise UserError(f"unknown {kind} {name}; {hint}")


def check_values(values: dict[str, Any], defaults: dict[str, Any], choices: dict) -> None:
    """ConfigError for the first value outside its choices, its rule, or the type of its default."""
    choices = {**CHOICES, **choices}
    for key, value in values.items():
        if key in choices:
            check_choice(key, value, choices[key])
            continue
        if value is None and key in defaults and defaults[key] is None:
            continue
        name = key.rpartition(".")[2]
        rule = next((rule for rule in RULES if fnmatchcase(name, rule[0])), None)
        if rule is not None:
            if not rule[1](value):
                raise ConfigError(key, value, rule[2])
        elif not _same_type(value, defaults.get(key)):
            raise ConfigError(key, value, f"{_TYPE_NAMES[type(defaults[key])]}")


def check_choice(key: str, value: Any, choices: Iterable) -> None:
    """ConfigError unless the value is among the choices."""
    if value not in choices:
        near = get_close_matches(str(value), [str(c) for c in choices], n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ConfigError(key, value, "one of " + ", ".join(map(str, choices)) + hint)


_TYPE_NAMES = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a list",
    tuple: "a list",
    dict: "a group of keys",
}


def _same_type(value: Any, default: Any) -> bool:
    if default is None:
        return True
    if isinstance(default, float):
        return _number(value)
    if isinstance(default, list | tuple):
        return isinstance(value, list | tuple)
    return type(value) is type(default)
