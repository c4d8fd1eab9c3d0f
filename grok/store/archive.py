"""Runs as one portable file: a zip of BSON, the form of mongodump, with the hash of every member.

Members: runs, metrics, sweeps and files .bson, data/ID for the content of each GridFS file, and
manifest.json, written last. Nothing in it is code, and nothing of it is unpickled.
"""

import hashlib
import json
import os
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bson
import gridfs
from bson import ObjectId
from pymongo import ReplaceOne
from pymongo.errors import DuplicateKeyError

from grok.errors import UserError
from grok.store.connection import file_ids
from grok.store.journal import next_number

FORMAT = 1
IMPORTING = "IMPORTING"  # the status of a run whose data is still coming
BATCH = 500  # documents written at once
PIECE = 1 << 20


def export(database, wanted: dict[str, Any], path: Path) -> int:
    """Write the runs that match a filter, whole, to `path` (.zip); how many. Atomic: a file is complete
    or not there."""
    partial = path.with_name(path.name + ".part")
    hashes: dict[str, str] = {}
    ids, sweeps, files = [], set(), set()

    def runs() -> Iterator[dict]:
        for run in database.runs.find(wanted).sort("_id"):
            ids.append(run["_id"])
            sweeps.add(run.get("meta", {}).get("sweep", {}).get("id"))
            files.update(file_ids(run))
            yield run

    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as archive:
            add(archive, hashes, "runs.bson", map(bson.encode, runs()))
            found = {
                "metrics": database.metrics.find({"run_id": {"$in": ids}}),
                "sweeps": database.sweeps.find({"_id": {"$in": sorted(sweeps - {None})}}),
                "files": database["fs.files"].find({"_id": {"$in": list(files)}}),
            }
            for name, cursor in found.items():
                add(archive, hashes, f"{name}.bson", map(bson.encode, cursor))
            store = gridfs.GridFS(database)
            for number in sorted(files, key=str):
                if store.exists(number):
                    content = store.get(number)
                    pieces = iter(lambda content=content: content.read(PIECE), b"")
                    add(archive, hashes, f"data/{number}", pieces)
            manifest = {"format": FORMAT, "runs": len(ids), "sha256": hashes}
            archive.writestr("manifest.json", json.dumps(manifest))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return len(ids)


def add(archive: zipfile.ZipFile, hashes: dict, name: str, pieces: Iterable[bytes]) -> None:
    """Write one member piece by piece, and note its hash."""
    digest = hashlib.sha256()
    with archive.open(name, "w", force_zip64=True) as member:
        for piece in pieces:
            digest.update(piece)
            member.write(piece)
    hashes[name] = digest.hexdigest()


@dataclass(frozen=True)
class Imported:
    """new: runs brought in. known: runs that were there already. renamed: runs whose id another run has
    here, by the id they got."""

    new: int
    known: int
    renamed: dict[Any, Any]


def import_(database, path: Path) -> Imported:
    """Bring an archive's runs in, after every hash has been checked; a second time changes nothing.

    UserError, with nothing written, if the file is truncated, altered or no archive.
    """
    with checked(path) as archive:
        runs = list(documents(archive, "runs.bson"))
        here, new = reserve(database, runs)
        wanted = {file for run in runs if run["_id"] in new for file in file_ids(run)}
        store = gridfs.GridFS(database)
        for file in documents(archive, "files.bson"):
            if file["_id"] in wanted and not store.exists(file["_id"]):
                _bring_file(database, archive, file)
        metrics = (one for one in documents(archive, "metrics.bson") if one["run_id"] in new)
        _write(database.metrics, ({**one, "run_id": here[one["run_id"]]} for one in metrics))
        for sweep in documents(archive, "sweeps.bson"):
            database.sweeps.update_one({"_id": sweep["_id"]}, {"$setOnInsert": sweep}, upsert=True)
        for run in runs:
            if run["_id"] in new:
                status = {"$set": {"status": run.get("status")}}
                database.runs.update_one({"_id": here[run["_id"]]}, status)
    renamed = {then: here[then] for then in new if then != here[then]}
    return Imported(len(new), len(runs) - len(new), renamed)


def reserve(database, runs: list[dict]) -> tuple[dict, list]:
    """The id of every run of an archive in this store, and those (by their old ids) that are new: they
    are there from now on, as IMPORTING, so that nobody takes their number or calls their data orphaned."""
    here, new = {}, []
    for run in sorted(runs, key=lambda run: str(run["_id"]).zfill(12)):
        same = {key: run.get(key) for key in ("start_time", "config")}
        same["experiment.name"] = run.get("experiment", {}).get("name")
        found = database.runs.find_one(same, {"status": 1})
        if found is None:
            here[run["_id"]] = _insert(database, _referring(run, here))
        else:  # there, or from an import that was cut short
            here[run["_id"]] = found["_id"]
        if found is None or found["status"] == IMPORTING:
            new.append(run["_id"])
    return here, new


def _insert(database, run: dict) -> Any:
    """Insert a run as IMPORTING under its number, or the next free one if another run has it."""
    run = {**run, "status": IMPORTING}
    while True:
        try:
            database.runs.insert_one(run)
            return run["_id"]
        except DuplicateKeyError:
            run["_id"] = next_number(database.runs)


def _referring(run: dict, here: dict) -> dict:
    """The run with the ids that the runs it came from have here."""
    run = {**run, "info": dict(run.get("info", {})), "meta": dict(run.get("meta", {}))}
    for part, key in (("info", "initial_run"), ("meta", "repeats")):
        if run[part].get(key) in here:
            run[part][key] = here[run[part][key]]
    return run


def checked(path: Path) -> zipfile.ZipFile:
    """The open archive, every member's hash verified; UserError if one is wrong."""
    try:
        archive = zipfile.ZipFile(path)
        manifest = json.loads(archive.read("manifest.json"))
        if manifest["format"] != FORMAT:
            raise UserError(f"{path}: format {manifest['format']}; this version reads {FORMAT}")
        for name, expected in manifest["sha256"].items():
            digest = hashlib.sha256()
            with archive.open(name) as member:
                for piece in iter(lambda member=member: member.read(PIECE), b""):
                    digest.update(piece)
            if digest.hexdigest() != expected:
                raise UserError(f"{path}: {name} is not what was exported")
    except (
        OSError,
        zipfile.BadZipFile,
        KeyError,
        TypeError,
        ValueError,
        zipfile.zlib.error,
    ) as error:
        raise UserError(f"{path}: no archive of runs, or a damaged one ({error})") from error
    return archive


def documents(archive: zipfile.ZipFile, name: str) -> Iterator[dict]:
    """The documents of a BSON member, one after the other."""
    with archive.open(name) as member:
        yield from bson.decode_file_iter(member)


def _bring_file(database, archive: zipfile.ZipFile, file: dict) -> None:
    """One GridFS file under its own id: its chunks first, then the entry that makes it a file."""
    database["fs.chunks"].delete_many({"files_id": file["_id"]})
    with archive.open(f"data/{file['_id']}") as content:
        for number, piece in enumerate(iter(lambda: content.read(file["chunkSize"]), b"")):
            chunk = {"_id": ObjectId(), "files_id": file["_id"], "n": number, "data": piece}
            database["fs.chunks"].insert_one(chunk)
    database["fs.files"].insert_one(file)


def _write(collection, found: Iterable[dict]) -> None:
    batch = []
    for document in found:
        batch.append(ReplaceOne({"_id": document["_id"]}, document, upsert=True))
        if len(batch) == BATCH:
            collection.bulk_write(batch)
            batch = []
    if batch:
        collection.bulk_write(batch)
