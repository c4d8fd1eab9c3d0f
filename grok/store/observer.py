"""The Sacred observer that records a run in the store: events go to a journal first."""

import contextlib
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bson
import pymongo
from bson import ObjectId
from pymongo.errors import DuplicateKeyError, PyMongoError
from sacred.dependencies import get_digest
from sacred.observers import FileStorageObserver, MongoObserver
from sacred.observers.base import RunObserver
from sacred.run import Run
from sacred.serializer import flatten

from grok.errors import UserError
from grok.store.connection import Store, connect, next_number, parse_argument
from grok.store.delivery import DELIVERY, Delivery, name_of
from grok.store.documents import (
    Splitter,
    check_storable,
    end_of_output,
    numbers,
    storable,
)
from grok.store.journal import Event, Journal, JournalError, discard
from grok.store.lease import FIRST_TERM, Lease, LeaseLost, new_holder, take
from grok.store.shared_files import store_sources

START_TIMEOUT = 60.0  # seconds for a run's first document, of a server that answers
JOIN_TIMEOUT = 10.0  # seconds that a run's end waits for the server
NOT_STATE = {  # fields of a run that are written once, or by events of their own
    *("_id", "experiment", "command", "host", "config", "meta", "format", "start_time"),
    *("artifacts", "resources", "seq", "uid", "lease"),
}


def observer_of(store: Store, **options: Any) -> RunObserver:
    """A new observer that records one run in the store; options as of Sacred's MongoObserver."""
    if store.kind == "files":
        print(f"no MongoDB: this run goes to {store.describe()}", file=sys.stderr)
        return FileStorageObserver(store.home / "files")
    return DurableObserver(store, **options)


def store_and_observer(argument: str | None = None) -> tuple[Store, RunObserver]:
    """The store for one run, and the observer that records it there.

    Arguments:
        argument: that of Sacred's `-m`, in Sacred's form or as a URI; None for the default store.

    Raises:
        UserError: the argument is of neither form, or the server does not answer.
    """
    uri, options = (None, {}) if argument is None else parse_argument(argument)
    if "collection" in options:
        options["prefix"] = options.pop("collection").removesuffix("runs").rstrip("_")
    store = connect(uri)
    return store, observer_of(store, **options)


