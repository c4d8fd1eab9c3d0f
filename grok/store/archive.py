"""Runs as one portable file: a zip of BSON, the form of mongodump, with the hash of every member.

Members: runs, metrics, sweeps, sweep_points and files .bson, data/ID for the content of each GridFS
file, and manifest.json, written last. Format 1 had no sweep_points.bson. Nothing in it is code, and
nothing of it is unpickled.
"""

import contextlib
import copy
import hashlib
import json
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Any

import bson
import gridfs
from bson import ObjectId
from bson.errors import BSONError
from pymongo import ReplaceOne
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError, PyMongoError

from grok.errors import UserError, check_file, writing
from grok.paths import atomic_write
from grok.printable import echo
from grok.store import archive_schema
from grok.store.connection import file_ids, files_in_use, next_number
from grok.store.documents import RUN_KEYS, named_run, sweeps_of
from grok.store.selection import Query, of_sweeps

FORMAT = 2
IMPORTING = "IMPORTING"  # the status of a run whose data is still coming
SWEEP_FIELDS = {"meta.sweep.id": 1, "info.wandb.sweep": 1}  # that `sweeps_of` reads
OF_ONE_STORE = ("lease", "uid")  # of a run: who writes it there, which metrics are its own
DOCUMENTS_PER_WRITE = 500
PIECE = 1 << 20  # bytes of a file that are read at once
CHUNK = 255 * 1024  # bytes of a stored file in one document, as GridFS has it
MANIFEST_PER_MEMBER = 1 << 10  # bytes; a hash and a name have about a hundred
MAX_IN_MEMORY = 1 << 24  # bytes of a file that is exported; a larger one is copied on the disk
MAX_DOCUMENT = 1 << 24  # bytes; MongoDB takes no larger one
POINTS = "sweep_points.bson"
DOCUMENTS = {  # members of each format that can be read
    1: {"runs.bson", "metrics.bson", "sweeps.bson", "files.bson"},
    FORMAT: {"runs.bson", "metrics.bson", "sweeps.bson", POINTS, "files.bson"},
}
Document = dict[str, Any]
# What reading a file that is no archive may raise, of zipfile, zlib, json and bson.
ERRORS_OF_DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    BSONError,
)


def export(database: Database, wanted: Query, path: Path) -> int:
    """Write the runs that match a query, with all that is theirs, to a zip file.

    The file is complete or not there. What an import would refuse is left out, since it would refuse
    the whole file, and so is a stored file that cannot be read; a line on stderr says so.

    Returns:
        the number of runs in the file.
    """
    hashes: dict[str, str] = {}
    ids: list[Any] = []
    sweeps: set[str] = set()  # that runs name
    stored: list[str] = []  # those of them that are written
    owners: dict[Any, Any] = {}  # of each file, a run that names it
    with (
        writing(path),
        atomic_write(path) as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as archive,
        tempfile.SpooledTemporaryFile(MAX_IN_MEMORY) as runs,
    ):

        def metrics_of_runs() -> Iterator[bytes]:
            for run in _accepted(database.runs.find(wanted).sort("_id"), archive_schema.Run):
                with tempfile.SpooledTemporaryFile(MAX_IN_MEMORY) as own:
                    try:
                        for metric in database.metrics.find({"run_id": run["_id"]}):
                            archive_schema.check(metric, archive_schema.Metric)
                            own.write(bson.encode(metric))
                    except ValueError as error:
                        echo(f"run {run['_id']} is left out: {error}", err=True)
                        continue
                    yield from _pieces(own)
                runs.write(bson.encode(run))
                ids.append(run["_id"])
                sweeps.update(sweeps_of(run))
                owners.update(dict.fromkeys(file_ids(run), run["_id"]))

        def complete_sweeps() -> Iterator[bytes]:
            # earlier versions stored only the Slurm jobs of a sweep that W&B's own server serves
            complete = {"_id": {"$in": sorted(sweeps)}, "name": {"$exists": True}}
            for sweep in _accepted(database.sweeps.find(complete), archive_schema.Sweep):
                stored.append(sweep["_id"])
                yield bson.encode(sweep)

        _add(archive, hashes, "metrics.bson", metrics_of_runs())
        _add(archive, hashes, "runs.bson", _pieces(runs))
        _add(archive, hashes, "sweeps.bson", complete_sweeps())
        points = database.sweep_points.find({"sweep": {"$in": stored}})
        accepted = _accepted(points, archive_schema.SweepPoint)
        _add(archive, hashes, POINTS, map(bson.encode, accepted))
        files = []
        for file_id, run in sorted(owners.items(), key=str):
            try:
                files.append(_add_file(archive, hashes, database, file_id))
            except (gridfs.errors.GridFSError, ValueError):
                echo(f"run {run}: its file {file_id} cannot be read, and is left out", err=True)
        _add(archive, hashes, "files.bson", map(bson.encode, files))
        manifest = {"format": FORMAT, "runs": len(ids), "sha256": hashes}
        archive.writestr("manifest.json", json.dumps(manifest))
    return len(ids)


