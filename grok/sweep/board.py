"""What the page of runs shows of a sweep besides its points: the map that it makes, its Slurm tasks."""

from typing import Any

import numpy as np

from grok.errors import UserError
from grok.phases import PHASES
from grok.store.connection import Store, find_sweep
from grok.sweep import slurm
from grok.sweep.mapping import UNKNOWN, Survey


def details(store: Store, name: str) -> dict[str, Any]:
    """The `map` that a sweep makes, None if it makes none, and the `tasks` that Slurm has of it.

    Raises:
        UserError: there is no such sweep.
    """
    sweep = find_sweep(store.database, name)
    if sweep is None:
        raise UserError(f"no sweep {name}")
    known = None
    if "map" in sweep:
        from grok.sweep.map import stored_survey  # which imports torch

        known = diagram(stored_survey(store, sweep))
    tasks = slurm.tasks([str(job) for job in sweep.get("jobs") or ()])
    return {
        "map": known,
        "tasks": [{"task": task, "state": state.lower(), "on": on} for task, state, on in tasks],
    }


def diagram(survey: Survey) -> dict[str, Any]:
    """What is known of a phase diagram, as plain values.

    Returns:
        `x` and `y`, the keys of its axes; `slices`, of each the values of the keys in which they
        differ; `predicted`, the cells that were not run, with the index of their slice, their values
        and phase; and `said`, the result in sentences.
    """
    lattice = survey.lattice
    first = lattice.slices[0]
    keys = [key for key in first if any(piece[key] != first[key] for piece in lattice.slices)]
    columns, rows = lattice.axes
    not_run = np.argwhere(~survey.is_run & (survey.phases != UNKNOWN))
    predicted = [
        {
            "slice": piece,
            "x": columns[column],
            "y": rows[row],
            "phase": PHASES[survey.phases[piece, column, row]],
        }
        for piece, column, row in not_run.tolist()
    ]
    x, y = lattice.keys
    return {
        "x": x,
        "y": y,
        "slices": [{key: piece[key] for key in keys} for piece in lattice.slices],
        "predicted": predicted,
        "said": survey.describe(),
    }
