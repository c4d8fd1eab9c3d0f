"""A sweep on this machine, without a server. Points that can share a program train together."""

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from typing import Any

from pymongo.errors import PyMongoError

from grok.claims.scorecard import check_sweep
from grok.claims.versions import asked_for
from grok.engine.events import Event, Outcome, Record, Start
from grok.errors import UserError
from grok.experiment.progress import duration
from grok.experiment.resume import ResumePoint, check_can_resume, load_resume_point
from grok.store.archive_schema import new_id
from grok.store.connection import Store
from grok.store.delivery import recover
from grok.store.documents import RUN_KEYS
from grok.store.lease import Lease
from grok.store.status import FINISHED
from grok.sweep import file as files
from grok.sweep import search
from grok.sweep.batch import Batch
from grok.sweep.file import SweepFile
from grok.sweep.lattice import Lattice
from grok.sweep.lease import SweepLease, check_is_free
from grok.sweep.mapping import Survey, survey
from grok.sweep.plan import Part, PlannedRun, default_seed, plan, split
from grok.sweep.progress import SweepProgress
from grok.sweep.workers import RemoteProgress, Report, Workers, choose_workers, show

HYPERBAND_INTERVAL = 0.5  # seconds between two decisions about which runs to stop early
DELIVERY_INTERVAL = 0.5  # seconds between looks whether runs that have ended are in the store
DELIVERY_TIMEOUT = 600.0  # seconds that a map waits for them


