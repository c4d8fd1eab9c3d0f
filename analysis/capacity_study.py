"""Capacity and grokking: `python analysis/capacity_study.py SWEEP [-o DIR]`.

Tables of sizes, of steps to grok (unreached ones are censored, never averaged), of deep-narrow
against wide-shallow networks of one size on the same seeds, of the number of heads; figures of the
trajectories and of steps against size; final_info.json files in the AI-Scientist template's form.
"""

import click
import numpy as np
import pandas as pd
from rich.table import Table

from analysis import query, style, survival
from analysis.capacity_figures import draw_sizes, draw_trajectories, export_final_info
from grok.experiment import show
from grok.phases import stability

KEYS = ("operation", "depth", "width", "heads", "seed")
SUSTAINED = 5  # evaluations in a row
CUTS = {"small": (0, 3e5), "medium": (3e5, 1.2e6), "large": (1.2e6, np.inf)}
CONTRASTS = {"small": (64, 128), "medium": (128, 256), "large": (256, 512)}  # 4 x d and 1 x 2d
PUBLISHED = {"x_plus_y": "2640", "x_minus_y": "4403", "x_div_y": "4353", "permutation": "never"}


@click.command(help=__doc__)
@click.argument("sweep")
@style.options
def main(sweep: str) -> None:
    store = query.connect()
    name, runs = query.sweep(store, sweep)
    if "result.parameters" not in runs:
        query.fail(f"sweep {name} is not of experiments/capacity.py")
    if runs.duplicated([f"config.{key}" for key in KEYS]).any():
        query.fail(f"sweep {name} varies more than {', '.join(KEYS)}: nothing to compare by")
    curves = query.metrics(store, list(runs["run"]), ["train_accuracy", "test_accuracy"])
    study = describe(runs, curves)
    show.wide_console(140).print(sizes(study), operations(study), contrasts(study), heads(study))
    style.save(draw_trajectories(study, curves), f"capacity_{name}_trajectories")
    style.save(draw_sizes(study), f"capacity_{name}_sizes")
    print(*export_final_info(runs, study, style.PLACE.folder / f"capacity_{name}"), sep="\n")


def describe(runs: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """One row a run: its shape, size, bucket, sustained steps to 99 % (NaN: never) and stability."""
    keys = [*KEYS, "train_steps"]
    study = runs[["run", *(f"config.{key}" for key in keys)]].copy()
    study.columns = ["run", *keys]
    study["size"] = runs["result.parameters"].to_numpy()
    study["bucket"] = [bucket_of(size) for size in study["size"]]
    wide = query.wide(curves)
    for number, ended in zip(runs["run"], runs["result.ended"], strict=True):
        mine, row = wide.loc[number], study["run"] == number
        # a run that retired had generalized: its last evaluation stands for those it was spared
        spared = SUSTAINED - 1 if ended == "stopped" else 0
        for split in ("train", "test"):
            study.loc[row, split] = first_sustained(mine[f"{split}_accuracy"], spared)
        held, drop = stability(mine["test_accuracy"].to_numpy(), 0.99) or (np.nan, np.nan)
        study.loc[row, ["held", "drop"]] = held, drop
    return study


def bucket_of(size: int) -> str:
    """The capacity bucket of a parameter count."""
    return next(name for name, (low, high) in CUTS.items() if low <= size < high)


def first_sustained(values: pd.Series, spared: int = 0) -> float:
    """First step above 0.99 at which that holds for five evaluations in a row; NaN if none. The last
    value is counted `spared` times more."""
    good = np.pad(values.to_numpy() > 0.99, (0, spared), "edge").astype(int)
    need = min(SUSTAINED, len(good))
    runs = np.convolve(good, np.ones(need), "valid") == need
    return float(values.index[runs.argmax()]) if runs.any() else np.nan


def median_of(rows: pd.DataFrame, split: str = "test") -> str:
    """Kaplan-Meier median of the steps to 99 %, as text."""
    steps = rows[split].fillna(rows["train_steps"])
    value = survival.median(steps, rows[split].notna())
    return f"{value:.0f}" if np.isfinite(value) else f"> {rows['train_steps'].max():.0f}"


def sizes(study: pd.DataFrame) -> Table:
    """Median steps to memorize and to grok, and how many grokked and stayed so, by shape."""
    columns = (
        "parameters",
        "bucket",
        "to memorize",
        "to grok",
        "grokked",
        "95 %",
        "evaluations held",
    )
    table = Table("layers x width", *columns, title="steps to 99 % (Kaplan-Meier medians)")
    for (size, depth, width), rows in study.groupby(["size", "depth", "width"]):
        grokked = int(rows["test"].notna().sum())
        low, high = survival.wilson(grokked, len(rows))
        held = "" if not grokked else f"{rows['held'].mean():.1%}"
        counts = [f"{grokked} of {len(rows)}", f"{low:.0%}-{high:.0%}", held]
        medians = [median_of(rows, split) for split in ("train", "test")]
        table.add_row(f"{depth} x {width}", f"{size:,}", rows["bucket"].iloc[0], *medians, *counts)
    return table


def operations(study: pd.DataFrame) -> Table:
    """Steps to grok by operation, beside the template's published means over three seeds."""
    table = Table("operation", "runs", "median", "mean if all grokked", "template, published")
    for operation, rows in study.groupby("operation"):
        mean = f"{rows['test'].mean():.0f}" if rows["test"].notna().all() else "-"
        published = PUBLISHED.get(operation, "")
        table.add_row(operation, str(len(rows)), median_of(rows), mean, published)
    return table


def contrasts(study: pd.DataFrame) -> Table:
    """Deep-narrow over wide-shallow steps to grok, paired by operation, heads and seed."""
    table = Table("bucket", "deep", "wide", "pairs", "both grokked", "ratio", "95 % interval",
                  title="deep-narrow / wide-shallow, steps to grok")  # fmt: skip
    keys = ["operation", "heads", "seed"]
    for bucket, (narrow, wide) in CONTRASTS.items():
        deep = study.query("depth == 4 and width == @narrow").set_index(keys)["test"]
        shallow = study.query("depth == 1 and width == @wide").set_index(keys)["test"]
        both = pd.concat([deep, shallow], axis=1, join="inner", keys=["deep", "wide"])
        if both.empty:
            continue
        done = both.dropna()
        ratio, low, high = survival.paired_ratio(done["deep"], done["wide"])
        counts = [str(len(both)), str(len(done))]
        interval = f"{low:.2f}-{high:.2f}" if len(done) > 1 else ""
        table.add_row(bucket, f"4 x {narrow}", f"1 x {wide}", *counts, f"{ratio:.2f}", interval)
    return table


def heads(study: pd.DataFrame) -> Table:
    """Median steps to grok by shape and number of heads."""
    counts = sorted(study["heads"].unique())
    table = Table("layers x width", *(f"{n} heads" for n in counts), title="heads: steps to grok")
    for (depth, width), rows in study.groupby(["depth", "width"]):
        cells = [rows[rows["heads"] == n] for n in counts]
        table.add_row(f"{depth} x {width}", *(median_of(c) if len(c) else "" for c in cells))
    return table


if __name__ == "__main__":
    main()
