"""The store kept in order: runs deleted with all that is theirs, and what is wrong found and mended."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import gridfs

from grok.store import connection as stores
from grok.store import journal as spool
from grok.store.status import DEAD_AFTER, heartbeat_age

YOUNG = timedelta(hours=1)  # a file so new may be of a run that is just being written
TOGETHER = 1000  # ids in one query


def delete(store: stores.Store, wanted: dict[str, Any]) -> tuple[int, int]:
    """Delete the runs that match a filter, their metrics, and files that no other run has; how many, and
    how many were left because they are still running."""
    database = store.database
    fields = {"status": 1, "heartbeat": 1, "start_time": 1}
    found = list(database.runs.find(wanted, fields))
    doomed = [run["_id"] for run in found if not is_alive(store, run)]
    for start in range(0, len(doomed), TOGETHER):
        ids = doomed[start : start + TOGETHER]
        files = set()
        for run in database.runs.find({"_id": {"$in": ids}}, stores.FILE_FIELDS):
            files.update(stores.file_ids(run))
        for number in ids:  # or the next run of this number would be told them
            spool.drop(store, number)
            store.checkpoint_path(number).unlink(missing_ok=True)
        # the run last: until then, the same words delete the rest
        database.metrics.delete_many({"run_id": {"$in": ids}})
        database.runs.delete_many({"_id": {"$in": ids}})
        _drop_files(database, files)
    return len(doomed), len(found) - len(doomed)


def is_alive(store: stores.Store, run: dict) -> bool:
    """Whether a run is RUNNING, and has been heard of lately or writes its journal on this machine."""
    if run["status"] != "RUNNING":
        return False
    return heartbeat_age(run) <= DEAD_AFTER or spool.is_written(store, run["_id"])


@dataclass(frozen=True)
class Finding:
    """Something wrong: in words, and what mends it."""

    says: str
    mend: Callable[[], None]


def examine(store: stores.Store) -> list[Finding]:
    """All that is wrong in the store: dead runs, metrics and files of no run, missing indexes."""
    database, findings = store.database, []
    dead = [
        run["_id"] for run in database.runs.find({"status": "RUNNING"}) if not is_alive(store, run)
    ]
    waiting = spool.count_waiting(store)
    if waiting:
        findings.append(
            Finding(f"{waiting} runs wait on disk to be delivered", lambda: spool.recover(store))
        )
    if dead:
        findings.append(
            Finding(f"{len(dead)} dead runs: {_some(dead)}", lambda: _bury(store, dead))
        )
    orphans = _orphaned_metrics(database)
    if orphans:
        wanted = {"run_id": {"$in": orphans}}
        count = database.metrics.count_documents(wanted)
        findings.append(
            Finding(
                f"{count} metrics of {len(orphans)} runs that are not there: {_some(orphans)}",
                lambda: database.metrics.delete_many(
                    {"run_id": {"$in": _orphaned_metrics(database)}}
                ),
            )
        )
    files = _orphaned_files(database)
    if files:
        findings.append(
            Finding(f"{len(files)} files of no run", lambda: _drop_files(database, files))
        )
    chunks = _orphaned_chunks(database)
    if chunks:
        findings.append(
            Finding(
                f"pieces of {len(chunks)} files that are not there",
                lambda: database["fs.chunks"].delete_many({"files_id": {"$in": chunks}}),
            )
        )
    missing = stores.missing_indexes(database)
    if missing:
        findings.append(
            Finding(f"missing indexes: {', '.join(missing)}", lambda: stores.make_indexes(database))
        )
    return findings


def _bury(store: stores.Store, dead: list) -> None:
    """A dead run is an interrupted one; `grok resume` still brings it to its end."""
    database = store.database
    for number in dead:
        run = database.runs.find_one({"_id": number})
        if not is_alive(store, run):
            stop = run.get("heartbeat") or run["start_time"]
            update = {"status": "INTERRUPTED", "stop_time": stop, "info.died": True}
            database.runs.update_one({"_id": number, "status": "RUNNING"}, {"$set": update})


def _orphaned_metrics(database) -> list:
    """Ids that metrics have and no run has."""
    ids = [one["_id"] for one in database.metrics.aggregate([{"$group": {"_id": "$run_id"}}])]
    known = {run["_id"] for run in database.runs.find({}, {"_id": 1})}
    return sorted(set(ids) - known, key=str)


def _orphaned_files(database) -> list:
    """GridFS files older than an hour that no run refers to."""
    before = datetime.now(UTC) - YOUNG
    old = {
        one["_id"] for one in database["fs.files"].find({"uploadDate": {"$lt": before}}, {"_id": 1})
    }
    return sorted(old - stores.files_in_use(database, old), key=str)


def _orphaned_chunks(database) -> list:
    ids = {
        one["_id"] for one in database["fs.chunks"].aggregate([{"$group": {"_id": "$files_id"}}])
    }
    known = {file["_id"] for file in database["fs.files"].find({}, {"_id": 1})}
    young = datetime.now(UTC) - YOUNG
    return [one for one in ids - known if one.generation_time < young]


def _drop_files(database, files: Iterable) -> None:
    """Delete those of the files that no run refers to now."""
    bucket, files = gridfs.GridFS(database), set(files)
    for file in files - stores.files_in_use(database, files):
        bucket.delete(file)


def _some(numbers: list) -> str:
    shown = ", ".join(map(str, numbers[:10]))
    return f"{shown}, ..." if len(numbers) > 10 else shown
