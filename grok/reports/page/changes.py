"""What has changed in the store: one poll serves every viewer of the live page."""

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from pymongo.database import Database
from pymongo.errors import PyMongoError

from grok.store.status import dead

INTERVAL = 1.0  # seconds between two polls
MOST_NAMED = 1000  # ids of runs in one message; with more, viewers read all anew
CLOCK_TOLERANCE = timedelta(seconds=60)  # between the clocks of nodes that write heartbeats
RECENT = {"heartbeat": 1, "status": 1, "seq": 1, "omniboard": 1}


class Changes:
    """Polls the store while there are viewers, and numbers what it finds.

    Attributes:
        version: the number of the last change.
    """

    def __init__(self, database: Database, interval: float = INTERVAL):
        self.database, self.interval = database, interval
        self.changed = threading.Condition()
        self.version = 1
        self.last: dict[str, Any] = {"runs": [], "sweeps": [], "running": 0}
        self.is_stopped = False
        self.viewers = 0  # threads that wait
        self.seen: dict[Any, Any] = {}  # the state of recent and running runs
        self.seen_sweeps: dict[Any, Any] | None = None
        self.total: int | None = None

    def start(self) -> None:
        """Poll in a thread of its own from now on."""
        threading.Thread(target=self._poll_for_ever, name="changes", daemon=True).start()

    def wait(self, version: int, timeout: float) -> dict[str, Any] | None:
        """The next change after a version, or None if there is none in this time.

        Returns:
            `version`; `runs` and `sweeps`, the ids of those that have changed, or None where there
            are many or more than one change has been missed; `running`, how many runs are.
        """
        with self.changed:
            self.viewers += 1
            self.changed.notify_all()
            try:
                self.changed.wait_for(lambda: self.version > version or self.is_stopped, timeout)
                if self.version == version:
                    return None
                missed = {} if self.version == version + 1 else {"runs": None, "sweeps": None}
                return {**self.last, **missed, "version": self.version}
            finally:
                self.viewers -= 1

    def stop(self) -> None:
        """End the polling, and the streams that wait for changes."""
        with self.changed:
            self.is_stopped = True
            self.changed.notify_all()

    def announce(self, runs: list[Any]) -> None:
        """Say that these runs have changed, as when their notes have been written here."""
        self._publish(runs, [], self.last["running"])

    def _poll_for_ever(self) -> None:
        while not self.is_stopped:
            with contextlib.suppress(PyMongoError):  # the store is away; the views say so
                self.poll()  # the first time before anybody looks: later ones compare with it
            time.sleep(self.interval)
            with self.changed:
                self.changed.wait_for(lambda: self.viewers > 0 or self.is_stopped)

    def poll(self) -> None:
        """Look once for what has changed, and publish it."""
        now, total = self._recent_runs()
        sweeps_now = self._sweeps()  # nothing is noted as seen before all has been read
        runs, sweeps = self._changed_runs(now, total), self._changed_sweeps(sweeps_now)
        self.seen, self.total, self.seen_sweeps = now, total, sweeps_now
        if runs or sweeps:
            running = sum(run.get("status") == "RUNNING" for run in now.values())
            self._publish(runs, sweeps, running)

    def _publish(self, runs: list[Any], sweeps: list[Any], running: int) -> None:
        with self.changed:
            self.version += 1
            self.last = {
                "runs": runs if len(runs) <= MOST_NAMED else None,
                "sweeps": sweeps,
                "running": running,
            }
            self.changed.notify_all()

    def _recent_runs(self) -> tuple[dict[Any, Any], int]:
        """The state of the recent and the running runs by id, and the number of all runs."""
        recent = self.database.runs.find({}, {"heartbeat": 1}).sort("heartbeat", -1).limit(1)
        latest = next((run.get("heartbeat") for run in recent), None)
        since: list[dict[str, Any]] = [{"status": "RUNNING"}]
        if latest is not None:
            since += [
                {"heartbeat": {"$gte": latest - CLOCK_TOLERANCE}},
                {"start_time": {"$gte": latest - CLOCK_TOLERANCE}},
            ]
        now = {run.pop("_id"): run for run in self.database.runs.find({"$or": since}, RECENT)}
        for run_id in dead(self.database) & now.keys():
            now[run_id]["status"] = "DEAD"
        return now, self.database.runs.estimated_document_count()

    def _changed_runs(self, now: dict[Any, Any], total: int) -> list[Any]:
        """The ids of the runs that are new, differ or have gone; None for any that is not recent."""
        if self.total is None:  # the first poll has nothing to compare with
            return []
        changed = [run_id for run_id, run in now.items() if self.seen.get(run_id) != run]
        changed += [
            run_id
            for run_id, run in self.seen.items()
            if run_id not in now and run.get("status") in ("RUNNING", "DEAD")
        ]
        new = sum(run_id not in self.seen for run_id in now)
        if total - self.total != new:  # as when one was deleted, or imported
            changed.append(None)
        return changed

    def _sweeps(self) -> dict[Any, Any]:
        """The state, findings and counts of points of each sweep by id."""
        fields = {"state": 1, "seconds": 1, "claims.checked": 1}
        now: dict[Any, Any] = {one.pop("_id"): one for one in self.database.sweeps.find({}, fields)}
        stages: list[dict[str, Any]] = [
            {"$match": {"sweep": {"$in": [name for name, one in now.items() if _is_open(one)]}}},
            {"$group": {"_id": {"sweep": "$sweep", "state": "$state"}, "count": {"$sum": 1}}},
        ]
        for group in self.database.sweep_points.aggregate(stages):
            now[group["_id"]["sweep"]][group["_id"]["state"]] = group["count"]
        return now

    def _changed_sweeps(self, now: dict[Any, Any]) -> list[str]:
        """The ids of the sweeps whose state, points or findings have changed."""
        before = self.seen_sweeps
        if before is None:  # the first poll has nothing to compare with
            return []
        return [str(name) for name, one in now.items() if before.get(name) != one]


def _is_open(sweep: dict[str, Any]) -> bool:
    return sweep.get("state") in ("RUNNING", "PAUSED")


class Cache:
    """Answers that are computed once for all viewers who ask the same at about the same time.

    An answer holds until a change is found, and at most for MOST_AGE: nobody polls while nobody looks.

    Arguments:
        changes: whose version decides whether an answer still holds.
    """

    SIZE = 64  # answers
    MOST_AGE = 2.0  # seconds

    def __init__(self, changes: Changes):
        self.changes = changes
        self.lock = threading.Lock()
        self.answers: dict[str, Answer] = {}

    def get(self, key: str, compute: Callable[[], bytes]) -> bytes:
        """The answer of this key, computed unless another viewer has just had it computed."""
        with self.lock:
            answer = self.answers.pop(key, None)
            version, now = self.changes.version, time.monotonic()
            if answer is None or answer.version != version or now - answer.began > self.MOST_AGE:
                answer = Answer(version, now)
            self.answers[key] = answer
            while len(self.answers) > self.SIZE:
                del self.answers[next(iter(self.answers))]
        with answer.lock:
            if answer.content is None:
                answer.content = compute()
            return answer.content


@dataclass
class Answer:
    """An answer, or the place of one that is being computed.

    Attributes:
        version: that of the store's changes when it was asked for, at the time `began`.
        content: None until it has been computed.
    """

    version: int
    began: float
    content: bytes | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
