"""A stored run as `training_history.json`, the form that replication folders exchange."""

from collections.abc import Iterable
from typing import Any

from pymongo.database import Database

from grok.errors import UserError
from grok.store.connection import find_run
from grok.store.documents import find_metrics

METRIC_OF_KEY = {
    "train_loss": "train_loss",
    "train_acc": "train_accuracy",
    "test_loss": "test_loss",
    "test_acc": "test_accuracy",
}


def training_history(database: Database, run: int | str) -> dict[str, Any]:
    """A run's logged values as lists of numbers, all of equal length.

    Returns:
        epoch (the logged step), train_loss, train_acc, test_loss, test_acc (accuracies in [0, 1]),
        rqi where it was logged, and grokking_summary: train_acc_step, test_acc_step and rqi_step
        (the steps to the thresholds), grokking_delay (between the first two), None where there is
        none, and grokking_detected (whether there is a delay).

    Raises:
        UserError: there is no such run, or it has not logged these values.
    """
    series = logged(database, run, METRIC_OF_KEY.values())
    names = {**METRIC_OF_KEY, "rqi": "rqi"} if "rqi" in series else METRIC_OF_KEY
    values = {
        key: dict(zip(series[name]["steps"], series[name]["values"], strict=False))
        for key, name in names.items()
    }
    # a running run may not have delivered all of its last evaluation
    steps = [step for step in values["train_loss"] if all(step in one for one in values.values())]
    lists = {key: [one[step] for step in steps] for key, one in values.items()}
    result = find_run(database, run).get("result")
    return {"epoch": steps, **lists, "grokking_summary": grokking_summary(result)}


def grokking_summary(result: Any) -> dict[str, Any]:
    """The steps to the thresholds in a run's result; all None if it has no result (yet)."""
    result = result if isinstance(result, dict) else {}
    train, test = result.get("steps_to_train"), result.get("steps_to_test")
    delay = None if train is None or test is None else test - train
    return {
        "train_acc_step": train,
        "test_acc_step": test,
        "rqi_step": result.get("steps_to_rqi"),
        "grokking_delay": delay,
        "grokking_detected": delay is not None and delay > 0,
    }


def logged(database: Database, run: int | str, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """A run's metric documents by name; UserError if there is no such run or a name is missing."""
    find_run(database, run)
    series = {metric["name"]: metric for metric in find_metrics(database.metrics, {"run_id": run})}
    missing = [name for name in names if name not in series]
    if missing:
        raise UserError(f"run {run} has not logged {', '.join(missing)}")
    return series
