"""The queue of a served sweep in MongoDB: its points, which agent runs each, and how each ended.

Collections: `sweeps` (W&B's config and the state that the user set), `sweep_points` (one document a
point: pending, running, finished, stopped or failed), `sweep_agents`. All state is there, so the
endpoint can be killed at any moment and started again.
"""

import contextlib
import math
import threading
import time
import uuid
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import getitem
from typing import TYPE_CHECKING, Any

import bson
from bson.errors import BSONError
from pymongo import ASCENDING, ReturnDocument, WriteConcern
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError, PyMongoError

from grok.errors import UserError
from grok.store.archive_schema import new_id
from grok.store.connection import Store
from grok.store.documents import find_metrics
from grok.store.lease import LeaseLost, entries_of_holder, new_holder
from grok.store.maintenance import interrupt
from grok.store.status import FINISHED, last_sign_of_life
from grok.sweep import search

if TYPE_CHECKING:
    from sweeps import SweepRun

    from grok.sweep.file import SweepFile
    from grok.sweep.lattice import Lattice
    from grok.sweep.mapping import Survey

LOST_AFTER = 120.0  # seconds without a heartbeat after which an agent counts as dead
CHECK_RUN_AFTER = 15.0  # seconds without a heartbeat after which the run's status is read
READ_INTERVAL = 1.0  # seconds between reads of a sweep's state and of its silent agents
MAX_ATTEMPTS = 3
Command = dict[str, Any]
Document = dict[str, Any]


class Contact:
    """Whether a queue has long been in contact with its agents and its store.

    After a pause of either, the heartbeats of living agents are as old as those of dead ones. The
    times are those of the clock that heartbeats have, which goes on while this machine sleeps.

    Arguments:
        long: How long it must last, without a gap of this length.
    """

    def __init__(self, long: timedelta):
        self.long = long
        self.since = _now()
        self.last: datetime | None = None

    def make(self, now: datetime) -> None:
        """Note that an agent has called and the store has answered."""
        last = self.last
        if last is None or now - last > self.long:
            self.since = now
        self.last = now

    def lose(self) -> None:
        """Note that the store has not answered."""
        self.last = None

    def is_long(self, now: datetime) -> bool:
        """Whether there has been contact for long."""
        return self.last is not None and now - self.since >= self.long


