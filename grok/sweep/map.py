"""The command `grok map`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grok.errors import UserError
from grok.experiment.progress import duration
from grok.interrupts import exit_on_interrupt
from grok.store import connection as stores
from grok.store.connection import Store
from grok.sweep import file as files
from grok.sweep.file import SweepFile
from grok.sweep.lattice import Lattice
from grok.sweep.local import LocalSweep, survey_of
from grok.sweep.mapping import Survey, check_budget, least_budget
from grok.sweep.progress import SweepProgress
from grok.sweep.queue import SweepQueue


def new_lattice(
    file: SweepFile, resolution: tuple[int, int], seeds: int | None, budget: int | None
) -> tuple[Lattice, int]:
    """The cells of a new map, and its budget.

    Arguments:
        budget: The largest number of runs; None for the file's `run_cap`, or else for as many as
            there are cells.

    Raises:
        UserError: The file has no two ranges, or the budget is too small.
    """
    lattice = Lattice.of(file, resolution, seeds)
    budget = budget or file.config.get("run_cap") or max(lattice.size, least_budget(lattice))
    check_budget(lattice, budget)
    return lattice, budget


def serve(path: Path, resolution: tuple[int, int], seeds: int | None, budget: int | None) -> None:
    """Store a map as a sweep that `grok sweep serve` gives to agents; prints how they join it.

    Arguments:
        path: The sweep file.
        resolution, seeds, budget: As in `run`.
    """
    file = files.read(path)
    lattice, budget = new_lattice(file, resolution, seeds, budget)
    sweep = SweepQueue(stores.mongo()).create(file.config, file.name, lattice, budget)
    print(f"sweep {sweep}: {lattice.describe()}, at most {budget} runs; where it is served,")
    print(f"grok sweep agent {sweep}")


def run(
    path: Path,
    resolution: tuple[int, int],
    seeds: int | None,
    budget: int | None,
    slots: int | None,
    workers: int | None,
    resume: bool,
    sweep_id: str | None,
) -> None:
    """Map a phase diagram, or continue to; prints the sweep's id first and what is known last.

    Arguments:
        path: The sweep file, which has two ranges.
        resolution: How many values each range is divided into.
        seeds: How many seeds a cell is run with at most, or None for the file's own.
        budget: The largest number of runs; None to choose, or for that of the map to continue.
        slots: How many runs train at once, or None to choose.
        workers: How many processes train, or None to choose.
        resume: Continue a map instead of starting one.
        sweep_id: The map to continue; None for the latest sweep of this file.
    """
    file = files.read(path)
    store = stores.mongo()
    if resume:
        sweep = LocalSweep.resume(file, store, sweep_id, slots, workers)
        if "map" not in sweep.document:
            raise UserError(
                f'sweep {sweep.id} is no map; "grok sweep run {path} --resume" continues it'
            )
        lattice = Lattice.of_document(sweep.document["map"])
        if budget:
            check_budget(lattice, budget)
            sweep.document["limit"] = budget
            store.database.sweeps.update_one({"_id": sweep.id}, {"$set": {"limit": budget}})
    else:
        lattice, budget = new_lattice(file, resolution, seeds, budget)
        sweep = LocalSweep.begin_map(file, store, lattice, budget, slots, workers)
    limit = sweep.document["limit"]
    print(
        f"sweep {sweep.id}: {lattice.describe()}, at most {limit} runs, in {store.describe()}",
        flush=True,
    )
    planned = [run for group in sweep.groups for run in group]
    steps = sum(run.problem.train_steps for run in planned)
    message = f'interrupted; "grok map {path} --resume" continues'
    with exit_on_interrupt(message), SweepProgress(steps, len(planned)) as progress:
        sweep.run(progress)
    print(*survey_of(store, sweep.document).describe(), sep="\n")
    print(f"{progress.done} runs in {duration(progress.seconds)}")


def stored_survey(store: Store, sweep: Mapping[str, Any]) -> Survey:
    """What is known of the phase diagram that a stored sweep maps, also of a served one.

    Raises:
        UserError: It maps none.
    """
    if "map" not in sweep:
        raise UserError(f"sweep {sweep['_id']} is no map; grok map makes one")
    if sweep.get("served"):
        return SweepQueue(store).survey(dict(sweep))
    return survey_of(store, sweep)
