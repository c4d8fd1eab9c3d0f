"""Stored runs as pandas DataFrames, for scripts and notebooks.

    store = query.connect()
    matching = query.select(store, experiment="liu_toy", p=10, decoder_lr=(1e-3, 1e-2), seed=[0, 1])
    runs = query.runs(store, matching)  # one row per run: config.*, result.*
    long = query.metrics(store, runs["run"], ["test_accuracy"])  # run, metric, step, value
    query.wide(long)  # (run, step) x metrics
    query.experiments(store, matching)  # incense's QuerySet of the same runs

Functions raise `grok.errors.UserError` if the store does not hold what they are asked for; a script
that is a click command shows it as one line and exits with code 2.
"""

import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import safetensors.numpy

from grok import phases
from grok.errors import UserError, did_you_mean
from grok.store import connection, selection
from grok.store.connection import Store
from grok.store.documents import find_metrics
from grok.store.selection import of_sweeps
from grok.store.status import FINISHED

if TYPE_CHECKING:
    from incense import ExperimentLoader
    from incense.query_set import QuerySet

RunId = int | str
Filter = dict[str, Any]  # a MongoDB filter of runs

RUNS_PER_BATCH = 2000  # run documents that MongoDB sends at once
RUN_FIELDS = (
    "experiment.name",
    "status",
    "start_time",
    "heartbeat",
    "config",
    "result",
    "added",
    "meta.sweep",
    "info.wandb.sweep",
)


def connect(mongo_db: str | None = None) -> Store:
    """The store of the runs.

    Arguments:
        mongo_db: a URI or Sacred's `-m`, such as "localhost:27017:sacred"; None for the store that
            a script's `-m` or GROK_MONGO_URI names, or else the embedded MongoDB.

    Raises:
        UserError: the server does not answer, runs are kept as plain files, or `mongo_db` names
            more than a database.
    """
    if mongo_db is None:
        return connection.mongo()
    return connection.connect(connection.uri_of_all_runs(mongo_db))


def select(store: Store, *filters: str, **values: Any) -> Filter:
    """The MongoDB filter for run filters such as `p=10`, and for keywords such as `p=10`.

    `grok.store.selection.select` describes the values that keywords may have.
    """
    return selection.select(store.database, filters, **values)


def selected_runs(store: Store, filters: Iterable[str], last: int = 0) -> pd.DataFrame:
    """The table `runs` of the runs that all filters of a command line select.

    Arguments:
        filters: run filters, for example `experiment=liu_toy` and `lr=1e-3..1e-2`.
        last: return this many of the latest runs only; 0 returns all.

    Raises:
        UserError: a filter is malformed, or no run matches.
    """
    matching, _ = selection.select_nonempty(store.database, filters)
    return runs(store, matching, last)


def experiments(store: Store, matching: Filter) -> "QuerySet":
    """incense's QuerySet of the runs that match a MongoDB filter, by id."""
    documents = store.database.runs.find(matching, {"_id": 1}).sort("_id")
    return loader(store).find_by_ids([document["_id"] for document in documents])


def loader(store: Store) -> "ExperimentLoader":
    """An incense ExperimentLoader on the store, which unpickles nothing and reads long metrics whole."""
    from grok.analysis.incense_loader import WholeLoader

    return WholeLoader(mongo_uri=store.uri, db_name=store.db_name, unpickle=False)


def runs(store: Store, matching: Filter | None = None, last: int = 0) -> pd.DataFrame:
    """One row per run that matches a MongoDB filter, in the order of ids.

    Arguments:
        matching: the filter; None matches every run.
        last: return this many of the latest runs only; 0 returns all.

    Returns:
        Columns `run` (the id), `experiment`, `status`, `start_time`, and one column per key of the
        sweep, the config and the result: `sweep.*`, `config.*`, `result.*`, and `added.*` for what
        `grok store attach` has added, with dots for nested keys and None where a run has no such
        key. `attrs["everywhere"]` is the set of config columns that every run has: papers gain
        config keys, so older runs lack some. The table is empty if no run matches.
    """
    cursor = store.database.runs.find(matching or {}, dict.fromkeys(RUN_FIELDS, 1))
    documents = list(cursor.sort("_id", -1).limit(last).batch_size(RUNS_PER_BATCH))[::-1]
    if not documents:
        return pd.DataFrame()
    columns: dict[str, list] = {
        "run": [document["_id"] for document in documents],
        "experiment": [(document.get("experiment") or {}).get("name") for document in documents],
        "status": [document.get("status") for document in documents],
        "start_time": [document.get("start_time") for document in documents],
    }
    configs = [document.get("config") or {} for document in documents]
    columns |= _columns("sweep", [_sweep_of(document) for document in documents])
    columns |= _columns("config", configs)
    columns |= _columns("result", [_result_of(document) for document in documents])
    columns |= _columns("added", [_added_to(document) for document in documents])
    table = pd.DataFrame(columns)
    common_keys = set.intersection(*map(set, configs))
    table.attrs["everywhere"] = {f"config.{key}" for key in common_keys}
    return table