class LocalSweep:
    """A stored sweep and the runs that it still has to train. See `begin` and `resume`.

    Arguments:
        file: The sweep's file.
        store: Where the sweep and its runs are.
        document: The sweep's stored document.
        slots: How many runs train at once, or None to choose.
        workers: How many processes train, or None to choose.

    Raises:
        UserError: A point's configuration is wrong; nothing has run then.
    """

    def __init__(
        self,
        file: SweepFile,
        store: Store,
        document: dict[str, Any],
        slots: int | None,
        workers: int | None,
    ):
        self.file, self.store, self.document = file, store, document
        self.slots, self.workers = slots, workers
        self.groups = plan(file, self.pending(), lambda: store)
        # for early termination: points that train now, and the metrics of each record, by point
        self.running: set[int] = set()
        self.history: dict[int, list[dict[str, Any]]] = {}
        self.last_decision = 0.0

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
        workers: int | None = None,
    ) -> "LocalSweep":
        """A new sweep, stored with its points. A Bayes sweep gets its points while it runs.

        Arguments:
            limit: The largest number of points, or None for the file's `run_cap`.
            seeds: How many seeds each point runs with, or None for the file's own.
            slots: How many runs train at once, or None to choose.
            workers: How many processes train, or None to choose.

        Raises:
            UserError: A point's configuration is wrong; nothing has been stored then.
        """
        limit = limit or file.config.get("run_cap")
        entries = {"points": points_of(file, limit, seeds), "limit": limit}
        return cls._begin(file, store, entries, slots, workers)

    @classmethod
    def begin_map(
        cls,
        file: SweepFile,
        store: Store,
        lattice: Lattice,
        budget: int,
        slots: int | None = None,
        workers: int | None = None,
    ) -> "LocalSweep":
        """A new sweep that maps a phase diagram; it gets its points while it runs.

        Arguments:
            lattice: The cells of the diagram.
            budget: The largest number of runs.
            slots: How many runs train at once, or None to choose.
            workers: How many processes train, or None to choose.

        Raises:
            UserError: A point's configuration is wrong; nothing has been stored then.
        """
        points = [lattice.point(run) for run in survey(lattice, {}, budget).wanted]
        entries = {"points": points, "limit": budget, "map": lattice.document()}
        return cls._begin(file, store, entries, slots, workers)

    @classmethod
    def _begin(
        cls,
        file: SweepFile,
        store: Store,
        entries: dict[str, Any],
        slots: int | None,
        workers: int | None,
    ) -> "LocalSweep":
        """A new sweep, stored with these entries."""
        document = {
            "_id": new_id(file.name),
            "name": file.name,
            "config": file.config,
            "experiment": file.experiment.path,
            "created": datetime.now(UTC),
            **entries,
        }
        sweep = cls(file, store, document, slots, workers)
        store.database.sweeps.insert_one(document)
        return sweep

    @classmethod
    def resume(
        cls,
        file: SweepFile,
        store: Store,
        sweep_id: str | None,
        slots: int | None = None,
        workers: int | None = None,
    ) -> "LocalSweep":
        """The sweep with this id, or the latest of this file.

        Raises:
            UserError: There is none, or it is still running.
        """
        sweep = cls(file, store, find_to_resume(file, store, sweep_id), slots, workers)
        for group in sweep.groups:
            for run in group:
                run.resume_point = resume_point(store, sweep.id, run.number)
        return sweep

    def pending(self) -> dict[int, search.Point]:
        """The points without a finished run, by number."""
        return pending_points(self.store, self.document)

    def run(self, progress: SweepProgress) -> None:
        """Train all pending points and check the claims on them.

        An interrupt ends the live runs as INTERRUPTED and is raised.
        """
        with SweepLease(self.store, self.document) as self.lease:
            self._drop_finished_runs()
            try:
                self._train_all(progress)
            finally:
                with suppress(PyMongoError):  # the reason why training ended says more
                    seconds = {"$inc": {"seconds": progress.seconds}}
                    self.store.database.sweeps.update_one({"_id": self.id}, seconds)
            check_sweep(self.store.database, self.file.experiment, self.document)

    def _train_all(self, progress: SweepProgress) -> None:
        for groups in self._groups(progress):
            parts = split(groups, self.slots)
            count = min(self.workers or choose_workers(parts), len(parts))
            if count > 1:
                self._train_in_workers(parts, count, progress)
            else:
                for part in parts:
                    self._train_here(part, progress)

    def _drop_finished_runs(self) -> None:
        """Leave out the runs whose points a former holder has finished since they were planned."""
        points = [run.resume_point for group in self.groups for run in group]
        self.lease.end_unfinished_runs([point.run["_id"] for point in points if point])
        pending = self.pending()
        groups = ([run for run in group if run.number in pending] for group in self.groups)
        self.groups = [group for group in groups if group]

    def _groups(self, progress: SweepProgress) -> Iterator[list[list[PlannedRun]]]:
        """The groups of runs to train; those of a map or a Bayes search as earlier ones finish."""
        yield self.groups
        while points := self._next_points(progress):
            self.document["points"] += points
            added = {"$set": {"points": self.document["points"]}}
            self.store.database.sweeps.update_one({"_id": self.id}, added)
            groups = plan(self.file, self.pending(), lambda: self.store)
            if "map" in self.document:
                runs = [run for group in groups for run in group]
                progress.expect(sum(run.problem.train_steps for run in runs), len(runs))
            yield groups

    def _next_points(self, progress: SweepProgress) -> list[search.Point]:
        """The points that follow from the runs that have finished."""
        if "map" in self.document:
            self._await_delivery()
            known = survey_of(self.store, self.document)
            if known.wanted:
                progress.announce(describe_round(known, progress))
            return [known.lattice.point(run) for run in known.wanted]
        if self.file.config["method"] != "bayes":
            return []
        points = self.document["points"]
        count = min(self.slots or 1, self.document["limit"] - len(points))
        if count <= 0:
            return []
        runs = [
            search.run_of(str(number), points[number], "finished", [], run["result"])
            for number, run in sorted(_finished_runs(self.store, self.id).items())
        ]
        return search.suggest(self.file.config, runs, count, default_seed(self.file))

    def _await_delivery(self) -> None:
        """Wait until the store has the runs of all points, which have ended.

        Raises:
            UserError: It does not have them after DELIVERY_TIMEOUT.
        """
        deadline = time.monotonic() + DELIVERY_TIMEOUT
        while pending := self.pending():
            if time.monotonic() > deadline:
                raise UserError(
                    f"{len(pending)} runs of sweep {self.id} have not reached the store"
                )
            recover(self.store)  # from journals of worker processes, which have ended
            self.lease.check()
            time.sleep(DELIVERY_INTERVAL)

    def _train_here(self, part: Part, progress: SweepProgress) -> None:
        """Train a part in this process."""
        terminate: set[int] = set()

        def on_event(event: Event, run: PlannedRun) -> None:
            self.lease.check()
            progress.show(event, run.problem.train_steps, run.problem.device)
            terminate.update(self._losers_after(event))

        meta = self._record_part(part)
        train_part(self.file, self.store, self.lease.lease, meta, part, terminate, on_event)

    def _train_in_workers(self, parts: list[Part], count: int, progress: SweepProgress) -> None:
        """Train parts in `count` processes, each of which gets the next part when it is free."""
        waiting = parts[::-1]
        arguments = (self.file.config, self.file.name, replace(self.store), self.lease.lease)
        with Workers(_train_parts, [arguments] * count) as workers:
            for worker, message in workers.messages():
                self.lease.check()
                if isinstance(message, Report):
                    show(message, progress)
                    losers = self._losers_after(message.event)
                    for each in workers.workers if losers else ():
                        each.send(losers)
                else:  # it is free
                    worker.send(self._task(waiting.pop()) if waiting else None)

    def _task(self, part: Part) -> "Task":
        points = {run.number: self.document["points"][run.number] for run in part.runs}
        resumed = {run.number for run in part.runs if run.resume_point is not None}
        return Task(points, resumed, part.slots, part.steps, part.threads, self._record_part(part))

    def _record_part(self, part: Part) -> dict[str, Any]:
        """Add the part to the stored sweep; the entries about both in its runs' stored `meta`."""
        name = f"{self.id}/{uuid.uuid4().hex[:6]}"
        entry = {"id": name, "points": [run.number for run in part.runs], "slots": part.slots}
        self.store.database.sweeps.update_one({"_id": self.id}, {"$push": {"batches": entry}})
        return {"id": self.id, "batch": name}

    def _losers_after(self, event: Event) -> set[int]:
        """Numbers of the running points that early termination stops, asked now and then only.

        Arguments:
            event: Of a replica that has its point's number.
        """
        if "early_terminate" not in self.file.config:
            return set()
        if isinstance(event, Start):
            self.running.add(event.replica)
        elif isinstance(event, Outcome):
            self.running.discard(event.replica)
        elif isinstance(event, Record):
            self.history.setdefault(event.replica, []).append(event.metrics)
            if time.monotonic() - self.last_decision > HYPERBAND_INTERVAL:
                self.last_decision = time.monotonic()
                return self._losers()
        return set()

    def _losers(self) -> set[int]:
        """Numbers of the running points that early termination stops now."""
        runs = [
            search.run_of(
                str(number),
                self.document["points"][number],
                "running" if number in self.running else "finished",
                history,
                history[-1],
            )
            for number, history in self.history.items()
        ]
        return {int(name) for name in search.to_stop(self.file.config, runs)}


