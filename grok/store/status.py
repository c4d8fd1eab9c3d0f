"""Which runs the store holds, and which of them are dead."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pymongo.collection import Collection
from pymongo.database import Database

# runs that have their outcome, with all their values and files
FINISHED = {
    "status": {"$nin": ["RUNNING", "FAILED", "IMPORTING"]},
    "result.ended": {"$nin": [None, "interrupted"]},
}
DEAD_AFTER = 60.0  # seconds without a heartbeat; one comes every second
# milliseconds since the last sign of life, by the server's clock; runs of earlier versions have no
# lease, and their heartbeats are by the clock of their node
SIGN_OF_LIFE: dict[str, Any] = {
    "$ifNull": [
        "$lease.renewed",
        {"$ifNull": ["$lease.taken", {"$ifNull": ["$heartbeat", "$start_time"]}]},
    ]
}
# null where an imported run has no time there
A_TIME = {"$convert": {"input": SIGN_OF_LIFE, "to": "date", "onError": None, "onNull": None}}
SILENCE: dict[str, Any] = {"$subtract": ["$$NOW", A_TIME]}


def is_silent() -> dict[str, Any]:
    """The expression of MongoDB for whether a document has had no sign of life for DEAD_AFTER."""
    return {"$gt": [SILENCE, 1000 * DEAD_AFTER]}


def shown_status() -> dict[str, Any]:
    """The expression of MongoDB for a run's status: DEAD for a RUNNING one without a heartbeat."""
    is_dead = {"$and": [{"$eq": ["$status", "RUNNING"]}, is_silent()]}
    return {"$cond": [is_dead, "DEAD", "$status"]}


def of_status(name: Any) -> dict[str, Any]:
    """The MongoDB query for the runs of a status, where DEAD is another one than RUNNING."""
    if name not in ("RUNNING", "DEAD"):
        return {"status": name}
    return {"status": "RUNNING", "$expr": is_silent() if name == "DEAD" else {"$not": is_silent()}}


def counts(database: Database) -> dict[str, int]:
    """Number of runs by status; a RUNNING run without a heartbeat counts as DEAD."""
    groups = database.runs.aggregate([{"$group": {"_id": "$status", "count": {"$sum": 1}}}])
    result = {str(group["_id"]): group["count"] for group in groups}
    count = len(dead(database))
    if count:
        result["RUNNING"] -= count
        result["DEAD"] = count
    return {name: count for name, count in sorted(result.items()) if count}


def last_sign_of_life(run: Mapping[str, Any]) -> datetime:
    """The time of the last heartbeat of a run, or else of its start."""
    return run.get("heartbeat") or run["start_time"]


def unfinished(database: Database) -> list[dict[str, Any]]:
    """Every RUNNING run: id, experiment, state (running or dead), age of its heartbeat."""
    running = {"status": "RUNNING"}
    seconds_of = silence(database.runs, running)
    rows = []
    for run in database.runs.find(running, {"experiment.name": 1}).sort("_id"):
        seconds = seconds_of.get(run["_id"], 0.0)
        rows.append(
            {
                "id": run["_id"],
                "experiment": run["experiment"]["name"],
                "state": "dead" if seconds > DEAD_AFTER else "running",
                "age": f"{seconds:.0f} s ago",
            }
        )
    return rows


def dead(database: Database) -> set[Any]:
    """The ids of the RUNNING runs that have had no heartbeat for DEAD_AFTER."""
    seconds_of = silence(database.runs, {"status": "RUNNING"})
    return {run_id for run_id, seconds in seconds_of.items() if seconds > DEAD_AFTER}


def silence(documents: Collection, wanted: dict[str, Any]) -> dict[Any, float]:
    """Seconds since the last heartbeat, or else the start, of the runs that match a query, by id.

    The server's clock counts, since those of the nodes may differ from each other.
    """
    stages: list[dict[str, Any]] = [{"$match": wanted}, {"$project": {"silence": SILENCE}}]
    found = documents.aggregate(stages)
    return {one["_id"]: (one["silence"] or 0) / 1000 for one in found}
