"""Stored runs as files: config.json, metrics.csv, summary.json, curves.png; a sweep's as a folder."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd
from pymongo.database import Database

from grok.errors import UserError, writing
from grok.reports.history import logged
from grok.store.connection import find_sweep

METRIC_OF_COLUMN = {
    "train_loss": "train_loss",
    "train_acc": "train_accuracy",
    "val_loss": "test_loss",
    "val_acc": "test_accuracy",
}
LONGEST_NAME = 200  # bytes; file systems take 255
SWEEP_SUMMARY_KEYS = (
    "final_train_acc",
    "final_val_acc",
    "memorization_step",
    "generalization_step",
    "runtime_sec",
)


def export_run(database: Database, number: int, folder: Path) -> dict[str, Any]:
    """Write one run's files and return its summary; UserError if it has no result or logged nothing."""
    series = logged(database, number, METRIC_OF_COLUMN.values())
    run = database.runs.find_one({"_id": number})
    if not run or not run.get("result"):
        raise UserError(f"run {number} has no result to export")
    frame = pd.DataFrame(
        {
            column: pd.Series(series[metric]["values"], series[metric]["steps"])
            for column, metric in METRIC_OF_COLUMN.items()
        }
    ).rename_axis("step")
    summary = summary_of(run, frame)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(run["config"], indent=2))
        frame.to_csv(folder / "metrics.csv")
        plot_curves(frame, folder / "curves.png")
        (folder / "summary.json").write_text(json.dumps(summary, indent=2))
    return summary


def export_sweep(database: Database, sweep: str, folder: Path) -> int:
    """Write every finished run of a sweep as NAME/seed_K, and sweep_summary.csv and .json.

    Arguments:
        sweep: its id or the name of its file.
        folder: NAME in it is the run's preset, or its point without the seed.

    Returns:
        the number of runs.

    Raises:
        UserError: the sweep has no finished run.
    """
    document = find_sweep(database, sweep)
    wanted = {"meta.sweep.id": document and document["_id"], "status": "COMPLETED"}
    runs = list(database.runs.find(wanted).sort("_id")) if document else []
    if not document or not runs:
        raise UserError(f"no finished run of a sweep {sweep}")
    swept = [key for key in document["config"]["parameters"] if key not in ("seed", "preset")]
    rows = []
    for run in runs:
        name = _folder_name(run, swept)
        run_folder = folder / name / f"seed_{run['config']['seed']}"
        summary = export_run(database, run["_id"], run_folder)
        rows.append(
            {
                "preset": name,
                "seed": run["config"]["seed"],
                **{key: summary[key] for key in SWEEP_SUMMARY_KEYS},
                "run_dir": str(run_folder.relative_to(folder)),
                "run": run["_id"],
            }
        )
    with writing(folder):
        pd.DataFrame(rows).to_csv(folder / "sweep_summary.csv", index=False)
        (folder / "sweep_summary.json").write_text(json.dumps(rows, indent=2))
    return len(rows)


def _folder_name(run: dict[str, Any], swept: list[str]) -> str:
    """The run's preset and swept values; beyond what a file system takes, a digest of them."""
    config = run["config"]
    parts = [config["preset"]] if config.get("preset") else []
    parts += [f"{key}={config[key]}".replace("/", "div") for key in swept]
    name = ",".join(parts) or run["experiment"]["name"]
    if len(name.encode()) <= LONGEST_NAME:
        return name
    return f"{name[:100]}~{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def summary_of(run: dict[str, Any], frame: pd.DataFrame) -> dict[str, Any]:
    """Final values, steps to the threshold (None if never) and time of a run."""
    config, result = run["config"], run["result"]
    return {
        "name": config.get("preset") or run["experiment"]["name"],
        "operation": config.get("operation"),
        "p": config.get("p"),
        "train_size": result.get("train_size"),
        "val_size": result.get("test_size"),
        **{f"final_{column}": float(frame[column].iloc[-1]) for column in METRIC_OF_COLUMN},
        "memorization_step": result["steps_to_train"],
        "generalization_step": result["steps_to_test"],
        "threshold": result["threshold"],
        "steps": result["steps"],
        "runtime_sec": result["seconds"],
        "curves_saved": True,
        "run": run["_id"],
    }


def plot_curves(frame: pd.DataFrame, path: Path) -> None:
    """Write a figure of loss and accuracy against steps, side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, kind in zip(figure.subplots(1, 2), ("loss", "acc"), strict=True):
        for split in ("train", "val"):
            axes.plot(frame.index, frame[f"{split}_{kind}"], label=split)
        axes.set_xscale("symlog")
        axes.set_xlabel("step")
        axes.set_ylabel({"loss": "loss", "acc": "accuracy"}[kind])
        axes.legend(frameon=False)
    figure.axes[0].set_yscale("log")
    figure.savefig(path, dpi=160)
