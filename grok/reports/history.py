"""A stored run as `training_history.json`, the form that replication folders exchange."""

from collections.abc import Iterable
from typing import Any

from pymongo.database import Database

from grok.errors import UserError
from grok.store.connection import find_run

METRIC_OF_KEY = {
    "train_loss": "train_loss",
    "train_acc": "train_accuracy",
    "test_loss": "test_loss",
    "test_acc": "test_accuracy",
}


def training_history(database: Database, run: int) -> dict[str, list[Any]]:
    """A run's logged values as lists of equal length.

    Returns:
        epoch (the logged step), train_loss, train_acc, test_loss, test_acc (accuracies in [0, 1]),
        and rqi where it was logged.

    Raises:
        UserError: there is no such run, or it has not logged these values.
    """
    series = logged(database, run, METRIC_OF_KEY.values())
    history = {"epoch": series["train_loss"]["steps"]}
    history |= {key: series[metric]["values"] for key, metric in METRIC_OF_KEY.items()}
    if "rqi" in series:
        history["rqi"] = series["rqi"]["values"]
    shortest = min(len(values) for values in history.values())  # of a run that is still running
    return {key: values[:shortest] for key, values in history.items()}


def logged(database: Database, run: int, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """A run's metric documents by name; UserError if there is no such run or a name is missing."""
    find_run(database, run)
    series = {metric["name"]: metric for metric in database.metrics.find({"run_id": run})}
    missing = [name for name in names if name not in series]
    if missing:
        raise UserError(f"run {run} has not logged {', '.join(missing)}")
    return series
