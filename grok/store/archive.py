"""Runs as one portable file: a zip of BSON, the form of mongodump, with the hash of every member.

Members: runs, metrics, sweeps and files .bson, data/ID for the content of each GridFS file, and
manifest.json, written last. Nothing in it is code, and nothing of it is unpickled.
"""

import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import bson
import gridfs
from bson import ObjectId
from pymongo import ReplaceOne
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from grok.errors import UserError
from grok.paths import atomic_write
from grok.store.connection import file_ids
from grok.store.journal import next_number
from grok.store.selection import Query

FORMAT = 1
IMPORTING = "IMPORTING"  # the status of a run whose data is still coming
DOCUMENTS_PER_WRITE = 500
PIECE = 1 << 20  # bytes of a file that are read at once
Document = dict[str, Any]


def export(database: Database, wanted: Query, path: Path) -> int:
    """Write the runs that match a query, with all that is theirs, to a zip file.

    The file is complete or not there.

    Returns:
        the number of runs.
    """
    hashes: dict[str, str] = {}
    ids: list[Any] = []
    sweeps: set[str] = set()
    files: set[Any] = set()

    def runs() -> Iterator[Document]:
        for run in database.runs.find(wanted).sort("_id"):
            ids.append(run["_id"])
            sweeps.add(run.get("meta", {}).get("sweep", {}).get("id"))
            files.update(file_ids(run))
            yield run

    with (
        atomic_write(path) as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as archive,
    ):
        _add(archive, hashes, "runs.bson", map(bson.encode, runs()))
        cursors = {
            "metrics": database.metrics.find({"run_id": {"$in": ids}}),
            "sweeps": database.sweeps.find({"_id": {"$in": sorted(sweeps - {None})}}),
            "files": database["fs.files"].find({"_id": {"$in": list(files)}}),
        }
        for name, cursor in cursors.items():
            _add(archive, hashes, f"{name}.bson", map(bson.encode, cursor))
        bucket = gridfs.GridFS(database)
        for file_id in sorted(files, key=str):
            if bucket.exists(file_id):
                content = bucket.get(file_id)
                pieces = iter(partial(content.read, PIECE), b"")
                _add(archive, hashes, f"data/{file_id}", pieces)
        manifest = {"format": FORMAT, "runs": len(ids), "sha256": hashes}
        archive.writestr("manifest.json", json.dumps(manifest))
    return len(ids)


def _add(
    archive: zipfile.ZipFile, hashes: dict[str, str], name: str, pieces: Iterable[bytes]
) -> None:
    """Write one member piece by piece, and note its hash."""
    digest = hashlib.sha256()
    with archive.open(name, "w", force_zip64=True) as member:
        for piece in pieces:
            digest.update(piece)
            member.write(piece)
    hashes[name] = digest.hexdigest()


@dataclass(frozen=True)
class Imported:
    """What an import did.

    new: number of runs that were brought in.
    known: number of runs that were there already.
    renamed: the new id, by the id in the archive, of runs whose id was taken.
    """

    new: int
    known: int
    renamed: dict[Any, Any]


def import_(database: Database, path: Path) -> Imported:
    """Bring an archive's runs in, after every hash has been checked; a second time changes nothing.

    Raises:
        UserError: the file is truncated, altered or no archive; nothing has been written.
    """
    with _checked(path) as archive:
        runs = list(_documents(archive, "runs.bson"))
        id_here, new = _reserve(database, runs)
        wanted = {file for run in runs if run["_id"] in new for file in file_ids(run)}
        bucket = gridfs.GridFS(database)
        for file in _documents(archive, "files.bson"):
            if file["_id"] in wanted and not bucket.exists(file["_id"]):
                _import_file(database, archive, file)
        metrics = (one for one in _documents(archive, "metrics.bson") if one["run_id"] in new)
        _write(database.metrics, ({**one, "run_id": id_here[one["run_id"]]} for one in metrics))
        for sweep in _documents(archive, "sweeps.bson"):
            database.sweeps.update_one({"_id": sweep["_id"]}, {"$setOnInsert": sweep}, upsert=True)
        for run in runs:
            if run["_id"] in new:
                status = {"$set": {"status": run.get("status")}}
                database.runs.update_one({"_id": id_here[run["_id"]]}, status)
    renamed = {old: id_here[old] for old in new if old != id_here[old]}
    return Imported(len(new), len(runs) - len(new), renamed)


