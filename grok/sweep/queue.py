"""The queue of a served sweep in MongoDB: its points, which agent runs each, and how each ended.

Collections: `sweeps` (W&B's config and the state that the user set), `sweep_points` (one document a
point: pending, running, finished, stopped or failed), `sweep_agents`. All state is there, so the
endpoint can be killed at any moment and started again.
"""

import threading
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pymongo import ASCENDING, ReturnDocument

from grok.errors import UserError
from grok.store.connection import Store
from grok.store.documents import find_metrics
from grok.sweep import search

if TYPE_CHECKING:
    from sweeps import SweepRun

    from grok.sweep.file import SweepFile

LOST_AFTER = 120.0  # seconds without a heartbeat after which an agent counts as dead
CHECK_RUN_AFTER = 15.0  # seconds without a heartbeat after which the run's status is read
MAX_ATTEMPTS = 3
Command = dict[str, Any]
Document = dict[str, Any]


class SweepQueue:
    """All served sweeps of one store.

    Calls are serialized. Several queues may work on one store at the same time.

    Arguments:
        store: Where the sweeps and their runs are.
        lost_after: Seconds without a heartbeat after which an agent counts as dead.
    """

    def __init__(self, store: Store, lost_after: float = LOST_AFTER):
        self.database = database = store.database
        self.sweeps, self.runs, self.metrics = database.sweeps, database.runs, database.metrics
        self.points, self.agents = database.sweep_points, database.sweep_agents
        self.lost_after = timedelta(seconds=lost_after)
        self.lock = threading.Lock()
        self.points.create_index([("sweep", ASCENDING), ("number", ASCENDING)], unique=True)
        self.points.create_index("run")
        self.runs.create_index("info.wandb.run")

    def create(self, config: Document, name: str | None = None) -> str:
        """The id of a new sweep with this W&B config.

        Raises:
            UserError: The config is wrong; nothing has been stored then.
        """
        # here, since they load torch, and the endpoint must be ready before that
        from grok.sweep.file import check, name_of
        from grok.sweep.plan import default_seed

        file = check(config, name or name_of(config), "sweep")
        config = file.config
        is_grid = config["method"] == "grid"
        points = search.grid(config, config.get("run_cap")) if is_grid else []
        sweep_id = f"{file.experiment.path}-{uuid.uuid4().hex[:6]}"
        if points:
            self.points.insert_many(
                _pending_point(sweep_id, number, point) for number, point in enumerate(points)
            )
        self.sweeps.insert_one(
            {
                "_id": sweep_id,
                "name": file.name,
                "config": config,
                "experiment": file.experiment.path,
                "created": _now(),
                "served": True,
                "seed": default_seed(file),
                "state": "RUNNING",
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
        """
        self.sweeps.update_one({"_id": sweep_id}, {"$set": {"state": state}})

    def add_agent(self, sweep_id: str, host: str) -> str:
        """The id of a new agent of the sweep; UserError if there is no such sweep."""
        self.sweep(sweep_id)
        agent_id = uuid.uuid4().hex[:12]
        self.agents.insert_one(
            {"_id": agent_id, "sweep": sweep_id, "host": host, "heartbeat": _now()}
        )
        return agent_id

    def heartbeat(self, agent_id: str, running: Iterable[str]) -> list[Command] | None:
        """The commands for an agent that reports which W&B runs it has.

        Arguments:
            running: Ids of the W&B runs that the agent trains now.

        Returns:
            Commands of type run, stop or exit; None if the agent is not known.
        """
        running = set(running)
        with self.lock:
            agent = self.agents.find_one_and_update(
                {"_id": agent_id}, {"$set": {"heartbeat": _now(), "running": sorted(running)}}
            )
            if agent is None:
                return None
            sweep = self.sweep(agent["sweep"])
            self._record_heartbeat(agent_id, running)
            self._reclaim(sweep["_id"])
            return self._stop_commands(sweep, agent_id) + self._next(sweep, agent, bool(running))

    # -- how points end --------------------------------------------------------------------------

    def _record_heartbeat(self, agent_id: str, running: set[str]) -> None:
        """Update the agent's points: those that still run, and those that have ended."""
        for point in self.points.find({"agent": agent_id, "state": "running"}):
            if point["run"] in running:
                self._update(point, heartbeat=_now(), seen=True)
            else:
                self._finalize(point)

    def _reclaim(self, sweep_id: str) -> None:
        """Finalize the points of agents that are silent, once their run has ended or is dead too."""
        silent_since = _now() - min(self.lost_after, timedelta(seconds=CHECK_RUN_AFTER))
        lost_since = _now() - self.lost_after
        silent = {"sweep": sweep_id, "state": "running", "heartbeat": {"$lt": silent_since}}
        for point in self.points.find(silent):
            run = self._run_of(point)
            has_ended = run is not None and run["status"] != "RUNNING"
            is_alive = run is not None and _as_utc(run["heartbeat"]) > lost_since
            if has_ended or (_as_utc(point["heartbeat"]) < lost_since and not is_alive):
                self._finalize(point, is_agent_lost=True)

    def _finalize(self, point: Document, is_agent_lost: bool = False) -> None:
        """Record how a point's run ended; the point is pending again if the run was cut short.

        Arguments:
            is_agent_lost: The agent is dead. A run that the store never saw is then repeated;
                otherwise it has failed before it could be stored.
        """
        run = self._run_of(point)
        status = run["status"] if run else None
        if status == "COMPLETED":
            self._update(point, state="finished")
        elif status == "INTERRUPTED" and point.get("stop"):
            self._update(point, state="stopped")
        elif (
            status == "FAILED"
            or (status is None and point["seen"] and not is_agent_lost)
            or len(point["attempts"]) >= MAX_ATTEMPTS
        ):
            self._update(point, state="failed")
        else:
            self._update(point, state="pending", agent=None, run=None, stop=False, seen=False)
        sweep = self.sweep(point["sweep"])
        if self._has_ended(sweep):
            from grok.claims.scorecard import check_sweep

            check_sweep(self.database, self.file(sweep["_id"]).experiment, sweep)

    def _has_ended(self, sweep: Document) -> bool:
        """Whether no point is left, or none for now in a search without an end."""
        if self._count(sweep, "pending") or self._count(sweep, "running"):
            return False
        config = sweep["config"]
        points = self.points.count_documents({"sweep": sweep["_id"]})
        return config["method"] == "grid" or points >= config.get("run_cap", 0)

    def _run_of(self, point: Document) -> Document | None:
        fields = {"status": 1, "heartbeat": 1, "result": 1}
        return self.runs.find_one({"info.wandb.run": point["run"]}, fields)

    def _update(self, point: Document, **fields: Any) -> None:
        self.points.update_one({"_id": point["_id"], "run": point["run"]}, {"$set": fields})

    # -- commands --------------------------------------------------------------------------------

    def _stop_commands(self, sweep: Document, agent_id: str) -> list[Command]:
        """Commands that stop runs of this agent: all of a canceled sweep, or those that Hyperband
        stops early."""
        running = list(self.points.find({"agent": agent_id, "state": "running"}))
        if not running:
            return []
        if sweep["state"] == "CANCELED":
            stopped = running
        elif "early_terminate" in sweep["config"]:
            losers = search.to_stop(sweep["config"], self._search_runs(sweep))
            stopped = [point for point in running if point["run"] in losers or point.get("stop")]
        else:
            return []
        for point in stopped:
            self._update(point, stop=True)
        return [{"type": "stop", "run_id": point["run"]} for point in stopped]

    def _next(self, sweep: Document, agent: Document, is_busy: bool) -> list[Command]:
        """The command to run a point, or to exit when no point is left and none can come back."""
        if is_busy or sweep["state"] == "PAUSED":
            return []
        leave: list[Command] = [{"type": "exit"}]
        if sweep["state"] != "RUNNING":
            return leave
        point = self._assign(sweep, agent)
        if point is None and self._add_suggested_point(sweep):
            point = self._assign(sweep, agent)
        if point is None:
            if self._count(sweep, "running"):
                return []  # one of them may become pending again
            self.set_state(sweep["_id"], "FINISHED")
            return leave
        arguments = {key: {"value": value} for key, value in point["point"].items()}
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

    def _add_suggested_point(self, sweep: Document) -> bool:
        """Add the next point of a random or Bayes sweep; False if it has all its points."""
        config = sweep["config"]
        number = self.points.count_documents({"sweep": sweep["_id"]})
        if config["method"] == "grid" or number >= config.get("run_cap", float("inf")):
            return False
        points = search.suggest(config, self._search_runs(sweep), 1, sweep["seed"])
        for point in points:
            self.points.insert_one(_pending_point(sweep["_id"], number, point))
        return bool(points)

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

    def _count(self, sweep: Document, state: str) -> int:
        return self.points.count_documents({"sweep": sweep["_id"], "state": state})


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


def _as_utc(time: datetime) -> datetime:
    """A stored time with its zone: Sacred and pymongo give naive UTC."""
    return time.replace(tzinfo=UTC)
