"""The curves of a report, read by a process of their own, which loads neither torch nor papers."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from pymongo.database import Database

from grok.reports.page.packing import packed, without_garbage_collection
from grok.reports.page.values import numbers_text, sparkline, thinned
from grok.reports.page.views import json_value
from grok.store.connection import Store
from grok.store.documents import find_metrics

ALWAYS_SHOWN = ("train_accuracy", "test_accuracy", "train_loss", "test_loss")
MOST_VALUES = 4_000_000  # numbers in all curves together
LEAST_POINTS, MOST_POINTS = 24, 200  # of a curve
MOST_METRICS = 24  # of a run


@contextmanager
def reading(store: Store, ids: list[Any]) -> Iterator["Future[tuple[list[str], str, str]]"]:
    """A future of the sparklines, the packed curves and the packed last values of metrics, while another
    process reads them."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as processes:
        yield processes.submit(_read, replace(store), ids)


def _read(store: Store, ids: list[Any]) -> tuple[list[str], str, str]:
    with without_garbage_collection():
        sparklines, curves, last = curves_of(store.database, ids)
        return sparklines, packed(curves), packed(last)


def curves_of(
    database: Database, ids: list[Any]
) -> tuple[list[str], dict[str, Any], list[dict[str, Any]]]:
    """What the page draws of every run's metrics, in the order of `ids`.

    Returns:
        The sparkline of the test accuracy, "" for none; all thinned curves,
        "curves": for each run, {metric: [index of its steps, values]},
        "steps": the different lists of steps; and for each run, {metric: its last value}. The more
        runs, the fewer points a curve has.
    """
    names = database.metrics.distinct("name", {"run_id": {"$in": ids[:200]}})
    metrics_per_run = min(max(1, len(names)), MOST_METRICS)
    points = MOST_VALUES / max(1, len(ids)) / metrics_per_run
    points = int(np.clip(points, LEAST_POINTS, MOST_POINTS))
    place = {number: i for i, number in enumerate(ids)}
    lines = [""] * len(ids)
    curves: list[dict[str, list[Any]]] = [{} for _ in ids]
    last: list[dict[str, Any]] = [{} for _ in ids]
    steps: dict[tuple[int, ...], int] = {}
    for metric in find_metrics(database.metrics, {"run_id": {"$in": ids}}):
        row, name, values = place[metric["run_id"]], metric["name"], metric["values"]
        if name == "test_accuracy":
            lines[row] = sparkline(values)
        last[row][str(name)] = json_value(values[-1]) if values else None
        if len(curves[row]) >= MOST_METRICS and name not in ALWAYS_SHOWN:
            continue
        thin = thinned(len(values), points)
        index = steps.setdefault(thin(metric["steps"]), len(steps))
        curves[row][name] = [index, numbers_text(thin(values))]
    return lines, {"steps": [list(one) for one in steps], "curves": curves}, last