class DurableObserver(MongoObserver):
    """Sacred's MongoObserver, with the same documents, delivered through a journal on disk.

    Only the holder of the run's lease can write it. Where the run has been taken over, or the journal
    cannot be written, `check` raises an error.

    Arguments:
        admit: is called when the run is in the store, before it begins; it raises LeaseLost if the
            run must not begin.

    Attributes:
        resumes: the stored run that is resumed under its id; None for a new run.
        failure: why the journal takes no more events; None while it does. They then go to the
            server alone.
        superseded: why the store takes no more of them; known when the run has ended.
        is_lost: whether something was recorded neither in the journal nor in the store.
    """

    run_entry: dict[str, Any]  # the run's document
    delivery: Delivery  # of this run's events

    def __init__(
        self,
        store: Store,
        prefix: str = "",
        admit: Callable[[], object] = lambda: None,
        **options: Any,
    ) -> None:
        super().__init__(
            client=store.client, db_name=store.db_name, collection_prefix=prefix, **options
        )
        self.store, self.admit = store, admit
        self.prefix = f"{prefix}_" if prefix else ""
        self.journal: Journal | None = None
        self.reserved: Journal | None = None  # it shows that the process lives, from `insert` on
        self.recording = threading.Lock()  # heartbeats come from a thread of their own
        self.metric_ids: dict[tuple[str, int], ObjectId] = {}  # by name and part
        self.earlier_ids: dict[tuple[str, int], ObjectId] = {}  # those that a resumed run had
        self.splitter = Splitter()
        self.captured_out = ""
        self.seq = 0
        self.resumes: dict[str, Any] | None = None
        self.failure: str | None = None
        self.superseded: str | None = None
        self.is_lost = False

    def started_event(self, *args: Any, **kwargs: Any) -> int | str:
        """Insert the run and return its id; UserError if the server does not answer.

        LeaseLost if it must not begin, since its sweep or its point is another process's by now.
        That is known for certain only when the run is in the store, where that process has then seen
        it; it has FAILED then.

        The server must answer at once; a server that does may be slow, where many runs keep it busy.
        """
        self.store.greet()
        began = time.time()
        try:
            with pymongo.timeout(START_TIMEOUT):
                run_id = super().started_event(*args, **kwargs)
        except BaseException as error:
            self._release()
            if isinstance(error, PyMongoError):
                raise UserError(self.store.explain(error, began)) from error
            raise
        lease = Lease.of(self.run_entry)
        header = {
            "uri": self.store.uri,
            "kind_of_store": self.store.kind,
            "database": self.store.db_name,
            "prefix": self.prefix,
            "run_id": run_id,
            "uid": self.run_entry.get("uid"),
            "term": lease.term,
            "holder": lease.holder,
        }
        try:
            self._be_admitted()
            reserved, self.reserved = self.reserved, None
            self.journal = Journal.create(self.store.journals, header, reserved)
        except UserError as error:
            self._release()
            failed = {
                "status": "FAILED",
                "stop_time": datetime.now(UTC),
                "fail_trace": [str(error)],
            }
            with contextlib.suppress(PyMongoError):
                self.runs.update_one(lease.fence, {"$set": failed})
            raise
        self.delivery = Delivery(self.store.database, self.prefix, lease, renews_lease=True)
        DELIVERY.ensure_started(self.store)
        return run_id

    def _release(self) -> None:
        if self.reserved is not None:
            self.reserved.discard()
            self.reserved = None

    def _be_admitted(self) -> None:
        """UserError if the run must not begin, or that is not known as the server does not answer."""
        began = time.time()
        try:
            with pymongo.timeout(START_TIMEOUT):
                self.admit()
        except PyMongoError as error:
            raise UserError(self.store.explain(error, began)) from error

    def save_sources(self, ex_info: dict[str, Any]) -> list[list[Any]]:
        """Store the program's source files that are not in the store; their names and ids."""
        folder = Path(ex_info["base_dir"])
        return store_sources(self.store.database, folder, ex_info["sources"])

    def insert(self) -> None:
        """Insert the run under the next free number, or under the name that Sacred's `-i` gave.

        Sacred takes the largest id and adds 1, which fails where a run has a name. UserError if the
        configuration has a value that MongoDB cannot store.
        """
        check_storable(self.run_entry["config"])
        holder = new_holder(self.store)
        self.reserved = Journal.reserve(self.store.journals, holder["holder"])
        stored = self.resumes or self.overwrite
        if stored is not None:
            self._replace(stored, holder)
            return
        self.run_entry["uid"] = uuid.uuid4().hex
        self.run_entry["lease"] = {"term": FIRST_TERM, **holder}
        has_name = self.run_entry.get("_id") is not None
        while True:
            if not has_name:
                self.run_entry["_id"] = next_number(self.runs)
            try:
                self.runs.insert_one(self.run_entry)
                return
            except DuplicateKeyError:  # another process has taken the number
                if has_name:
                    raise UserError(f"there is a run {self.run_entry['_id']} already") from None

    def _replace(self, run: dict[str, Any], holder: dict[str, Any]) -> None:
        """Begin a stored run anew under its id; all that it had recorded will be recorded again.

        UserError if another process writes the run, or has just begun to.
        """
        taken = take(self.store, self.runs, run, holder=holder)
        lease = Lease.of(taken)
        registered = {one["id"]: one for one in taken["lease"].get("metrics", [])}
        for metric in self.metrics.find({"run_id": run["_id"]}, {"name": 1, "part": 1}):
            registered.setdefault(  # of a version without leases
                metric["_id"], {"id": metric["_id"], **name_of(metric)}
            )
        metrics = list(registered.values())
        Delivery(self.store.database, self.prefix, lease).begin_metrics(metrics)
        self.earlier_ids = {(one["name"], one.get("part", 0)): one["id"] for one in metrics}
        discard(self.store, run)
        resumed = [*run["meta"].get("resumed", []), self.run_entry["start_time"]]
        self.run_entry["_id"], self.run_entry["start_time"] = run["_id"], run["start_time"]
        self.run_entry["meta"] = {**run["meta"], **self.run_entry["meta"], "resumed": resumed}
        self.run_entry["lease"] = {**taken["lease"], "metrics": metrics}
        if "uid" in run:
            self.run_entry["uid"] = run["uid"]
        if "omniboard" in taken:  # tags and notes that somebody has given to the run
            self.run_entry["omniboard"] = taken["omniboard"]
        if "added" in taken:  # results of a later analysis
            self.run_entry["added"] = taken["added"]
        artifacts = taken.get("artifacts", [])
        self.run_entry["artifacts"] = [one for one in artifacts if "added" in one]
        if not self.runs.replace_one(lease.fence, self.run_entry).matched_count:
            lease.require(self.runs)
        for artifact in artifacts:
            if "added" not in artifact:
                self.fs.delete(artifact["file_id"])

    def check(self) -> None:
        """UserError if the run has been taken over, or its journal cannot be written."""
        superseded = self.journal.superseded if self.journal is not None else self.superseded
        if superseded is not None:
            raise LeaseLost(f"{superseded}; it has been stopped here")
        if self.failure is not None:
            number = self.run_entry["_id"]
            raise JournalError(
                f"run {number}: {self.failure}; it has been stopped, `grok resume {number}` continues it"
            )

    def save(self) -> None:
        """Record the run's own fields; Sacred calls it at every heartbeat."""
        fields = {key: value for key, value in self.run_entry.items() if key not in NOT_STATE}
        self._record({"kind": "state", "fields": storable(fields)})

    def final_save(self, attempts: int) -> None:
        """Record the end of the run, and its whole output if that is too long for its document."""
        if self.captured_out != end_of_output(self.captured_out):
            with self._failing_on_errors(), tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
                file.write(self.captured_out)
                file.flush()
                self.artifact_event("captured_out.txt", file.name, content_type="text/plain")
        self.save()

    def heartbeat_event(
        self, info: dict[str, Any], captured_out: str, beat_time: datetime, result: Any
    ) -> None:
        self.captured_out = captured_out
        with self._failing_on_errors():
            super().heartbeat_event(info, end_of_output(captured_out), beat_time, result)

    def log_metrics(self, metrics_by_name: dict[str, Any], info: dict[str, Any]) -> None:
        """Record new values, and list the metric in info["metrics"] as Sacred's observer does."""
        with self._failing_on_errors():
            self._log_metrics(metrics_by_name, info)

    @contextlib.contextmanager
    def _failing_on_errors(self) -> Iterator[None]:
        """Stop the run after an error. Sacred would leave out its observer and go on."""
        try:
            yield
        except Exception as error:
            self.failure = self.failure or f"{type(error).__name__}: {error}"

    def _log_metrics(self, metrics_by_name: dict[str, Any], info: dict[str, Any]) -> None:
        metrics = []
        for name, new in metrics_by_name.items():
            columns = {
                "steps": numbers(flatten(new["steps"])),
                "values": numbers(flatten(new["values"])),
                "timestamps": list(new["timestamps"]),
            }
            for values in self.splitter.split(name, columns):
                key = name, values.get("part", 0)
                if key not in self.metric_ids:
                    self.metric_ids[key] = self.earlier_ids.get(key) or ObjectId()
                    if key[1] == 0:
                        info.setdefault("metrics", []).append(
                            {"name": name, "id": str(self.metric_ids[key])}
                        )
                metrics.append({"name": name, "id": self.metric_ids[key], **values})
        if metrics:
            self._record({"kind": "values", "metrics": metrics})

    def artifact_event(
        self,
        name: str,
        filename: str,
        metadata: dict[str, Any] | None = None,
        content_type: str | None = None,
    ) -> None:
        if self.journal is None:
            return
        try:
            copy, digest = self.journal.copy_file(filename)
        except JournalError as error:
            self.failure = self.failure or str(error)
            return
        event = {
            "kind": "artifact",
            "id": ObjectId(),
            "name": name,
            "file": copy,
            "sha256": digest,
            "metadata": metadata,
            "content_type": content_type or self._try_to_detect_content_type(filename),
        }
        self._record(event)

    def resource_event(self, filename: str) -> None:
        digest = get_digest(filename)
        self._record({"kind": "resource", "filename": str(filename), "digest": digest})

    def _record(self, event: Event) -> None:
        """Append an event to the journal and queue it for delivery.

        After an append that failed, events go to the server alone, until the run has been stopped.
        """
        with self.recording:
            if self.journal is None or self.journal.superseded is not None:
                return  # the run could not be begun, or has ended here
            event["seq"] = self.seq + 1
            try:
                content = bson.encode(event)
            except Exception as error:  # bson raises many kinds
                self.journal.refused.append(f"{event['kind']} {event['seq']}: {error}")
                return
            self.seq += 1
            if self.failure is None:
                try:
                    self.journal.append(content)
                except JournalError as error:
                    self.failure = str(error)
            DELIVERY.send(event, self.journal, self.delivery, self.store)

    def join(self) -> None:
        """Wait until all is delivered, for 10 s at most; then print what waits, and where."""
        if self.journal is None:
            return
        with self.recording:
            not_delivered = DELIVERY.finish(self.journal, JOIN_TIMEOUT)
            self.superseded = self.journal.superseded
            failed = self.failure is not None or self.superseded is not None
            self.is_lost = failed and not_delivered is not None
            self.journal = None
        if not_delivered:
            print(f"run {self.run_entry['_id']}: {not_delivered}", file=sys.stderr)


def check_recorded(run: Run) -> None:
    """UserError if something of an ended run is neither in the store nor to be delivered to it."""
    for observer in run.observers:
        if isinstance(observer, DurableObserver) and observer.is_lost:
            observer.check()
