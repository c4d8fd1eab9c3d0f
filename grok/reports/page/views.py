"""What the page shows, as plain values for JSON, read from the store.

The live page asks the server for these views; the report has their results in it.
"""

import math
import re
import shlex
import threading
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from pymongo.database import Database

from grok.errors import UserError
from grok.reports.page.values import command_of, flat, part_of, plain, sparkline, thinned
from grok.store import selection
from grok.store.connection import find_run, find_sweep, swept_keys
from grok.store.documents import RUN_KEYS, check_key, find_metrics, named_run
from grok.store.status import dead, shown_status

Query = dict[str, Any]
FIELDS: dict[str, Any] = {  # of the columns that are no key of the config
    "run": "$_id",
    "experiment": "$experiment.name",
    "status": "$status",  # DEAD, where `field_of` says so
    "started": "$start_time",
    "sweep": {"$ifNull": ["$meta.sweep.id", "$info.wandb.sweep"]},
    "tag": {
        "$concatArrays": [
            {"$ifNull": ["$meta.named_configs", []]},
            {"$ifNull": ["$omniboard.tags", []]},
        ]
    },
    "notes": "$omniboard.notes",
    "host": "$host.hostname",
}
CURVE = "curve"  # the column with a small curve of the test accuracy
METRIC = "metric."  # begins a column with the last value of a metric
MOST_ROWS = 50_000  # of one answer
MOST_GROUPS = 500
IDS_PER_QUERY = 10_000
MISSING = object()
MOST_COMPARED = 200  # runs whose keys are offered together
RUNS_FOR_KEYS = 20  # latest runs of each experiment, whose keys are offered as columns
POINTS = 1000  # of a curve that is drawn large
RECENT_SECONDS = 60.0  # of training, from which the rate is measured
WORD = re.compile(
    r"""(?:[^\s'"]|'[^']*'|"[^"]*")+|['"]"""
)  # a quote that is not closed is no filter
METRIC_IN_RESULT = re.compile(r"\w+")
POINT_STATES = ("pending", "running", "finished", "stopped", "failed")


def filters_of(text: str) -> list[str]:
    """The filters that are written in one line, with spaces between them but not inside quotes."""
    return WORD.findall(text)


def field_of(column: str) -> Any:
    """The expression of MongoDB for a column; UserError if the name can be no key."""
    if column == "status":
        return shown_status()
    if column in FIELDS:
        return FIELDS[column]
    key = column if column.startswith("result.") else f"config.{column.removeprefix('config.')}"
    if not all(key.split(".")) or "$" in key or "\0" in key:
        raise UserError(f"{column}: no key of a run")
    check_key(key)
    return f"${key}"


def runs(
    database: Database,
    filters: str,
    columns: Sequence[str],
    sort: str = "run",
    descending: bool = True,
    offset: int = 0,
    limit: int = 100,
    ids: Sequence[int | str] = (),
    sweeps: Sequence[str] = (),
    last: "LastValues | None" = None,
) -> dict[str, Any]:
    """One page of the table of runs.

    Arguments:
        ids, sweeps: if given, only these runs, and only the runs of the sweeps with these ids.
        filters: in the language of `grok.store.selection`, in one line.
        columns: `run`, another of FIELDS, `result.KEY`, `metric.NAME`, `curve`, or a key of the config.
        sort: a column, but not the curve; what has no value comes last.
        offset, limit: which rows of all, in this order.
        last: where last values of metrics are kept between calls.

    Returns:
        `total`, the number of runs that the filters select, and `rows` with a value for each column. Where
        the filters select no run, `why` names the first that no run meets.
    """
    wanted = _chosen(database, filters, ids, sweeps)
    limit = min(limit, MOST_ROWS)
    if sort.startswith(METRIC):
        last, name = last or LastValues(), sort.removeprefix(METRIC)
        ids = last.order(database, wanted, name, descending)[offset : offset + limit]
    else:
        ids = _ids(database, wanted, sort, descending, offset, limit)
    stored = [column for column in columns if column != CURVE and not column.startswith(METRIC)]
    fields = {f"c{i}": _value_or_none(field_of(column)) for i, column in enumerate(stored)}
    found = database.runs.aggregate(
        [{"$match": {"_id": {"$in": ids}}}, {"$project": fields or {"_id": 1}}]
    )
    values = {
        run["_id"]: {column: json_value(run.get(f"c{i}")) for i, column in enumerate(stored)}
        for run in found
    }
    for column, of_runs in _metric_columns(database, ids, columns).items():
        for run_id, value in of_runs.items():
            values.get(run_id, {})[column] = value
    rows = [
        [values[run_id].get(column) for column in columns] for run_id in ids if run_id in values
    ]
    total = _count(database, wanted)
    why = {} if total else {"why": _why_none(database, filters_of(filters))}
    return {"total": total, "rows": rows, **why}


