"""A sweep on this machine, without a server: points that can share a program train together."""

import time
import uuid
from collections.abc import Iterator
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
from grok.sweep.plan import Planned, default_seed, plan, slots_of
from grok.sweep.progress import SweepProgress

HYPERBAND_EVERY = 0.5  # seconds between looks at which runs to stop early


class LocalSweep:
    """One sweep in the store: its points, which of them are done, and the running of the rest."""

    def __init__(self, file: SweepFile, store: Store, document: dict[str, Any], slots: int | None):
        self.file, self.store, self.document, self.slots = file, store, document, slots
        self.groups = plan(
            file, self.pending(), lambda: store
        )  # UserError here, before anything has run
        self.batch: Batch | None = None  # the one that trains now
        self.history: dict[int, list[dict]] = {}

    @property
    def id(self) -> str:
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
        """A new sweep, stored with its points (for Bayes they come as it goes)."""
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
        cls, file: SweepFile, store: Store, sweep: str | None, slots: int | None = None
    ) -> "LocalSweep":
        """The named sweep, or the latest of this file; UserError if there is none.

        What a killed process left on disk is delivered first: a run may have finished there.
        """
        recover(store)
        wanted = {"_id": sweep} if sweep else {"name": file.name}
        document = store.database.sweeps.find_one(wanted, sort=[("created", -1)])
        if document is None:
            raise UserError(f"no sweep {sweep or 'of ' + file.name} to resume")
        sweep = cls(file, store, document, slots)
        for one in (one for group in sweep.groups for one in group):
            one.resume_point = sweep._resume_point(one.number)
        return sweep

    def finished(self) -> dict[int, dict]:
        """Stored runs of this sweep that have their outcome, by point number."""
        wanted = {"meta.sweep.id": self.id, **FINISHED}
        fields = {"meta.sweep.point": 1, "result": 1}
        found = self.store.database.runs.find(wanted, fields)
        return {run["meta"]["sweep"]["point"]: run for run in found}

    def pending(self) -> dict[int, search.Point]:
        """Points that have no finished run, by number."""
        done = self.finished()
        return {i: p for i, p in enumerate(self.document["points"]) if i not in done}

    def _resume_point(self, point: int) -> ResumePoint | None:
        """What a killed run of this point left to go on from."""
        wanted = {"meta.sweep.id": self.id, "meta.sweep.point": point}
        for run in self.store.database.runs.find(wanted).sort("_id", -1):
            if self.store.checkpoint_path(run["_id"]).exists():
                check_can_resume(self.store, run)
                return load_resume_point(self.store, run)
        return None

    def run(self, progress: SweepProgress) -> None:
        """Run all that is pending; on an interrupt, end the live runs as INTERRUPTED and raise."""
        for group in self._groups():
            self._train(group, progress)
        changes = {"$set": {"state": "finished"}, "$inc": {"seconds": progress.seconds}}
        self.store.database.sweeps.update_one({"_id": self.id}, changes)
        check_sweep(self.store.database, self.file.experiment, self.document)

    def _groups(self) -> Iterator[list[Planned]]:
        yield from self.groups
        while self.file.config["method"] == "bayes":
            points = self.document["points"]
            count = min(self.slots or 1, self.document["limit"] - len(points))
            if count <= 0:
                return
            runs = [
                search.run_of(str(i), points[i], "finished", [], done["result"])
                for i, done in sorted(self.finished().items())
            ]
            points += search.suggest(self.file.config, runs, count, default_seed(self.file))
            self.store.database.sweeps.update_one({"_id": self.id}, {"$set": {"points": points}})
            yield from plan(self.file, self.pending(), lambda: self.store)

    def _train(self, group: list[Planned], progress: SweepProgress) -> None:
        slots = slots_of(group, self.slots)
        name = f"{self.id}/{uuid.uuid4().hex[:6]}"
        entry = {"id": name, "points": [one.number for one in group], "slots": slots}
        self.store.database.sweeps.update_one({"_id": self.id}, {"$push": {"batches": entry}})
        self.batch = Batch(
            self.file,
            self.store,
            lambda one: {"sweep": {"id": self.id, "point": one.number, "batch": name}},
        )
        terminate: set[int] = set()
        looked = 0.0

        def watch(one: Planned, event: Event) -> None:
            nonlocal looked
            progress.show(event, one.problem)
            if isinstance(event, Record) and "early_terminate" in self.file.config:
                self.history.setdefault(one.number, []).append(event.metrics)
                if time.monotonic() - looked > HYPERBAND_EVERY:
                    looked = time.monotonic()
                    losers = self._losers()
                    terminate.update(i for i, p in enumerate(group) if p.number in losers)

        self.batch.train(group, slots, terminate, watch)

    def _losers(self) -> set[int]:
        """Numbers of the running points that early termination would stop."""
        runs = [
            search.run_of(
                str(number),
                self.document["points"][number],
                "running" if number in self.batch.runs else "finished",
                history,
                history[-1],
            )
            for number, history in self.history.items()
        ]
        return {int(name) for name in search.to_stop(self.file.config, runs)}


def points_of(file: SweepFile, limit: int | None, seeds: int | None) -> list[search.Point]:
    """The points known beforehand: all of a grid or a random search, none of a Bayes search."""
    method = file.config["method"]
    if method != "grid" and not limit:
        raise UserError(f"a {method} sweep has no end: give --limit or run_cap")
    if method == "bayes":
        return []
    if method == "grid":
        points = search.grid(file.config, limit)
    else:
        points = search.suggest(file.config, [], limit, default_seed(file))
    if seeds:
        first = default_seed(file)
        points = list(search.with_seeds(points, [first + i for i in range(seeds)]))
    return points
