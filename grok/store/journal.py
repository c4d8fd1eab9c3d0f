"""Journals on disk, and the delivery of their events to MongoDB.

A journal is a file of BSON documents, one for each event, which is written through to the operating
system before the call returns, so that it survives SIGKILL. One thread of each process delivers the
events in order and waits while the server does not answer. Every delivery can be repeated without
effect (`seq` guards, ids chosen here), so a journal may be replayed from its start at any time.
"""

import atexit
import contextlib
import fcntl
import os
import queue
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bson
import gridfs
import pymongo
from pymongo import UpdateOne
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import BulkWriteError, PyMongoError

from grok.store.connection import Store, is_away

OPERATION_TIMEOUT = 20.0  # seconds that the server has for one event
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds between attempts while the server does not answer
DUPLICATE_KEY = 11000  # MongoDB's error code
HEADER = "head"  # kind of a journal's first event
Event = dict[str, Any]


class Journal:
    """One run's events and copied files, in a folder that is locked while its process lives.

    Attributes:
        folder: holds the file `journal` and the copied files.
        header: the first event: uri, kind_of_store, database, prefix, run_id.
    """

    def __init__(self, folder: Path, descriptor: int) -> None:
        self.folder = folder
        self.descriptor = descriptor
        self.header: Event = {}

    @classmethod
    def create(cls, journals: Path, header: Event) -> "Journal":
        """A new, locked journal for the run that `header` describes, in the folder of all journals."""
        folder = journals / f"{header['run_id']}-{uuid.uuid4().hex[:12]}"
        folder.mkdir(mode=0o700, parents=True)
        descriptor = os.open(folder / "journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        journal = cls(folder, descriptor)
        journal.header = header
        journal.append({"kind": HEADER, **header})
        return journal

    @classmethod
    def acquire(cls, folder: Path) -> "Journal | None":
        """The journal of a process that has died, now locked; None if it lives or has no journal."""
        try:
            descriptor = os.open(folder / "journal", os.O_RDWR | os.O_APPEND)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        journal = cls(folder, descriptor)
        journal.header = next(journal.events(), {})
        return journal

    def append(self, event: Event) -> None:
        """Write an event through to the operating system."""
        os.write(self.descriptor, bson.encode(event))

    def events(self) -> Iterator[Event]:
        """All events from the first; an incomplete last one (killed while writing) is left out."""
        with open(self.folder / "journal", "rb") as file:
            while len(size := file.read(4)) == 4:
                length = int.from_bytes(size, "little") - 4
                body = file.read(length)
                if len(body) != length:
                    return
                yield bson.decode(size + body)

    def copy_file(self, path: str) -> str:
        """Copy a file into the folder; the name of the copy."""
        name = uuid.uuid4().hex
        shutil.copyfile(path, self.folder / name)
        return name

    def close(self, delivered: bool) -> None:
        """Unlock the journal; delete it if all of it has been delivered."""
        if delivered:
            shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self.descriptor)

    def belongs_to(self, store: Store) -> bool:
        """Whether the run was begun in this store."""
        if self.header.get("kind_of_store") == "embedded":
            return store.kind == "embedded"
        return self.header.get("uri") == store.uri


class Delivery:
    """Applies events to one run's documents. Applying one again has no effect."""

    def __init__(self, database: Database, prefix: str, run_id: int | str) -> None:
        self.runs = database[f"{prefix}runs"]
        self.metrics = database[f"{prefix}metrics"]
        self.files = gridfs.GridFS(database)
        self.run_id = run_id

    def apply(self, event: Event, folder: Path) -> None:
        """Write one event to the database. folder: the journal's, which holds copied files."""
        match event["kind"]:
            case "state":
                self._apply_state(event)
            case "values":
                self._apply_values(event)
            case "artifact":
                self._apply_artifact(event, folder)
            case "resource":
                entry = [event["filename"], event["digest"]]
                self.runs.update_one({"_id": self.run_id}, {"$addToSet": {"resources": entry}})

    def _apply_state(self, event: Event) -> None:
        before_event = {"_id": self.run_id, "seq": {"$not": {"$gte": event["seq"]}}}
        self.runs.update_one(before_event, {"$set": {**event["fields"], "seq": event["seq"]}})

    def _apply_values(self, event: Event) -> None:
        updates = [
            UpdateOne(
                {"_id": metric["id"], "seq": {"$not": {"$gte": event["seq"]}}},
                {
                    "$push": {
                        key: {"$each": metric[key]} for key in ("steps", "values", "timestamps")
                    },
                    "$set": {"seq": event["seq"], **part_of(metric)},
                    "$setOnInsert": {"run_id": self.run_id, "name": metric["name"]},
                },
                upsert=True,
            )
            for metric in event["metrics"]
        ]
        try:
            self.metrics.bulk_write(updates, ordered=False)
        except BulkWriteError as error:
            # a duplicate key means only that this metric's part was applied before
            if any(one["code"] != DUPLICATE_KEY for one in error.details["writeErrors"]):
                raise

    def _apply_artifact(self, event: Event, folder: Path) -> None:
        if not self.files.exists(event["id"]):
            self.files.delete(event["id"])  # chunks of an upload that was cut short
            with open(folder / event["file"], "rb") as file:
                self.files.put(
                    file,
                    _id=event["id"],
                    filename=f"artifact://{self.runs.name}/{self.run_id}/{event['name']}",
                    metadata=event["metadata"],
                    content_type=event["content_type"],
                )
        entry = {"name": event["name"], "file_id": event["id"]}
        self.runs.update_one({"_id": self.run_id}, {"$addToSet": {"artifacts": entry}})


