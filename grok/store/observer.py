"""The Sacred observer that records a run in the store: events go to a journal first."""

import contextlib
import sys
import tempfile
import time
from datetime import datetime
from typing import Any

import pymongo
from bson import ObjectId
from pymongo.errors import DuplicateKeyError, PyMongoError
from sacred.dependencies import get_digest
from sacred.observers import FileStorageObserver, MongoObserver
from sacred.observers.base import RunObserver
from sacred.serializer import flatten

from grok.errors import UserError
from grok.store.connection import Store, connect, parse_argument
from grok.store.documents import (
    Splitter,
    check_storable,
    end_of_output,
    numbers,
    storable,
)
from grok.store.journal import DELIVERY, Delivery, Event, Journal, discard, next_number

START_TIMEOUT = 60.0  # seconds for a run's first document, of a server that answers
JOIN_TIMEOUT = 10.0  # seconds that a run's end waits for the server
NOT_STATE = {  # fields of a run that are written once, or by events of their own
    *("_id", "experiment", "command", "host", "config", "meta", "format", "start_time"),
    *("artifacts", "resources", "seq"),
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

    Attributes:
        resumes: the stored run that is resumed under its id; None for a new run.
    """

    run_entry: dict[str, Any]  # the run's document

    def __init__(self, store: Store, prefix: str = "", **options: Any) -> None:
        super().__init__(
            client=store.client, db_name=store.db_name, collection_prefix=prefix, **options
        )
        self.store = store
        self.prefix = f"{prefix}_" if prefix else ""
        self.journal: Journal | None = None
        self.metric_ids: dict[tuple[str, int], ObjectId] = {}  # by name and part
        self.splitter = Splitter()
        self.captured_out = ""
        self.seq = 0
        self.resumes: dict[str, Any] | None = None

    def started_event(self, *args: Any, **kwargs: Any) -> int | str:
        """Insert the run and return its id; UserError if the server does not answer.

        It must answer at once; a server that does may be slow, where many runs keep it busy.
        """
        self.store.greet()
        began = time.time()
        try:
            with pymongo.timeout(START_TIMEOUT):
                run_id = super().started_event(*args, **kwargs)
        except PyMongoError as error:
            raise UserError(self.store.explain(error, began)) from error
        header = {
            "uri": self.store.uri,
            "kind_of_store": self.store.kind,
            "database": self.store.db_name,
            "prefix": self.prefix,
            "run_id": run_id,
        }
        self.journal = Journal.create(self.store.journals, header)
        DELIVERY.ensure_started(self.store)
        return run_id

    def insert(self) -> None:
        """Insert the run under the next free number, or under the name that Sacred's `-i` gave.

        Sacred takes the largest id and adds 1, which fails where a run has a name. UserError if the
        configuration has a value that MongoDB cannot store.
        """
        check_storable(self.run_entry["config"])
        if self.resumes is not None:
            self._replace(self.resumes)
            return
        if self.run_entry.get("_id") is not None or self.overwrite:
            super().insert()
            return
        while True:
            self.run_entry["_id"] = next_number(self.runs)
            with contextlib.suppress(DuplicateKeyError):  # another process has taken the number
                self.runs.insert_one(self.run_entry)
                return

    def _replace(self, run: dict[str, Any]) -> None:
        """Begin a stored run anew under its id; all that it had recorded will be recorded again."""
        resumed = [*run["meta"].get("resumed", []), self.run_entry["start_time"]]
        self.run_entry["_id"], self.run_entry["start_time"] = run["_id"], run["start_time"]
        self.run_entry["meta"] = {**run["meta"], **self.run_entry["meta"], "resumed": resumed}
        discard(self.store, run["_id"])
        self.runs.replace_one({"_id": run["_id"]}, self.run_entry)
        self.metrics.delete_many({"run_id": run["_id"]})
        for artifact in run.get("artifacts", []):
            self.fs.delete(artifact["file_id"])

    def save(self) -> None:
        """Record the run's own fields; Sacred calls it at every heartbeat."""
        fields = {key: value for key, value in self.run_entry.items() if key not in NOT_STATE}
        self._record({"kind": "state", "fields": storable(fields)})

    def final_save(self, attempts: int) -> None:
        """Record the end of the run, and its whole output if that is too long for its document."""
        if self.captured_out != end_of_output(self.captured_out):
            with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
                file.write(self.captured_out)
                file.flush()
                self.artifact_event("captured_out.txt", file.name, content_type="text/plain")
        self.save()

    def heartbeat_event(
        self, info: dict[str, Any], captured_out: str, beat_time: datetime, result: Any
    ) -> None:
        self.captured_out = captured_out
        super().heartbeat_event(info, end_of_output(captured_out), beat_time, result)

    def log_metrics(self, metrics_by_name: dict[str, Any], info: dict[str, Any]) -> None:
        """Record new values, and list the metric in info["metrics"] as Sacred's observer does."""
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
                    self.metric_ids[key] = ObjectId()
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
        event = {
            "kind": "artifact",
            "id": ObjectId(),
            "name": name,
            "file": self.journal.copy_file(filename),
            "metadata": metadata,
            "content_type": content_type or self._try_to_detect_content_type(filename),
        }
        self._record(event)

    def resource_event(self, filename: str) -> None:
        digest = get_digest(filename)
        self._record({"kind": "resource", "filename": str(filename), "digest": digest})

    def _record(self, event: Event) -> None:
        """Append an event to the journal and queue it for delivery."""
        if self.journal is None:  # the run could not be begun
            return
        self.seq += 1
        event["seq"] = self.seq
        self.journal.append(event)
        delivery = Delivery(self.store.database, self.prefix, self.run_entry["_id"])
        DELIVERY.send(event, self.journal, delivery, self.store)

    def join(self) -> None:
        """Wait until all is delivered, for 10 s at most; then print what waits, and where."""
        if self.journal is None:
            return
        not_delivered = DELIVERY.finish(self.journal, JOIN_TIMEOUT)
        if not_delivered:
            print(f"run {self.run_entry['_id']}: {not_delivered}", file=sys.stderr)
        self.journal = None
