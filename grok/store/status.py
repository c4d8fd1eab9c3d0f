"""Which runs the store holds, and which of them are dead."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pymongo.database import Database

FINISHED = {"result.ended": {"$nin": [None, "interrupted"]}}  # runs that have their outcome
DEAD_AFTER = 60.0  # seconds without a heartbeat; one comes every second


def counts(database: Database) -> dict[str, int]:
    """Number of runs by status; a RUNNING run without a heartbeat counts as DEAD."""
    groups = database.runs.aggregate([{"$group": {"_id": "$status", "count": {"$sum": 1}}}])
    result = {str(group["_id"]): group["count"] for group in groups}
    dead = sum(row["state"] == "dead" for row in unfinished(database))
    if dead:
        result["RUNNING"] -= dead
        result["DEAD"] = dead
    return {name: count for name, count in sorted(result.items()) if count}


def unfinished(database: Database) -> list[dict[str, Any]]:
    """Every RUNNING run: id, experiment, state (running or dead), age of its heartbeat."""
    fields = {"experiment.name": 1, "heartbeat": 1, "start_time": 1}
    rows = []
    for run in database.runs.find({"status": "RUNNING"}, fields).sort("_id"):
        seconds = heartbeat_age(run)
        rows.append(
            {
                "id": run["_id"],
                "experiment": run["experiment"]["name"],
                "state": "dead" if seconds > DEAD_AFTER else "running",
                "age": f"{seconds:.0f} s ago",
            }
        )
    return rows


def heartbeat_age(run: Mapping[str, Any]) -> float:
    """Seconds since the run's last heartbeat, or its start."""
    last = run.get("heartbeat") or run["start_time"]
    return (datetime.now(UTC) - last.replace(tzinfo=UTC)).total_seconds()
