"""A sweep on this machine, without a server. Points that can share a program train together."""

import time
import uuid
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from typing import Any

from grok.claims.scorecard import check_sweep
from grok.engine.events import Event, Record
from grok.errors import UserError
from grok.experiment.resume import ResumePoint, check_can_resume, load_resume_point
from grok.store.connection import Store
from grok.store.journal import recover
from grok.store.status import FINISHED
from grok.sweep import search
from grok.sweep.batch import Batch
from grok.sweep.file import SweepFile
from grok.sweep.plan import PlannedRun, default_seed, plan, slots_of
from grok.sweep.progress import SweepProgress

HYPERBAND_INTERVAL = 0.5  # seconds between two decisions about which runs to stop early


class LocalSweep:
    """A stored sweep and the runs that it still has to train. See `begin` and `resume`.

    Arguments:
        file: The sweep's file.
        store: Where the sweep and its runs are.
        document: The sweep's stored document.
        slots: How many runs train at once, or None to choose.

    Raises:
        UserError: A point's configuration is wrong; nothing has run then.
    """

    def __init__(self, file: SweepFile, store: Store, document: dict[str, Any], slots: int | None):
        self.file, self.store, self.document, self.slots = file, store, document, slots
        self.groups = plan(file, self.pending(), lambda: store)
        self.history: dict[int, list[dict[str, Any]]] = {}  # metrics of each record, by point

    @property
    def id(self) -> str:
        """The sweep's id in the store."""
        return self.document["_id"]

    @classmethod
    def begin(
        cls,
        file: SweepFile,
        store: Store,
        limit: int | None,
        seeds: int | None,
        slots: int | None = None,
    ) -> "LocalSweep":
        """A new sweep, stored with its points. A Bayes sweep gets its points while it runs.

        Arguments:
            limit: The largest number of points, or None for the file's `run_cap`.
            seeds: How many seeds each point runs with, or None for the file's own.
            slots: How many runs train at once, or None to choose.

        Raises:
            UserError: A point's configuration is wrong; nothing has been stored then.
        """
        limit = limit or file.config.get("run_cap")
        document = {
            "_id": f"{file.name}-{uuid.uuid4().hex[:6]}",
            "name": file.name,
            "config": file.config,
            "experiment": file.experiment.path,
            "created": datetime.now(UTC),
            "points": points_of(file, limit, seeds),
            "limit": limit,
        }
        sweep = cls(file, store, document, slots)
        store.database.sweeps.insert_one(document)
        return sweep

    @classmethod
    def resume(
        cls, file: SweepFile, store: Store, sweep_id: str | None, slots: int | None = None
    ) -> "LocalSweep":
        """The sweep with this id, or the latest of this file; UserError if there is none."""
        recover(store)  # a run of a killed process may have finished in its journal
        wanted = {"_id": sweep_id} if sweep_id else {"name": file.name}
        document = store.database.sweeps.find_one(wanted, sort=[("created", -1)])
        if document is None:
            raise UserError(f"no sweep {sweep_id or 'of ' + file.name} to resume")
        sweep = cls(file, store, document, slots)
        for group in sweep.groups:
            for run in group:
                run.resume_point = sweep._resume_point(run.number)
        return sweep

    def finished(self) -> dict[int, dict]:
        """The finished runs of this sweep, by point number."""
        wanted = {"meta.sweep.id": self.id, **FINISHED}
        fields = {"meta.sweep.point": 1, "result": 1}
        runs = self.store.database.runs.find(wanted, fields)
        return {run["meta"]["sweep"]["point"]: run for run in runs}

    def pending(self) -> dict[int, search.Point]:
        """The points without a finished run, by number."""
        finished = self.finished()
        points = enumerate(self.document["points"])
        return {number: point for number, point in points if number not in finished}

    def _resume_point(self, point: int) -> ResumePoint | None:
        """Where a killed run of this point can be resumed, or None if it has no checkpoint."""
        wanted = {"meta.sweep.id": self.id, "meta.sweep.point": point}
        for run in self.store.database.runs.find(wanted).sort("_id", -1):
            if self.store.checkpoint_path(run["_id"]).exists():
                check_can_resume(self.store, run)
                return load_resume_point(self.store, run)
        return None

    def run(self, progress: SweepProgress) -> None:
        """Train all pending points and check the claims on them.

        An interrupt ends the live runs as INTERRUPTED and is raised.
        """
        for group in self._groups():
            self._train(group, progress)
        changes = {"$set": {"state": "finished"}, "$inc": {"seconds": progress.seconds}}
        self.store.database.sweeps.update_one({"_id": self.id}, changes)
        check_sweep(self.store.database, self.file.experiment, self.document)

    def _groups(self) -> Iterator[list[PlannedRun]]:
        """The groups of runs to train; those of a Bayes sweep are made as earlier ones finish."""
        yield from self.groups
        while self.file.config["method"] == "bayes":
            points = self.document["points"]
            count = min(self.slots or 1, self.document["limit"] - len(points))
            if count <= 0:
                return
            runs = [
                search.run_of(str(number), points[number], "finished", [], run["result"])
                for number, run in sorted(self.finished().items())
            ]
            points += search.suggest(self.file.config, runs, count, default_seed(self.file))
            self.store.database.sweeps.update_one({"_id": self.id}, {"$set": {"points": points}})
            yield from plan(self.file, self.pending(), lambda: self.store)

    def _train(self, group: list[PlannedRun], progress: SweepProgress) -> None:
        slots = slots_of(group, self.slots)
        name = f"{self.id}/{uuid.uuid4().hex[:6]}"
        entry = {"id": name, "points": [run.number for run in group], "slots": slots}
        self.store.database.sweeps.update_one({"_id": self.id}, {"$push": {"batches": entry}})
        batch = Batch(
            self.file,
            self.store,
            lambda run: {"sweep": {"id": self.id, "point": run.number, "batch": name}},
        )
        terminate: set[int] = set()
        last_decision = 0.0

        def on_event(run: PlannedRun, event: Event) -> None:
            nonlocal last_decision
            progress.show(event, run.problem)
            if isinstance(event, Record) and "early_terminate" in self.file.config:
                self.history.setdefault(run.number, []).append(event.metrics)
                if time.monotonic() - last_decision > HYPERBAND_INTERVAL:
                    last_decision = time.monotonic()
                    losers = self._losers(batch.runs)
                    terminate.update(i for i, run in enumerate(group) if run.number in losers)

        batch.train(group, slots, terminate, on_event)

    def _losers(self, running: Collection[int]) -> set[int]:
        """Numbers of the running points that early termination stops now."""
        runs = [
            search.run_of(
                str(number),
                self.document["points"][number],
                "running" if number in running else "finished",
                history,
                history[-1],
            )
            for number, history in self.history.items()
        ]
        return {int(name) for name in search.to_stop(self.file.config, runs)}


def points_of(file: SweepFile, limit: int | None, seeds: int | None) -> list[search.Point]:
    """The points that are known before any has run: all of a grid or a random search, none of a
    Bayes search.

    Arguments:
        limit: The largest number of points, before they are repeated with other seeds.
        seeds: How many seeds each point gets, from the sweep's own on; None for the file's.

    Raises:
        UserError: A random or Bayes search has no limit.
    """
    method = file.config["method"]
    if method == "grid":
        points = search.grid(file.config, limit)
    elif not limit:
        raise UserError(f"a {method} sweep has no end: give --limit or run_cap")
    elif method == "bayes":
        return []
    else:
        points = search.suggest(file.config, [], limit, default_seed(file))
    if seeds:
        first = default_seed(file)
        points = list(search.with_seeds(points, [first + i for i in range(seeds)]))
    return points
