"""An observer that loses nothing: events go to a journal on disk first, then to MongoDB.

A journal is a file of BSON documents, one an event, written through to the operating system before
the call returns, so it survives SIGKILL. One courier thread per process delivers events in order
and waits while the server is away. Every delivery can be repeated without effect (`seq` guards, ids
chosen here), so a journal may be replayed from its start at any time.
"""

import atexit
import contextlib
import fcntl
import os
import queue
import shutil
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bson
import gridfs
import pymongo
from bson import ObjectId
from pymongo import UpdateOne
from pymongo.errors import AutoReconnect, BulkWriteError, DuplicateKeyError, PyMongoError
from sacred.dependencies import get_digest
from sacred.observers import MongoObserver
from sacred.serializer import flatten

from grok.errors import UserError

START_TIMEOUT = 60.0  # seconds for a run's first document, of a server that answers
JOIN_TIMEOUT = 10.0  # seconds that a run's end waits for the server
OPERATION_TIMEOUT = 20.0
DUPLICATE_KEY = 11000


class Spool:
    """One run's journal and copied files in a folder of its own, locked while its process lives."""

    def __init__(self, folder: Path, descriptor: int):
        self.folder = folder
        self.lock = descriptor
        self.head: dict[str, Any] = {}

    @classmethod
    def create(cls, spools: Path, head: dict[str, Any]) -> "Spool":
        """A new, locked spool for the run that `head` describes (uri, database, prefix, run_id)."""
        folder = spools / f"{head['run_id']}-{uuid.uuid4().hex[:12]}"
        folder.mkdir(mode=0o700, parents=True)
        descriptor = os.open(folder / "journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        spool = cls(folder, descriptor)
        spool.head = head
        spool.append({"kind": "head", **head})
        return spool

    @classmethod
    def take(cls, folder: Path) -> "Spool | None":
        """The spool of a process that has died, now locked; None if it lives or is no spool."""
        try:
            descriptor = os.open(folder / "journal", os.O_RDWR | os.O_APPEND)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        spool = cls(folder, descriptor)
        spool.head = next(spool.events(), {})
        return spool

    def append(self, event: dict[str, Any]) -> None:
        """Write an event through to the operating system."""
        os.write(self.lock, bson.encode(event))

    def events(self) -> Iterator[dict[str, Any]]:
        """All events from the first; a torn last one (killed while writing) is left out."""
        with open(self.folder / "journal", "rb") as journal:
            while len(size := journal.read(4)) == 4:
                body = journal.read(int.from_bytes(size, "little") - 4)
                if len(body) != int.from_bytes(size, "little") - 4:
                    return
                yield bson.decode(size + body)

    def copy(self, path: str) -> str:
        """Keep a copy of a file; its name within the spool."""
        name = uuid.uuid4().hex
        shutil.copyfile(path, self.folder / name)
        return name

    def close(self, delivered: bool) -> None:
        """Let go of the spool; delete it if all of it has been delivered."""
        if delivered:
            shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self.lock)


class Delivery:
    """Applies events to one run's documents. `apply` may be repeated without effect."""

    def __init__(self, database, prefix: str, run_id):
        self.runs = database[f"{prefix}runs"]
        self.metrics = database[f"{prefix}metrics"]
        self.files = gridfs.GridFS(database)
        self.run_id = run_id

    def apply(self, event: dict[str, Any], spool: Spool) -> None:
        getattr(self, f"_{event['kind']}")(event, spool)

    def _head(self, event: dict, spool: Spool) -> None:
        pass

    def _state(self, event: dict, spool: Spool) -> None:
        known = {"_id": self.run_id, "seq": {"$not": {"$gte": event["seq"]}}}
        self.runs.update_one(known, {"$set": {**event["fields"], "seq": event["seq"]}})

    def _values(self, event: dict, spool: Spool) -> None:
        updates = [
            UpdateOne(
                {"_id": one["id"], "seq": {"$not": {"$gte": event["seq"]}}},
                {
                    "$push": {
                        key: {"$each": one[key]} for key in ("steps", "values", "timestamps")
                    },
                    "$set": {"seq": event["seq"]},
                    "$setOnInsert": {"run_id": self.run_id, "name": one["name"]},
                },
                upsert=True,
            )
            for one in event["metrics"]
        ]
        try:
            self.metrics.bulk_write(updates, ordered=False)
        except BulkWriteError as error:
            if any(one["code"] != DUPLICATE_KEY for one in error.details["writeErrors"]):
                raise  # a duplicate key says only that this metric's part was applied before

    def _artifact(self, event: dict, spool: Spool) -> None:
        if not self.files.exists(event["id"]):
            self.files.delete(event["id"])  # chunks of an upload that was cut
            with open(spool.folder / event["file"], "rb") as file:
                self.files.put(
                    file,
                    _id=event["id"],
                    filename=f"artifact://{self.runs.name}/{self.run_id}/{event['name']}",
                    metadata=event["metadata"],
                    content_type=event["content_type"],
                )
        entry = {"name": event["name"], "file_id": event["id"]}
        self.runs.update_one({"_id": self.run_id}, {"$addToSet": {"artifacts": entry}})

    def _resource(self, event: dict, spool: Spool) -> None:
        entry = [event["filename"], event["digest"]]
        self.runs.update_one({"_id": self.run_id}, {"$addToSet": {"resources": entry}})


