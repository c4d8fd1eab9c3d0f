"""A stored run as `training_history.json`, the form that replication folders exchange."""

from collections.abc import Iterable
from typing import Any

from grok.errors import UserError
from grok.store.connection import find_run

NAMES = {
    "train_loss": "train_loss",
    "train_acc": "train_accuracy",
    "test_loss": "test_loss",
    "test_acc": "test_accuracy",
}


def training_history(database, run: int) -> dict[str, list[Any]]:
    """Equal-length lists epoch, train_loss, train_acc, test_loss, test_acc (accuracies 0..1), and
    rqi where it was logged. `epoch` is the logged step. UserError if the run has no such values."""
    series = logged(database, run, NAMES.values())
    steps = series["train_loss"]["steps"]
    history = {"epoch": steps, **{k: series[name]["values"] for k, name in NAMES.items()}}
    if "rqi" in series:
        history["rqi"] = series["rqi"]["values"]
    shortest = min(len(values) for values in history.values())  # a run that is still going on
    return {key: values[:shortest] for key, values in history.items()}


def logged(database, run: int, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """A run's metric documents by name; UserError if there is no such run or one of `names` is missing."""
    find_run(database, run)
    series = {m["name"]: m for m in database.metrics.find({"run_id": run})}
    missing = [name for name in names if name not in series]
    if missing:
        raise UserError(f"run {run} has not logged {', '.join(missing)}")
    return series
