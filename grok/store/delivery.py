"""The delivery of journals' events to MongoDB, each exactly once, by the holder of the run's lease.

One thread of each process delivers the events in order and waits while the server does not answer.
A delivery can be repeated without effect, so a journal may be delivered from its start at any time:
each event has a number, and a document takes it only if that is larger than its last one. What a
former holder of the lease sends is refused by the server: a run's document takes writes of its
holder only, and a metric's document those of its term. A metric's document is therefore registered
in the lease before it is written, and a new holder raises the term in all that are registered.
"""

import atexit
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import gridfs
import pymongo
from bson import ObjectId
from pymongo import UpdateOne
from pymongo.database import Database
from pymongo.errors import BulkWriteError, PyMongoError

from grok.store import journal as journals
from grok.store.connection import Store, is_away
from grok.store.journal import DamagedJournal, Event, Journal, JournalError
from grok.store.lease import FIRST_TERM, Lease, LeaseLost

OPERATION_TIMEOUT = 20.0  # seconds that the server has for one event
SLOWEST_UPLOAD = 1 << 20  # bytes of a file a second
ANSWER_TIMEOUT = 4.0  # seconds that a server which is not away has for its answer to a ping
MOST_TIMEOUTS = 5  # of one event while the server answers others
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds between attempts while the server does not answer
DUPLICATE_KEY = 11000  # MongoDB's error code


class Delivery:
    """Applies events to one run's documents. Applying one again has no effect.

    Arguments:
        lease: under which the run is written.
        renews_lease: whether the events are those of the holder's living process.
    """

    def __init__(
        self, database: Database, prefix: str, lease: Lease, renews_lease: bool = False
    ) -> None:
        self.runs = database[f"{prefix}runs"]
        self.metrics = database[f"{prefix}metrics"]
        self.files = gridfs.GridFS(database)
        self.lease = lease
        self.renews_lease = renews_lease
        self.registered: set[ObjectId] = set()

    def apply(self, event: Event, folder: Path) -> None:
        """Write one event to the database.

        Arguments:
            folder: the journal's, which holds copied files.

        Raises:
            LeaseLost: the run has another holder by now, or is not there.
        """
        match event["kind"]:
            case "state":
                self._apply_state(event)
            case "values":
                self._apply_values(event)
            case "artifact":
                self._apply_artifact(event, folder)
            case "resource":
                entry = [event["filename"], event["digest"]]
                self._update_run({"$addToSet": {"resources": entry}})

    def begin_metrics(self, metrics: Iterable[Event]) -> None:
        """Give each metric an empty document of this lease's term.

        One that has the term already stays as it is. Readers see a document when it gets its
        first values, which is when it gets its `run_id`.

        Arguments:
            metrics: entries with `id`, `name`, and `part` where a metric has several documents.
        """
        empty = {"term": self.lease.term, "seq": 0, "steps": [], "values": [], "timestamps": []}
        self._write_metrics(
            [
                UpdateOne(
                    {"_id": metric["id"], "term": {"$not": {"$gte": self.lease.term}}},
                    {"$set": {**empty, **name_of(metric)}, "$unset": {"run_id": ""}},
                    upsert=True,
                )
                for metric in metrics
            ]
        )

    def note_refused(self, reason: str) -> None:
        """Say in the run's document that an event of it was not taken."""
        self.runs.update_one(self.lease.fence, {"$addToSet": {"refused_events": reason}})

    def _update_run(self, change: dict[str, Any], **condition: Any) -> None:
        """Change the run's document if the lease and a condition hold; LeaseLost if that does not."""
        if not self.runs.update_one({**self.lease.fence, **condition}, change).matched_count:
            self.lease.require(self.runs)

    def _apply_state(self, event: Event) -> None:
        change: dict[str, Any] = {"$set": {**event["fields"], "seq": event["seq"]}}
        if self.renews_lease:
            change["$currentDate"] = {"lease.renewed": True}
        self._update_run(change, seq={"$not": {"$gte": event["seq"]}})

    def _apply_values(self, event: Event) -> None:
        new = [metric for metric in event["metrics"] if metric["id"] not in self.registered]
        if new:
            self.begin_metrics(new)
            entries = [{"id": metric["id"], **name_of(metric)} for metric in new]
            self._update_run({"$addToSet": {"lease.metrics": {"$each": entries}}})
            self.registered.update(metric["id"] for metric in new)
        written = self._write_metrics(
            [
                UpdateOne(
                    {
                        "_id": metric["id"],
                        "term": self.lease.term,
                        "seq": {"$not": {"$gte": event["seq"]}},
                    },
                    {
                        "$push": {
                            key: {"$each": metric[key]} for key in ("steps", "values", "timestamps")
                        },
                        "$set": {
                            "seq": event["seq"],
                            "run_id": self.lease.document_id,
                            **name_of(metric),
                        },
                    },
                )
                for metric in event["metrics"]
            ]
        )
        if written < len(event["metrics"]):
            self._require_written(event)

    def _write_metrics(self, updates: list[UpdateOne]) -> int:
        """The number of documents that matched. A duplicate key, which an upsert meets where its
        filter does not match, means that the document is of this term or a later one."""
        if not updates:
            return 0
        try:
            return self.metrics.bulk_write(updates, ordered=False).matched_count
        except BulkWriteError as error:
            if any(one["code"] != DUPLICATE_KEY for one in error.details["writeErrors"]):
                raise
            return error.details["nMatched"]

    def _require_written(self, event: Event) -> None:
        """LeaseLost, or KeyError, unless each metric of the event has its values already."""
        ids = [metric["id"] for metric in event["metrics"]]
        has_event = {"term": self.lease.term, "seq": {"$gte": event["seq"]}}
        if self.metrics.count_documents({"_id": {"$in": ids}, **has_event}) < len(ids):
            self.lease.require(self.runs)
            raise KeyError("a metric's document is no longer in the store")

    def _apply_artifact(self, event: Event, folder: Path) -> None:
        if not self.files.exists(event["id"]):
            self.lease.require(self.runs)  # spares an upload; the update below is what counts
            self.files.delete(event["id"])  # chunks of an upload that was cut short
            with open(folder / event["file"], "rb") as file:
                self.files.put(
                    file,
                    _id=event["id"],
                    filename=f"artifact://{self.runs.name}/{self.lease.document_id}/{event['name']}",
                    metadata=event["metadata"],
                    content_type=event["content_type"],
                )
        entry = {"name": event["name"], "file_id": event["id"]}
        self._update_run({"$addToSet": {"artifacts": entry}})


