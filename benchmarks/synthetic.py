"""Made-up runs in a database of their own, shaped as real ones: for timings and tests of queries."""

from datetime import UTC, datetime, timedelta

import numpy as np

from grok.experiment.experiment import load
from grok.paths import PROJECT
from grok.store.connection import make_indexes

METRICS = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
TOGETHER = 500


def fill(database, count: int, steps: int = 200, first: int = 1, seed: int = 0) -> None:
    """Insert `count` completed runs of liu_toy with ids from `first`: ten seeds of different learning rates,
    four metrics at `steps` logarithmic steps."""
    rng = np.random.default_rng(seed)
    defaults = load(PROJECT / "experiments" / "liu_toy.py").defaults()
    logged = np.unique(np.geomspace(1, 1e5, 4 * steps).astype(int))
    logged = logged[np.linspace(0, len(logged) - 1, steps).astype(int)].tolist()
    began = datetime(2026, 1, 1, tzinfo=UTC)
    make_indexes(database)
    for start in range(0, count, TOGETHER):
        runs, metrics = [], []
        for number in range(start, min(count, start + TOGETHER)):
            lr = float(f"{10 ** rng.uniform(-4, -1):.3g}")
            config = {**defaults, "seed": number % 10, "decoder_lr": lr}
            curve = np.sort(rng.random((4, steps)), axis=1)
            arrives = int(rng.choice(logged))
            result = {"phase": "grokking" if arrives > 1000 else "comprehension", "ended": "budget"}
            result |= {"steps_to_train": 100, "steps_to_test": arrives, "threshold": 0.9}
            result |= {name: float(curve[i, -1]) for i, name in enumerate(METRICS)}
            stamp = began + timedelta(minutes=number)
            runs.append(
                {
                    "_id": first + number, "status": "COMPLETED", "start_time": stamp, "heartbeat": stamp,
                    "stop_time": stamp, "command": "main", "config": config, "result": result,
                    "experiment": {"name": "liu_toy", "mainfile": "experiments/liu_toy.py", "sources": []},
                    "meta": {"named_configs": ["cpu"], "config_updates": {"decoder_lr": lr}},
                    "info": {"environment": {"torch": "2"}}, "artifacts": [], "resources": [],
                    "host": {"hostname": "made-up"}, "captured_out": "", "synthetic": True,
                }
            )  # fmt: skip
            metrics += [
                {
                    "run_id": first + number, "name": name, "steps": logged,
                    "values": curve[i].tolist(), "timestamps": [stamp] * steps,
                }
                for i, name in enumerate(METRICS)
            ]  # fmt: skip
        database.runs.insert_many(runs)
        database.metrics.insert_many(metrics)