def _sweep_of(document: dict[str, Any]) -> dict[str, Any]:
    """The sweep's id, and the number of the point unless an agent of W&B's started the run."""
    id_of_agent = ((document.get("info") or {}).get("wandb") or {}).get("sweep")
    of_agent = {"id": id_of_agent} if id_of_agent else {}
    return (document.get("meta") or {}).get("sweep") or of_agent


def _result_of(document: dict[str, Any]) -> dict[str, Any]:
    return document["result"] if isinstance(document.get("result"), dict) else {}


def _added_to(document: dict[str, Any]) -> dict[str, Any]:
    """The values that were added to the run after it had ended."""
    return {name: entry["value"] for name, entry in (document.get("added") or {}).items()}


def _columns(prefix: str, rows: list[dict[str, Any]]) -> dict[str, list]:
    """The rows' values by dotted key, None where a row lacks the key."""
    columns: dict[str, list] = {}
    for key in dict.fromkeys(key for row in rows for key in row):
        values = [row.get(key) for row in rows]
        if any(isinstance(value, dict) for value in values):
            nested = [value if isinstance(value, dict) else {} for value in values]
            columns |= _columns(f"{prefix}.{key}", nested)
        else:
            columns[f"{prefix}.{key}"] = values
    return columns


def run(store: Store, run_id: RunId | None, experiment: str | None = None) -> pd.Series:
    """The row of `runs` for one run.

    Arguments:
        run_id: the run's id; None stands for the latest completed run.
        experiment: the name of the experiment that the run must belong to; None for any.

    Raises:
        UserError: there is no such run.
    """
    matching: Filter = {"_id": run_id} if run_id is not None else {"status": "COMPLETED"}
    if experiment:
        matching["experiment.name"] = experiment
    table = runs(store, matching, last=1)
    if table.empty:
        missing = f"run {run_id}" if run_id is not None else "finished run"
        owner = f" of {experiment}" if experiment else ""
        raise UserError(f"no {missing}{owner} in {store.describe()}")
    return table.iloc[0]


def metrics(
    store: Store, run_ids: Iterable[RunId], names: Sequence[str] | None = None
) -> pd.DataFrame:
    """The logged values of runs as a long table.

    Arguments:
        run_ids: ids of the runs.
        names: names of the metrics; None for all.

    Returns:
        Columns `run`, `metric` (categorical), `step` (int64) and `value` (float64).
    """
    matching: Filter = {"run_id": {"$in": [mongo_id(run_id) for run_id in run_ids]}}
    if names:
        matching["name"] = {"$in": list(names)}
    series_runs, series_names, steps, values = [], [], [], []
    for document in find_metrics(store.database.metrics, matching):
        series_runs.append(document["run_id"])
        series_names.append(document["name"])
        steps.append(np.array(document["steps"], np.int64))
        values.append(_numbers(document["values"]))
    lengths = [len(array) for array in steps]
    categories = pd.Categorical(series_names)
    codes = np.repeat(categories.codes, lengths)
    return pd.DataFrame(
        {
            "run": np.repeat(_id_array(series_runs), lengths),
            "metric": pd.Categorical.from_codes(codes, categories=categories.categories),
            "step": np.concatenate(steps) if steps else np.array([], np.int64),
            "value": np.concatenate(values) if values else np.array([], np.float64),
        }
    )


def _numbers(values: list[Any]) -> np.ndarray:
    """Logged values as numbers, NaN for texts and other objects."""
    try:
        return np.array(values, np.float64)
    except (TypeError, ValueError):
        return np.array([v if isinstance(v, int | float) else np.nan for v in values], np.float64)


def _id_array(run_ids: list[RunId]) -> np.ndarray:
    """Run ids as an array of integers, or of objects where Sacred's `--id` has given names."""
    has_names = any(isinstance(run_id, str) for run_id in run_ids)
    return np.array(run_ids, dtype=object if has_names else None)


def mongo_id(run_id: Any) -> Any:
    """A run's id as MongoDB stores it: NumPy's integers become Python's."""
    return run_id.item() if isinstance(run_id, np.generic) else run_id


