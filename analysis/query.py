"""Stored runs as DataFrames, through pymongo; incense objects for the same runs on request."""

import io
import sys
from typing import Any

import numpy as np
import pandas as pd
import safetensors.numpy

from grok.lab import store as stores
from grok.lab.errors import UserError
from grok.lab.status import FINISHED


def connect() -> stores.Store:
    """The store that runs go to by default; one line and exit code 2 if there is none."""
    try:
        return stores.mongo()
    except UserError as error:
        fail(str(error))


def fail(message: str) -> None:
    """End a script: one line on stderr, exit code 2."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def loader(store: stores.Store):
    """An incense ExperimentLoader on the store."""
    from incense import ExperimentLoader

    return ExperimentLoader(mongo_uri=store.uri, db_name=store.db_name)


def runs(store: stores.Store, wanted: dict[str, Any] | None = None, last: int = 0) -> pd.DataFrame:
    """One row per run that matches a MongoDB filter, by id: experiment, status, times, and the
    config and result as columns `config.*` and `result.*`; the `last` ones if given."""
    fields = {"experiment.name": 1, "status": 1, "start_time": 1, "config": 1, "result": 1}
    fields |= {"meta.sweep": 1, "heartbeat": 1}
    cursor = store.database.runs.find(wanted or {}, fields).sort("_id", -1).limit(last)
    rows = [
        {
            "run": run["_id"],
            "experiment": run["experiment"]["name"],
            "status": run["status"],
            "start_time": run["start_time"],
            **{f"sweep.{k}": v for k, v in run.get("meta", {}).get("sweep", {}).items()},
            **{f"config.{key}": value for key, value in run["config"].items()},
            **{f"result.{key}": value for key, value in (run.get("result") or {}).items()},
        }
        for run in cursor
    ]
    return pd.DataFrame(rows[::-1])


def run(store: stores.Store, number: int | None, experiment: str | None = None) -> pd.Series:
    """The run with this id, or the latest finished one of an experiment; exits if there is none."""
    wanted: dict[str, Any] = {"_id": number} if number is not None else {"status": "COMPLETED"}
    if experiment:
        wanted["experiment.name"] = experiment
    found = runs(store, wanted, last=1)
    if found.empty:
        what = f"run {number}" if number is not None else "finished run"
        fail(f"no {what}{f' of {experiment}' if experiment else ''} in {store.describe()}")
    return found.iloc[0]


def metrics(store: stores.Store, ids: list[int], names: list[str] | None = None) -> pd.DataFrame:
    """Long table of logged values with columns run, metric, step, value."""
    wanted: dict[str, Any] = {"run_id": {"$in": [int(i) for i in ids]}}
    if names:
        wanted["name"] = {"$in": names}
    fields = {"run_id": 1, "name": 1, "steps": 1, "values": 1}
    parts = [
        pd.DataFrame(
            {
                "run": document["run_id"],
                "metric": document["name"],
                "step": document["steps"],
                "value": document["values"],
            }
        )
        for document in store.database.metrics.find(wanted, fields)
    ]
    return pd.concat(parts) if parts else pd.DataFrame(columns=["run", "metric", "step", "value"])


def curves(store: stores.Store, number: int) -> pd.DataFrame:
    """One run's metrics: a column each, indexed by step."""
    return metrics(store, [number]).pivot(index="step", columns="metric", values="value")


def arrays(store: stores.Store, number: int) -> dict[str, np.ndarray]:
    """The run's `trajectory.npz`: logged steps, trajectories, and kept data as `data_*`."""
    with np.load(
        io.BytesIO(artifact(store, number, "trajectory.npz")), allow_pickle=False
    ) as archive:
        return dict(archive)


def weights(store: stores.Store, number: int) -> dict[str, np.ndarray]:
    """The run's final weights by name."""
    return safetensors.numpy.load(artifact(store, number, "weights.safetensors"))


def artifact(store: stores.Store, number: int, name: str) -> bytes:
    """The content of a file that the run keeps; exits if there is none."""
    try:
        return stores.artifact(store.database, int(number), name)
    except UserError as error:
        fail(str(error))


def sweep(store: stores.Store, name: str) -> tuple[str, pd.DataFrame]:
    """Id and finished runs of a sweep, given its id or its file's name (then the latest); the
    latest run of each point. Exits if there is none."""
    document = stores.find_sweep(store.database, name)
    if document is None:
        fail(f"no sweep {name} in {store.describe()}")
    found = runs(store, {"meta.sweep.id": document["_id"], **FINISHED})
    if found.empty:
        fail(f"sweep {document['_id']} has no finished run yet")
    return document["_id"], found.drop_duplicates("sweep.point", keep="last")
