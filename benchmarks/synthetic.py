"""Synthetic runs in a database of their own, with the fields of real ones, to time and test queries."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from pymongo.database import Database

from grok.experiment.experiment import load
from grok.paths import PROJECT
from grok.store.connection import make_indexes

METRICS = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
INSERTED_AT_ONCE = 500  # runs


def fill(database: Database, count: int, steps: int = 200, first: int = 1, seed: int = 0) -> None:
    """Insert completed runs of liu_toy with ten seeds, random learning rates and four metrics.

    Arguments:
        database: a Sacred database; the synthetic runs are marked by a field `synthetic`.
        count: number of runs.
        steps: logarithmically spaced steps at which each metric is logged.
        first: id of the first run; the others follow.
        seed: of the values.
    """
    rng = np.random.default_rng(seed)
    defaults = load(PROJECT / "experiments" / "liu_toy.py").defaults()
    logged = np.unique(np.geomspace(1, 1e5, 4 * steps).astype(int))
    logged = logged[np.linspace(0, len(logged) - 1, steps).astype(int)].tolist()
    start_time = datetime(2026, 1, 1, tzinfo=UTC)
    make_indexes(database)
    for start in range(0, count, INSERTED_AT_ONCE):
        runs, metrics = [], []
        for number in range(start, min(count, start + INSERTED_AT_ONCE)):
            lr = float(f"{10 ** rng.uniform(-4, -1):.3g}")
            config = {**defaults, "seed": number % 10, "decoder_lr": lr}
            curve = np.sort(rng.random((4, steps)), axis=1)
            reached = int(rng.choice(logged))
            result: dict[str, Any] = {
                "phase": "grokking" if reached > 1000 else "comprehension",
                "ended": "budget",
            }
            result |= {"steps_to_train": 100, "steps_to_test": reached, "threshold": 0.9}
            result |= {name: float(curve[i, -1]) for i, name in enumerate(METRICS)}
            stamp = start_time + timedelta(minutes=number)
            runs.append(
                {
                    "_id": first + number,
                    "status": "COMPLETED",
                    "start_time": stamp,
                    "heartbeat": stamp,
                    "stop_time": stamp,
                    "command": "main",
                    "config": config,
                    "result": result,
                    "experiment": {
                        "name": "liu_toy",
                        "mainfile": "experiments/liu_toy.py",
                        "sources": [],
                    },
                    "meta": {"named_configs": ["cpu"], "config_updates": {"decoder_lr": lr}},
                    "info": {"environment": {"torch": "2"}, "program": {"slot": 0, "slots": 1}},
                    "artifacts": [],
                    "resources": [],
                    "host": {"hostname": "synthetic"},
                    "captured_out": "",
                    "synthetic": True,
                }
            )
            metrics += [
                {
                    "run_id": first + number,
                    "name": name,
                    "steps": logged,
                    "values": curve[i].tolist(),
                    "timestamps": [stamp] * steps,
                }
                for i, name in enumerate(METRICS)
            ]
        database.runs.insert_many(runs)
        database.metrics.insert_many(metrics)