def _why_none(database: Database, filters: list[str]) -> str:
    try:
        selection.select_nonempty(database, filters)
    except UserError as error:
        return str(error)
    return "none of the chosen runs"


def _chosen(
    database: Database, filters: str, ids: Sequence[int | str], sweeps: Sequence[str]
) -> Query:
    wanted = selection.select(database, filters_of(filters))
    if ids:
        wanted = {"$and": [wanted, {"_id": {"$in": [*ids]}}]}
    if sweeps:
        wanted = {"$and": [wanted, selection.of_sweeps(*sweeps)]}
    return wanted


def _ids(
    database: Database, wanted: Query, sort: str, descending: bool, offset: int, limit: int
) -> list[Any]:
    """The ids of the runs on a page of the table, in its order."""
    direction = -1 if descending else 1
    if sort == "run":
        cursor = database.runs.find(wanted, {"_id": 1}).sort("_id", direction)
        return [run["_id"] for run in cursor.skip(offset).limit(limit)]
    if sort == CURVE:
        raise UserError("runs cannot be sorted by a curve")
    stages: list[Query] = [
        {"$match": wanted},
        {"$project": {"value": field_of(sort)}},
        {"$set": {"lacks": {"$lte": ["$value", None]}}},  # a missing value is less than null
        {"$sort": {"lacks": 1, "value": direction, "_id": -1}},
        {"$skip": offset},
        {"$limit": limit},
        {"$project": {"_id": 1}},
    ]
    return [run["_id"] for run in database.runs.aggregate(stages, allowDiskUse=True)]


def _value_or_none(field: Any) -> Any:
    return {"$ifNull": [field, None]}


def _count(database: Database, wanted: Query) -> int:
    if not wanted:
        return database.runs.estimated_document_count()
    return database.runs.count_documents(wanted)


def _metric_columns(
    database: Database, ids: list[Any], columns: Sequence[str]
) -> dict[str, dict[Any, Any]]:
    """For each column of a metric, the value of each run that has logged it."""
    names = {column: column.removeprefix(METRIC) for column in columns if column.startswith(METRIC)}
    found: dict[str, dict[Any, Any]] = {column: {} for column in names}
    for column, name in names.items():
        values = _last_values(database, ids, name)
        found[column] = {run_id: json_value(value) for run_id, value in values.items()}
    if CURVE in columns:
        wanted: Query = {"run_id": {"$in": ids}, "name": "test_accuracy"}
        found[CURVE] = {
            metric["run_id"]: sparkline(metric["values"])
            for metric in find_metrics(database.metrics, wanted, ["values"])
        }
    return found


def _last_values(database: Database, ids: Sequence[Any], name: str) -> dict[Any, Any]:
    """The last value of a metric, by run."""
    found: dict[Any, Any] = {}
    for start in range(0, len(ids), IDS_PER_QUERY):
        wanted: Query = {"run_id": {"$in": [*ids[start : start + IDS_PER_QUERY]]}, "name": name}
        last = {"_id": 0, "run_id": 1, "value": {"$last": "$values"}, "part": 1}
        stages: list[Query] = [{"$match": wanted}, {"$project": last}, {"$sort": {"part": 1}}]
        found |= {one["run_id"]: one.get("value") for one in database.metrics.aggregate(stages)}
    return found