def wide(long: pd.DataFrame) -> pd.DataFrame:
    """A long table of `metrics` with one column per metric, indexed by run and step.

    A value is NaN where its metric was not logged at that step. This is `DataFrame.pivot`, which is
    several times slower on millions of values.
    """
    metric_codes = long["metric"].cat.remove_unused_categories().cat
    run_ids = long["run"].to_numpy()
    run_codes, unique_runs = pd.factorize(run_ids, sort=run_ids.dtype != object)
    step_count = int(long["step"].max()) + 1 if len(long) else 1
    keys, rows = np.unique(run_codes * step_count + long["step"].to_numpy(), return_inverse=True)
    table = np.full((len(keys), len(metric_codes.categories)), np.nan)
    table[rows, metric_codes.codes] = long["value"]
    index = pd.MultiIndex.from_arrays(
        [unique_runs[keys // step_count], keys % step_count], names=["run", "step"]
    )
    return pd.DataFrame(table, index, pd.Index(metric_codes.categories, name="metric"))


def curves(store: Store, run_id: RunId) -> pd.DataFrame:
    """All metrics of one run: one column each, indexed by step."""
    return wide(metrics(store, [run_id])).droplevel("run")


def curves_by_preset(store: Store, runs: pd.DataFrame) -> dict[str, list[pd.DataFrame]]:
    """The curves of the runs of each named config (`config.preset`), in the order of seeds."""
    presets = runs.sort_values("config.seed").groupby("config.preset")
    return {
        str(preset): [curves(store, run_id) for run_id in preset_runs["run"]]
        for preset, preset_runs in presets
    }


def first_crossing(curve: pd.Series, threshold: float) -> float:
    """The step at which a run's metric first rises to a threshold; inf if it never does.

    The step is interpolated between two evaluations, and the metric need not stay above the
    threshold (`grok.phases.first_crossing`).
    """
    values = curve.dropna()
    return phases.first_crossing(list(values.index), list(values), threshold)


def arrays(store: Store, run_id: RunId) -> dict[str, np.ndarray]:
    """The run's `trajectory.npz`: logged `steps`, trajectories, and saved data as `data_*`.

    Raises:
        UserError: there is no such run, or it has no such file.
    """
    content = io.BytesIO(artifact(store, run_id, "trajectory.npz"))
    with np.load(content, allow_pickle=False) as archive:
        return dict(archive)


def weights(store: Store, run_id: RunId) -> dict[str, np.ndarray]:
    """The run's final weights by the names of the module's parameters, sorted by name.

    Raises:
        UserError: there is no such run, or it has no such file.
    """
    tensors = safetensors.numpy.load(artifact(store, run_id, "weights.safetensors"))
    return dict(sorted(tensors.items()))


def artifact(store: Store, run_id: RunId, name: str) -> bytes:
    """The content of a file that was stored with a run.

    Raises:
        UserError: there is no such run, or it has no such file.
    """
    return connection.artifact(store.database, mongo_id(run_id), name)


def has_finished_run(store: Store, sweep_name: str) -> bool:
    """Whether a sweep, given by its id or by its file's name, has a finished run."""
    document = connection.find_sweep(store.database, sweep_name)
    if document is None:
        return False
    matching = {**of_sweeps(document["_id"]), **FINISHED}
    return store.database.runs.find_one(matching, {"_id": 1}) is not None


def sweep(store: Store, name: str) -> tuple[str, pd.DataFrame]:
    """The id of a sweep and the table `runs` of its finished runs, the latest run of each point.

    Arguments:
        name: the sweep's id, or its file's name, which stands for the latest sweep of that file.

    Raises:
        UserError: there is no such sweep, or it has no finished run.
    """
    document = connection.find_sweep(store.database, name)
    if document is None:
        raise UserError(f"no sweep {name} in {store.describe()}")
    finished = runs(store, {**of_sweeps(document["_id"]), **FINISHED})
    if finished.empty:
        raise UserError(f"sweep {document['_id']} has no finished run yet")
    if "sweep.point" in finished:  # W&B's agents give their runs none
        has_point = finished["sweep.point"].notna()
        is_superseded = finished.duplicated("sweep.point", keep="last") & has_point
        finished = finished[~is_superseded]
    return document["_id"], finished


def require(runs: pd.DataFrame, *columns: str) -> None:
    """UserError that names the first of the columns which none of the runs has."""
    for column in columns:
        if column not in runs:
            raise UserError(f"these runs have no {column}")


def suggest_metric(store: Store, runs: pd.DataFrame, name: str) -> str:
    """`; did you mean X?` for a metric that none of the runs has logged; empty if none is near."""
    run_ids = [mongo_id(run_id) for run_id in runs["run"]]
    logged = store.database.metrics.distinct("name", {"run_id": {"$in": run_ids}})
    return did_you_mean(name, logged)
