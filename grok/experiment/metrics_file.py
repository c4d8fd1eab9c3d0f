"""A run's metrics as a file: CSV or JSON Lines, as they come, or of a stored run.

Both ways give the same bytes. CSV has a line for each step and metric, JSON Lines one for each
step.
"""

import csv
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TextIO

from sacred.commandline_options import cli_option
from sacred.run import Run

from grok.engine.events import Event, Record
from grok.errors import UserError, writing

Row = tuple[int, dict[str, float]]  # a step, and its metrics by name
SUFFIXES = (".csv", ".jsonl")


@cli_option("-O", "--metrics-file")
def metrics_file_option(args: str, run: Run) -> None:
    """Write every metric to a new file as it comes; its name ends in .csv or .jsonl."""


def check_name(path: Path) -> None:
    """UserError unless a file of this name can be written, and there is none yet."""
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path}: expected a name that ends in {' or '.join(SUFFIXES)}")
    if os.path.exists(path):
        raise UserError(f"{path} exists already")
    if not os.path.isdir(path.parent):
        raise UserError(f"{path}: there is no folder {path.parent}")


def writer(path: Path, file: TextIO) -> Callable[[Row], None]:
    """A function that writes one row to a file of this name.

    CSV has the columns step, metric and value. A line of JSON Lines is an object with "step" and
    the metrics; a value that is not finite, for which JSON has no number, is null.
    """
    if path.suffix == ".csv":
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("step", "metric", "value"))

        def write_csv(row: Row) -> None:
            step, metrics = row
            rows.writerows((step, name, metrics[name]) for name in sorted(metrics))

        return write_csv

    def write_json(row: Row) -> None:
        step, metrics = row
        values = {k: metrics[k] if math.isfinite(metrics[k]) else None for k in sorted(metrics)}
        file.write(json.dumps({"step": step, **values}) + "\n")

    return write_json


def rows_of_record(record: Record) -> list[Row]:
    """The metrics of a record and of the bursts before it, by step."""
    return merged((*record.burst_metrics, (record.step, record.metrics)))


def merged(points: Iterable[tuple[int, Mapping[str, float]]]) -> list[Row]:
    """One row for each step that has metrics, in the order of the steps."""
    rows: dict[int, dict[str, float]] = {}
    for step, metrics in points:
        if metrics:
            rows.setdefault(step, {}).update(metrics)
    return sorted(rows.items())


def written(events: Iterable[Event], path: Path) -> Iterator[Event]:
    """The events; the metrics of each record are in the file before it is passed on."""
    with writing(path), open(path, "x") as file:
        write = writer(path, file)
        for event in events:
            if isinstance(event, Record):
                for row in rows_of_record(event):
                    write(row)
                file.flush()
            yield event


def write_all(rows: Iterable[Row], path: Path) -> None:
    """Write rows to a new file."""
    check_name(path)
    with writing(path), open(path, "x") as file:
        write = writer(path, file)
        for row in rows:
            write(row)