class LastValues:
    """The last values of metrics.

    The result of a completed run has those of the metrics without "/" in their names. The store has
    the others within curves only: they are kept in memory, and read again when the heartbeat of their
    run has changed.
    """

    MOST_METRICS = 8

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.known: dict[
            str, dict[Any, tuple[Any, Any]]
        ] = {}  # (heartbeat, value) by run, by metric

    def order(self, database: Database, wanted: Query, name: str, descending: bool) -> list[Any]:
        """The ids of runs, sorted by the last value of a metric; those without a number come last,
        and of equal ones the latest run first."""
        stages: list[Query] = [{"$match": wanted}, {"$sort": {"_id": -1}}]
        stages += [{"$project": {"heartbeat": 1, **_value_in_result(name)}}]
        runs = [*database.runs.aggregate(stages, allowDiskUse=True)]
        ids = [run["_id"] for run in runs]
        values = {run["_id"]: run["value"] for run in runs if "value" in run}
        heartbeats = {run["_id"]: run.get("heartbeat") for run in runs if "value" not in run}
        with self.lock:
            known = self.known[name] = self.known.pop(name, {})
            while len(self.known) > self.MOST_METRICS:
                del self.known[next(iter(self.known))]
            none = (MISSING, None)
            new = [i for i, beat in heartbeats.items() if known.get(i, none)[0] != beat]
            read = _last_values(database, new, name)
            known |= {i: (heartbeats[i], read.get(i)) for i in new}
            values |= {i: known[i][1] for i in heartbeats}
        numbers = [i for i in ids if _is_ordered(values[i])]
        others = [i for i in ids if not _is_ordered(values[i])]
        return sorted(numbers, key=values.__getitem__, reverse=descending) + others


def _value_in_result(name: str) -> Query:
    """A projection of `value`, a metric's last one, of the runs whose result is known to have it: those
    that this project has completed."""
    if not METRIC_IN_RESULT.fullmatch(name):
        return {}
    is_own = {"$gt": ["$info.program", None]}
    is_known = {"$and": [{"$eq": ["$status", "COMPLETED"]}, is_own]}
    return {"value": {"$cond": [is_known, f"$result.{name}", "$$REMOVE"]}}


def _is_ordered(value: Any) -> bool:
    return isinstance(value, int | float) and not math.isnan(value)


def decided_alone(run: dict[str, Any]) -> list[dict[str, Any]]:
    """The findings of the claims that the run decided at its end, without other runs.

    Earlier versions stored those that need other runs, too, with the reason.
    """
    findings = part_of(run, "info").get("claims") or []
    return [finding for finding in findings if finding.get("why") is None]


def groups(database: Database, filters: str, by: str, columns: Sequence[str]) -> dict[str, Any]:
    """The runs that filters select, grouped by the values of a column.

    Returns:
        `total`, the number of these runs, and `groups`, the MOST_GROUPS largest ones: for each its
        `value`, the `count` of its runs, the `states` (how many runs have each status), and `means`,
        that of each column over the runs where it is a number.
    """
    wanted = selection.select(database, filters_of(filters))
    numeric = [c for c in columns if c not in FIELDS and c != CURVE and not c.startswith(METRIC)]
    means = {f"m{i}": {"$avg": field_of(column)} for i, column in enumerate(numeric)}
    stages: list[Query] = [
        {"$match": wanted},
        {
            "$group": {
                "_id": _value_or_none(field_of(by)),
                "count": {"$sum": 1},
                "states": {"$push": shown_status()},
                **means,
            }
        },
        {"$sort": {"count": -1, "_id": 1}},
        {"$limit": MOST_GROUPS},
    ]
    found = []
    for group in database.runs.aggregate(stages, allowDiskUse=True):
        states = [str(state) for state in group["states"]]
        found.append(
            {
                "value": json_value(group["_id"]),
                "count": group["count"],
                "states": {state: states.count(state) for state in sorted({*states})},
                "means": {c: json_value(group[f"m{i}"]) for i, c in enumerate(numeric)},
            }
        )
    return {"total": _count(database, wanted), "groups": found}


