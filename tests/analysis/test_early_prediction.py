"""The comparison of early features: what is read, what is left out, and other experiments' sweeps."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from analysis import early_prediction, phase_diagram
from analysis.early_prediction import Candidate
from grok.phases import UNDECIDED
from tests.analysis.scripts import call_script

STEPS = list(range(0, 1001, 25))


def candidate(decay: float, groks: int | None, known: float = 0.0, norm: float = 1.0) -> Candidate:
    """A run of 1000 steps whose train loss is higher if it groks, and whose norm falls with `norm`
    below 1."""
    loss = 0.2 if groks else 0.1
    series = {
        "train_accuracy": (STEPS, [1.0] * len(STEPS)),
        "test_accuracy": (STEPS, [known if step <= 50 else 0.0 for step in STEPS]),
        "train_loss": (STEPS, [loss * np.exp(-step / 100) for step in STEPS]),
        "weight_norm": (STEPS, [norm ** (step / 100) for step in STEPS]),
    }
    return Candidate(series, 1000, 1000, groks, (str(decay),), (decay,), 0.9)


RUNS = [candidate(decay, 700 if decay >= 1 else None) for decay in (0.1, 0.3, 1.0, 3.0)] * 2


def test_areas_are_of_oriented_features_and_of_settings_left_out():
    table = early_prediction.areas(RUNS, ["decay"], 0.1).set_index("predictor")
    assert table.loc["train loss", "AUROC"] == 1
    assert table.loc["training", "AUROC"] == 1
    assert {"hyperparameters", "both"} <= {*table.index}
    assert (table["runs"] == 8).all() and (table["grok"] == 4).all()
    assert "norm" not in table.index  # it is the same in all runs


def test_a_run_that_has_begun_to_generalize_is_left_out():
    """It would be predicted by what is already known."""
    runs = [*RUNS, candidate(9.0, 75, known=0.2)]
    assert (early_prediction.areas(runs, ["decay"], 0.1)["runs"] == 8).all()
    assert early_prediction.areas([one for one in RUNS if one.groks], ["decay"], 0.1).empty


def test_rule_is_applied_to_whole_runs():
    """Of four, it gives up the two whose norm does not fall, at step 100 of 1000; one of them groks."""
    runs = [
        candidate(0.1, None),
        candidate(0.3, 900),
        candidate(1.0, 700, norm=0.9),
        candidate(3.0, 700, norm=0.9),
    ]
    assert early_prediction.verdict_on_rule(runs) == (
        "stop_when_hopeless: of 4 runs that can be judged it gives up 2 and saves 45% of all steps; "
        "of 3 runs that grok it gives up 1"
    )


@pytest.fixture
def sweep(store):
    """A stored sweep of another experiment, whose runs log fewer metrics; one was given up itself."""
    name = "made_early"
    document = {"_id": name, "name": name, "experiment": "mlp", "created": datetime.now(UTC)}
    store.database.sweeps.insert_one({**document, "config": {"parameters": {}}, "points": []})
    for number, one in enumerate([*RUNS, RUNS[0]]):
        config = {
            "lr": one.hyperparameters[0],
            "seed": number // 4,
            "train_steps": 1000,
            "stop_when_hopeless": number == len(RUNS),
        }
        identity = f"{name}-{number}"
        store.database.runs.insert_one(
            {
                "_id": identity,
                "experiment": {"name": "mlp"},
                "status": "COMPLETED",
                "config": config,
                "result": {"ended": "budget", "threshold": 0.9},
                "meta": {"sweep": {"id": name, "point": number}},
            }
        )
        end = [float(step >= (one.groks or np.inf)) for step in STEPS]
        for metric in ("train_accuracy", "test_accuracy", "train_loss"):
            values = end if metric == "test_accuracy" else one.series[metric][1]
            store.database.metrics.insert_one(
                {
                    "run_id": identity,
                    "name": metric,
                    "steps": STEPS,
                    "values": [float(value) for value in values],
                    "timestamps": [datetime.now(UTC)] * len(STEPS),
                }
            )
    yield name
    for collection, key in (("runs", "_id"), ("metrics", "run_id"), ("sweeps", "_id")):
        store.database[collection].delete_many({key: {"$regex": "^made_early"}})


def test_any_sweep_with_accuracies_is_read(sweep, tmp_path):
    result = call_script("early_prediction", sweep, cwd=tmp_path)
    assert result.exit_code == 0, result.output
    assert "of 0 runs that can be judged" in result.output  # they have logged no norm
    table = (tmp_path / "figures" / f"early_prediction_{sweep}.csv").read_text()
    assert "train loss,training only,1.0" in table
    assert (tmp_path / "figures" / f"early_prediction_{sweep}.png").exists()


def test_a_run_that_was_given_up_is_no_cell_of_a_phase_diagram():
    """By its steps it would be memorization, which is the prediction and no observation. Its cell is
    empty, and it neither agrees nor disagrees with a published one."""
    runs = pd.DataFrame(
        {
            "x": [1.0, 2.0],
            "y": [1.0, 1.0],
            "result.steps_to_train": [10, 10],
            "result.steps_to_test": [None, None],
            "result.phase": [UNDECIDED, "memorization"],
        }
    )
    cells = phase_diagram.grid_cells(runs, "x", "y", 100)
    assert list(cells["phase"]) == [UNDECIDED, "memorization"]
    published = cells.assign(phase="memorization")
    assert phase_diagram.describe_agreement(cells, published).startswith("100.0% of 1 cells")
    phase_diagram.plot_phase_diagram(cells, published, "x", "y")