class DeliveryThread(threading.Thread):
    """Delivers the events of all runs of this process, in order, waiting for a server that is away."""

    def __init__(self) -> None:
        super().__init__(name="delivery", daemon=True)
        self.tasks: queue.Queue[Callable[[], object] | None] = queue.Queue()
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
            timeout: seconds to wait. The delivery goes on after them, while the process lives.

        Returns:
            what was not delivered and where it is kept; None if all was delivered.
        """
        folder = journal.folder
        settled = threading.Event()
        outcome: list[str | None] = []

        def settle() -> None:
            outcome.append(_settle(journal))
            settled.set()

        self.tasks.put(settle)
        if settled.wait(timeout):
            return outcome[0]
        return f'MongoDB is away; its log waits in {folder}, "grok store recover" delivers it'

    def run(self) -> None:
        while (task := self.tasks.get()) is not None:
            try:
                task()
            except Exception as error:  # of one run; the others' events are still to be delivered
                print(f"delivery: {type(error).__name__}: {error}", file=sys.stderr)

    def _deliver(self, event: Event, journal: Journal, delivery: Delivery, store: Store) -> None:
        pause, timeouts = FIRST_PAUSE, 0
        while journal.superseded is None:
            try:
                deliver(event, journal, delivery)
                return
            except LeaseLost as error:
                journal.superseded = str(error)
            except Exception as error:
                timeouts += _answers(store)
                if timeouts == MOST_TIMEOUTS:
                    _refuse(event, journal, delivery, error)
                    return
                time.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
                store.revive()


DELIVERY = DeliveryThread()


def deliver(event: Event, journal: Journal, delivery: Delivery) -> None:
    """Apply an event of a journal, or note in the journal why the server does not take it.

    Raises:
        LeaseLost: the run has another holder by now.
        PyMongoError: the server is away.
    """
    seconds = OPERATION_TIMEOUT
    try:
        if event["kind"] == "artifact":
            seconds += (journal.folder / event["file"]).stat().st_size / SLOWEST_UPLOAD
        with pymongo.timeout(seconds):
            delivery.apply(event, journal.folder)
    except LeaseLost:
        raise
    except Exception as error:
        if is_away(error):
            raise
        _refuse(event, journal, delivery, error)


def recover(store: Store, report: Callable[[str], object] = lambda line: None) -> int:
    """Deliver the journals of dead processes that belong to this store.

    A journal that is damaged, or that the server does not take, is set aside; the others do not wait
    for it. While the server is away all stay for the next time.

    Arguments:
        report: is called with one line about each journal.

    Returns:
        the number of journals that were delivered.
    """
    delivered = 0
    for journal in journals.waiting(store.journals):
        is_empty = not journal.header and journal.damage is None  # killed before its first event
        run_id = journal.header.get("run_id", journal.folder.name.rpartition("-")[0])
        try:
            if is_empty:
                _note_death(store, journal)
                journal.discard()
                continue
            with pymongo.timeout(OPERATION_TIMEOUT):
                is_of_store = journal.damage is not None or journal.belongs_to(store)
            if not is_of_store:
                journal.close()
                report(f"run {run_id}: waits for another store, {journal.origin.describe()}")
                continue
            line = _recover(store, journal)
            delivered += line is None
            report(f"run {run_id}: {line or 'delivered'}")
        except PyMongoError as error:
            journal.close()
            report(f"run {run_id}: {error}")
            return delivered
    return delivered


def _recover(store: Store, journal: Journal) -> str | None:
    """Deliver a journal and settle it; what was not delivered. PyMongoError if the server is away."""
    try:
        if journal.damage is not None:
            raise journal.damage
        delivery = _delivery_of(store, journal)
        for event in journal.events():
            if "sha256" in event:  # an artifact of a version that has it
                journal.check_copy(event["file"], event["sha256"])
            deliver(event, journal, delivery)
        _note_death(store, journal)
    except LeaseLost as error:
        journal.superseded = str(error)
    except DamagedJournal as error:
        _note_death(store, journal)
        reason = f"{error}; what was before that is delivered" if journal.header else str(error)
        return f"{reason}; set aside in {journal.set_aside(reason)}"
    except JournalError as error:
        journal.close()
        return str(error)
    return _settle(journal)


def _note_death(store: Store, journal: Journal) -> None:
    """Say in a run's document that the holder of its lease is dead: this process has the lock of its
    journal, which is about to go away."""
    database = store.client[journal.header.get("database", store.db_name)]
    runs = database[f"{journal.header.get('prefix', '')}runs"]
    with pymongo.timeout(OPERATION_TIMEOUT):
        runs.update_one({"lease.holder": journal.holder}, {"$set": {"lease.is_dead": True}})


def _delivery_of(store: Store, journal: Journal) -> Delivery:
    """The delivery of a dead process's journal, under the lease that it had.

    A journal of a version without leases is given the first lease of its run, unless the run has had
    one since.
    """
    header = journal.header
    database = store.client[header["database"]]
    if "holder" not in header:
        header = {**header, "holder": journal.holder, "term": FIRST_TERM}
        first = {"term": FIRST_TERM, "holder": journal.holder}
        without = {"_id": header["run_id"], "lease": {"$exists": False}}
        with pymongo.timeout(OPERATION_TIMEOUT):
            runs = database[f"{header['prefix']}runs"]
            if runs.update_one(without, {"$set": {"lease": first}}).matched_count:
                _adopt_metrics(database[f"{header['prefix']}metrics"], header["run_id"])
    lease = Lease(header["run_id"], header["term"], header["holder"])
    return Delivery(database, header["prefix"], lease)


def _adopt_metrics(metrics: Any, run_id: Any) -> None:
    """Give the metrics of a run of a version without leases the first term."""
    metrics.update_many({"run_id": run_id, "term": None}, {"$set": {"term": FIRST_TERM}})


def _settle(journal: Journal) -> str | None:
    """Delete a journal that is delivered, or set it aside; what was not delivered, and where it is."""
    if journal.superseded is not None:
        return f"{journal.superseded}; set aside in {journal.set_aside(journal.superseded)}"
    if journal.refused:
        reason = f"MongoDB refused {len(journal.refused)} of its events"
        return f"{reason}; they are kept in {journal.set_aside(reason)}"
    journal.discard()
    return None


def _refuse(event: Event, journal: Journal, delivery: Delivery, error: Exception) -> None:
    """Note an event that the server will not take, in the journal and with the run."""
    line = f"{event.get('kind')} {event.get('seq')}: {error or type(error).__name__}"
    journal.refused.append(line)
    try:
        with pymongo.timeout(OPERATION_TIMEOUT):
            delivery.note_refused(line)
    except PyMongoError:
        pass  # the journal has it


def name_of(metric: Event) -> Event:
    """What says which metric this is: its name, and its part if it has several documents."""
    return {key: metric[key] for key in ("name", "part") if key in metric}


def _answers(store: Store) -> bool:
    try:
        with pymongo.timeout(ANSWER_TIMEOUT):
            store.client.admin.command("ping")
    except PyMongoError:
        return False
    return True
