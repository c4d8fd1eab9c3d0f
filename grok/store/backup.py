"""Backups of all runs, and the repair of the embedded MongoDB's damaged data.

A repair works on a copy of the data: mongod's own repair first, then what the latest backup has and
the repaired database has not. The copy then takes the place of the damaged data, which is kept.
"""

import contextlib
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pymongo
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import PyMongoError

from grok.errors import UserError
from grok.store import archive, mongod
from grok.store.connection import (
    DEFAULT_DATABASE,
    FILE_FIELDS,
    Store,
    file_ids,
    make_indexes,
    require_database,
)
from grok.store.mongod import Server, spawn

BACKUPS_KEPT = 3
TIME_IN_NAME = "%Y%m%d-%H%M%S"
SCRATCH_DATABASE = "grok_backup"
ORPHAN = (
    "orphan."  # how mongod names collections whose names it cannot find, in the database `local`
)
FIELDS = {  # that only the documents of this collection have
    "fs.chunks": {"files_id", "n", "data"},
    "fs.files": {"chunkSize", "length", "uploadDate"},
    "metrics": {"run_id", "name", "steps", "values"},
    "runs": {"experiment", "command", "status"},
    "sweep_points": {"sweep", "number", "point", "state"},
    "sweeps": {"created", "name"},
}
Document = dict[str, Any]
Report = Callable[[str], object]


def back_up(store: Store, file: Path | None = None) -> Path:
    """Write all runs to an archive; `grok store import` reads it.

    Arguments:
        file: the archive. By default a new one in the folder of the embedded server's backups, of
            which the latest three are kept.

    Returns:
        the path of the archive.

    Raises:
        UserError: no file is given, and the store is not the embedded MongoDB.
    """
    database = require_database(store)
    if file is not None:
        archive.export(database, {}, file)
        return file
    if store.kind != "embedded":
        raise UserError("backup to which file? regular backups are of the embedded MongoDB only")
    folder = Server(store.home).backups
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"runs-{time.strftime(TIME_IN_NAME, time.gmtime())}.zip"
    archive.export(database, {}, path)
    others = [backup for backup in backups(store.home) if backup != path]
    for old in others[BACKUPS_KEPT - 1 :]:
        old.unlink(missing_ok=True)
    return path


def backups(home: Path) -> list[Path]:
    """The regular backups of the embedded MongoDB, the latest first; those that a clock which was
    ahead has dated come last."""
    return sorted(Server(home).backups.glob("runs-*.zip"), key=mongod.age)


def describe(store: Store) -> list[str]:
    """Lines on the backups of an embedded MongoDB, and on damaged data that is kept."""
    if store.kind != "embedded":
        return []
    server = Server(store.home)
    made = backups(store.home)
    lines = [f"latest backup: {_date(made[0])}, {made[0]}"] if made else []
    if server.backup_is_due(is_idle=False):
        lines.append(f"the regular backup is late; if it fails, {server.keeper_log} says why")
    for folder in sorted(server.folder.glob("data-damaged-*")):
        lines.append(f"damaged data is kept in {folder}")
    return lines


def _date(path: Path) -> str:
    date = datetime.fromtimestamp(path.stat().st_mtime).isoformat(" ", "minutes")
    return date if math.isfinite(mongod.age(path)) else f"{date} (by a clock that was ahead)"


def repair(server: Server, report: Report) -> Path:
    """Repair a copy of the embedded MongoDB's data, and put it in the place of the damaged data.

    Arguments:
        report: is called with one line about each step.

    Returns:
        the folder where the damaged data is kept.

    Raises:
        UserError: the server is in use, there is no data, or the disk has no room for a copy.
    """
    with server.stopped():
        if not server.data.exists():
            raise UserError(f"no data of an embedded MongoDB in {server.folder}")
        copy = server.folder / "data-repairing"
        shutil.rmtree(copy, ignore_errors=True)
        _copy(server.data, copy)
        if not _mongod_repairs(server, copy, report):
            shutil.rmtree(copy)
            copy.mkdir(mode=0o700)
        with _served(server, copy) as client:
            _adopt_orphans(client, report)
            _merge_latest_backup(client, server.folder.parent, report)
            make_indexes(client[DEFAULT_DATABASE])
        damaged = server.folder / f"data-damaged-{time.strftime(TIME_IN_NAME)}"
        copy.rename(server.repaired)  # from here on, `finish_repair` completes what is cut short
        server.data.rename(damaged)
        server.finish_repair()
    return damaged


def _copy(data: Path, copy: Path) -> None:
    """Copy the files of a database; UserError if that is not possible."""
    not_copied = shutil.ignore_patterns("mongod.lock", "diagnostic.data", mongod.UNUSED_LOGS)
    size = sum(path.stat().st_size for path in data.rglob("*") if path.is_file())
    free = shutil.disk_usage(data).free
    if free < size:
        raise UserError(
            f"a copy of {data} needs {size >> 20} MiB, and the disk has {free >> 20} MiB"
        )
    try:
        shutil.copytree(data, copy, ignore=not_copied)
    except (OSError, shutil.Error) as error:
        raise UserError(f"cannot copy {data}: {error}") from error


def _mongod_repairs(server: Server, data: Path, report: Report) -> bool:
    """Whether mongod can repair the database in a folder."""
    log = server.folder / "repair.log"
    log.unlink(missing_ok=True)
    code = spawn(data, server.folder / "repair.sock", log, "--repair").wait()
    if code != 0:
        report(f"mongod cannot repair the data (exit code {code}; see {log})")
        return False
    changes = [
        entry["attr"]["description"]
        for entry in map(json.loads, log.read_text().splitlines())
        if entry["msg"] == "repairModification"
    ]
    report(f"mongod has repaired the data, with {len(changes)} changes (see {log})")
    return True