def _reserve(database: Database, runs: list[Document]) -> tuple[dict[Any, Any], list[Any]]:
    """Insert those runs of an archive that are not here yet, with the status IMPORTING.

    From then on nobody takes their ids or deletes their data as that of no run.

    Returns:
        the id here of every run, by its id in the archive, and the archive's ids of the new runs.
    """
    id_here: dict[Any, Any] = {}
    new: list[Any] = []
    for run in sorted(runs, key=lambda run: str(run["_id"]).zfill(12)):
        same = {key: run.get(key) for key in ("start_time", "config")}
        same["experiment.name"] = run.get("experiment", {}).get("name")
        known = database.runs.find_one(same, {"status": 1})
        if known is None:
            id_here[run["_id"]] = _insert(database, _with_references(run, id_here))
        else:  # it is here, or an import of it was cut short
            id_here[run["_id"]] = known["_id"]
        if known is None or known["status"] == IMPORTING:
            new.append(run["_id"])
    return id_here, new


def _insert(database: Database, run: Document) -> Any:
    """Insert a run as IMPORTING under its id, or the next free number if that is taken; the id."""
    run = {**run, "status": IMPORTING}
    while True:
        try:
            database.runs.insert_one(run)
            return run["_id"]
        except DuplicateKeyError:
            run["_id"] = next_number(database.runs)


def _with_references(run: Document, id_here: dict[Any, Any]) -> Document:
    """The run, with the ids here of its parent run and of the run that it repeats."""
    run = {**run, "info": dict(run.get("info", {})), "meta": dict(run.get("meta", {}))}
    for part, key in (("info", "initial_run"), ("meta", "repeats")):
        if run[part].get(key) in id_here:
            run[part][key] = id_here[run[part][key]]
    return run


def _checked(path: Path) -> zipfile.ZipFile:
    """The open archive, every member's hash verified; UserError if one is wrong."""
    try:
        archive = zipfile.ZipFile(path)
        manifest = json.loads(archive.read("manifest.json"))
        if manifest["format"] != FORMAT:
            raise UserError(f"{path}: format {manifest['format']}; this version reads {FORMAT}")
        for name, expected in manifest["sha256"].items():
            digest = hashlib.sha256()
            with archive.open(name) as member:
                for piece in iter(partial(member.read, PIECE), b""):
                    digest.update(piece)
            if digest.hexdigest() != expected:
                raise UserError(f"{path}: {name} is not what was exported")
    except (OSError, zipfile.BadZipFile, KeyError, TypeError, ValueError, zlib.error) as error:
        raise UserError(f"{path}: no archive of runs, or a damaged one ({error})") from error
    return archive


def _documents(archive: zipfile.ZipFile, name: str) -> Iterator[Document]:
    """The documents of a BSON member, one after the other."""
    with archive.open(name) as member:
        yield from bson.decode_file_iter(member)


def _import_file(database: Database, archive: zipfile.ZipFile, file: Document) -> None:
    """Write one GridFS file under its own id: its chunks first, then the entry that makes it a file."""
    database["fs.chunks"].delete_many({"files_id": file["_id"]})
    with archive.open(f"data/{file['_id']}") as content:
        for number, piece in enumerate(iter(partial(content.read, file["chunkSize"]), b"")):
            chunk = {"_id": ObjectId(), "files_id": file["_id"], "n": number, "data": piece}
            database["fs.chunks"].insert_one(chunk)
    database["fs.files"].insert_one(file)


def _write(collection: Collection, documents: Iterable[Document]) -> None:
    """Insert or replace documents, many at once."""
    replacements = (ReplaceOne({"_id": one["_id"]}, one, upsert=True) for one in documents)
    while batch := list(islice(replacements, DOCUMENTS_PER_WRITE)):
        collection.bulk_write(batch)