def keys(
    database: Database,
    filters: str | None = None,
    ids: Sequence[int | str] = (),
    sweeps: Sequence[str] = (),
) -> dict[str, list[str]]:
    """Names that can be columns: of the `config`, of `results` and of `metrics`.

    Arguments:
        filters, ids, sweeps: if one is given, the names of the first MOST_COMPARED of these runs;
            otherwise those of the latest runs of each experiment.
    """
    fields = {"config": 1, "result": 1}
    if filters is None and not ids and not sweeps:
        latest = (
            database.runs.find({"experiment.name": name}, fields).sort("_id", -1)
            for name in database.runs.distinct("experiment.name")
        )
        found = [run for cursor in latest for run in cursor.limit(RUNS_FOR_KEYS)]
    else:
        wanted = _chosen(database, filters or "", ids, sweeps)
        found = [*database.runs.find(wanted, fields).sort("_id", 1).limit(MOST_COMPARED)]
    config = {key for run in found for key in flat(part_of(run, "config"))}
    results = {key for run in found for key in flat(part_of(run, "result"))}
    ids_found = [run["_id"] for run in found]
    metrics = database.metrics.distinct("name", {"run_id": {"$in": ids_found}})
    return {
        "run": [*FIELDS, CURVE],
        "config": sorted(config),
        "results": sorted(f"result.{key}" for key in results),
        "metrics": sorted(f"{METRIC}{name}" for name in metrics),
    }


def run(database: Database, run_id: int | str) -> dict[str, Any]:
    """All that is known of a run, except its metrics' values; UserError if there is none."""
    document = find_run(database, run_id)
    info = part_of(document, "info")
    config = part_of(document, "config")
    metrics = database.metrics.distinct("name", {"run_id": document["_id"]})
    return {
        "run": document["_id"],
        "experiment": part_of(document, "experiment").get("name", ""),
        "status": status_of(database, document),
        "started": json_value(document.get("start_time")),
        "stopped": json_value(document.get("stop_time")),
        "sweep": sweep_id_of(document),
        "tags": [str(tag) for tag in part_of(document, "omniboard").get("tags") or ()],
        "named_configs": [str(n) for n in part_of(document, "meta").get("named_configs") or ()],
        "notes": str(part_of(document, "omniboard").get("notes") or ""),
        "config": json_value(flat(config)),
        "updates": sorted(flat(part_of(part_of(document, "meta"), "config_updates"))),
        "result": json_value(flat(part_of(document, "result"))),
        "environment": json_value(part_of(info, "environment")),
        "program": json_value(part_of(info, "program")),
        "host": json_value(flat(part_of(document, "host"))),
        "claims": json_value(decided_alone(document)),
        "parents": parents_of(document),
        "commands": commands_of(document),
        "output": str(document.get("captured_out") or ""),
        "trace": trace_of(document),
        "files": [str(entry.get("name")) for entry in document.get("artifacts") or ()],
        "metrics": sorted(map(str, metrics)),
        "progress": progress(database, document),
    }


def trace_of(run: dict[str, Any]) -> str:
    """The traceback of a run that failed; empty for another."""
    return "".join(str(line) for line in run.get("fail_trace") or ())


def parents_of(document: dict[str, Any]) -> dict[str, Any]:
    """The runs that a run started from or was measured against, and the one that it repeats.

    None for one that its configuration names and that is not known in this store.
    """
    config = part_of(document, "config")
    known = {key: named_run(document, key) for key in RUN_KEYS if config.get(key) is not None}
    repeats = part_of(document, "meta").get("repeats")
    return json_value({**known, **({"repeats": repeats} if repeats is not None else {})})


def sweep_id_of(document: dict[str, Any]) -> str:
    """The id of the run's sweep, also of one by agents of W&B; empty if it is of none."""
    of_agent = part_of(part_of(document, "info"), "wandb").get("sweep")
    return str(part_of(part_of(document, "meta"), "sweep").get("id") or of_agent or "")


def status_of(database: Database, document: dict[str, Any]) -> str:
    """The run's status; DEAD if it is RUNNING and has had no heartbeat for a minute."""
    status = str(document.get("status", ""))
    return "DEAD" if status == "RUNNING" and document["_id"] in dead(database) else status