@contextlib.contextmanager
def _served(server: Server, data: Path) -> Iterator[pymongo.MongoClient]:
    """A client of a mongod that serves a folder while the block runs."""
    path = server.socket.with_name("repair.sock")
    process = spawn(data, path, server.folder / "repair.log")
    try:
        client: pymongo.MongoClient = pymongo.MongoClient(
            mongod.socket_uri(path), serverSelectionTimeoutMS=int(1000 * mongod.START_TIMEOUT)
        )
        with client:
            yield client
    except PyMongoError as error:
        raise UserError(f"the repair failed, and has changed nothing: {error}") from error
    finally:
        process.terminate()
        process.wait()
        path.unlink(missing_ok=True)


def _adopt_orphans(client: pymongo.MongoClient, report: Report) -> None:
    """Return the documents of collections whose names mongod could not find to their collections."""
    database = client[DEFAULT_DATABASE]
    before = _count(database)
    for name in client.local.list_collection_names(filter={"name": {"$regex": f"^{ORPHAN}"}}):
        orphan = client.local[name]
        keys = set(orphan.find_one() or ())
        for collection, fields in FIELDS.items():
            if fields <= keys:
                _merge(orphan, database, {}, collection)
                orphan.drop()
                break
    if count := _count(database) - before:
        report(f"{count} documents had lost the name of their collection, and are back in it")


def _merge_latest_backup(client: pymongo.MongoClient, home: Path, report: Report) -> None:
    """Add what the latest sound backup has and the database has not."""
    for path in backups(home):
        backup = client[SCRATCH_DATABASE]
        client.drop_database(backup)
        try:
            archive.import_(backup, path, is_backup=True)
        except UserError as error:
            report(f"the backup is passed over: {error}")
            continue
        count = _merge_runs(backup, client[DEFAULT_DATABASE])
        client.drop_database(backup)
        report(f"{count} documents come from {path}, of {_date(path)}")
        return
    report("there is no backup")


def _merge_runs(backup: Database, database: Database) -> int:
    """Add the runs that are missing, and the metrics and files that are missing of the others.

    Returns:
        the number of documents that were added.
    """
    before = _count(database)
    for name in ("fs.chunks", "fs.files", "sweep_points", "sweeps"):
        _merge(backup[name], database, {})
    for run in backup.runs.find({}, {"start_time": 1}):
        found = database.runs.find_one({"_id": run["_id"]}, {"start_time": 1})
        # another run may have got the number of one that has been deleted since
        if found is None or found.get("start_time") == run.get("start_time"):
            present, known = (_parts(one, run["_id"]) for one in (database, backup))
            missing = [known[part] for part in known.keys() - present.keys()]
            _merge(backup.metrics, database, {"_id": {"$in": missing}})
    _merge(backup.runs, database, {})
    return _count(database) - before


def _parts(database: Database, run: Any) -> dict[tuple[str, int], Any]:
    """The id of each part of a run's metrics, by the metric's name and the number of the part."""
    found = database.metrics.find({"run_id": run}, {"name": 1, "part": 1})
    return {(metric["name"], metric.get("part", 0)): metric["_id"] for metric in found}


def _merge(
    source: Collection, database: Database, query: Document, name: str | None = None
) -> None:
    """Add those documents of a collection that match a query and are not in the database yet.

    Arguments:
        name: of the collection that they belong to; by default that of the source.
    """
    name, key = name or source.name, ["_id"]
    if name == "fs.chunks":  # an import gives the pieces of a file new ids
        key = ["files_id", "n"]
        database[name].create_index([(field, 1) for field in key], unique=True)
    stage = {"into": {"db": database.name, "coll": name}, "on": key, "whenMatched": "keepExisting"}
    source.aggregate([{"$match": query}, {"$merge": stage}])


def _count(database: Database) -> int:
    """Number of documents of all collections."""
    return sum(database[name].count_documents({}) for name in FIELDS)


def losses(store: Store) -> list[str]:
    """A line for each run of which metrics, parts of metrics or files are missing."""
    database = store.database
    lengths = {file["_id"]: file["length"] for file in database["fs.files"].find({}, {"length": 1})}
    sizes = [{"$group": {"_id": "$files_id", "size": {"$sum": {"$binarySize": "$data"}}}}]
    stored = {file["_id"]: file["size"] for file in database["fs.chunks"].aggregate(sizes)}
    whole = {key for key, length in lengths.items() if stored.get(key, 0) == length}
    metrics = {str(metric["_id"]) for metric in database.metrics.find({}, {"_id": 1})}
    lines = []
    for run in database.runs.find({}, {**FILE_FIELDS, "info.metrics": 1, "lease.metrics": 1}):
        files = set(file_ids(run)) - whole
        begun = [*run.get("info", {}).get("metrics", ())]
        begun += [one for one in run.get("lease", {}).get("metrics", ()) if one.get("part")]
        names = {one["name"] for one in begun if str(one["id"]) not in metrics}
        missing = [f"{len(files)} files"] * bool(files) + [f"{len(names)} metrics"] * bool(names)
        if missing:
            lines.append(f"run {run['_id']}: {' and '.join(missing)} are lost")
    return lines
