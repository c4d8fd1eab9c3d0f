"""Figures and files of the capacity study, for analysis/capacity_study.py."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from grok.analysis import style
from grok.reports import ai_scientist

# Metrics of the AI-Scientist template's final_info.json, and the results of ours that they are.
TEMPLATE_METRICS = {
    "final_train_loss": "result.train_loss",
    "final_train_acc": "result.train_accuracy",
    "final_val_loss": "result.test_loss",
    "final_val_acc": "result.test_accuracy",
}
SEED_SPACING = 0.02  # relative shift in size between two seeds, so that their points do not overlap


def plot_trajectories(study: pd.DataFrame, curves: pd.DataFrame) -> Figure:
    """Test accuracy against steps in each bucket: median over runs, and the middle half.

    Arguments:
        study: a table of `capacity_study.describe_runs`.
        curves: the runs' long table of metrics.
    """
    buckets = study.sort_values("size")["bucket"].unique()
    figure, axes = plt.subplots(1, len(buckets), figsize=(4 * len(buckets), 3.4), squeeze=False)
    test_curves = curves[curves["metric"] == "test_accuracy"].merge(study, on="run")
    for panel, bucket in zip(axes[0], buckets, strict=True):
        in_bucket = test_curves[test_curves["bucket"] == bucket]
        for (_, depth, width), rows in in_bucket.groupby(["size", "depth", "width"]):
            by_run = rows.pivot_table(index="step", columns="run", values="value").ffill()
            (line,) = panel.plot(by_run.index, by_run.median(axis=1), label=f"{depth} x {width}")
            low, high = by_run.quantile(0.25, axis=1), by_run.quantile(0.75, axis=1)
            panel.fill_between(by_run.index, low, high, color=line.get_color(), alpha=0.15, lw=0)
        panel.set_title(f"{bucket} networks")
        panel.set_xlabel("step")
        panel.legend(fontsize=8)
    axes[0, 0].set_ylabel("test accuracy")
    return figure


def plot_sizes(study: pd.DataFrame) -> Figure:
    """Steps to grok against parameters, a point per run; censored runs at their budget."""
    figure, axes = plt.subplots(figsize=(5.5, 4))
    for depth, rows in study.groupby("depth"):
        sizes = rows["size"] * (1 + SEED_SPACING * (rows["seed"] - rows["seed"].mean()))
        reached = rows["test"].notna()
        label = "1 layer" if depth == 1 else f"{depth!s} layers"
        points = axes.scatter(sizes[reached], rows["test"][reached], s=18, label=label)
        axes.scatter(
            sizes[~reached],
            rows["train_steps"][~reached],
            s=22,
            marker="^",
            facecolors="none",
            edgecolors=points.get_facecolor(),
        )
    axes.set(xscale="log", yscale="log", xlabel="parameters", ylabel="steps to 99 % test accuracy")
    axes.set_title("triangles: not within the budget", fontsize=9)
    axes.legend()
    return figure


def export_final_info(runs: pd.DataFrame, study: pd.DataFrame, folder: str) -> list[Path]:
    """Paths of the written files: one final_info.json per shape, in the template's form.

    As in the template, step_val_acc_99 of a run that did not reach 99 % is its budget; `censored`
    is the number of such runs.

    Arguments:
        runs: a table of `query.runs`.
        study: the same runs, from `capacity_study.describe_runs`.
        folder: below the output folder; the files are written to a folder per shape in it.
    """
    paths = []
    for (depth, width, heads), shape_runs in study.groupby(["depth", "width", "heads"]):
        info = {
            operation: final_info(runs[runs["run"].isin(rows["run"])], rows)
            for operation, rows in shape_runs.groupby("operation")
        }
        name = f"{folder}/{depth}x{width}_h{heads}/final_info.json"
        paths.append(style.write_text(name, json.dumps(info, indent=2)))
    return paths


def final_info(runs: pd.DataFrame, study: pd.DataFrame) -> dict[str, object]:
    """An operation's entry in final_info.json, from the two tables of the same runs."""
    values = {
        name: runs[column].astype(float).tolist() for name, column in TEMPLATE_METRICS.items()
    }
    values["step_val_acc_99"] = study["test"].fillna(study["train_steps"]).tolist()
    return {**ai_scientist.summary(values), "censored": int(study["test"].isna().sum())}
