"""Stored runs as DataFrames, through pymongo; incense objects for the same runs on request.

store = query.connect()
chosen = query.select(store, experiment="liu_toy", p=10, decoder_lr=(1e-3, 1e-2), seed=[0, 1])
runs = query.runs(store, chosen)                # one row per run: config.*, result.*
long = query.metrics(store, runs["run"], ["test_accuracy"])
query.wide(long)                                # (run, step) x metrics
query.experiments(store, chosen)                # incense's QuerySet
"""

import io
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import safetensors.numpy

from grok import phases
from grok.errors import UserError, did_you_mean
from grok.store import connection as stores
from grok.store import selection
from grok.store.status import FINISHED


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


def select(store: stores.Store, *words: str, **wanted: Any) -> dict[str, Any]:
    """The MongoDB filter for words (`p=10`) and keywords, as `grok.store.selection` describes them."""
    return selection.select(store.database, words, **wanted)


def chosen(store: stores.Store, words: Iterable[str], last: int = 0) -> pd.DataFrame:
    """The runs that a script's words select, the `last` ones if given; one line and exit code 2 if
    there is none."""
    try:
        wanted, _ = selection.select_nonempty(store.database, words)
    except UserError as error:
        fail(str(error))
    return runs(store, wanted, last)


def experiments(store: stores.Store, wanted: dict[str, Any]):
    """incense's QuerySet of the runs that match a MongoDB filter."""
    ids = [run["_id"] for run in store.database.runs.find(wanted, {"_id": 1}).sort("_id")]
    return loader(store).find_by_ids(ids)


def loader(store: stores.Store):
    """An incense ExperimentLoader on the store. It unpickles nothing."""
    from incense import ExperimentLoader

    return ExperimentLoader(mongo_uri=store.uri, db_name=store.db_name, unpickle=False)


def runs(store: stores.Store, wanted: dict[str, Any] | None = None, last: int = 0) -> pd.DataFrame:
    """One row per run that matches a MongoDB filter, by id: run, experiment, status, start_time, and
    the sweep, config and result as columns `sweep.*`, `config.*`, `result.*`, nested keys dotted; the
    `last` ones if given."""
    fields = {"experiment.name": 1, "status": 1, "start_time": 1, "config": 1, "result": 1}
    fields |= {"meta.sweep": 1, "heartbeat": 1}
    cursor = store.database.runs.find(wanted or {}, fields).sort("_id", -1).limit(last)
    documents = list(cursor.batch_size(2000))[::-1]
    if not documents:
        return pd.DataFrame()
    columns: dict[str, list] = {
        "run": [run["_id"] for run in documents],
        "experiment": [run.get("experiment", {}).get("name") for run in documents],
        "status": [run.get("status") for run in documents],
        "start_time": [run.get("start_time") for run in documents],
    }
    configs = [_config_of(run) for run in documents]
    for part, rows in (
        ("sweep", [_sweep_of(run) for run in documents]),
        ("config", configs),
        ("result", [_result_of(run) for run in documents]),
    ):
        columns |= _columns(part, rows)
    frame = pd.DataFrame(columns)
    common = set.intersection(*map(set, configs))  # other keys are younger than some of the runs
    frame.attrs["everywhere"] = {f"config.{key}" for key in common}
    return frame


def _sweep_of(run: dict) -> dict:
    return run.get("meta", {}).get("sweep") or {}


def _config_of(run: dict) -> dict:
    return run.get("config") or {}


def _result_of(run: dict) -> dict:
    return run["result"] if isinstance(run.get("result"), dict) else {}


def _columns(prefix: str, rows: list[dict]) -> dict[str, list]:
    """The rows' values by key, None where a row lacks it; nested dicts as dotted keys."""
    columns = {}
    for key in dict.fromkeys(key for row in rows for key in row):
        values = [row.get(key) for row in rows]
        if any(isinstance(value, dict) for value in values):
            nested = [value if isinstance(value, dict) else {} for value in values]
            columns |= _columns(f"{prefix}.{key}", nested)
        else:
            columns[f"{prefix}.{key}"] = values
    return columns


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


