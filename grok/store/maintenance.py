"""The store kept in order: runs deleted with all that is theirs, faults found and repaired."""

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bson import ObjectId
from pymongo import UpdateOne
from pymongo.database import Database

from grok.store import connection, delivery, journal
from grok.store.connection import Store
from grok.store.lease import holder_of, is_alive
from grok.store.shared_files import MAY_BE_IN_USE, delete_file
from grok.store.status import last_sign_of_life

IDS_PER_QUERY = 1000
MOST_SHOWN = 10  # ids in a message


def delete(store: Store, wanted: dict[str, Any]) -> tuple[int, int]:
    """Delete the runs that match a query, with their metrics, journals and checkpoints, and the
    files that no other run refers to.

    Returns:
        the number of runs deleted, and of those that were left because they are still running.
    """
    database = store.database
    fields = {"status": 1, "lease": 1, "uid": 1}
    runs = list(database.runs.find(wanted, fields))
    to_delete = [run for run in runs if not is_alive(store, database.runs, run)]
    deleted = 0
    for start in range(0, len(to_delete), IDS_PER_QUERY):
        ids = _take_to_delete(database, to_delete[start : start + IDS_PER_QUERY])
        files: set[Any] = set()
        metrics: list[Any] = []
        fields = {**connection.FILE_FIELDS, "lease.metrics": 1, "uid": 1}
        for run in database.runs.find({"_id": {"$in": ids}}, fields):
            files.update(connection.file_ids(run))
            metrics += [one["id"] for one in run.get("lease", {}).get("metrics", [])]
            journal.discard(store, run)
            store.checkpoint_path(run["_id"]).unlink(missing_ok=True)
        # the run last: until then, the same query deletes the rest
        database.metrics.delete_many({"run_id": {"$in": ids}})
        database.metrics.delete_many({"_id": {"$in": metrics}})
        database.runs.delete_many({"_id": {"$in": ids}})
        delete_files(database, files)
        deleted += len(ids)
    return deleted, len(runs) - deleted


def _take_to_delete(database: Database, runs: list[dict[str, Any]]) -> list[Any]:
    """Take the leases of runs, so that nobody else writes them; ids of those that nobody has taken."""
    holder = f"deleted-{uuid.uuid4().hex}"
    change = {"$set": {"lease.holder": holder}, "$inc": {"lease.term": 1}}
    database.runs.bulk_write(
        [UpdateOne({"_id": run["_id"], "lease.holder": holder_of(run)}, change) for run in runs],
        ordered=False,
    )
    return database.runs.distinct("_id", {"lease.holder": holder})


@dataclass(frozen=True)
class Fault:
    """Something wrong in the store: what it is, and what repairs it; None if nothing here can."""

    message: str
    repair: Callable[[], object] | None


def examine(store: Store) -> list[Fault]:
    """All that is wrong in the store: journals that wait, here or for another store, or were set
    aside, dead runs, metrics and files of no run, missing indexes."""
    database = store.database
    faults = []
    waiting = journal.count_waiting(store)
    if waiting:
        message = f"{waiting} runs wait on disk to be delivered"
        faults.append(Fault(message, lambda: delivery.recover(store)))
    for folder, origin in journal.of_other_stores(store).items():
        message = f"{folder} is a journal that waits for another store, {origin}"
        faults.append(Fault(message, None))
    for folder, reason in journal.set_aside(store).items():
        message = (
            f"{folder} is a journal that could not be delivered: {reason}; delete it when done"
        )
        faults.append(Fault(message, None))
    running = database.runs.find({"status": "RUNNING"}, {"status": 1, "lease": 1})
    dead = [run["_id"] for run in running if not is_alive(store, database.runs, run)]
    if dead:
        message = f"{len(dead)} dead runs: {_first_of(dead)}"
        faults.append(Fault(message, lambda: _interrupt(store, dead)))
    unread = _unused_metrics()
    count = database.metrics.count_documents(unread)
    if count:
        message = f"{count} empty metrics of no run"
        faults.append(Fault(message, lambda: database.metrics.delete_many(unread)))
    orphans = _runs_of_orphaned_metrics(database)
    if orphans:
        count = database.metrics.count_documents({"run_id": {"$in": orphans}})
        message = f"{count} metrics of {len(orphans)} runs that are not there: {_first_of(orphans)}"
        faults.append(Fault(message, lambda: _delete_orphaned_metrics(database)))
    files = _orphaned_files(database)
    if files:
        message = f"{len(files)} files of no run"
        faults.append(Fault(message, lambda: delete_files(database, files)))
    lacking = _files_of_orphaned_chunks(database)
    if lacking:
        message = f"pieces of {len(lacking)} files that are not there"
        faults.append(Fault(message, lambda: _delete_orphaned_chunks(database)))
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
        if run and not is_alive(store, database.runs, run):
            interrupt(database, run)