def _accepted(
    documents: Iterable[Document], model: type[archive_schema.Part]
) -> Iterator[Document]:
    """The documents that an import takes; a line on stderr says of each other one why it does not."""
    for document in documents:
        try:
            archive_schema.check(document, model)
        except ValueError as error:
            kind = "run" if model is archive_schema.Run else "sweep"
            echo(f"{kind} {document['_id']} is left out: {error}", err=True)
        else:
            yield document


def _pieces(whole: IO[bytes]) -> Iterator[bytes]:
    """What was written to a file, from its beginning."""
    whole.seek(0)
    return iter(partial(whole.read, PIECE), b"")


def _add_file(
    archive: zipfile.ZipFile, hashes: dict[str, str], database: Database, file_id: Any
) -> Document:
    """Write the content of a stored file; the file's entry.

    The content is read to its end first: what is written to a zip file cannot be taken back.

    Raises:
        gridfs.errors.GridFSError: it cannot be read.
        ValueError: an import would refuse its entry.
    """
    entry = database["fs.files"].find_one({"_id": file_id})
    if entry is None:
        raise gridfs.errors.NoFile(file_id)
    archive_schema.check(entry, archive_schema.File)
    content = gridfs.GridOut(database["fs"], file_document=entry)
    with tempfile.SpooledTemporaryFile(MAX_IN_MEMORY) as whole:
        shutil.copyfileobj(content, whole, PIECE)
        _add(archive, hashes, f"data/{file_id}", _pieces(whole))
    return entry


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


def import_(database: Database, path: Path, is_backup: bool = False) -> Imported:
    """Bring an archive's runs in; a second time changes nothing.

    The whole archive is checked before anything is written. If writing fails, what was written is
    removed again.

    Arguments:
        is_backup: the archive is of this very store, and the database is empty: all documents stay
            as they are. Others get new ids, so that none of them can be that of a run here.

    Raises:
        UserError: the file is no archive, a damaged one, or one whose documents are not in the form
            that `export` writes; nothing has been written.
    """
    check_file(path)
    with contextlib.ExitStack() as stack:
        try:
            archive = stack.enter_context(zipfile.ZipFile(path))
            contents = _check(archive, path.stat().st_size, is_backup)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
        except ERRORS_OF_DAMAGE as error:
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise UserError(f"{path}: no archive of runs, or a damaged one ({reason})") from error
        _check_sweeps(database, archive, contents, path)
        writer = _Import(database, archive, contents, is_backup)
        try:
            return writer.write()
        except BaseException as error:
            writer.undo()
            if isinstance(error, (PyMongoError, *ERRORS_OF_DAMAGE)):
                reason = " ".join(str(error).split())[:300]
                raise UserError(f"{path}: not imported, nothing is kept: {reason}") from error
            raise


@dataclass(frozen=True)
class _Contents:
    """What an archive has, after its check.

    runs: the ids of its runs.
    sweeps: the ids of the sweeps that its runs name.
    files: for each stored file the id that it gets here. Equal files get the same one, and never
        that of a file that something else has stored.
    """

    runs: set[Any]
    sweeps: set[str]
    files: dict[Any, ObjectId]


