"""Published grids of phases, read from CSV files, to show beside the diagrams of sweeps."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from grok.errors import UserError, read_text
from grok.phases import phase
from grok.values import parse_value

NEVER = 99999  # steps to a threshold that was not reached, as published grids have it
DELAY = 1000  # steps from train to test threshold from which a run counts as grokking
STEPS = ("steps_to_train", "steps_to_test")


@dataclass(frozen=True)
class Grid:
    """A published grid.

    Attributes:
        name: that of its file.
        keys: its columns that are configuration keys.
        rows: for each cell, the values of all columns.
    """

    name: str
    keys: tuple[str, ...]
    rows: list[dict[str, Any]]


def read(path: Path) -> Grid:
    """The grid in a CSV file with columns of configuration keys, `steps_to_train` and `steps_to_test`.

    UserError if the file cannot be read, lacks one of the two, or has a step that is no number.
    """
    reader = csv.DictReader(StringIO(read_text(path)))
    names = reader.fieldnames or ()
    if missing := [name for name in STEPS if name not in names]:
        raise UserError(f"{path} lacks the column {missing[0]}")
    rows = [{key: parse_value(row[key]) for key in names} for row in reader]
    for row in rows:
        for name in STEPS:
            if isinstance(row[name], bool) or not isinstance(row[name], int | float):
                raise UserError(f"{path}: {name} is {row[name]!r}, expected a number of steps")
    return Grid(path.stem, tuple(name for name in names if name not in STEPS), rows)


def cells(grids: Sequence[Grid], x: str, y: str) -> dict[str, Any] | None:
    """The `name` and the `cells` (x, y, phase) of the first grid over two keys; None if there is none."""
    for grid in grids:
        if x in grid.keys and y in grid.keys:
            found = [{"x": row[x], "y": row[y], "phase": _phase(row)} for row in grid.rows]
            return {"name": grid.name, "cells": found}
    return None


def _phase(row: dict[str, Any]) -> str:
    train, test = (None if row[name] >= NEVER else row[name] for name in STEPS)
    return phase(train, test, DELAY)