class DurableObserver(MongoObserver):
    """Sacred's MongoObserver with the same documents, delivered through a journal on disk."""

    def __init__(self, store, prefix: str = "", **options):
        super().__init__(
            client=store.client, db_name=store.db_name, collection_prefix=prefix, **options
        )
        self.store = store
        self.prefix = f"{prefix}_" if prefix else ""
        self.spool: Spool | None = None
        self.metric_ids: dict[str, ObjectId] = {}
        self.seq = 0
        self.resumes: dict[str, Any] | None = None  # the stored run that goes on, not a new one

    def started_event(self, *args, **kwargs):
        """Insert the run and return its id; UserError if the server does not answer.

        It must answer at once; one that does may be slow, where many runs keep the machine busy.
        """
        self.store.greet()
        try:
            with pymongo.timeout(START_TIMEOUT):
                run_id = super().started_event(*args, **kwargs)
        except PyMongoError as error:
            raise UserError(f"{self.store.describe()} does not answer: {error}") from error
        head = {
            "uri": self.store.uri,
            "kind_of_store": self.store.kind,
            "database": self.store.db_name,
            "prefix": self.prefix,
            "run_id": run_id,
        }
        self.spool = Spool.create(self.store.spools, head)
        COURIER.serve(self.store)
        return run_id

    def insert(self) -> None:
        """Insert the run under the next free number, or under the name that Sacred's `-i` gave.

        Sacred's own way takes the largest id and adds 1, which a name in the store breaks.
        """
        if self.resumes is not None:
            self._supersede(self.resumes)
            return
        if self.run_entry.get("_id") is not None or self.overwrite:
            super().insert()
            return
        while True:
            self.run_entry["_id"] = next_number(self.runs)
            with contextlib.suppress(DuplicateKeyError):  # somebody was quicker: the next number
                self.runs.insert_one(self.run_entry)
                return

    def _supersede(self, run: dict[str, Any]) -> None:
        """Begin a stored run anew under its id: all that it had recorded comes again."""
        resumed = [*run["meta"].get("resumed", []), self.run_entry["start_time"]]
        self.run_entry["_id"], self.run_entry["start_time"] = run["_id"], run["start_time"]
        meta = {**run["meta"], **self.run_entry["meta"], "resumed": resumed}
        self.run_entry["meta"] = meta
        drop(self.store, run["_id"])
        self.runs.replace_one({"_id": run["_id"]}, self.run_entry)
        self.metrics.delete_many({"run_id": run["_id"]})
        for artifact in run.get("artifacts", []):
            self.fs.delete(artifact["file_id"])

    def save(self) -> None:
        """Journal the run's own fields; called by Sacred's methods for heartbeats."""
        own = ("_id", "experiment", "command", "host", "config", "meta", "format", "start_time")
        fixed = {*own, "artifacts", "resources", "seq"}
        fields = {key: value for key, value in self.run_entry.items() if key not in fixed}
        self._journal({"kind": "state", "fields": fields})

    def final_save(self, attempts) -> None:
        self.save()

    def log_metrics(self, metrics_by_name, info) -> None:
        """Journal new values; list the metric in info["metrics"] as Sacred's observer does."""
        metrics = []
        for name, new in metrics_by_name.items():
            if name not in self.metric_ids:
                self.metric_ids[name] = ObjectId()
                entry = {"name": name, "id": str(self.metric_ids[name])}
                info.setdefault("metrics", []).append(entry)
            values = {key: flatten(new[key]) for key in ("steps", "values")}
            values["timestamps"] = list(new["timestamps"])
            metrics.append({"name": name, "id": self.metric_ids[name], **values})
        if metrics:
            self._journal({"kind": "values", "metrics": metrics})

    def artifact_event(self, name, filename, metadata=None, content_type=None) -> None:
        if content_type is None:
            content_type = self._try_to_detect_content_type(filename)
        self._journal(
            {
                "kind": "artifact",
                "id": ObjectId(),
                "name": name,
                "file": self.spool.copy(filename),
                "metadata": metadata,
                "content_type": content_type,
            }
        )

    def resource_event(self, filename) -> None:
        self._journal(
            {"kind": "resource", "filename": str(filename), "digest": get_digest(filename)}
        )

    def _journal(self, event: dict[str, Any]) -> None:
        if self.spool is None:  # the run could not be begun: there is nothing to add to
            return
        self.seq += 1
        event["seq"] = self.seq
        self.spool.append(event)
        COURIER.send(self, event)

    def delivery(self) -> Delivery:
        """What applies this run's events to its documents."""
        return Delivery(self.store.database, self.prefix, self.run_entry["_id"])

    def join(self) -> None:
        """Wait, within reason, until all is delivered; otherwise say what waits, and where."""
        if self.spool is None:
            return
        report = COURIER.finish(self.spool, JOIN_TIMEOUT)
        if report:
            run = self.run_entry["_id"]
            print(f"run {run}: {report}", file=sys.stderr)
        self.spool = None