def _check(archive: zipfile.ZipFile, size: int, is_backup: bool) -> _Contents:
    """What a file of `size` bytes has; UserError or one of ERRORS_OF_DAMAGE if it is no archive."""
    hashes = _hashes(archive, size)
    documents = {name for name in hashes if name.endswith(".bson")}
    runs: set[Any] = set()
    sweeps: set[str] = set()
    stored_sweeps: set[str] = set()
    for run in _checked(archive, "runs.bson", archive_schema.Run, hashes):
        if run["_id"] in runs:
            raise ValueError(f"run {run['_id']} is there twice")
        runs.add(run["_id"])
        sweeps.update(sweeps_of(run))
    for metric in _checked(archive, "metrics.bson", archive_schema.Metric, hashes):
        if metric["run_id"] not in runs:
            raise ValueError(f"a metric of run {metric['run_id']}, which is not in it")
    for sweep in _checked(archive, "sweeps.bson", archive_schema.Sweep, hashes):
        stored_sweeps.add(sweep["_id"])
    if POINTS in documents:
        for point in _checked(archive, POINTS, archive_schema.SweepPoint, hashes):
            if point["sweep"] not in stored_sweeps:
                raise ValueError(f"a point of sweep {point['sweep']}, which is not in it")
    files: dict[Any, ObjectId] = {}
    for file in _checked(archive, "files.bson", archive_schema.File, hashes):
        name = f"data/{file['_id']}"
        if archive.getinfo(name).file_size != file["length"]:
            raise ValueError(f"{name} has not the size that is written of it")
        derived = _derived_id(hashes[name], file.get("filename"))
        files[file["_id"]] = file["_id"] if is_backup else derived
    if len(hashes) != len(documents) + len(files):
        raise ValueError("files of which nothing is written")
    for name in hashes.keys() - documents:
        digest = hashlib.sha256()
        with archive.open(name) as member:
            for piece in iter(partial(member.read, PIECE), b""):
                digest.update(piece)
        _check_hash(name, digest.hexdigest(), hashes)
    return _Contents(runs, sweeps, files)


def _hashes(archive: zipfile.ZipFile, size: int) -> dict[str, str]:
    """The hash of every member by its name, after a check of names and declared sizes."""
    members = archive.infolist()
    names = {member.filename for member in members}
    if archive.getinfo("manifest.json").file_size > MANIFEST_PER_MEMBER * len(members):
        raise ValueError("manifest.json is too large")
    manifest = json.loads(archive.read("manifest.json"))
    documents = DOCUMENTS.get(manifest["format"])
    if documents is None:
        known = " and ".join(map(str, DOCUMENTS))
        raise UserError(f"format {manifest['format']!r:.20}; this version reads {known}")
    hashes = manifest["sha256"]
    if not isinstance(hashes, dict) or len(members) != len(names):
        raise ValueError("its list of members cannot be read")
    if names != {*hashes, "manifest.json"}:
        raise ValueError("its members are not those that it lists")
    if {name for name in names if name.endswith(".bson")} != documents:
        raise ValueError("documents that do not belong to its format")
    for member in members:
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{member.filename!r:.100} is compressed in another way")
    if sum(member.compress_size for member in members) > size:
        raise ValueError("members that overlap")  # a small file can hold terabytes so
    return hashes


def _checked(
    archive: zipfile.ZipFile, name: str, model: type[archive_schema.Part], hashes: dict[str, str]
) -> Iterator[Document]:
    """The documents of a member, each checked, and in the end the member's hash."""
    digest = hashlib.sha256()
    for document in _documents(archive, name, digest):
        archive_schema.check(document, model)
        yield document
    _check_hash(name, digest.hexdigest(), hashes)


def _check_hash(name: str, digest: str, hashes: dict[str, str]) -> None:
    if hashes[name] != digest:
        raise UserError(f"{name} is not what was exported")


def _check_sweeps(
    database: Database, archive: zipfile.ZipFile, contents: _Contents, path: Path
) -> None:
    """UserError if a sweep of the store would get runs that are of another sweep with its id."""
    theirs = {sweep["_id"]: sweep for sweep in _documents(archive, "sweeps.bson")}
    ours = database.sweeps.find({"_id": {"$in": [*contents.sweeps, *theirs]}})
    for sweep in ours:
        other = theirs.get(sweep["_id"], {})
        if any(sweep.get(key) != other.get(key) for key in ("created", "name", "config")):
            raise UserError(f"{path}: its sweep {sweep['_id']} is not the one of that id here")


def _derived_id(*parts: Any) -> ObjectId:
    """The same id for the same parts, and no other way to get it."""
    return ObjectId(hashlib.sha256(repr(parts).encode()).digest()[:12])