def interrupt(
    database: Database, run: Mapping[str, Any], taken: Mapping[str, Any] | None = None
) -> bool:
    """Mark a dead run as INTERRUPTED, unless it has ended or been taken over since it was read.

    A result that it had is not its outcome: values or files that belong to it can be missing.

    Arguments:
        taken: the fields of a new lease, by which its holder can write the run no more.

    Returns:
        whether it was marked.
    """
    stop = last_sign_of_life(run)
    update = {"status": "INTERRUPTED", "stop_time": stop, "info.died": True}
    if run.get("result"):
        update["result.ended"] = "interrupted"
    unchanged = {"_id": run["_id"], "status": "RUNNING", "lease.holder": holder_of(run)}
    change: dict[str, Any] = {"$set": {**update, **(taken or {})}}
    if taken is not None:
        change["$inc"] = {"lease.term": 1}
    return database.runs.update_one(unchanged, change).matched_count == 1


def _unused_metrics() -> dict[str, Any]:
    """The query for metrics that were begun, an hour ago or earlier, and never got a value."""
    return {"run_id": {"$exists": False}, "_id": {"$lt": _latest_unused()}}


def _latest_unused() -> ObjectId:
    """Whatever has a smaller id is old enough to be of nothing that is just being written."""
    return ObjectId.from_datetime(datetime.now(UTC) - MAY_BE_IN_USE)


def _runs_of_orphaned_metrics(database: Database) -> list[Any]:
    """Ids of runs that metrics refer to and that are not there."""
    stages: list[dict[str, Any]] = [
        {"$match": {"run_id": {"$exists": True}}},
        {"$group": {"_id": "$run_id"}},
    ]
    groups = database.metrics.aggregate(stages)
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
    """Ids of GridFS files that chunks belong to and that are not there, unless one of the chunks is
    young: its file may just be written.

    The age is that of the chunks. An import derives the id of a file from its content, so that the
    time in it is any.
    """
    groups = database["fs.chunks"].aggregate([{"$group": {"_id": "$files_id"}}])
    ids = {group["_id"] for group in groups}
    ids -= {file["_id"] for file in database["fs.files"].find({}, {"_id": 1})}
    stages: list[dict[str, Any]] = [
        {"$match": {"files_id": {"$in": [*ids]}}},
        {"$group": {"_id": "$files_id", "newest": {"$max": "$_id"}}},
        {"$match": {"newest": {"$lt": _latest_unused()}}},
    ]
    return [group["_id"] for group in database["fs.chunks"].aggregate(stages)]


def _delete_orphaned_chunks(database: Database) -> None:
    """Delete chunks of files that are not there now; those that are written meanwhile are left."""
    chunks = {"files_id": {"$in": _files_of_orphaned_chunks(database)}}
    database["fs.chunks"].delete_many({**chunks, "_id": {"$lt": _latest_unused()}})


def delete_files(database: Database, files: Iterable[Any]) -> None:
    """Delete those of the GridFS files that no run refers to now.

    Source files that a new run may be about to refer to are left; `examine` finds them later.
    """
    ids = set(files)
    for file_id in ids - connection.files_in_use(database, ids):
        delete_file(database, file_id)


def _first_of(numbers: list[Any]) -> str:
    shown = ", ".join(map(str, numbers[:MOST_SHOWN]))
    return f"{shown}, ..." if len(numbers) > MOST_SHOWN else shown