class Courier(threading.Thread):
    """Delivers the events of all runs of this process, in order, waiting while a server is away."""

    def __init__(self):
        super().__init__(name="courier", daemon=True)
        self.mail: queue.Queue = queue.Queue()
        self.refused: dict[Path, int] = {}
        self.starting = threading.Lock()  # runs that train side by side start at the same moment

    def serve(self, store) -> None:
        """Start, once; first deliver what dead processes left for this store."""
        with self.starting:
            if self.ident is None:
                self.mail.put(lambda: recover(store))
                self.start()
                atexit.register(self.stop)

    def send(self, observer: DurableObserver, event: dict) -> None:
        spool, delivery, store = observer.spool, observer.delivery(), observer.store
        self.mail.put(lambda: self._deliver(spool, event, delivery, store))

    def finish(self, spool: Spool, timeout: float) -> str | None:
        """Wait until the spool's events are out and close it; else tell what happened."""
        done = threading.Event()
        self.mail.put(done.set)
        arrived = done.wait(timeout)
        refused = self.refused.pop(spool.folder, 0)
        spool.close(delivered=arrived and not refused)
        if not arrived:
            return f'MongoDB is away; its log waits in {spool.folder}, "grok store recover" delivers it'
        if refused:
            return f"MongoDB refused {refused} of its events; they are kept in {spool.folder}"
        return None

    def stop(self) -> None:
        """Let the thread end before the interpreter does."""
        self.mail.put(None)

    def run(self) -> None:
        while (letter := self.mail.get()) is not None:
            letter()

    def _deliver(self, spool: Spool, event: dict, delivery: Delivery, store) -> None:
        pause = 0.1
        while True:
            try:
                with pymongo.timeout(OPERATION_TIMEOUT):
                    delivery.apply(event, spool)
                return
            except Exception as error:
                if is_away(error):
                    time.sleep(pause)
                    pause = min(pause * 2, 5.0)
                    store.revive()
                    continue
                # refused for good: set aside, go on with the next
                self.refused[spool.folder] = self.refused.get(spool.folder, 0) + 1
                with contextlib.suppress(OSError), open(spool.folder / "refused", "a") as file:
                    file.write(f"{event['kind']} {event['seq']}: {error}\n")
                return


COURIER = Courier()


def is_away(error: Exception) -> bool:
    """Whether this says that the server did not answer (in time), not that it refused."""
    return isinstance(error, PyMongoError) and (error.timeout or isinstance(error, AutoReconnect))


def next_number(runs) -> int:
    """The number after the largest in a collection of runs, whose ids may be names too."""
    last = runs.find_one({"_id": {"$type": "number"}}, {"_id": 1}, sort=[("_id", -1)])
    return last["_id"] + 1 if last else 1


def waiting(spools: Path) -> list[Spool]:
    """The spools of dead processes, now locked by this one."""
    taken = [Spool.take(folder) for folder in sorted(spools.iterdir())] if spools.exists() else []
    return [spool for spool in taken if spool is not None]


def is_written(store, run_id) -> bool:
    """Whether a living process on this machine holds a journal of the run."""
    taken = [Spool.take(folder) for folder in store.spools.glob(f"{run_id}-*")]
    for spool in filter(None, taken):
        spool.close(delivered=False)
    return None in taken


def drop(store, run_id) -> None:
    """Forget what a dead process left of this run: it will be told again."""
    for folder in store.spools.glob(f"{run_id}-*"):
        spool = Spool.take(folder)
        if spool is not None:
            spool.close(delivered=_belongs(spool, store) and spool.head["run_id"] == run_id)


def recover(store, tell: Callable[[str], None] = lambda line: None) -> int:
    """Deliver the spools of dead processes that belong to this store; the number delivered.

    Stops at the first sign that the server is away; what is left stays for the next time.
    """
    delivered = 0
    for spool in waiting(store.spools):
        ok = False
        if _belongs(spool, store):
            head = spool.head
            delivery = Delivery(store.client[head["database"]], head["prefix"], head["run_id"])
            try:
                for event in spool.events():
                    with pymongo.timeout(OPERATION_TIMEOUT):
                        delivery.apply(event, spool)
                ok = True
            except PyMongoError as error:
                tell(f"run {head['run_id']}: {error}")
            delivered += ok
            if ok:
                tell(f"run {head['run_id']}: delivered")
        spool.close(delivered=ok)
    return delivered


def count_waiting(store) -> int:
    """How many spools of dead processes belong to this store."""
    count = 0
    for spool in waiting(store.spools):
        count += _belongs(spool, store)
        spool.close(delivered=False)
    return count


def _belongs(spool: Spool, store) -> bool:
    if spool.head.get("kind_of_store") == "embedded":
        return store.kind == "embedded"
    return spool.head.get("uri") == store.uri
