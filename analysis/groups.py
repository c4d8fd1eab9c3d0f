"""Runs in groups (equal but for their seed), and what their metrics come to."""

import click
import numpy as np
import pandas as pd

from analysis import query

SEEDS = ("config.seed", "config.data_seed", "config.model_seed")
MOST = 24  # groups that one figure can show
STATISTICS = ("final", "min", "max", "mean")
by_option = click.option(
    "--by", multiple=True, help="config key that tells groups apart; all that differ, if none"
)


def labelled(runs: pd.DataFrame, by: tuple[str, ...] = ()) -> pd.DataFrame:
    """The runs with a column `group`: their values of the config keys `by`, or of those that differ
    between them, seeds aside. Exits if a key is not there, or the groups are too many to show."""
    keys = [key if key in runs else f"config.{key}" for key in by] or varying(runs)
    for key in keys:
        if key not in runs:
            query.fail(f"--by {key.removeprefix('config.')}: these runs have no such config key")
    names = [" ".join(_word(key, row[key]) for key in keys) or "all" for _, row in runs.iterrows()]
    grouped = runs.assign(group=names)
    if grouped["group"].nunique() > MOST:
        shown = ", ".join(key.removeprefix("config.") for key in keys)
        query.fail(
            f"{grouped['group'].nunique()} groups by {shown}: more than {MOST}; choose keys with --by"
        )
    return grouped


def varying(runs: pd.DataFrame) -> list[str]:
    """The config keys, and the experiment, whose values differ between runs, seeds aside. A key that is
    younger than some of the runs counts by the values of the others."""
    everywhere = runs.attrs.get("everywhere", set(runs))

    def values(key: str) -> pd.Series:
        whole = key in everywhere or key == "experiment" or key.count(".") > 1
        return runs[key] if whole else runs[key].dropna()

    keys = [key for key in runs if key.startswith("config.") and key not in SEEDS]
    return [key for key in ("experiment", *keys) if values(key).map(repr).nunique() > 1]


def _word(key: str, value) -> str:
    value = f"{value:g}" if isinstance(value, float) else value
    return str(value) if key == "experiment" else f"{key.rpartition('.')[2]}={value}"


def logged(store, runs: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Long table of these metrics of the runs, with their group; exits if none has one of them."""
    long = query.metrics(store, runs["run"], names)
    for name in names:
        if name not in set(long["metric"]):
            query.fail(f"no {name} in these {len(runs)} runs{query.near_metric(store, runs, name)}")
    return runs[["run", "group"]].merge(long, on="run")  # in the runs' order


def curve(rows: pd.DataFrame) -> pd.DataFrame:
    """One metric's values by step and run; a run that ended early keeps its last value, NaN too."""
    steps, curves = np.unique(rows["step"]), {}
    for run, mine in rows.groupby("run", sort=False):
        logged = mine.drop_duplicates("step", keep="last").set_index("step")["value"].sort_index()
        curves[run] = logged.reindex(steps, method="ffill")
    return pd.DataFrame(curves)


def band(table: pd.DataFrame, kind: str) -> tuple[pd.Series, pd.Series, pd.Series]:
    """Middle and edges over runs: mean and standard deviation (`std`), mean and standard error
    (`sem`), or median and full range (`range`)."""
    if kind == "range":
        return table.median(axis=1), table.min(axis=1), table.max(axis=1)
    middle = table.mean(axis=1)
    around = (table.std(axis=1) if kind == "std" else table.sem(axis=1)).fillna(0)
    return middle, middle - around, middle + around


def statistic(long: pd.DataFrame, kind: str) -> pd.DataFrame:
    """One value per run and metric: final, min, max or mean over its steps; columns are metrics.

    NaN and infinite values stay out of min, max and mean; a final one is shown as it is.
    """
    by = long.sort_values("step").groupby(["group", "run", "metric"], observed=True)["value"]
    if kind == "final":
        values = by.agg(lambda series: series.iloc[-1])
    else:
        finite = long[np.isfinite(long["value"])]
        values = finite.groupby(["group", "run", "metric"], observed=True)["value"].agg(kind)
    return values.unstack("metric").reindex(columns=list(dict.fromkeys(long["metric"])))


def is_better_low(name: str) -> bool:
    """Whether less of a metric is better."""
    return any(word in name for word in ("loss", "perplexity", "error", "steps_to", "gap"))
