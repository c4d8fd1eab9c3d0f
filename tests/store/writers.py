"""Runs that are recorded without Sacred or any training: a test decides what is delivered, and when."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from grok.store import delivery, observer
from grok.store.connection import Store
from grok.store.journal import Event, Journal
from grok.store.observer import DurableObserver

LOGGED = datetime(2026, 1, 1)
INFO = {"name": "x", "base_dir": "/", "mainfile": "x.py", "sources": [], "dependencies": []}


class Held:
    """Takes the place of the delivery thread: events wait until the test delivers them."""

    def ensure_started(self, store: Store) -> None:
        pass

    def send(self, event: Event, journal: Journal, to: delivery.Delivery, store: Store) -> None:
        journal.waiting.append((event, to))  # type: ignore[attr-defined]  # the test's own

    def finish(self, journal: Journal, timeout: float) -> str | None:
        raise AssertionError("a test delivers by itself")


@contextmanager
def held_delivery() -> Iterator[None]:
    """Events of runs are delivered by `Writer.deliver` alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(observer, "DELIVERY", Held())
        yield


class Writer:
    """A process that records a run.

    Attributes:
        logged: the values of each metric that it has logged.
    """

    def __init__(self, store: Store, resumes: dict[str, Any] | None = None) -> None:
        self.store = store
        self.observer = DurableObserver(store)
        self.observer.resumes = resumes
        self.info: dict[str, Any] = {}
        self.logged: dict[str, list[float]] = {}
        self.delivered: list[tuple[Event, delivery.Delivery]] = []
        self.run = self.observer.started_event(
            ex_info=INFO,
            command="main",
            host_info={"hostname": "here"},
            start_time=datetime.now(UTC),
            config={"seed": 1},
            meta_info={},
            _id=None,
        )
        self.journal = self.observer.journal
        self.journal.waiting = []
        self.uid = self.observer.run_entry.get("uid")

    def log(self, *values: float, name: str = "loss") -> None:
        """Log values of one metric, as a heartbeat does, and the run's state after them."""
        series = self.logged.setdefault(name, [])
        steps = list(range(len(series), len(series) + len(values)))
        series.extend(values)
        new = {"steps": steps, "values": list(values), "timestamps": [LOGGED] * len(values)}
        self.observer.log_metrics({name: new}, self.info)
        self.observer.heartbeat_event(self.info, "", datetime.now(UTC), None)

    def complete(self) -> None:
        self.observer.completed_event(datetime.now(UTC), {"ended": "budget"})

    def deliver(self, count: int | None = None) -> None:
        """Deliver the next events, all by default."""
        while self.journal.waiting and count != 0:
            event, to = self.journal.waiting[0]
            delivery.deliver(event, self.journal, to)
            self.delivered.append(self.journal.waiting.pop(0))
            count = None if count is None else count - 1

    def die(self) -> None:
        """End as SIGKILL does: what is in the journal stays, and its lock is free."""
        os.close(self.journal.descriptor)
        self.journal.database.close()


def node(store: Store, home: Path) -> Store:
    """The store as it is seen from another GROK_HOME."""
    seen = replace(store, home=home)
    seen.__dict__["client"] = store.client
    return seen


def make_silent(store: Store, run: Any) -> None:
    """Make the run's holder a process of another machine that has been silent for two minutes."""
    (now,) = store.database.aggregate([{"$documents": [{}]}, {"$project": {"now": "$$NOW"}}])
    silent = {"lease.machine": "elsewhere", "lease.renewed": now["now"] - timedelta(minutes=2)}
    store.database.runs.update_one({"_id": run}, {"$set": silent})


def stored(store: Store, run: Any) -> dict[str, list[float]]:
    """The stored values of a run's metrics; each metric has one document."""
    found = list(store.database.metrics.find({"run_id": run}))
    values = {one["name"]: one["values"] for one in found}
    assert len(found) == len(values), f"doubled: {[one['name'] for one in found]}"
    for one in found:
        assert one["steps"] == list(range(len(one["values"]))) and len(one["timestamps"]) == len(
            one["values"]
        )
    return values
