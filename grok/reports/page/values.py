"""Values of stored documents as the page shows them."""

import math
import re
import shlex
from collections.abc import Callable, Sequence
from functools import cache
from operator import itemgetter
from typing import Any

import numpy as np

SPARKLINE_POINTS, SPARKLINE_HEIGHTS = 24, 64
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def part_of(run: dict[str, Any], key: str) -> dict[str, Any]:
    """A mapping in the run's document; empty where the document has none."""
    return run[key] if isinstance(run.get(key), dict) else {}


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The entries of nested dictionaries by dotted keys."""
    entries: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            entries |= flat(value, f"{prefix}{key}.")
        else:
            entries[f"{prefix}{key}"] = value
    return entries


def command_of(run: dict[str, Any]) -> str:
    """The command line that repeats a run, at its commit; every word is quoted for the shell."""
    meta, experiment = part_of(run, "meta"), part_of(run, "experiment")
    updates = meta.get("config_updates") or {}
    words = [str(name) for name in meta.get("named_configs") or ()]
    values = {key: str(value) for key, value in updates.items()}
    if "seed" not in updates and run.get("config"):
        values["seed"] = str(run["config"].get("seed"))
    program = shlex.quote(str(experiment.get("mainfile")).lstrip("-"))  # no option of Python's
    pairs = [f"{shlex.quote(key)}={shlex.quote(value)}" for key, value in values.items()]
    line = " ".join(["python", program, "with", *map(shlex.quote, words), *pairs])
    repositories = experiment.get("repositories") or []
    if not repositories:
        return line
    commit = str(repositories[0].get("commit"))[:12]
    if not re.fullmatch("[0-9a-f]+", commit):  # an archive may have an option in its place
        return line
    changed = "  # and uncommitted changes" if repositories[0].get("dirty") else ""
    return f"git checkout {commit}{changed}\n{line}"


def sparkline(values: list[Any]) -> str:
    """Accuracies in 24 characters of 64 heights."""
    if not values:
        return ""
    shown = [values[i] for i in spread(len(values), SPARKLINE_POINTS)]
    heights = [min(max(value, 0.0), 1.0) if _is_finite(value) else 0.0 for value in shown]
    return "".join(ALPHABET[int(height * (SPARKLINE_HEIGHTS - 1))] for height in heights)


@cache
def thinned(count: int, most: int) -> Callable[[list[Any]], tuple]:
    """A function that returns `most` of `count` values (all if there are fewer), evenly spaced, the
    first and the last among them."""
    if count <= most:
        return tuple
    return itemgetter(*sorted({*spread(count, most)}))


@cache
def spread(count: int, points: int) -> list[int]:
    """Indices of `points` of `count` values, evenly spaced from the first to the last."""
    return np.linspace(0, count - 1, points).astype(int).tolist()


def numbers_text(values: Sequence[Any]) -> str:
    """Numbers with four digits, separated by commas; nothing for what is no finite number.

    It is written several times as fast as a list of rounded numbers as JSON.
    """
    if {*map(type, values)} == {float} and all(map(math.isfinite, values)):
        return ",".join(["%.4g"] * len(values)) % tuple(values)
    return ",".join([f"{value:.4g}" if _is_finite(value) else "" for value in values])


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def plain(value: Any) -> Any:
    """A value as JSON can hold it: numbers that are not finite and objects become text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)