class _Import:
    """One import of a checked archive: its writes, and how they are undone."""

    def __init__(
        self, database: Database, archive: zipfile.ZipFile, contents: _Contents, is_backup: bool
    ):
        self.database, self.archive, self.contents = database, archive, contents
        self.is_backup = is_backup
        self.id_here: dict[Any, Any] = {}  # of every run, by its id in the archive
        self.taken: set[Any] = set()  # the values of `id_here`
        self.new: set[Any] = set()  # ids in the archive
        self.inserted: list[Any] = []  # ids here, of the runs that this import has inserted
        self.finished: list[Any] = []  # ids here, of those whose status it has set
        self.identities: dict[Any, str] = {}  # what makes each run that run, by id in the archive
        self.files: set[Any] = set()  # ids here, of the new runs
        self.written_files: list[Any] = []
        self.written_sweeps: list[Any] = []
        self.written_points: list[Any] = []

    def write(self) -> Imported:
        """Write the runs, files, metrics, points and sweeps that are not there yet.

        A sweep that is here keeps its own points. Runs come first, with the status IMPORTING: from then
        on nobody takes their ids or deletes their data as that of no run. An import that is killed
        leaves them so, and the next one finishes them.
        """
        database = self.database
        for run in _documents(self.archive, "runs.bson"):
            self._reserve(run)
        for file in _documents(self.archive, "files.bson"):
            self._write_file(file)
        metrics = map(self._metric_here, _documents(self.archive, "metrics.bson"))
        _write(database.metrics, (metric for metric in metrics if metric is not None))
        if POINTS in self.archive.namelist():
            self._write_points()
        for sweep in _documents(self.archive, "sweeps.bson"):
            with contextlib.suppress(DuplicateKeyError):
                database.sweeps.insert_one(sweep if self.is_backup else {**sweep, "imported": True})
                self.written_sweeps.append(sweep["_id"])
        for run in _documents(self.archive, "runs.bson"):
            if run["_id"] in self.new:
                self._finish(self.id_here[run["_id"]], run)
        renamed = {old: new for old, new in self.id_here.items() if old in self.new and old != new}
        return Imported(len(self.new), len(self.id_here) - len(self.new), renamed)

    def undo(self) -> None:
        """Remove what was written; if the server has gone, the runs are left as IMPORTING.

        Another import of the same runs may be under way, or may have finished those of this one: what
        its runs have stays.
        """
        runs = self.database.runs
        with contextlib.suppress(PyMongoError):
            inserted = {"_id": {"$in": self.inserted}}
            finished = {"_id": {"$in": [*{*self.inserted} & {*self.finished}]}}
            ours = {"$or": [finished, {**inserted, "status": IMPORTING}]}
            before = runs.distinct("_id", ours)
            runs.delete_many(ours)
            deleted = {*before} - {*runs.distinct("_id", inserted)}
            self.database.metrics.delete_many({"run_id": {"$in": [*deleted]}})
            left = runs.find(of_sweeps(*self.contents.sweeps), SWEEP_FIELDS)
            used = [sweep for run in left for sweep in sweeps_of(run)]
            sweeps = [sweep for sweep in self.written_sweeps if sweep not in used]
            self.database.sweeps.delete_many({"_id": {"$in": sweeps}})
            points = {"_id": {"$in": self.written_points}, "sweep": {"$nin": used}}
            self.database.sweep_points.delete_many(points)
            written = set(self.written_files)
            for file in written - files_in_use(self.database, written):
                self.database["fs.files"].delete_one({"_id": file})
                self.database["fs.chunks"].delete_many({"files_id": file})

    def _reserve(self, run: Document) -> None:
        """Insert a run that is not here yet, or find the one that is."""
        facts = {key: run.get(key) for key in ("start_time", "config")}
        facts["experiment.name"] = run["experiment"]["name"]
        same: Document = {key: {"$eq": value} for key, value in facts.items()}
        found = self.database.runs.find(same, {"status": 1})
        known = next((one for one in found if one["_id"] not in self.taken), None)
        self.identities[run["_id"]] = hashlib.sha256(bson.encode(facts)).hexdigest()
        here = self._run_here(run)
        if known is None:
            self.id_here[run["_id"]] = _insert(self.database, here)
            self.inserted.append(self.id_here[run["_id"]])
        else:  # it is here, or an import of it was killed
            self.id_here[run["_id"]] = known["_id"]
        self.taken.add(self.id_here[run["_id"]])
        if known is None or known["status"] == IMPORTING:
            self.new.add(run["_id"])
            self.files.update(file_ids(here))

    def _finish(self, here: Any, run: Document) -> None:
        """Give a run that is complete its status, unless another import of it has done so."""
        changes = {"status": run["status"], **self._references(run)}
        unfinished = {"_id": here, "status": IMPORTING}
        if self.database.runs.update_one(unfinished, {"$set": changes}).matched_count:
            self.finished.append(here)
        elif not self.database.runs.find_one({"_id": here}, {"_id": 1}):
            raise UserError(f"run {here} was deleted while it was imported")

    def _run_here(self, run: Document) -> Document:
        """The run as it is stored here at first: its files and metrics by their ids here.

        References to other runs follow when all runs have their ids.
        """
        if self.is_backup:
            return run
        run = {key: value for key, value in run.items() if key not in OF_ONE_STORE}
        run = copy.deepcopy(run)
        for artifact in run.get("artifacts", []):
            artifact["file_id"] = self._file_here(artifact["file_id"])
        for pair in [*run.get("resources", []), *run["experiment"].get("sources", [])]:
            pair[-1] = self._file_here(pair[-1])
        info = run.get("info", {})
        for entry in info.get("metrics", []):
            entry["id"] = str(self._metric_id(run["_id"], entry["id"]))
        for key in RUN_KEYS:
            info.pop(key, None)
        run.get("meta", {}).pop("repeats", None)
        return run

    def _file_here(self, file: Any) -> ObjectId:
        """The id here of a file; one of no file if the archive does not have it."""
        return self.contents.files.get(file) or _derived_id("missing", str(file))

    def _references(self, run: Document) -> dict[str, Any]:
        """The ids here of the runs that its configuration names, and of the run that it repeats, if
        the archive has them."""
        if self.is_backup:
            return {}
        references = {f"info.{key}": named_run(run, key) for key in RUN_KEYS}
        references["meta.repeats"] = run.get("meta", {}).get("repeats")
        return {key: self.id_here[run] for key, run in references.items() if run in self.id_here}

    def _metric_here(self, metric: Document) -> Document | None:
        """The metric as it is stored here; None if its run is here already."""
        run = metric["run_id"]
        if run not in self.new:
            return None
        identity = self._metric_id(run, metric["_id"])
        return {**metric, "_id": identity, "run_id": self.id_here[run]}

    def _metric_id(self, run: Any, metric: Any) -> ObjectId:
        """The id here of a metric: no archive can name one of another run that is here."""
        return metric if self.is_backup else _derived_id(self.identities[run], run, str(metric))

    def _write_points(self) -> None:
        """Write the points of sweeps that are not here yet; the sweeps follow, as a sign that their
        points are complete."""
        here = {sweep["_id"] for sweep in self.database.sweeps.find({}, {"_id": 1})}
        for point in _documents(self.archive, POINTS):
            if point["sweep"] not in here:
                with contextlib.suppress(DuplicateKeyError):
                    self.database.sweep_points.insert_one(point)
                    self.written_points.append(point["_id"])

    def _write_file(self, file: Document) -> None:
        """Write a file of a new run: its chunks first, then the entry that makes it a file."""
        here = self.contents.files[file["_id"]]
        if here not in self.files or self.database["fs.files"].find_one({"_id": here}, {"_id": 1}):
            return
        self.written_files.append(here)
        self.database["fs.chunks"].delete_many({"files_id": here})
        with self.archive.open(f"data/{file['_id']}") as content:
            for number, piece in enumerate(iter(partial(content.read, CHUNK), b"")):
                chunk = {"_id": ObjectId(), "files_id": here, "n": number, "data": piece}
                self.database["fs.chunks"].insert_one(chunk)
        entry = {**file, "_id": here, "chunkSize": CHUNK}
        entry.pop("md5", None)  # no run that begins here is to find its sources in an archive
        self.database["fs.files"].insert_one(entry)


def _insert(database: Database, run: Document) -> Any:
    """Insert a run as IMPORTING under its id, or the next free number if that is taken; the id."""
    run = {**run, "status": IMPORTING}
    while True:
        try:
            database.runs.insert_one(run)
            return run["_id"]
        except DuplicateKeyError:
            run["_id"] = next_number(database.runs)


def _documents(archive: zipfile.ZipFile, name: str, digest: Any = None) -> Iterator[Document]:
    """The documents of a BSON member, one after the other.

    Arguments:
        digest: the hash that is to get the member's bytes, if any.
    """
    with archive.open(name) as member:
        while head := member.read(4):
            size = int.from_bytes(head, "little")
            if not len(head) < size <= MAX_DOCUMENT:
                raise ValueError(f"{name} has a document of {size} bytes")
            content = head + member.read(size - len(head))
            if digest is not None:
                digest.update(content)
            yield bson.decode(content)


def _write(collection: Collection, documents: Iterable[Document]) -> None:
    """Insert or replace documents, many at once."""
    replacements = (ReplaceOne({"_id": one["_id"]}, one, upsert=True) for one in documents)
    while batch := list(islice(replacements, DOCUMENTS_PER_WRITE)):
        collection.bulk_write(batch)