class SweepQueue:
    """All served sweeps of one store.

    Several threads may use a queue, and several queues one store, at the same time: what changes a
    point is one update of its document, on the condition that it still has the run that was read.

    Arguments:
        store: Where the sweeps and their runs are.
        lost_after: Seconds without a heartbeat after which an agent counts as dead.
    """

    def __init__(self, store: Store, lost_after: float = LOST_AFTER):
        self.store, self.database = store, store.database
        database = self.database
        self.sweeps, self.runs, self.metrics = database.sweeps, database.runs, database.metrics
        self.points, self.agents = database.sweep_points, database.sweep_agents
        self.lost_after = timedelta(seconds=lost_after)
        # living agents may be silent for a while, however small lost_after is
        self.contact = Contact(max(self.lost_after, timedelta(seconds=CHECK_RUN_AFTER)))
        # A claim of a point must be on disk before its agent hears of it. What says how a run goes
        # on or has ended need not: a server that comes back without it is told again.
        self.soon = self.points.with_options(write_concern=WriteConcern(w=1, j=False))
        # Sacred's experiments are not loaded by two threads at once, and W&B's search seeds the
        # global random generators.
        self.lock = threading.Lock()
        self.known_agents: dict[str, Document] = {}  # documents of agents never change
        self.last_reads: dict[str, tuple[float, Document]] = {}  # when, and the sweep's document
        self.points.create_index([("sweep", ASCENDING), ("number", ASCENDING)], unique=True)
        for keys in (("sweep", "state", "number"), ("sweep", "state", "heartbeat")):
            self.points.create_index([(key, ASCENDING) for key in keys])
        self.points.create_index([("agent", ASCENDING), ("state", ASCENDING)])
        self.points.create_index("run")
        self.runs.create_index("info.wandb.run")
        self.runs.create_index("meta.sweep.run")

    def create(
        self,
        config: Document,
        name: str | None = None,
        lattice: "Lattice | None" = None,
        budget: int | None = None,
    ) -> str:
        """The id of a new sweep with this W&B config.

        Arguments:
            name: Its name; None for that of the project's file with this config.
            lattice: The cells of the phase diagram that the sweep maps, if it does.
            budget: The largest number of runs of a map.

        Raises:
            UserError: The config is wrong; nothing has been stored then.
        """
        # here, since they load torch, and the endpoint must be ready before that
        from grok.sweep.file import check, name_of
        from grok.sweep.plan import default_seed

        with self.lock:
            file = check(config, name or "sweep", "sweep")
        name = name or name_of(config)
        config = file.config
        try:
            bson.encode({"name": name, "config": config})
        except (BSONError, OverflowError, UnicodeError) as error:
            raise UserError(f"sweep: cannot be stored: {error}") from error
        entries: Document = {}
        points: list[search.Point] = []
        if lattice is not None and budget is not None:
            from grok.sweep.mapping import survey

            points = [lattice.point(run) for run in survey(lattice, {}, budget).wanted]
            entries = {"map": lattice.document(), "limit": budget}
        elif config["method"] == "grid":
            points = search.grid(config, config.get("run_cap"))
        sweep_id = new_id(file.experiment.path)
        if points:
            self.points.insert_many(
                _pending_point(sweep_id, number, point) for number, point in enumerate(points)
            )
        self.sweeps.insert_one(
            {
                "_id": sweep_id,
                "name": name,
                "config": config,
                "experiment": file.experiment.path,
                "created": _now(),
                "served": True,
                "seed": default_seed(file),
                "state": "RUNNING",
                **entries,
            }
        )
        return sweep_id

    def find(self, sweep_id: str) -> Document | None:
        """The sweep's document, or None if this store serves no such sweep."""
        return self.sweeps.find_one({"_id": sweep_id, "served": True})

    def sweep(self, sweep_id: str) -> Document:
        """The sweep's document.

        Raises:
            UserError: This store serves no such sweep.
        """
        sweep = self.find(sweep_id)
        if sweep is None:
            raise UserError(f"no sweep {sweep_id} here")
        return sweep

    def file(self, sweep_id: str) -> "SweepFile":
        """The sweep as a checked sweep file."""
        sweep = self.sweep(sweep_id)
        from grok.sweep.file import check

        return check(sweep["config"], sweep["name"], sweep_id)

    def set_state(self, sweep_id: str, state: str) -> None:
        """Set the sweep's state.

        Arguments:
            state: RUNNING, PAUSED (no new points for now), FINISHED (no new points) or CANCELED
                (no new points, and the running ones are stopped).

        Raises:
            UserError: This store serves no such sweep.
        """
        served = {"_id": sweep_id, "served": True}
        if not self.sweeps.update_one(served, {"$set": {"state": state}}).matched_count:
            raise UserError(f"no sweep {sweep_id} here")
        self.last_reads.pop(sweep_id, None)

    def add_agent(self, sweep_id: str, host: str) -> str:
        """The id of a new agent of the sweep; UserError if there is no such sweep."""
        self.sweep(sweep_id)
        agent_id = uuid.uuid4().hex[:12]
        self.agents.insert_one({"_id": agent_id, "sweep": sweep_id, "host": host, "since": _now()})
        return agent_id

    def heartbeat(self, agent_id: str, running: Collection[str]) -> list[Command]:
        """The commands for an agent that reports which W&B runs it has.

        Arguments:
            running: Ids of the W&B runs that the agent trains now.

        Returns:
            Commands of type run, stop or exit.

        Raises:
            UserError: There is no such agent.
        """
        try:
            return self._commands(agent_id, running)
        except PyMongoError:
            self.contact.lose()
            raise

    def _commands(self, agent_id: str, running: Collection[str]) -> list[Command]:
        agent = self._agent(agent_id)
        points = list(self.points.find({"agent": agent_id, "state": "running"}))
        trained = [point for point in points if point["run"] in running]
        ended = [point for point in points if point["run"] not in running]
        if trained:
            alive = {"agent": agent_id, "state": "running", "run": {"$in": list(running)}}
            self.soon.update_many(alive, {"$set": {"heartbeat": _now(), "seen": True}})
        for point in ended:
            self._finalize(point)
        sweep, reclaimed = self._read_sweep(agent["sweep"])
        commands = self._stop_commands(sweep, trained) if running else self._next(sweep, agent)
        if (ended or reclaimed) and not any(command["type"] == "run" for command in commands):
            self._check_claims(sweep)
        return commands

    def _agent(self, agent_id: str) -> Document:
        """The agent's document; UserError if there is no such agent."""
        agent = self.known_agents.get(agent_id) or self.agents.find_one({"_id": agent_id})
        if agent is None:
            raise UserError(f"no agent {agent_id} here")
        self.known_agents[agent_id] = agent
        return agent

    def _read_sweep(self, sweep_id: str) -> tuple[Document, list[Document]]:
        """The sweep's document, and points that were reclaimed from silent agents.

        The store is asked at most every READ_INTERVAL seconds, however many agents there are.
        """
        read, sweep = self.last_reads.get(sweep_id, (-math.inf, {}))
        if time.monotonic() < read + READ_INTERVAL:
            return sweep, []
        sweep = self.sweep(sweep_id)
        self.contact.make(_now())
        self.last_reads[sweep_id] = time.monotonic(), sweep
        return sweep, self._reclaim(sweep_id)

    # -- how points end --------------------------------------------------------------------------

    def _reclaim(self, sweep_id: str) -> list[Document]:
        """Finalize the points of agents that are silent, once their run has ended or is dead too.

        Nobody is taken for dead before this queue has been in contact for long.

        Returns:
            Those that have been finalized.
        """
        now = _now()
        silent_since = now - min(self.lost_after, timedelta(seconds=CHECK_RUN_AFTER))
        lost_since = now - self.lost_after
        silent = {"sweep": sweep_id, "state": "running", "heartbeat": {"$lt": silent_since}}
        ended = []
        for point in self.points.find(silent):
            run = self._run_of(point)
            has_ended = run is not None and run["status"] != "RUNNING"
            is_alive = run is not None and _as_utc(last_sign_of_life(run)) > lost_since
            is_dead = _as_utc(point["heartbeat"]) < lost_since and not is_alive
            if has_ended or (is_dead and self.contact.is_long(now)):
                self._finalize(point, is_agent_lost=True)
                ended.append(point)
        return ended

    def _finalize(self, point: Document, is_agent_lost: bool = False) -> None:
        """Record how a point's run ended; the point is pending again if the run was cut short.

        A run that is RUNNING for the store is ended there, so that it cannot be completed when the
        point has been trained again. Nothing is recorded if the run has just ended or begun.

        Arguments:
            is_agent_lost: The agent is dead. A run that the store never saw is then repeated;
                otherwise it has failed before it could be stored.
        """
        run = self._run_of(point)
        status = run["status"] if run else None
        heartbeat = point["heartbeat"]
        if status == "COMPLETED":
            self._update(point, heartbeat, state="finished")
        elif status == "INTERRUPTED" and point.get("stop"):
            self._update(point, heartbeat, state="stopped")
        elif (
            status == "FAILED"
            or (status is None and point["seen"] and not is_agent_lost)
            or len(point["attempts"]) >= MAX_ATTEMPTS
        ):
            self._update(point, heartbeat, state="failed")
        elif (
            run is None
            or status != "RUNNING"
            or interrupt(self.database, run, entries_of_holder(new_holder(self.store)))
        ):
            again = {"state": "pending", "agent": None, "run": None, "stop": False, "seen": False}
            self._update(point, heartbeat, **again)

    def _check_claims(self, sweep: Document) -> None:
        """Check the claims on the sweep's file, if all its points have ended."""
        if self._has_ended(sweep):
            from grok.claims.scorecard import check_sweep

            with self.lock:
                check_sweep(self.database, self.file(sweep["_id"]).experiment, sweep)

    def _has_ended(self, sweep: Document) -> bool:
        """Whether no point is left, or none for now in a search without an end."""
        if self._has_open_points(sweep):
            return False
        if "map" in sweep:
            return not self.survey(sweep).wanted
        config = sweep["config"]
        points = self.points.count_documents({"sweep": sweep["_id"]})
        return config["method"] == "grid" or points >= config.get("run_cap", 0)

    def _run_of(self, point: Document) -> Document | None:
        fields = {"status": 1, "heartbeat": 1, "start_time": 1, "result": 1, "lease": 1}
        named = [{key: point["run"]} for key in ("info.wandb.run", "meta.sweep.run")]
        return self.runs.find_one({"$or": named}, fields)

    def _update(
        self, point: Document, last_heartbeat: datetime | None = None, **fields: Any
    ) -> None:
        """Change a running point, unless it has ended or been given away since it was read.

        Arguments:
            last_heartbeat: That of the point, if it must not have had one since.
        """
        same = {"_id": point["_id"], "run": point["run"], "state": "running"}
        if last_heartbeat is not None:
            same["heartbeat"] = last_heartbeat
        self.soon.update_one(same, {"$set": fields})

    # -- commands --------------------------------------------------------------------------------

    def _stop_commands(self, sweep: Document, running: list[Document]) -> list[Command]:
        """Commands that stop some of an agent's running points: all of a canceled sweep, or those
        that Hyperband stops early."""
        if sweep["state"] == "CANCELED":
            stopped = running
        elif running and "early_terminate" in sweep["config"]:
            with self.lock:
                losers = search.to_stop(sweep["config"], self._search_runs(sweep))
            stopped = [point for point in running if point["run"] in losers or point.get("stop")]
        else:
            return []
        for point in stopped:
            self._update(point, stop=True)
        return [{"type": "stop", "run_id": point["run"]} for point in stopped]

    def _next(self, sweep: Document, agent: Document) -> list[Command]:
        """The command to run a point, or to exit when no point is left and none can come back."""
        if sweep["state"] == "PAUSED":
            return []
        leave: list[Command] = [{"type": "exit"}]
        if sweep["state"] != "RUNNING":
            return leave
        point = self._assign(sweep, agent)
        if point is None and self._add_points(sweep):
            point = self._assign(sweep, agent)
        if point is None:
            if self._has_open_points(sweep):
                return []  # one of them may become pending again
            self.set_state(sweep["_id"], "FINISHED")
            return leave
        values = point["point"]
        if "seed" not in values:  # Sacred would draw another one for each run
            values = {**values, "seed": sweep["seed"]}
        arguments = {key: {"value": value} for key, value in values.items()}
        program = sweep["config"]["program"]
        return [{"type": "run", "run_id": point["run"], "program": program, "args": arguments}]

    def _assign(self, sweep: Document, agent: Document) -> Document | None:
        """Give the first pending point to the agent, in one atomic step."""
        run = uuid.uuid4().hex[:8]
        return self.points.find_one_and_update(
            {"sweep": sweep["_id"], "state": "pending"},
            {
                "$set": {
                    "state": "running",
                    "agent": agent["_id"],
                    "host": agent["host"],
                    "run": run,
                    "heartbeat": _now(),
                },
                "$push": {"attempts": run},
            },
            sort=[("number", ASCENDING)],
            return_document=ReturnDocument.AFTER,
        )

    def _add_points(self, sweep: Document) -> bool:
        """Add the next points of a search or a map; False if it has all its points for now."""
        with self.lock:
            number = self.points.count_documents({"sweep": sweep["_id"]})
            points = self._next_points(sweep, number)
            with contextlib.suppress(DuplicateKeyError):  # another queue has added these numbers
                for i, point in enumerate(points, number):
                    self.points.insert_one(_pending_point(sweep["_id"], i, point))
        return bool(points)

    def _next_points(self, sweep: Document, number: int) -> list[search.Point]:
        """The points that follow the first `number` ones: one of a search, several of a map."""
        config = sweep["config"]
        if "map" in sweep:
            if self._has_open_points(sweep):
                return []  # the next ones depend on their phases
            known = self.survey(sweep)
            return [known.lattice.point(run) for run in known.wanted]
        if config["method"] == "grid" or number >= config.get("run_cap", float("inf")):
            return []
        return search.suggest(config, self._search_runs(sweep), 1, sweep["seed"])

    def survey(self, sweep: Document) -> "Survey":
        """What is known of the phase diagram that a sweep maps, from its points that have ended."""
        from grok.sweep.lattice import Lattice
        from grok.sweep.mapping import survey

        ended = {"sweep": sweep["_id"], "state": {"$in": ["finished", "stopped", "failed"]}}
        points = list(self.points.find(ended, {"point": 1, "run": 1}))
        names = [point["run"] for point in points]
        phases = {}
        for key in ("info.wandb.run", "meta.sweep.run"):
            wanted = {key: {"$in": names}, **FINISHED}
            for run in self.runs.find(wanted, {key: 1, "result.phase": 1}):
                name = reduce(getitem, key.split("."), run)
                phases[name] = run["result"].get("phase")
        lattice = Lattice.of_document(sweep["map"])
        cells = lattice.runs(point["point"] for point in points)
        results = {cell: phases.get(name) for cell, name in zip(cells, names, strict=True)}
        return survey(lattice, results, sweep["limit"])

    def _search_runs(self, sweep: Document) -> list["SweepRun"]:
        """The sweep's runs for W&B's search code, with the metric's history."""
        metric = sweep["config"].get("metric", {}).get("name")
        runs = {
            run["info"]["wandb"]["run"]: run
            for run in self.runs.find(
                {"info.wandb.sweep": sweep["_id"]}, {"result": 1, "info.wandb": 1}
            )
        }
        curves = {
            curve["run_id"]: curve["values"]
            for curve in find_metrics(
                self.metrics,
                {"run_id": {"$in": [run["_id"] for run in runs.values()]}, "name": metric},
            )
        }
        search_runs = []
        for point in self.points.find({"sweep": sweep["_id"]}).sort("number"):
            run = runs.get(point["run"], {})
            values = curves.get(run.get("_id"), [])
            state = "running" if point["state"] in ("running", "pending") else "finished"
            history = [{metric: value} for value in values]
            final = {metric: values[-1]} if values else {}
            name = point["run"] or str(point["number"])
            search_runs.append(search.run_of(name, point["point"], state, history, final))
        return search_runs

    def _has_open_points(self, sweep: Document) -> bool:
        """Whether a point is pending or running; one query, so that none is missed in between."""
        open_states = {"sweep": sweep["_id"], "state": {"$in": ["pending", "running"]}}
        return self.points.find_one(open_states, {"_id": 1}) is not None


