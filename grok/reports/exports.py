"""Stored runs as files, a sweep and a whole replication as folders of them.

A run's files are config.json, metrics.csv, training_history.json, summary.json and curves.png.
"""

import json
from pathlib import Path
from typing import Any

import pandas as pd
from pymongo.database import Database

from grok.claims import scorecard
from grok.errors import UserError, writing
from grok.paths import atomic_write, make_private_folder, shortened, write_private
from grok.printable import echo
from grok.reports.history import logged, training_history
from grok.store.connection import find_run, find_sweep, swept_keys, swept_values
from grok.store.selection import of_sweeps

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


def export_run(database: Database, number: int | str, folder: Path) -> dict[str, Any]:
    """Write one run's files and return its summary.

    Raises:
        UserError: there is no such run, it has no result, or it has not logged losses and accuracies.
    """
    return _write_run(database, find_run(database, number), curves_of(database, number), folder)


def _write_run(
    database: Database, run: dict[str, Any], frame: pd.DataFrame, folder: Path
) -> dict[str, Any]:
    """Write the files of a run with these curves and return its summary."""
    number = run["_id"]
    if not isinstance(run.get("result"), dict):
        raise UserError(f"run {number} has no result to export")
    summary = summary_of(run, frame)
    with writing(folder):
        make_private_folder(folder)
        write_private(
            folder / "config.json", json.dumps(run.get("config") or {}, indent=2, default=str)
        )
        write_private(folder / "metrics.csv", frame.to_csv())
        history = training_history(database, number)
        write_private(folder / "training_history.json", json.dumps(history))
        plot_curves(frame, folder / "curves.png")
        write_private(folder / "summary.json", json.dumps(summary, indent=2, default=str))
    return summary


def curves_of(database: Database, number: int | str) -> pd.DataFrame:
    """A run's losses and accuracies, the columns of METRIC_OF_COLUMN, by step.

    Raises:
        UserError: there is no such run, or it has not logged them.
    """
    series = logged(database, number, METRIC_OF_COLUMN.values())
    columns = {
        column: pd.Series(series[metric]["values"], series[metric]["steps"], dtype=float)
        for column, metric in METRIC_OF_COLUMN.items()
    }
    return pd.DataFrame(columns).rename_axis("step")


def finished_runs(database: Database, sweep: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A sweep's document and its completed runs; UserError if it has none.

    Of runs with equal configurations, of a point that was trained again, it is the latest.

    Arguments:
        sweep: its id or the name of its file.
    """
    document = find_sweep(database, sweep)
    if document is None:
        raise UserError(f"no sweep {sweep}")
    wanted = {**of_sweeps(document["_id"]), "status": "COMPLETED"}
    found = database.runs.find(wanted).sort("_id")
    latest = {json.dumps(run.get("config"), sort_keys=True, default=str): run for run in found}
    if not latest:
        raise UserError(f"no finished run of a sweep {sweep}")
    return document, list(latest.values())


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
    return len(_export_runs(database, *finished_runs(database, sweep), folder))


def export_replication(database: Database, papers: tuple[str, ...], folder: Path) -> int:
    """Write the latest sweeps that the papers' claims are made on, as PAPER/SWEEP, and an index.

    index.csv and index.json have a row for each run, with its paper, its sweep and its folder.

    Arguments:
        papers: names of papers; all if empty.

    Returns:
        the number of runs.

    Raises:
        UserError: a paper is unknown, or no sweep has a finished run.
    """
    rows = []
    for paper in scorecard.experiments(papers):
        for sweep in dict.fromkeys(claim.sweep for claim in paper.claims):
            place = Path(str(paper.path)) / sweep
            try:
                document, runs = finished_runs(database, sweep)
            except UserError:
                continue  # not run yet
            for row in _export_runs(database, document, runs, folder / place):
                run_dir = str(place / row["run_dir"])
                rows.append({"paper": paper.path, "sweep": sweep, **row, "run_dir": run_dir})
    if not rows:
        raise UserError("no finished run of these papers' sweeps")
    _write_table(rows, folder, "index")
    return len(rows)


def _export_runs(
    database: Database, sweep: dict[str, Any], runs: list[dict[str, Any]], folder: Path
) -> list[dict[str, Any]]:
    """The rows of a sweep's summary, after the files of these runs of it have been written."""
    swept = [key for key in swept_keys(sweep) if key != "preset"]
    rows = []
    written: dict[Path, Any] = {}
    for run in runs:
        seed = (run.get("config") or {}).get("seed")
        name = _folder_name(run, swept)
        run_folder = folder / name / _file_name(f"seed_{seed}")
        other = written.setdefault(run_folder, run["_id"])
        if other != run["_id"]:
            raise UserError(
                f"runs {other} and {run['_id']} of sweep {sweep['_id']} differ, and would both be "
                f"written to {run_folder.relative_to(folder)}"
            )
        try:
            frame = curves_of(database, run["_id"])
        except UserError as error:
            echo(f"left out: {error}", err=True)
            continue
        summary = _write_run(database, run, frame, run_folder)
        rows.append(
            {
                "preset": name,
                "seed": seed,
                **{key: summary[key] for key in SWEEP_SUMMARY_KEYS},
                "run_dir": str(run_folder.relative_to(folder)),
                "run": run["_id"],
            }
        )
    _write_table(rows, folder, "sweep_summary")
    return rows


def _write_table(rows: list[dict[str, Any]], folder: Path, name: str) -> None:
    """Write the rows as NAME.csv and NAME.json."""
    with writing(folder):
        make_private_folder(folder)
        write_private(folder / f"{name}.csv", pd.DataFrame(rows).to_csv(index=False))
        write_private(folder / f"{name}.json", json.dumps(rows, indent=2, default=str))


def _folder_name(run: dict[str, Any], swept: list[str]) -> str:
    """The run's preset and swept values as one name."""
    config = run.get("config") or {}
    parts = [str(config["preset"])] if config.get("preset") else []
    parts += [f"{key}={value}" for key, value in swept_values(run, swept).items()]
    return _file_name(",".join(parts) or str(run["experiment"]["name"]))


def _file_name(text: str) -> str:
    """Values of a run, which may be anybody's, as the name of one file or folder."""
    name = text.replace("/", "div").replace("\0", "").lstrip(".") or "run"
    return shortened(name, LONGEST_NAME)


def summary_of(run: dict[str, Any], frame: pd.DataFrame) -> dict[str, Any]:
    """Final values, steps to the threshold (None if never) and time of a run."""
    config, result = run.get("config") or {}, run["result"]
    last = frame.ffill().iloc[-1]
    return {
        "name": config.get("preset") or run["experiment"]["name"],
        "operation": config.get("operation"),
        "p": config.get("p"),
        "train_size": result.get("train_size"),
        "val_size": result.get("test_size"),
        **{f"final_{column}": float(last[column]) for column in METRIC_OF_COLUMN},
        "memorization_step": result.get("steps_to_train"),
        "generalization_step": result.get("steps_to_test"),
        "threshold": result.get("threshold"),
        "steps": result.get("steps"),
        "runtime_sec": result.get("seconds"),
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
    with atomic_write(path) as file:
        figure.savefig(file, dpi=160)