@dataclass(frozen=True)
class Task:
    """A part, as it is given to a worker process.

    Attributes:
        points: Its points, by number.
        resumed: Numbers of the points whose killed runs are resumed.
        slots, steps, threads: As in Part.
        meta: The entries about the sweep in the runs' stored `meta`.
    """

    points: dict[int, search.Point]
    resumed: set[int]
    slots: int
    steps: float
    threads: int | None
    meta: dict[str, Any]


def train_part(
    file: SweepFile,
    store: Store,
    lease: Lease,
    meta: dict[str, Any],
    part: Part,
    terminate: Set[int],
    on_event: Callable[[Event, PlannedRun], None],
) -> None:
    """Train and store the runs of a part.

    Arguments:
        lease: The sweep's.
        meta: The entries about the sweep in the runs' stored `meta`.
        terminate: Numbers of points whose runs are to end as INTERRUPTED; it may grow.
        on_event: Called with every event of every run; its replica is the number of the point.
    """
    batch = Batch(
        file,
        store,
        meta=lambda run: {"sweep": {**meta, "point": run.number}},
        admit=lambda run: lease.renew(store.database.sweeps),
    )
    ended: set[int] = set()  # indices in the part

    def with_number(run: PlannedRun, event: Event) -> None:
        on_event(replace(event, replica=run.number), run)
        if run.number in terminate:
            ended.add(event.replica)

    batch.train(part.runs, part.slots, ended, with_number, threads=part.threads, steps=part.steps)


def _train_parts(
    parent: Connection, config: dict[str, Any], name: str, store: Store, lease: Lease
) -> None:
    """What a worker process does: train the parts that its parent gives it, one after another."""
    file = files.checked(config, name)
    progress = RemoteProgress(parent)
    terminate: set[int] = set()

    def on_event(event: Event, run: PlannedRun) -> None:
        progress.show(event, run.problem.train_steps, run.problem.device)
        while parent.poll():
            terminate.update(parent.recv())

    while True:
        parent.send(None)
        while isinstance(task := parent.recv(), set):
            terminate.update(task)
        if task is None:
            return
        (runs,) = plan(file, task.points, lambda: store)
        for run in runs:
            if run.number in task.resumed:
                run.resume_point = resume_point(store, lease.document_id, run.number)
        part = Part(runs, task.slots, task.steps, task.threads)
        train_part(file, store, lease, task.meta, part, terminate, on_event)


def resume_point(store: Store, sweep_id: str, point: int) -> ResumePoint | None:
    """Where a killed run of this point can be resumed, or None if it has no checkpoint."""
    wanted = {"meta.sweep.id": sweep_id, "meta.sweep.point": point}
    for run in store.database.runs.find(wanted).sort("_id", -1):
        if store.checkpoint_path(run["_id"]).exists():
            check_can_resume(store, run)
            return load_resume_point(store, run)
    return None


def _check_named_runs(sweep: Mapping[str, Any]) -> None:
    """UserError if points of an imported sweep name runs by their ids in another store."""
    values = ((key, point.get(key)) for point in sweep["points"] for key in RUN_KEYS)
    for key, value in values if sweep.get("imported") else ():
        if isinstance(value, int):
            raise UserError(
                f"sweep {sweep['_id']} was imported: its {key}={value} is a run of another store"
            )


