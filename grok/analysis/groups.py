"""Groups of runs that differ only in their seeds, and summaries of their metrics."""

import re
from collections.abc import Sequence
from typing import Any

import click
import numpy as np
import pandas as pd

from grok.analysis import query
from grok.errors import UserError
from grok.store.connection import Store

SEED_KEYS = ("config.seed", "config.data_seed", "config.model_seed")
MAX_GROUPS = 24  # that one figure can show
STATISTICS = ("final", "min", "max", "mean")
# Parts of the names of metrics and results of which a lower value is better.
LOWER_IS_BETTER = ("loss", "perplexity", "error", "steps_to", "gap")
LAYER = r"^(blocks/\d+|[^/]+)"  # the part of a parameter's name that names its layer

by_option = click.option(
    "--by",
    "keys",
    multiple=True,
    metavar="KEY",
    help="Config key that defines the groups; by default all keys whose values differ.",
)
statistic_option = click.option(
    "--stat",
    "statistic",
    type=click.Choice(STATISTICS),
    default="final",
    show_default=True,
    help="Value that stands for a run's curve.",
)


def with_groups(runs: pd.DataFrame, keys: Sequence[str] = ()) -> pd.DataFrame:
    """The runs with a column `group`: their values of some config keys as text.

    Arguments:
        runs: a table of `query.runs`.
        keys: config keys, with or without `config.`; by default those of `varying_keys`.

    Raises:
        UserError: the runs have no such key, or there are more than `MAX_GROUPS` groups.
    """
    columns = [key if key in runs else f"config.{key}" for key in keys] or varying_keys(runs)
    for column in columns:
        if column not in runs:
            key = column.removeprefix("config.")
            raise UserError(f"--by {key}: these runs have no such config key")
    names = [
        " ".join(_group_text(column, row[column]) for column in columns) or "all"
        for _, row in runs.iterrows()
    ]
    grouped = runs.assign(group=names)
    count = grouped["group"].nunique()
    if count > MAX_GROUPS:
        shown = ", ".join(column.removeprefix("config.") for column in columns)
        raise UserError(f"{count} groups by {shown}: more than {MAX_GROUPS}; choose keys with --by")
    return grouped


def varying_keys(runs: pd.DataFrame) -> list[str]:
    """The columns `experiment` and `config.*`, seeds excepted, whose values differ between runs.

    Where older runs lack a key, only the values of the runs that have it are compared.
    """
    everywhere = runs.attrs.get("everywhere", set(runs))

    def values(column: str) -> pd.Series:
        is_nested = column.count(".") > 1
        is_complete = column in everywhere or column == "experiment" or is_nested
        return runs[column] if is_complete else runs[column].dropna()

    columns = [str(column) for column in runs]
    keys = [key for key in columns if key.startswith("config.") and key not in SEED_KEYS]
    return [key for key in ("experiment", *keys) if values(key).map(repr).nunique() > 1]


def _group_text(column: str, value: Any) -> str:
    if column == "experiment":
        return str(value)
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{column.rpartition('.')[2]}={text}"


def grouped_metrics(store: Store, runs: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """The long table of `query.metrics` with a column `group`, in the order of the runs.

    Arguments:
        runs: a table of `with_groups`.
        names: names of metrics.

    Raises:
        UserError: none of the runs has logged one of the metrics.
    """
    long = query.metrics(store, runs["run"], names)
    logged = set(long["metric"])
    for name in names:
        if name not in logged:
            suggestion = query.suggest_metric(store, runs, name)
            raise UserError(f"no {name} in these {len(runs)} runs{suggestion}")
    return runs[["run", "group"]].merge(long, on="run")


def aligned_curves(long: pd.DataFrame) -> pd.DataFrame:
    """One metric's values with one column per run, at every step that any of the runs has logged.

    Between its own steps, and after its end, a run keeps the value it had logged last, NaN included.

    Arguments:
        long: rows of one metric, with columns `run`, `step` and `value`.
    """
    steps = np.unique(long["step"])
    curves = {}
    for run, rows in long.groupby("run", sort=False):
        curve = rows.drop_duplicates("step", keep="last").set_index("step")["value"].sort_index()
        curves[run] = curve.reindex(steps, method="ffill")
    return pd.DataFrame(curves)


def band(curves: pd.DataFrame, kind: str) -> tuple[pd.Series, pd.Series, pd.Series]:
    """Centre, lower and upper edge of a band over runs, each indexed by step.

    Arguments:
        curves: a table of `aligned_curves`.
        kind: `std` (mean and standard deviation), `sem` (mean and standard error) or `range`
            (median, minimum and maximum).
    """
    if kind == "range":
        return curves.median(axis=1), curves.min(axis=1), curves.max(axis=1)
    centre = curves.mean(axis=1)
    deviation = (curves.std(axis=1) if kind == "std" else curves.sem(axis=1)).fillna(0)
    return centre, centre - deviation, centre + deviation


def run_statistics(long: pd.DataFrame, statistic: str) -> pd.DataFrame:
    """One value per run (rows, indexed by group and run) and metric (columns).

    Arguments:
        long: a table of `grouped_metrics`.
        statistic: one of `STATISTICS`. `final` is the value at the last step, whatever it is; the
            others leave out NaN and infinite values.
    """
    keys = ["group", "run", "metric"]
    if statistic == "final":
        by_curve = long.sort_values("step").groupby(keys, observed=True)["value"]
        values = by_curve.agg(lambda series: series.iloc[-1])
    else:
        finite = long[np.isfinite(long["value"])]
        values = finite.groupby(keys, observed=True)["value"].agg(statistic)
    return values.unstack("metric").reindex(columns=list(dict.fromkeys(long["metric"])))


def lower_is_better(name: str) -> bool:
    """Whether a lower value of a metric or result is better, judged by its name."""
    return any(part in name for part in LOWER_IS_BETTER)


def best_group(means: pd.Series) -> str | None:
    """The group with the best mean of a metric; None if no mean is finite.

    Arguments:
        means: one mean per group, named after the metric or result.
    """
    finite = means.replace([np.inf, -np.inf], np.nan).dropna()
    if finite.empty:
        return None
    is_lower_better = lower_is_better(str(means.name))
    return str(finite.idxmin() if is_lower_better else finite.idxmax())


def parameter_table(
    store: Store, runs: pd.DataFrame, prefix: str, layers: bool = False
) -> pd.DataFrame:
    """The metrics below a prefix as means over runs: a row per parameter, a column per step.

    Arguments:
        runs: runs of one group, from `with_groups`.
        prefix: the part of the metrics' names before the parameter's.
        layers: average the parameters of each layer into one row.

    Raises:
        UserError: no run has logged such a metric.
    """
    prefix = prefix.rstrip("/")
    run_ids = [query.mongo_id(run_id) for run_id in runs["run"]]
    matching = {"run_id": {"$in": run_ids}, "name": {"$regex": f"^{re.escape(prefix)}/"}}
    metrics = store.database.metrics.distinct("name", matching)
    if not metrics:
        raise UserError(
            f"no metric {prefix}/... in these {len(runs)} runs; `measures=full` logs several"
        )
    long = grouped_metrics(store, runs, metrics)
    rows = long["metric"].astype(str).str.removeprefix(f"{prefix}/")
    if layers:
        rows = rows.str.extract(LAYER)[0]
    return long.assign(row=rows).pivot_table(index="row", columns="step", values="value")
