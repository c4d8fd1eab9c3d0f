"""Capacity and grokking: how the size and shape of a transformer affect it.

`python analysis/capacity_study.py SWEEP [-o DIR]`

Tables of the sizes, of the steps to grok (runs that did not are censored, never averaged), of
deep-narrow against wide-shallow networks of equal size on equal seeds, and of the number of heads;
figures of the trajectories and of steps against size; final_info.json files in the form of the
AI-Scientist template.

"Steps to 99 %" is the first evaluation above 99 % that begins five such evaluations in a row.
"""

import click
import numpy as np
import pandas as pd
from rich.table import Table

from grok.analysis import query, style
from grok.analysis.capacity import export_final_info, plot_sizes, plot_trajectories
from grok.claims import statistics
from grok.errors import UserError
from grok.experiment import show
from grok.phases import stability

KEYS = ("operation", "depth", "width", "heads", "seed")  # config keys that the sweep may vary
THRESHOLD = 0.99
SUSTAINED_EVALUATIONS = 5  # in a row above the threshold
# Parameter counts [low, high) of each bucket.
BUCKETS = {"small": (0, 3e5), "medium": (3e5, 1.2e6), "large": (1.2e6, np.inf)}
# Widths of the two networks of about equal size that are compared in each bucket.
DEEP_LAYERS, SHALLOW_LAYERS = 4, 1
CONTRASTS = {
    "small": {"deep_width": 64, "shallow_width": 128},
    "medium": {"deep_width": 128, "shallow_width": 256},
    "large": {"deep_width": 256, "shallow_width": 512},
}
# Mean steps to 99 % that the AI-Scientist template publishes.
PUBLISHED_STEPS = {
    "x_plus_y": "2640",
    "x_minus_y": "4403",
    "x_div_y": "4353",
    "permutation": "never",
}


@click.command(help=__doc__)
@click.argument("sweep")
@style.options
def main(sweep: str) -> None:
    store = query.connect()
    name, runs = query.sweep(store, sweep)
    if "result.parameters" not in runs:
        raise UserError(f"sweep {name} is not of experiments/capacity.py")
    if runs.duplicated([f"config.{key}" for key in KEYS]).any():
        raise UserError(f"sweep {name} varies more than {', '.join(KEYS)}: nothing to compare by")
    curves = query.metrics(store, list(runs["run"]), ["train_accuracy", "test_accuracy"])
    study = describe_runs(runs, curves)
    show.wide_console(140).print(
        size_table(study), operation_table(study), contrast_table(study), head_table(study)
    )
    style.save(plot_trajectories(study, curves), f"capacity_{name}_trajectories")
    style.save(plot_sizes(study), f"capacity_{name}_sizes")
    print(*export_final_info(runs, study, f"capacity_{name}"), sep="\n")