def latest_local_sweep(store: Store, name: str) -> dict[str, Any] | None:
    """The document of the latest sweep of a file that was run without a server, or None."""
    wanted = {"name": name, "points": {"$exists": True}}  # those of other sweeps are elsewhere
    return store.database.sweeps.find_one(wanted, sort=[("created", -1)])


def is_unchanged(file: SweepFile, sweep: Mapping[str, Any]) -> bool:
    """Whether a file asks for the same runs as when a stored sweep of it began."""
    now, then = file.config, sweep["config"]
    keys = ["early_terminate"]
    if "early_terminate" in now or now["method"] == "bayes":  # nothing else reads the metric
        keys.append("metric")
    return (
        sweep.get("experiment") == file.experiment.path
        and asked_for(then) == asked_for(now)
        and all(then.get(key) == now.get(key) for key in keys)
    )


def find_to_resume(file: SweepFile, store: Store, sweep_id: str | None) -> dict[str, Any]:
    """The document of the sweep with this id, or of the latest of a file.

    Raises:
        UserError: There is none, it is of another file or of another state of the file, or it
            cannot be resumed.
    """
    recover(store)  # a run of a killed process may have finished in its journal
    if sweep_id is None:
        document = latest_local_sweep(store, file.name)
    else:
        document = store.database.sweeps.find_one({"_id": sweep_id})
    if document is None:
        raise UserError(f"no sweep {sweep_id or 'of ' + file.name} to resume")
    if document.get("name") != file.name:
        raise UserError(f"sweep {sweep_id} is of {document.get('name')}, not of {file.name}")
    if "points" not in document:
        raise UserError(f'sweep {sweep_id} is one for agents: "grok sweep agent {sweep_id}"')
    if not is_unchanged(file, document):
        raise UserError(
            f"the file {file.name} has changed since sweep {document['_id']} began: "
            "restore it, or start a new sweep without --resume and --id"
        )
    check_is_free(store, document)
    _check_named_runs(document)
    return document


def pending_points(store: Store, sweep: Mapping[str, Any]) -> dict[int, search.Point]:
    """The points of a stored sweep without a finished run, by number."""
    finished = _finished_runs(store, sweep["_id"])
    return {n: point for n, point in enumerate(sweep["points"]) if n not in finished}


def describe_round(known: Survey, progress: SweepProgress) -> str:
    """What a round of a map begins with, and how long the rest of its budget takes at most."""
    cells = f"{known.is_run.sum():,} of {known.lattice.size:,} cells run"
    text = f"round {known.rounds}: {len(known.wanted)} runs at the boundary; {cells}"
    if not progress.done:
        return text
    left = known.budget - known.runs + len(known.wanted)
    return f"{text}; at most {duration(left * progress.seconds / progress.done)} left"


def survey_of(store: Store, sweep: Mapping[str, Any]) -> Survey:
    """What is known of the phase diagram that a stored sweep maps, from its finished runs."""
    lattice = Lattice.of_document(sweep["map"])
    runs = list(lattice.runs(sweep["points"]))
    finished = _finished_runs(store, sweep["_id"])
    results = {runs[number]: run["result"].get("phase") for number, run in finished.items()}
    return survey(lattice, results, sweep["limit"])


def _finished_runs(store: Store, sweep_id: str) -> dict[int, dict[str, Any]]:
    """The finished runs of a sweep, by point number."""
    wanted = {"meta.sweep.id": sweep_id, **FINISHED}
    runs = store.database.runs.find(wanted, {"meta.sweep.point": 1, "result": 1})
    return {run["meta"]["sweep"]["point"]: run for run in runs}


def points_of(file: SweepFile, limit: int | None, seeds: int | None) -> list[search.Point]:
    """The points that are known before any has run: all of a grid or a random search, none of a
    Bayes search.

    Arguments:
        limit: The largest number of points, before they are repeated with other seeds.
        seeds: How many seeds each point gets, from the sweep's own on; None for the file's.

    Raises:
        UserError: A random or Bayes search has no limit, or there are too many points.
    """
    method = file.config["method"]
    if method == "grid":
        points = search.grid(file.config, limit)
    elif not limit:
        raise UserError(f"a {method} sweep has no end: give --limit or run_cap")
    elif method == "bayes":
        return []
    else:
        search.check_count(limit)
        points = search.suggest(file.config, [], limit, default_seed(file))
    if seeds:
        search.check_count(len(points) * seeds)
        first = default_seed(file)
        points = list(search.with_seeds(points, [first + i for i in range(seeds)]))
    search.check_size(points, len(points))
    return points
