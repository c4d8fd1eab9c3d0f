"""What the page of runs shows of a sweep besides its points: the map that it makes, its Slurm tasks."""

from typing import Any

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
        `x` and `y`, the keys of its axes; `predicted`, the cells that were not run, with their values
        and phase (none for a map of several slices, which one diagram cannot show); and `said`, the
        result in sentences.
    """
    predicted = []
    if len(survey.lattice.slices) == 1:
        (phases,), (is_run,) = survey.phases, survey.is_run
        columns, rows = survey.lattice.axes
        predicted = [
            {"x": x, "y": y, "phase": PHASES[phases[column, row]]}
            for column, x in enumerate(columns)
            for row, y in enumerate(rows)
            if not is_run[column, row] and phases[column, row] != UNKNOWN
        ]
    x, y = survey.lattice.keys
    return {"x": x, "y": y, "predicted": predicted, "said": survey.describe()}
