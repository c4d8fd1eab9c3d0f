"""A sweep in the files of the AI-Scientist template (Lu et al. 2024), which its plot script reads.

The template keeps a folder run_0, run_1, ... for each setting that it tried, with all operations and
seeds in it:

    all_results.npy   a pickled dict; OPERATION_I_train_info and OPERATION_I_val_info are lists of
                      {"step", "train_loss", "train_accuracy"} and {"step", "val_loss", ...} of the
                      I-th seed, OPERATION_I_final_info is a dict
    final_info.json   for each operation the values of final_info over its seeds, their means and
                      errors
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pymongo.database import Database

from grok.errors import UserError, writing
from grok.paths import atomic_write, make_private_folder, write_private
from grok.reports.exports import curves_of, finished_runs
from grok.store.connection import swept_keys, swept_values

THRESHOLD = 0.99  # accuracy above which the template counts a run as grokked
TEMPLATE_NAMES = {"s5": "permutation"}  # of operations that have another name there
SPLITS = ("train", "val")


def export_sweep(database: Database, sweep: str, folder: Path) -> int:
    """Write run_0, run_1, ... and settings.json, which says what is in which.

    Arguments:
        sweep: its id or the name of its file.

    Returns:
        the number of folders.

    Raises:
        UserError: the sweep has no finished run that logged losses and accuracies.
    """
    document, runs = finished_runs(database, sweep)
    keys = [key for key in swept_keys(document) if key != "operation"]
    settings: dict[str, dict[str, list[pd.DataFrame]]] = {}
    for run in runs:
        config = run.get("config") or {}
        setting = json.dumps(swept_values(run, keys), default=str)
        operation = config.get("operation") or run["experiment"]["name"]
        operation = TEMPLATE_NAMES.get(operation, operation)
        try:
            curves = curves_of(database, run["_id"])
        except UserError:
            continue  # logged something else
        settings.setdefault(setting, {}).setdefault(operation, []).append(curves)
    if not settings:
        raise UserError(f"no run of sweep {sweep} has logged losses and accuracies")
    with writing(folder):
        for number, curves_by_operation in enumerate(settings.values()):
            write_run(folder / f"run_{number}", curves_by_operation)
        names = {f"run_{i}": json.loads(setting) for i, setting in enumerate(settings)}
        write_private(folder / "settings.json", json.dumps(names, indent=2))
    return len(settings)


def write_run(folder: Path, curves_by_operation: Mapping[str, list[pd.DataFrame]]) -> None:
    """Write all_results.npy and final_info.json of one setting.

    Arguments:
        curves_by_operation: for each operation the curves of its seeds, from `curves_of`.
    """
    make_private_folder(folder)
    results: dict[str, Any] = {}
    infos = {}
    for operation, curves in curves_by_operation.items():
        final_infos = [final_info(one) for one in curves]
        for seed, (info, one) in enumerate(zip(final_infos, with_equal_steps(curves), strict=True)):
            results[f"{operation}_{seed}_final_info"] = info
            for split in SPLITS:
                results[f"{operation}_{seed}_{split}_info"] = records(one, split)
        values = {key: [info[key] for info in final_infos] for key in final_infos[0]}
        infos[operation] = summary(values)
    with atomic_write(folder / "all_results.npy") as file:
        np.save(file, np.array(results, dtype=object), allow_pickle=True)
    write_private(folder / "final_info.json", json.dumps(infos, indent=2))


def summary(values: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """An operation's entry in final_info.json.

    `stderrs` are the template's: the standard deviation divided by the number of values n.
    `standard_errors` are divided by the root of n, as the template's plot script does.

    Arguments:
        values: for each metric its values over the seeds.
    """
    deviations = {name: (np.std(numbers), len(numbers)) for name, numbers in values.items()}
    return {
        "means": {f"{name}_mean": float(np.mean(numbers)) for name, numbers in values.items()},
        "stderrs": {f"{name}_stderr": float(std / n) for name, (std, n) in deviations.items()},
        "standard_errors": {
            f"{name}_standard_error": float(std / np.sqrt(n))
            for name, (std, n) in deviations.items()
        },
        "final_info_dict": dict(values),
    }


def final_info(curves: pd.DataFrame) -> dict[str, float]:
    """A run's last losses and accuracies, and the first step above 99 % test accuracy.

    As in the template, that step is the last one if there is none.
    """
    above = curves.index[curves["val_acc"] > THRESHOLD]
    last = curves.ffill().iloc[-1]
    return {
        **{f"final_{column}": float(value) for column, value in last.items()},
        "step_val_acc_99": int(above[0] if len(above) else curves.index[-1]),
    }


def with_equal_steps(curves: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """The curves at all steps that one of them has; a run that ended keeps its last values."""
    steps = sorted(set().union(*(one.index for one in curves)))
    return [one.ffill().reindex(steps, method="ffill") for one in curves]


def records(curves: pd.DataFrame, split: str) -> list[dict[str, float]]:
    """The template's list of one dict for each evaluation."""
    return [
        {"step": int(step), f"{split}_loss": float(loss), f"{split}_accuracy": float(accuracy)}
        for step, loss, accuracy in zip(
            curves.index, curves[f"{split}_loss"], curves[f"{split}_acc"], strict=True
        )
    ]
