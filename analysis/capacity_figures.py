"""Figures and files of the capacity study, for analysis/capacity_study.py."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd


def draw_trajectories(study: pd.DataFrame, curves: pd.DataFrame):
    """Test accuracy against steps in each bucket: median over runs, and the middle half."""
    present = study.sort_values("size")["bucket"].unique()
    figure, axes = plt.subplots(1, len(present), figsize=(4 * len(present), 3.4), squeeze=False)
    tests = curves[curves["metric"] == "test_accuracy"].merge(study, on="run")
    for panel, bucket in zip(axes[0], present, strict=True):
        mine = tests[tests["bucket"] == bucket]
        for (_, depth, width), rows in mine.groupby(["size", "depth", "width"]):
            wide = rows.pivot_table(index="step", columns="run", values="value").ffill()
            (line,) = panel.plot(wide.index, wide.median(axis=1), label=f"{depth} x {width}")
            low, high = wide.quantile(0.25, axis=1), wide.quantile(0.75, axis=1)
            panel.fill_between(wide.index, low, high, color=line.get_color(), alpha=0.15, lw=0)
        panel.set_title(f"{bucket} networks")
        panel.set_xlabel("step")
        panel.legend(fontsize=8)
    axes[0, 0].set_ylabel("test accuracy")
    return figure


def draw_sizes(study: pd.DataFrame):
    """Steps to grok against parameters, a point a run; runs that never did at the budget."""
    figure, axes = plt.subplots(figsize=(5.5, 4))
    for depth, rows in study.groupby("depth"):
        spread = rows["size"] * (1 + 0.02 * (rows["seed"] - rows["seed"].mean()))
        reached = rows["test"].notna()
        points = axes.scatter(spread[reached], rows["test"][reached], s=18, label=f"{depth} layers")
        colour = points.get_facecolor()
        axes.scatter(
            spread[~reached], rows["train_steps"][~reached], s=22, marker="^", facecolors="none",
            edgecolors=colour,
        )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="parameters", ylabel="steps to 99 % test accuracy")
    axes.set_title("triangles: not within the budget", fontsize=9)
    axes.legend()
    return figure


def export_final_info(runs: pd.DataFrame, study: pd.DataFrame, folder: Path) -> list[Path]:
    """One final_info.json per shape, in the template's form; the paths.

    As there, step_val_acc_99 of a run that never got there is its budget; `censored` counts them.
    """
    names = {f"final_{split}_{short}": f"result.{'test' if split == 'val' else split}_{long}"
             for split in ("train", "val") for short, long in (("loss", "loss"), ("acc", "accuracy"))}  # fmt: skip
    paths = []
    for (depth, width, count), rows in study.groupby(["depth", "width", "heads"]):
        info = {}
        for operation, same in rows.groupby("operation"):
            mine = runs[runs["run"].isin(same["run"])]
            lists = {key: mine[column].astype(float).tolist() for key, column in names.items()}
            lists["step_val_acc_99"] = same["test"].fillna(same["train_steps"]).tolist()
            info[operation] = {
                "means": {f"{key}_mean": float(np.mean(v)) for key, v in lists.items()},
                "stderrs": {
                    f"{key}_stderr": float(np.std(v) / np.sqrt(len(v))) for key, v in lists.items()
                },
                "final_info_dict": lists,
                "censored": int(same["test"].isna().sum()),
            }
        path = folder / f"{depth}x{width}_h{count}" / "final_info.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(info, indent=2))
        paths.append(path)
    return paths
