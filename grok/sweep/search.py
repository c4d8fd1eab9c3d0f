"""Points of a sweep, from W&B's own search code (package `sweeps`).

The package takes a second to import, so it is imported where it is first needed.
"""

import functools
import importlib
import itertools
import json
import math
import random
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

import bson
import numpy as np

from grok.errors import UserError

if TYPE_CHECKING:
    from sweeps import SweepRun
    from sweeps.params import HyperParameter

Point = dict[str, Any]
MOST_POINTS = 100_000  # of a sweep on this machine
# Their size in its document, which MongoDB limits to 16 MiB; batches and findings are there, too.
MOST_BYTES = 12 * 2**20
URI_PARSER = "rfc3987_syntax"


@functools.cache
def sweeps() -> ModuleType:
    """W&B's package `sweeps`.

    It imports jsonschema, which imports a parser of URIs if there is one. That would take 2.7 s, and
    no sweep's schema has URIs.
    """
    if URI_PARSER in sys.modules:
        return importlib.import_module("sweeps")
    sys.modules[URI_PARSER] = None  # type: ignore[assignment]  # Python's way to make it absent
    try:
        return importlib.import_module("sweeps")
    finally:
        del sys.modules[URI_PARSER]


def grid(config: dict[str, Any], limit: int | None) -> list[Point]:
    """The points of a grid in W&B's order, at most `limit`.

    W&B's own function lists all points, however many, to return the first ones.

    Raises:
        UserError: there is none, or more than MOST_POINTS.
    """
    sweeps()
    from sweeps.params import HyperParameterSet

    parameters = HyperParameterSet.from_config(config["parameters"])
    sizes, values = zip(*map(_grid_values, parameters), strict=True)
    count = math.prod(sizes)
    if not count:
        raise UserError("the grid is empty")
    limit = min(limit or count, count)
    check_count(limit)
    names = [parameter.name for parameter in parameters]
    points = itertools.product(*(itertools.islice(one, limit) for one in values))
    return [dict(zip(names, point, strict=True)) for point in itertools.islice(points, limit)]


def _grid_values(parameter: "HyperParameter") -> tuple[int, Iterable[Any]]:
    """How many different values a parameter takes in a grid, and the values, as W&B lists them.

    UserError if they are infinitely many.
    """
    spec = parameter.config
    if parameter.type == parameter.CONSTANT:
        return 1, [spec["value"]]
    if parameter.type == parameter.CATEGORICAL:
        values = {json.dumps(one, sort_keys=True, default=str): one for one in spec["values"]}
        return len(values), values.values()
    if parameter.type == parameter.INT_UNIFORM:
        return spec["max"] - spec["min"] + 1, range(spec["min"], spec["max"] + 1)
    if parameter.type == parameter.Q_UNIFORM:
        low, step = spec["min"], (spec["min"] + spec["q"]) - spec["min"]  # as numpy.arange steps
        size = max(0, math.ceil((spec["max"] - low) / spec["q"]))
        return size, (low + i * step for i in range(size))
    distribution = spec.get("distribution", "probabilities")
    raise UserError(
        f"{parameter.name}: a grid takes value, values, int_uniform and q_uniform, no {distribution}"
    )


def check_count(points: int) -> None:
    """UserError if a sweep would have more points than MOST_POINTS."""
    if points > MOST_POINTS:
        raise UserError(
            f"a sweep has at most {MOST_POINTS:,} points, not {points:,}: give --limit or run_cap"
        )


def check_size(points: list[Point], total: int) -> None:
    """UserError if so many points like these are too large for the document of a sweep."""
    size = len(bson.encode({"points": points})) * total // max(len(points), 1)
    if size > MOST_BYTES:
        raise UserError(
            f"{total:,} points take {size / 2**20:.1f} MiB, and a sweep stores at most "
            f"{MOST_BYTES // 2**20} MiB: give --limit or run_cap, or divide the file"
        )


def suggest(config: dict[str, Any], runs: list["SweepRun"], count: int, seed: int) -> list[Point]:
    """The next points of a random or Bayes sweep.

    Arguments:
        runs: The runs of the points so far. Bayes search learns from their metric.
        count: How many points; fewer come back when the search has ended.
        seed: Equal seeds and equal earlier runs give equal points.
    """
    try:
        with _seeded(seed + len(runs)):
            return [plain(run.config) for run in sweeps().next_runs(config, runs, n=count) if run]
    except ValueError as error:
        raise UserError(str(error)) from error


def to_stop(config: dict[str, Any], runs: list["SweepRun"]) -> list[str]:
    """Names of the runs that the config's early termination (Hyperband) stops now."""
    return [run.name for run in sweeps().stop_runs(config, runs)]


def run_of(name: str, point: Point, state: str, history: list[dict], final: dict) -> "SweepRun":
    """A run as W&B's search code expects it.

    Arguments:
        state: "running" or "finished".
        history: Metrics of the run's records, in order.
        final: The last value of each metric.
    """
    # the fields' aliases: with pydantic 2 their own names are ignored
    return sweeps().SweepRun(
        name=name,
        state=state,
        config={key: {"value": value} for key, value in point.items()},
        sampledHistory=history,
        summaryMetrics=final,
    )


def with_seeds(points: list[Point], seeds: list[int]) -> Iterator[Point]:
    """Every point once for each seed, seeds outermost."""
    for seed, point in itertools.product(seeds, points):
        yield {**point, "seed": seed}


def plain(config: dict[str, Any]) -> Point:
    """Config updates from W&B's form {key: {"value": value}}, NumPy scalars as Python's."""
    values = {key: entry["value"] for key, entry in config.items()}
    return {k: v.item() if isinstance(v, np.generic) else v for k, v in values.items()}


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seeds the global generators, from which W&B's search samples, and restores them afterwards."""
    states = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
