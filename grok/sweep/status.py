"""The command `grok sweep status`."""

from typing import Any

from pymongo.database import Database
from rich.table import Table

from grok.console import Console
from grok.errors import UserError
from grok.store import connection as stores
from grok.sweep import slurm
from grok.sweep.client import SweepName

STATES = ("pending", "running", "finished", "stopped", "failed")


def show_sweeps() -> None:
    """Print every served sweep with its points by state."""
    database = stores.mongo().database
    table = Table("sweep", "state", *STATES)
    for sweep in database.sweeps.find({"served": True}).sort("created"):
        counts = _points_by_state(database, sweep["_id"])
        table.add_row(sweep["_id"], sweep["state"].lower(), *counts)
    Console().print(table)


def show_sweep(name: str) -> None:
    """Print one sweep: its points by state, its agents with their points, its Slurm jobs.

    UserError if it is not in the store.
    """
    database = stores.mongo().database
    sweep = database.sweeps.find_one({"_id": SweepName.parse(name).sweep})
    if sweep is None:
        raise UserError(f"no sweep {name} in the store")
    counts = zip(_points_by_state(database, sweep["_id"]), STATES, strict=True)
    screen = Console()
    screen.print(f"{sweep['_id']}: " + ", ".join(f"{count} {state}" for count, state in counts))
    table = Table("agent on", "W&B run", "point", "last heartbeat")
    running = {"sweep": sweep["_id"], "state": "running"}
    for point in database.sweep_points.find(running).sort("number"):
        config = " ".join(f"{key}={value}" for key, value in point["point"].items())
        table.add_row(point["host"], point["run"], config, f"{point['heartbeat']:%H:%M:%S} UTC")
    if table.rows:
        screen.print(table)
    for task, state, node in slurm.tasks(sweep.get("jobs", [])):
        screen.print(f"Slurm {task}: {state.lower()} {node}")


def _points_by_state(database: Database[dict[str, Any]], sweep_id: str) -> list[str]:
    count = database.sweep_points.count_documents
    return [str(count({"sweep": sweep_id, "state": state})) for state in STATES]