def commands_of(document: dict[str, Any]) -> dict[str, str]:
    """The commands that repeat a run, resume it if it has not ended, and write it as files."""
    number = shlex.quote(str(document["_id"]))
    commands = {"train it again": command_of(document), "repeat": f"grok repeat {number}"}
    if document.get("status") != "COMPLETED":
        commands["resume"] = f"grok resume {number}"
    commands["export"] = f"grok export run {number} run_{number}"
    return commands


def progress(database: Database, document: dict[str, Any]) -> dict[str, Any] | None:
    """How far a running run is: `step`, `steps`, and if known the `rate` (steps in a second) and
    the seconds `left`; None for a run that is not running or has logged nothing."""
    if document.get("status") != "RUNNING":
        return None
    # of the metric that is furthest: others may be logged seldom, or only at the start
    stages: list[Query] = [
        {"$match": {"run_id": document["_id"], "steps": {"$type": "array"}}},
        {"$project": {"last": {"$last": "$steps"}, "count": {"$size": "$steps"}}},
        {"$sort": {"last": -1, "count": -1}},
        {"$limit": 1},
    ]
    furthest = next(database.metrics.aggregate(stages), {"_id": None})
    metrics = database.metrics.find_one(
        {"_id": furthest["_id"]}, {"steps": {"$slice": -200}, "timestamps": {"$slice": -200}}
    )
    if not metrics or not metrics.get("timestamps") or not metrics.get("steps"):
        return None
    steps, times = metrics["steps"], metrics["timestamps"]
    if len(steps) != len(times):  # as an imported run may have
        return None
    total = part_of(document, "config").get("train_steps")
    known: dict[str, Any] = {"step": steps[-1], "steps": plain(total)}
    recent = next(
        i for i, t in enumerate(times) if (times[-1] - t).total_seconds() <= RECENT_SECONDS
    )
    seconds = (times[-1] - times[recent]).total_seconds()
    if seconds > 0 and steps[-1] > steps[recent]:
        known["rate"] = (steps[-1] - steps[recent]) / seconds
        if isinstance(total, int | float) and math.isfinite(total):
            known["left"] = max(0.0, (total - steps[-1]) / known["rate"])
    return known


def curves(
    database: Database,
    run_ids: Iterable[int | str],
    names: Iterable[str] = (),
    points: int = POINTS,
) -> list[dict[str, Any]]:
    """The curves of runs: `run`, `name`, `steps` and `values`, thinned, None where not finite.

    Arguments:
        names: of the metrics; none stands for all.
        points: the largest number of points of a curve.
    """
    wanted: Query = {"run_id": {"$in": [*run_ids]}}
    if names := [*names]:
        wanted["name"] = {"$in": names}
    found = []
    for metric in find_metrics(database.metrics, wanted):
        thin = thinned(len(metric["values"]), points)
        found.append(
            {
                "run": metric["run_id"],
                "name": str(metric["name"]),
                "steps": thin(metric["steps"]),
                "values": [finite(value) for value in thin(metric["values"])],
            }
        )
    return sorted(found, key=lambda curve: (str(curve["run"]), curve["name"]))


