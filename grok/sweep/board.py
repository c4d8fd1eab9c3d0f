"""A served sweep in MongoDB: which points there are, who has which, and what came of them.

Documents: `sweeps` (W&B's config and the state that the user gave it), `sweep_points` (one a point:
pending, running, finished, stopped or failed), `sweep_agents`. Nothing else is kept, so the
endpoint may die at any moment and be started again.
"""

import threading
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo import ASCENDING, ReturnDocument

from grok.claims.scorecard import check_sweep
from grok.errors import UserError
from grok.store.connection import Store
from grok.sweep import search
from grok.sweep.file import SweepFile, check, name_of
from grok.sweep.plan import default_seed

LOST_AFTER = 120.0  # seconds without a heartbeat from the agent
SILENT_AFTER = 15.0  # seconds from which the store is asked what became of the run
MOST_ATTEMPTS = 3
Command = dict[str, Any]


class Board:
    """All served sweeps of one store. Calls are serialized; the store may be shared by boards."""

    def __init__(self, store: Store, lost_after: float = LOST_AFTER):
        self.database = database = store.database
        self.sweeps, self.runs, self.metrics = database.sweeps, database.runs, database.metrics
        self.points, self.agents = database.sweep_points, database.sweep_agents
        self.lost_after = timedelta(seconds=lost_after)
        self.lock = threading.Lock()
        self.points.create_index([("sweep", ASCENDING), ("number", ASCENDING)], unique=True)
        self.points.create_index("run")
        self.runs.create_index("info.wandb.run")

    def create(self, config: dict[str, Any], name: str | None = None) -> str:
        """A new sweep's id; UserError, with nothing stored, if its file is wrong."""
        file = check(config, name or name_of(config), "sweep")
        grid = config["method"] == "grid"
        points = search.grid(config, config.get("run_cap")) if grid else []
        sweep = f"{file.experiment.path}-{uuid.uuid4().hex[:6]}"
        if points:
            self.points.insert_many(
                {"_id": f"{sweep}/{i}", "sweep": sweep, "number": i, **_fresh(point)}
                for i, point in enumerate(points)
            )
        self.sweeps.insert_one(
            {
                "_id": sweep,
                "name": file.name,
                "config": config,
                "experiment": file.experiment.path,
                "created": _now(),
                "served": True,
                "seed": default_seed(file),
                "state": "RUNNING",
            }
        )
        return sweep

    def sweep(self, sweep: str) -> dict[str, Any] | None:
        """The sweep's document, or None."""
        return self.sweeps.find_one({"_id": sweep, "served": True})

    def file(self, sweep: str) -> SweepFile:
        """The sweep as a checked file."""
        found = self.sweep(sweep)
        return check(found["config"], found["name"], sweep)

    def set_state(self, sweep: str, state: str) -> None:
        """RUNNING, PAUSED, FINISHED (no new points) or CANCELED (end the running ones too)."""
        self.sweeps.update_one({"_id": sweep}, {"$set": {"state": state}})

    def join(self, sweep: str, host: str) -> str:
        """The id of a new agent; UserError if there is no such sweep."""
        if self.sweep(sweep) is None:
            raise UserError(f"no sweep {sweep} here")
        agent = uuid.uuid4().hex[:12]
        self.agents.insert_one({"_id": agent, "sweep": sweep, "host": host, "heartbeat": _now()})
        return agent

    def beat(self, agent: str, running: Iterable[str]) -> list[Command] | None:
        """Note the agent's W&B runs; return what it shall do now, or None if it is not known."""
        with self.lock:
            known = self.agents.find_one_and_update(
                {"_id": agent}, {"$set": {"heartbeat": _now(), "running": list(running)}}
            )
            if known is None:
                return None
            sweep = self.sweep(known["sweep"])
            self._note(agent, set(running))
            self._take_back(sweep["_id"])
            return self._stops(sweep, agent) + self._next(sweep, known, bool(running))

    # -- what became of points -------------------------------------------------------------------

    def _note(self, agent: str, running: set[str]) -> None:
        """Points of this agent that still run, and those that have ended since its last word."""
        for point in self.points.find({"agent": agent, "state": "running"}):
            if point["run"] in running:
                self._set(point, heartbeat=_now(), seen=True)
            else:
                self._settle(point)

    def _take_back(self, sweep: str) -> None:
        """Points whose agent has gone silent: over if their run is, pending if it is dead."""
        silent = _now() - min(self.lost_after, timedelta(seconds=SILENT_AFTER))
        lost = _now() - self.lost_after
        quiet = {"sweep": sweep, "state": "running", "heartbeat": {"$lt": silent}}
        for point in self.points.find(quiet):
            run = self._run_of(point)
            ended = run is not None and run["status"] != "RUNNING"
            beating = run is not None and _aware(run["heartbeat"]) > lost
            if ended or (point["heartbeat"].replace(tzinfo=UTC) < lost and not beating):
                self._settle(point, died=True)

    def _settle(self, point: dict, died: bool = False) -> None:
        """Record how a point's run ended. A run cut short by anyone but W&B is to be repeated.

        died: its agent is gone too, so that a run without a trace was not at fault.
        """
        run = self._run_of(point)
        status = run["status"] if run else None
        if status == "COMPLETED":
            self._set(point, state="finished")
        elif status == "INTERRUPTED" and point.get("stop"):
            self._set(point, state="stopped")
        elif (
            status == "FAILED"
            or (status is None and point["seen"] and not died)
            or len(point["attempts"]) >= MOST_ATTEMPTS
        ):
            self._set(point, state="failed")
        else:
            self._set(point, state="pending", agent=None, run=None, stop=False, seen=False)
        sweep = self.sweep(point["sweep"])
        if not self._count(sweep, "pending") + self._count(sweep, "running"):
            check_sweep(self.database, self.file(sweep["_id"]).experiment, sweep)

    def _run_of(self, point: dict) -> dict | None:
        wanted = {"info.wandb.run": point["run"]}
        return self.runs.find_one(wanted, {"status": 1, "heartbeat": 1, "result": 1})

    def _set(self, point: dict, **fields: Any) -> None:
        self.points.update_one({"_id": point["_id"], "run": point["run"]}, {"$set": fields})

    # -- what to do next -------------------------------------------------------------------------

    def _stops(self, sweep: dict, agent: str) -> list[Command]:
        """Commands to end runs of this agent: all of a canceled sweep, or Hyperband's losers."""
        mine = list(self.points.find({"agent": agent, "state": "running"}))
        if not mine:
            return []
        if sweep["state"] == "CANCELED":
            stopped = mine
        elif "early_terminate" in sweep["config"]:
            losers = search.to_stop(sweep["config"], self._search_runs(sweep))
            stopped = [point for point in mine if point["run"] in losers or point.get("stop")]
        else:
            return []
        for point in stopped:
            self._set(point, stop=True)
        return [{"type": "stop", "run_id": point["run"]} for point in stopped]

    def _next(self, sweep: dict, agent: dict, busy: bool) -> list[Command]:
        """A point to run, or the command to exit when nothing is left and nothing may come back."""
        if busy or sweep["state"] == "PAUSED":
            return []
        leave = [{"type": "exit"}]
        if sweep["state"] != "RUNNING":
            return leave
        point = self._claim(sweep, agent) or (self._suggest(sweep) and self._claim(sweep, agent))
        if not point:
            if self._count(sweep, "running"):
                return []  # one of them may come back
            self.set_state(sweep["_id"], "FINISHED")
            return leave
        arguments = {key: {"value": value} for key, value in point["point"].items()}
        program = sweep["config"]["program"]
        return [{"type": "run", "run_id": point["run"], "program": program, "args": arguments}]

    def _claim(self, sweep: dict, agent: dict) -> dict | None:
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

    def _suggest(self, sweep: dict) -> bool:
        """Add the next point of a random or Bayes sweep; False if it has had all its points."""
        config = sweep["config"]
        number = self.points.count_documents({"sweep": sweep["_id"]})
        if config["method"] == "grid" or number >= config.get("run_cap", float("inf")):
            return False
        for point in search.suggest(config, self._search_runs(sweep), 1, sweep["seed"]):
            entry = {"_id": f"{sweep['_id']}/{number}", "sweep": sweep["_id"], "number": number}
            self.points.insert_one({**entry, **_fresh(point)})
            return True
        return False

    def _search_runs(self, sweep: dict) -> list:
        """The sweep's runs as W&B's search code sees them, with the metric's history."""
        metric = sweep["config"].get("metric", {}).get("name")
        runs = {
            run["info"]["wandb"]["run"]: run
            for run in self.runs.find(
                {"info.wandb.sweep": sweep["_id"]}, {"result": 1, "info.wandb": 1}
            )
        }
        curves = {
            curve["run_id"]: curve["values"]
            for curve in self.metrics.find(
                {"run_id": {"$in": [run["_id"] for run in runs.values()]}, "name": metric}
            )
        }
        found = []
        for point in self.points.find({"sweep": sweep["_id"]}).sort("number"):
            run = runs.get(point["run"], {})
            values = curves.get(run.get("_id"), [])
            state = "running" if point["state"] in ("running", "pending") else "finished"
            history = [{metric: value} for value in values]
            final = {metric: values[-1]} if values else {}
            found.append(
                search.run_of(
                    point["run"] or str(point["number"]), point["point"], state, history, final
                )
            )
        return found

    def _count(self, sweep: dict, state: str) -> int:
        return self.points.count_documents({"sweep": sweep["_id"], "state": state})


def _fresh(point: search.Point) -> dict[str, Any]:
    """A point that nobody has had."""
    return {"point": point, "state": "pending", "run": None, "attempts": [], "seen": False}


def _now() -> datetime:
    return datetime.now(UTC)


def _aware(moment: datetime) -> datetime:
    """Sacred and pymongo give naive UTC."""
    return moment.replace(tzinfo=UTC)
