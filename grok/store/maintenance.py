"""The store kept in order: runs deleted with all that is theirs, faults found and repaired."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import gridfs
from pymongo.database import Database

from grok.store import connection, journal
from grok.store.connection import Store
from grok.store.status import DEAD_AFTER, heartbeat_age

MAY_BE_IN_USE = timedelta(hours=1)  # a younger file may be of a run that is just being written
IDS_PER_QUERY = 1000
MOST_SHOWN = 10  # ids in a message


def delete(store: Store, wanted: dict[str, Any]) -> tuple[int, int]:
    """Delete the runs that match a query, with their metrics, journals and checkpoints, and the
    files that no other run refers to.

    Returns:
        the number of runs deleted, and of those that were left because they are still running.
    """
    database = store.database
    fields = {"status": 1, "heartbeat": 1, "start_time": 1}
    runs = list(database.runs.find(wanted, fields))
    to_delete = [run["_id"] for run in runs if not is_alive(store, run)]
    for start in range(0, len(to_delete), IDS_PER_QUERY):
        ids = to_delete[start : start + IDS_PER_QUERY]
        files: set[Any] = set()
        for run in database.runs.find({"_id": {"$in": ids}}, connection.FILE_FIELDS):
            files.update(connection.file_ids(run))
        for number in ids:  # else the next run of this number would get what they hold
            journal.discard(store, number)
            store.checkpoint_path(number).unlink(missing_ok=True)
        # the run last: until then, the same query deletes the rest
        database.metrics.delete_many({"run_id": {"$in": ids}})
        database.runs.delete_many({"_id": {"$in": ids}})
        _delete_files(database, files)
    return len(to_delete), len(runs) - len(to_delete)


def is_alive(store: Store, run: dict[str, Any]) -> bool:
    """Whether a run is RUNNING, and had a heartbeat lately or writes its journal on this machine."""
    if run["status"] != "RUNNING":
        return False
    return heartbeat_age(run) <= DEAD_AFTER or journal.is_written(store, run["_id"])


@dataclass(frozen=True)
class Fault:
    """Something wrong in the store: what it is, and what repairs it."""

    message: str
    repair: Callable[[], object]


def examine(store: Store) -> list[Fault]:
    """All that is wrong in the store: journals that wait, dead runs, metrics and files of no run,
    missing indexes."""
    database = store.database
    faults = []
    waiting = journal.count_waiting(store)
    if waiting:
        message = f"{waiting} runs wait on disk to be delivered"
        faults.append(Fault(message, lambda: journal.recover(store)))
    running = database.runs.find({"status": "RUNNING"})
    dead = [run["_id"] for run in running if not is_alive(store, run)]
    if dead:
        message = f"{len(dead)} dead runs: {_first_of(dead)}"
        faults.append(Fault(message, lambda: _interrupt(store, dead)))
    orphans = _runs_of_orphaned_metrics(database)
    if orphans:
        count = database.metrics.count_documents({"run_id": {"$in": orphans}})
        message = f"{count} metrics of {len(orphans)} runs that are not there: {_first_of(orphans)}"
        faults.append(Fault(message, lambda: _delete_orphaned_metrics(database)))
    files = _orphaned_files(database)
    if files:
        message = f"{len(files)} files of no run"
        faults.append(Fault(message, lambda: _delete_files(database, files)))
    chunks = {"files_id": {"$in": _files_of_orphaned_chunks(database)}}
    if chunks["files_id"]["$in"]:
        message = f"pieces of {len(chunks['files_id']['$in'])} files that are not there"
        faults.append(Fault(message, lambda: database["fs.chunks"].delete_many(chunks)))
    missing = connection.missing_indexes(database)
    if missing:
        message = f"missing indexes: {', '.join(missing)}"
        faults.append(Fault(message, lambda: connection.make_indexes(database)))
    return faults


def _interrupt(store: Store, dead: list[Any]) -> None:
    """Mark dead runs as INTERRUPTED; `grok resume` still brings them to their end."""
    database = store.database
    for number in dead:
        run = database.runs.find_one({"_id": number})
        if run and not is_alive(store, run):
            stop = run.get("heartbeat") or run["start_time"]
            update = {"status": "INTERRUPTED", "stop_time": stop, "info.died": True}
            database.runs.update_one({"_id": number, "status": "RUNNING"}, {"$set": update})


def _runs_of_orphaned_metrics(database: Database) -> list[Any]:
    """Ids of runs that metrics refer to and that are not there."""
    groups = database.metrics.aggregate([{"$group": {"_id": "$run_id"}}])
    known = {run["_id"] for run in database.runs.find({}, {"_id": 1})}
    return sorted({group["_id"] for group in groups} - known, key=str)


def _delete_orphaned_metrics(database: Database) -> None:
    database.metrics.delete_many({"run_id": {"$in": _runs_of_orphaned_metrics(database)}})


def _orphaned_files(database: Database) -> list[Any]:
    """Ids of GridFS files that no run refers to, unless they are young."""
    old = {"uploadDate": {"$lt": datetime.now(UTC) - MAY_BE_IN_USE}}
    ids = {file["_id"] for file in database["fs.files"].find(old, {"_id": 1})}
    return sorted(ids - connection.files_in_use(database, ids), key=str)


def _files_of_orphaned_chunks(database: Database) -> list[Any]:
    """Ids of GridFS files that chunks belong to and that are not there, unless they are young."""
    groups = database["fs.chunks"].aggregate([{"$group": {"_id": "$files_id"}}])
    known = {file["_id"] for file in database["fs.files"].find({}, {"_id": 1})}
    latest = datetime.now(UTC) - MAY_BE_IN_USE
    ids = {group["_id"] for group in groups} - known
    return [file_id for file_id in ids if file_id.generation_time < latest]


def _delete_files(database: Database, files: Iterable[Any]) -> None:
    """Delete those of the GridFS files that no run refers to now."""
    bucket, ids = gridfs.GridFS(database), set(files)
    for file_id in ids - connection.files_in_use(database, ids):
        bucket.delete(file_id)


def _first_of(numbers: list[Any]) -> str:
    shown = ", ".join(map(str, numbers[:MOST_SHOWN]))
    return f"{shown}, ..." if len(numbers) > MOST_SHOWN else shown
