"""What a report shows, read from the store into columns that compress well."""

import base64
import math
import shlex
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from grok.claims import scorecard
from grok.paths import PROJECT

RESULTS = ("phase", "steps_to_train", "steps_to_test", "train_accuracy", "test_accuracy", "seconds")
BASE = ("train_accuracy", "test_accuracy", "train_loss", "test_loss")
VALUES = 4_000_000  # numbers in all curves together
POINTS = (24, 200)  # of a curve: at least, at most
METRICS = 24  # of a run, at most
SPARK, LEVELS = 24, 64  # points and heights of a sparkline
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def summary_of(store, wanted: dict[str, Any], figures: list[Path]) -> dict[str, Any]:
    """Papers with claims and pictures, sweeps, and a table of runs by columns."""
    database = store.database
    runs = list(database.runs.find(wanted, {"captured_out": 0, "info.metrics": 0}).sort("_id", -1))
    about = {
        "store": store.describe(),
        "made": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "commit": _commit(),
        "runs": len(runs),
    }
    sweeps = {run.get("meta", {}).get("sweep", {}).get("id") for run in runs}
    return {
        "about": about,
        "papers": [paper_of(database, paper, figures) for paper in scorecard.experiments()],
        "sweeps": [sweep_of(one) for one in database.sweeps.find().sort("created", -1) if one["_id"] in sweeps],
        "runs": columns_of(runs),
        "config": coded([run.get("config") or {} for run in runs]),
        "environment": coded([run.get("info", {}).get("environment") or {} for run in runs]),
        "commands": [command_of(run) for run in runs],
        "spark": sparks(database, [run["_id"] for run in runs]),
    }  # fmt: skip


def paper_of(database, paper, figures: list[Path]) -> dict[str, Any]:
    """A paper's claims, how they came out, and its pictures as data."""
    findings, seconds = scorecard.latest(database, paper)
    rows = []
    for claim in paper.claims:
        card = scorecard.summary(findings[claim.id])
        rows.append(
            {
                "id": claim.id,
                "says": claim.statement,
                "passed": card.passed,
                "report_only": claim.report_only,
                "seeds": card.seeds,
                "measured": card.measured,
            }
        )
    return {
        "name": paper.path,
        "says": paper.doc.strip().splitlines()[0],
        "seconds": plain(seconds),
        "claims": rows,
        "figures": [picture(path) for path in pictures_of(paper.path, figures)],
    }


def pictures_of(name: str, folders: list[Path]) -> list[Path]:
    """The paper's PNG files, of equal names the one in the first folder; liu_toy's begin with liu_."""
    first = name.partition("_")[0]
    found = {
        path.stem: path for folder in folders[::-1] for path in sorted(folder.glob(f"{first}*.png"))
    }
    return list(found.values())


def picture(path: Path) -> dict[str, str]:
    """A PNG as a data URI, with its name."""
    return {
        "name": path.stem,
        "data": "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode(),
    }


def sweep_of(sweep: dict[str, Any]) -> dict[str, Any]:
    """A sweep and which of its keys vary."""
    parameters = sweep["config"].get("parameters", {})
    varying = [
        key
        for key, one in parameters.items()
        if len(one.get("values", (1, 2))) > 1 and "value" not in one
    ]
    found = sweep.get("claims", {}).get("findings", [])
    return {
        "id": sweep["_id"],
        "name": sweep["name"],
        "experiment": sweep["experiment"],
        "created": f"{sweep['created']:%Y-%m-%d %H:%M}",
        "seconds": plain(sweep.get("seconds")),
        "state": sweep.get("state", ""),
        "keys": [key for key in varying if key != "seed"],
        "claims": f"{sum(f['passed'] for f in found)}/{len(found)}" if found else "",
    }  # fmt: skip


def columns_of(runs: list[dict[str, Any]]) -> dict[str, list]:
    """The table of runs: a list per column."""
    # "" where a run has no such result (yet); None is a step that was never reached
    results = [run["result"] if isinstance(run.get("result"), dict) else {} for run in runs]
    return {
        "run": [run["_id"] for run in runs],
        "experiment": [run.get("experiment", {}).get("name", "") for run in runs],
        "status": [run.get("status", "") for run in runs],
        "started": [
            f"{r['start_time']:%Y-%m-%d %H:%M}" if r.get("start_time") else "" for r in runs
        ],
        "sweep": [run.get("meta", {}).get("sweep", {}).get("id", "") for run in runs],
        "seed": [(run.get("config") or {}).get("seed") for run in runs],
        **{key: [plain(result.get(key, "")) for result in results] for key in RESULTS},
    }