def describe_runs(runs: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """One row per run: shape, size, bucket, steps to 99 %, and stability after that.

    Arguments:
        runs: a table of `query.runs`.
        curves: the runs' train and test accuracies, from `query.metrics`.

    Returns:
        Columns `run`, the config keys `KEYS` and `train_steps`, `size` (parameters), `bucket`,
        `train` and `test` (steps to 99 %, NaN for never), `held` (fraction of later evaluations at
        99 %) and `drop` (largest drop below the best accuracy so far).
    """
    keys = [*KEYS, "train_steps"]
    study = runs[["run", *(f"config.{key}" for key in keys)]].copy()
    study.columns = ["run", *keys]
    study["size"] = runs["result.parameters"].to_numpy()
    study["bucket"] = [bucket_of(size) for size in study["size"]]
    accuracies = query.wide(curves)
    for run_id, ended in zip(runs["run"], runs["result.ended"], strict=True):
        run_accuracies, row = accuracies.loc[run_id], study["run"] == run_id
        # A run that stopped early had generalized: its last evaluation stands for those it saved.
        repeat_last = SUSTAINED_EVALUATIONS - 1 if ended == "stopped" else 0
        for split in ("train", "test"):
            steps = first_sustained(run_accuracies[f"{split}_accuracy"], repeat_last)
            study.loc[row, split] = steps
        test_accuracy = run_accuracies["test_accuracy"].to_numpy()
        held, drop = stability(test_accuracy, THRESHOLD) or (np.nan, np.nan)
        study.loc[row, ["held", "drop"]] = held, drop
    return study


def bucket_of(size: int) -> str:
    """The bucket of a parameter count."""
    return next(name for name, (low, high) in BUCKETS.items() if low <= size < high)


def first_sustained(accuracies: pd.Series, repeat_last: int = 0) -> float:
    """The first step above 99 % at which five evaluations in a row are; NaN if there is none.

    Arguments:
        accuracies: values indexed by step.
        repeat_last: number of further evaluations that the last value stands for.
    """
    above = np.pad(accuracies.to_numpy() > THRESHOLD, (0, repeat_last), "edge").astype(int)
    length = min(SUSTAINED_EVALUATIONS, len(above))
    sustained = np.convolve(above, np.ones(length), "valid") == length
    return float(accuracies.index[sustained.argmax()]) if sustained.any() else np.nan


def median_steps(study: pd.DataFrame, split: str = "test") -> str:
    """Kaplan-Meier median of the steps to 99 %, as text."""
    steps = study[split].fillna(study["train_steps"])
    median = statistics.median(steps, study[split].notna())
    return f"{median:.0f}" if np.isfinite(median) else f"> {study['train_steps'].max():.0f}"


def size_table(study: pd.DataFrame) -> Table:
    """By shape: median steps to memorize and to grok, runs that grokked, and their stability."""
    table = Table(
        "layers x width",
        "parameters",
        "bucket",
        "to memorize",
        "to grok",
        "grokked",
        "95 %",
        "evaluations held",
        title="steps to 99 % (Kaplan-Meier medians)",
    )
    for (size, depth, width), rows in study.groupby(["size", "depth", "width"]):
        grokked = int(rows["test"].notna().sum())
        low, high = statistics.wilson_interval(grokked, len(rows))
        table.add_row(
            f"{depth} x {width}",
            f"{size:,}",
            rows["bucket"].iloc[0],
            median_steps(rows, "train"),
            median_steps(rows, "test"),
            f"{grokked} of {len(rows)}",
            f"{low:.0%}-{high:.0%}",
            f"{rows['held'].mean():.1%}" if grokked else "",
        )
    return table


def operation_table(study: pd.DataFrame) -> Table:
    """Steps to grok by operation, beside the template's published means over three seeds."""
    table = Table("operation", "runs", "median", "mean if all grokked", "template, published")
    for operation, rows in study.groupby("operation"):
        mean = f"{rows['test'].mean():.0f}" if rows["test"].notna().all() else "-"
        published = PUBLISHED_STEPS.get(str(operation), "")
        table.add_row(str(operation), str(len(rows)), median_steps(rows), mean, published)
    return table


def contrast_table(study: pd.DataFrame) -> Table:
    """Ratio of deep-narrow to wide-shallow steps to grok, paired by operation, heads and seed."""
    table = Table(
        "bucket",
        "deep",
        "wide",
        "pairs",
        "both grokked",
        "ratio",
        "95 % interval",
        title="deep-narrow / wide-shallow, steps to grok",
    )
    for bucket, widths in CONTRASTS.items():
        deep = steps_by_setting(study, DEEP_LAYERS, widths["deep_width"])
        shallow = steps_by_setting(study, SHALLOW_LAYERS, widths["shallow_width"])
        pairs = pd.concat([deep, shallow], axis=1, join="inner", keys=["deep", "shallow"])
        if pairs.empty:
            continue
        grokked = pairs.dropna()
        ratio, low, high = statistics.paired_ratio(grokked["deep"], grokked["shallow"])
        table.add_row(
            bucket,
            f"{DEEP_LAYERS} x {widths['deep_width']}",
            f"{SHALLOW_LAYERS} x {widths['shallow_width']}",
            str(len(pairs)),
            str(len(grokked)),
            f"{ratio:.2f}",
            f"{low:.2f}-{high:.2f}" if len(grokked) > 1 else "",
        )
    return table


def steps_by_setting(study: pd.DataFrame, depth: int, width: int) -> pd.Series:
    """Steps to grok of the networks of one shape, indexed by operation, heads and seed."""
    rows = study[(study["depth"] == depth) & (study["width"] == width)]
    return rows.set_index(["operation", "heads", "seed"])["test"]


def head_table(study: pd.DataFrame) -> Table:
    """Median steps to grok by shape and number of heads."""
    head_counts = sorted(study["heads"].unique())
    headings = [f"{count} heads" for count in head_counts]
    table = Table("layers x width", *headings, title="heads: steps to grok")
    for (depth, width), rows in study.groupby(["depth", "width"]):
        by_heads = [rows[rows["heads"] == count] for count in head_counts]
        cells = [median_steps(selected) if len(selected) else "" for selected in by_heads]
        table.add_row(f"{depth} x {width}", *cells)
    return table


if __name__ == "__main__":
    main()