def metrics(store: stores.Store, ids: Iterable, names: list[str] | None = None) -> pd.DataFrame:
    """Long table of logged values with columns run, metric (categorical), step, value."""
    wanted: dict[str, Any] = {"run_id": {"$in": [plain(one) for one in ids]}}
    if names:
        wanted["name"] = {"$in": names}
    fields = {"_id": 0, "run_id": 1, "name": 1, "steps": 1, "values": 1}
    of_runs, of_names, steps, values = [], [], [], []
    for document in store.database.metrics.find(wanted, fields):
        of_runs.append(document["run_id"])
        of_names.append(document["name"])
        steps.append(np.array(document["steps"], np.int64))
        values.append(np.array(document["values"], np.float64))
    lengths = [len(one) for one in steps]
    kinds = pd.Categorical(of_names)
    codes = np.repeat(kinds.codes, lengths)
    return pd.DataFrame(
        {
            "run": np.repeat(_array(of_runs), lengths),
            "metric": pd.Categorical.from_codes(codes, categories=kinds.categories),
            "step": np.concatenate(steps) if steps else np.array([], np.int64),
            "value": np.concatenate(values) if values else np.array([], np.float64),
        }
    )


def _array(ids: list) -> np.ndarray:
    """Run ids as an array: of integers, or of objects where Sacred's `-i` has given names."""
    named = any(isinstance(one, str) for one in ids)
    return np.array(ids, dtype=object if named else None)


def plain(number):
    """A run's id as MongoDB knows it: numpy's integers are not."""
    return number.item() if isinstance(number, np.generic) else number


def wide_console(long: pd.DataFrame) -> pd.DataFrame:
    """A long table with a column per metric, indexed by run and step; NaN where one was not logged."""
    kinds = long["metric"].cat.remove_unused_categories().cat
    ids = long["run"].to_numpy()
    which, numbers = pd.factorize(ids, sort=ids.dtype != object)
    most = int(long["step"].max()) + 1 if len(long) else 1
    places, rows = np.unique(which * most + long["step"].to_numpy(), return_inverse=True)
    table = np.full((len(places), len(kinds.categories)), np.nan)
    table[rows, kinds.codes] = long["value"]
    index = pd.MultiIndex.from_arrays(
        [numbers[places // most], places % most], names=["run", "step"]
    )
    return pd.DataFrame(table, index, pd.Index(kinds.categories, name="metric"))


def curves(store: stores.Store, number: int) -> pd.DataFrame:
    """One run's metrics: a column each, indexed by step."""
    return wide_console(metrics(store, [number])).droplevel("run")


def curves_by_preset(store: stores.Store, runs: pd.DataFrame) -> dict[str, list[pd.DataFrame]]:
    """The curves of the runs of each named config, seed by seed."""
    presets = runs.sort_values("config.seed").groupby("config.preset")
    return {preset: [curves(store, run) for run in mine["run"]] for preset, mine in presets}


def first_crossing(curve: pd.Series, threshold: float) -> float:
    """`grok.phases.first_crossing` of a run's curve."""
    logged = curve.dropna()
    return phases.first_crossing(list(logged.index), list(logged), threshold)


def arrays(store: stores.Store, number: int) -> dict[str, np.ndarray]:
    """The run's `trajectory.npz`: logged steps, trajectories, and kept data as `data_*`."""
    with np.load(
        io.BytesIO(artifact(store, number, "trajectory.npz")), allow_pickle=False
    ) as archive:
        return dict(archive)


def weights(store: stores.Store, number: int) -> dict[str, np.ndarray]:
    """The run's final weights by name, in the names' order."""
    found = safetensors.numpy.load(artifact(store, number, "weights.safetensors"))
    return {name: found[name] for name in sorted(found)}


def artifact(store: stores.Store, number: int, name: str) -> bytes:
    """The content of a file that the run keeps; exits if there is none."""
    try:
        return stores.artifact(store.database, plain(number), name)
    except UserError as error:
        fail(str(error))


def has_run(store: stores.Store, name: str) -> bool:
    """Whether the sweep of this id or file, the latest, has a finished run."""
    found = stores.find_sweep(store.database, name)
    wanted = found and {"meta.sweep.id": found["_id"], **FINISHED}
    return bool(found and store.database.runs.find_one(wanted, {"_id": 1}))


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


def near_metric(store: stores.Store, runs: pd.DataFrame, name: str) -> str:
    """`; did you mean ...?` for a metric that none of the runs has logged."""
    ids = [plain(one) for one in runs["run"]]
    known = store.database.metrics.distinct("name", {"run_id": {"$in": ids}})
    return did_you_mean(name, known)