def coded(rows: list[dict[str, Any]]) -> dict[str, dict[str, list]]:
    """Each key's different values, and per row the number of its own, -1 for none."""
    result = {}
    for key in dict.fromkeys(key for row in rows for key in row):
        values: dict[str, int] = {}
        found, index = [], []
        for row in rows:
            if key not in row:
                index.append(-1)
                continue
            value = plain(row[key])
            name = repr(value)
            if name not in values:
                values[name] = len(found)
                found.append(value)
            index.append(values[name])
        result[key] = {"v": found, "i": index}
    return result


def command_of(run: dict[str, Any]) -> str:
    """The command line that repeats a run, at its commit."""
    meta, experiment = run.get("meta", {}), run.get("experiment", {})
    updates = meta.get("config_updates") or {}
    words = [
        *(meta.get("named_configs") or ()),
        *(f"{k}={shlex.quote(str(v))}" for k, v in updates.items()),
    ]
    if "seed" not in updates and run.get("config"):
        words.append(f"seed={run['config'].get('seed')}")
    line = f"python {experiment.get('mainfile')} with {' '.join(words)}"
    repositories = experiment.get("repositories") or []
    if not repositories:
        return line
    changed = "  # and uncommitted changes" if repositories[0].get("dirty") else ""
    return f"git checkout {repositories[0]['commit'][:12]}{changed}\n{line}"


def sparks(database, ids: list) -> list[str]:
    """Of each run, its test accuracy by logged step in 24 characters of 64 heights; "" for none."""
    found: dict[Any, str] = {}
    fields = {"_id": 0, "run_id": 1, "values": 1}
    for one in database.metrics.find({"run_id": {"$in": ids}, "name": "test_accuracy"}, fields):
        values = np.array(one["values"], float)
        if len(values):
            chosen = values[np.linspace(0, len(values) - 1, SPARK).astype(int)]
            heights = np.nan_to_num(np.clip(chosen, 0, 1), nan=0.0) * (LEVELS - 1)
            found[one["run_id"]] = "".join(ALPHABET[int(height)] for height in heights)
    return [found.get(one, "") for one in ids]


def details_of(database, ids: list) -> dict[str, Any]:
    """Thinned curves of every run, in the runs' order: {metric: [number of its steps, values]}, and the
    different lists of steps. How thin depends on how many there are."""
    kinds = max(1, len(database.metrics.distinct("name", {"run_id": {"$in": ids[:200]}})))
    points = int(np.clip(VALUES / max(1, len(ids)) / min(kinds, METRICS), *POINTS))
    place = {number: i for i, number in enumerate(ids)}
    curves: list[dict[str, list]] = [{} for _ in ids]
    steps: dict[tuple, int] = {}
    fields = {"_id": 0, "run_id": 1, "name": 1, "steps": 1, "values": 1}
    for one in database.metrics.find({"run_id": {"$in": ids}}, fields):
        mine = curves[place[one["run_id"]]]
        if len(mine) >= METRICS and one["name"] not in BASE:
            continue
        kept = thinned(len(one["steps"]), points)
        at = tuple(one["steps"][i] for i in kept)
        number = steps.setdefault(at, len(steps))
        mine[one["name"]] = [number, [rounded(one["values"][i]) for i in kept]]
    return {"steps": [list(one) for one in steps], "curves": curves}


def thinned(count: int, most: int) -> Iterable[int]:
    """At most `most` of `count` places, evenly, the first and the last among them."""
    if count <= most:
        return range(count)
    return np.unique(np.linspace(0, count - 1, most).astype(int)).tolist()


def rounded(value: Any) -> float | None:
    """Four digits; None for what is no finite number."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(f"{value:.4g}")


def plain(value: Any) -> Any:
    """A value as JSON has it: numbers that are not finite and objects become text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)


def _commit() -> str:
    command = ["git", "-C", str(PROJECT), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"