class DeliveryThread(threading.Thread):
    """Delivers the events of all runs of this process, in order, waiting for a server that is away."""

    def __init__(self) -> None:
        super().__init__(name="delivery", daemon=True)
        self.tasks: queue.Queue[Callable[[], object] | None] = queue.Queue()
        self.refused: dict[
            Path, int
        ] = {}  # events that the server refused, by the journal's folder
        self.starting = threading.Lock()  # runs that train side by side start at the same moment

    def ensure_started(self, store: Store) -> None:
        """Start the thread, once; it delivers first what dead processes left for this store."""
        with self.starting:
            if self.ident is None:
                self.tasks.put(lambda: recover(store))
                self.start()
                atexit.register(self.tasks.put, None)  # it ends before the interpreter does

    def send(self, event: Event, journal: Journal, delivery: Delivery, store: Store) -> None:
        """Queue an event of a journal for delivery."""
        self.tasks.put(lambda: self._deliver(event, journal, delivery, store))

    def finish(self, journal: Journal, timeout: float) -> str | None:
        """Wait until a journal's events are delivered, and close it.

        Arguments:
            timeout: seconds to wait.

        Returns:
            what was not delivered and where it is kept; None if all was delivered.
        """
        reached = threading.Event()
        self.tasks.put(reached.set)
        in_time = reached.wait(timeout)
        refused = self.refused.pop(journal.folder, 0)
        journal.close(delivered=in_time and not refused)
        if not in_time:
            return (
                f"MongoDB is away; its log waits in {journal.folder}, "
                '"grok store recover" delivers it'
            )
        if refused:
            return f"MongoDB refused {refused} of its events; they are kept in {journal.folder}"
        return None

    def run(self) -> None:
        while (task := self.tasks.get()) is not None:
            task()

    def _deliver(self, event: Event, journal: Journal, delivery: Delivery, store: Store) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                with pymongo.timeout(OPERATION_TIMEOUT):
                    delivery.apply(event, journal.folder)
                return
            except Exception as error:
                if not is_away(error):
                    self._set_aside(event, journal, error)
                    return
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
            store.revive()

    def _set_aside(self, event: Event, journal: Journal, error: Exception) -> None:
        """Note an event that the server will not take, and go on with the next."""
        self.refused[journal.folder] = self.refused.get(journal.folder, 0) + 1
        with contextlib.suppress(OSError), open(journal.folder / "refused", "a") as file:
            file.write(f"{event['kind']} {event['seq']}: {error}\n")


DELIVERY = DeliveryThread()


def part_of(metric: Event) -> dict[str, int]:
    """The number of a metric's part, if the metric is too long for one document."""
    return {"part": metric["part"]} if "part" in metric else {}


def next_number(runs: Collection) -> int:
    """The number after the largest in a collection of runs, whose ids may be names too."""
    last = runs.find_one({"_id": {"$type": "number"}}, {"_id": 1}, sort=[("_id", -1)])
    return last["_id"] + 1 if last else 1


def waiting(journals: Path) -> list[Journal]:
    """The journals of dead processes in a folder, now locked by this process."""
    folders = sorted(journals.iterdir()) if journals.exists() else []
    acquired = [Journal.acquire(folder) for folder in folders]
    return [journal for journal in acquired if journal is not None]


def is_written(store: Store, run_id: int | str) -> bool:
    """Whether a living process on this machine holds a journal of the run."""
    acquired = [Journal.acquire(folder) for folder in store.journals.glob(f"{run_id}-*")]
    for journal in filter(None, acquired):
        journal.close(delivered=False)
    return None in acquired


def discard(store: Store, run_id: int | str) -> None:
    """Delete the journals that dead processes left of a run which is deleted, or recorded anew."""
    for folder in store.journals.glob(f"{run_id}-*"):
        journal = Journal.acquire(folder)
        if journal is not None:
            is_of_run = journal.belongs_to(store) and journal.header["run_id"] == run_id
            journal.close(delivered=is_of_run)


def recover(store: Store, report: Callable[[str], object] = lambda line: None) -> int:
    """Deliver the journals of dead processes that belong to this store.

    A journal that the server does not take stays for the next time.

    Arguments:
        report: is called with one line about each journal.

    Returns:
        the number of journals that were delivered.
    """
    delivered = 0
    for journal in waiting(store.journals):
        is_delivered = False
        if journal.belongs_to(store):
            header = journal.header
            database = store.client[header["database"]]
            delivery = Delivery(database, header["prefix"], header["run_id"])
            try:
                for event in journal.events():
                    with pymongo.timeout(OPERATION_TIMEOUT):
                        delivery.apply(event, journal.folder)
                is_delivered = True
                report(f"run {header['run_id']}: delivered")
            except PyMongoError as error:
                report(f"run {header['run_id']}: {error}")
        delivered += is_delivered
        journal.close(delivered=is_delivered)
    return delivered


def count_waiting(store: Store) -> int:
    """The number of journals of dead processes that belong to this store."""
    count = 0
    for journal in waiting(store.journals):
        count += journal.belongs_to(store)
        journal.close(delivered=False)
    return count