def check_assigned(database: Database, sweep_id: str, run: str) -> None:
    """Make sure that a run may begin: that its point has not been given to another agent meanwhile.

    It counts as a heartbeat. A sweep that this store does not serve, W&B's for example, is not known
    here, and its runs begin.

    Arguments:
        run: The W&B run of the point.

    Raises:
        LeaseLost: The point is no longer that of this run.
    """
    point = {"sweep": sweep_id, "run": run, "state": "running"}
    alive = {"$set": {"heartbeat": _now(), "seen": True}}
    if database.sweep_points.update_one(point, alive).matched_count:
        return
    if database.sweeps.find_one({"_id": sweep_id, "served": True}, {"_id": 1}) is not None:
        raise LeaseLost(f"the point of W&B run {run} of sweep {sweep_id} is no longer this agent's")


def _pending_point(sweep_id: str, number: int, point: search.Point) -> Document:
    """The document of a point that no agent has had."""
    return {
        "_id": f"{sweep_id}/{number}",
        "sweep": sweep_id,
        "number": number,
        "point": point,
        "state": "pending",
        "run": None,
        "attempts": [],
        "seen": False,
    }


def _now() -> datetime:
    return datetime.now(UTC)


def _as_utc(stored: datetime) -> datetime:
    """A stored time with its zone: Sacred and pymongo give naive UTC."""
    return stored.replace(tzinfo=UTC)