def finite(value: Any) -> float | int | None:
    """The value if it is a finite number, to six digits; else None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(f"{value:.6g}") if isinstance(value, float) else value


def sweeps(database: Database) -> list[dict[str, Any]]:
    """The sweeps, the latest first, each with its number of runs by status and findings of claims."""
    stages: list[Query] = [
        {
            "$group": {
                "_id": {"sweep": FIELDS["sweep"], "status": shown_status()},
                "count": {"$sum": 1},
            }
        }
    ]
    counts: dict[str, dict[str, int]] = {}
    for group in database.runs.aggregate(stages):
        of_sweep = counts.setdefault(str(group["_id"].get("sweep")), {})
        of_sweep[str(group["_id"].get("status"))] = group["count"]
    return [
        {**sweep_of(sweep), "runs": counts.get(sweep["_id"], {})}
        for sweep in database.sweeps.find({}, {"points": 0, "batches": 0}).sort("created", -1)
    ]


def sweep_of(sweep: dict[str, Any]) -> dict[str, Any]:
    """What the list of sweeps shows of a sweep: which of its keys vary, the findings of its claims."""
    findings = part_of(sweep, "claims").get("findings") or []
    return {
        "id": str(sweep["_id"]),
        "name": str(sweep.get("name", "")),
        "experiment": str(sweep.get("experiment", "")),
        "created": json_value(sweep.get("created")),
        "seconds": json_value(sweep.get("seconds")),
        "state": str(sweep.get("state", "")).lower(),
        "keys": swept_keys(sweep),
        "has_details": "map" in sweep or bool(sweep.get("jobs")),
        "findings": [finding_of(finding) for finding in findings],
    }


def finding_of(finding: dict[str, Any]) -> dict[str, Any]:
    """What is shown of a finding on a sweep: `claim`, `seed`, `passed`, and how far it was decided,
    `state`."""
    shown = {key: json_value(finding.get(key)) for key in ("claim", "seed", "passed")}
    return {**shown, "state": finding.get("state", "evaluated")}


def sweep(database: Database, name: str) -> dict[str, Any]:
    """One sweep: its points with their states, and the agents that work on it.

    Arguments:
        name: its id, or its file's name for the latest of that file.

    Raises:
        UserError: there is no such sweep.
    """
    document = find_sweep(database, name)
    if document is None:
        raise UserError(f"no sweep {name}")
    stored = [*database.sweep_points.find({"sweep": document["_id"]}).sort("number", 1)]
    points = (
        [{"values": flat(part_of(point, "point")), "state": point["state"]} for point in stored]
        if stored
        else _local_points(database, document)
    )
    states = [point["state"] for point in points]
    agents = [
        {
            "host": json_value(point.get("host")),
            "wandb_run": json_value(point.get("run")),
            "point": json_value(flat(part_of(point, "point"))),
            "heartbeat": json_value(point.get("heartbeat")),
        }
        for point in stored
        if point["state"] == "running"
    ]
    return {
        **sweep_of(document),
        "points": [{**point, "values": json_value(point["values"])} for point in points],
        "states": {state: states.count(state) for state in POINT_STATES if state in states},
        "agents": agents,
    }


def _local_points(database: Database, document: dict[str, Any]) -> list[dict[str, Any]]:
    """The points of a sweep that a machine runs by itself, with the states of their latest runs."""
    fields = {"status": 1, "result.ended": 1, "meta.sweep.point": 1}
    wanted = selection.of_sweeps(document["_id"])
    runs = database.runs.find(wanted, fields).sort("_id", 1)
    points = ((part_of(part_of(run, "meta"), "sweep").get("point"), run) for run in runs)
    without_heartbeat = dead(database)
    states = {
        number: "stopped" if run["_id"] in without_heartbeat else _point_state(run)
        for number, run in points
        if isinstance(number, int)
    }
    return [
        {"values": flat(point), "state": states.get(number, "pending")}
        for number, point in enumerate(document.get("points") or ())
    ]


def _point_state(run: dict[str, Any]) -> str:
    match run.get("status"):
        case "COMPLETED":
            return "finished"
        case "RUNNING" | "QUEUED":
            return "running"
        case "INTERRUPTED":
            return "stopped"
    return "failed"


def set_notes(database: Database, run_id: int | str, tags: Sequence[str], notes: str) -> None:
    """Give a run tags and notes, in the fields where Omniboard keeps its own.

    UserError if there is no such run.
    """
    change = {"$set": {"omniboard.tags": [*tags], "omniboard.notes": notes}}
    if not database.runs.update_one({"_id": run_id}, change).matched_count:
        raise UserError(f"no run {run_id}")


def json_value(value: Any) -> Any:
    """A stored value as JSON can hold it: times in UTC as ISO 8601, other objects as text."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC).isoformat(timespec="seconds")
    if isinstance(value, dict):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 2**53:
        return str(value)  # JavaScript would round it
    return plain(value)
