"""The capacity study: sustained crossings by hand, and a small grid from sweep to files."""

import json
from copy import deepcopy
from itertools import product

import numpy as np
import pandas as pd
import pytest
import yaml

from analysis import capacity_study
from grok.errors import UserError
from grok.experiment.experiment import load
from grok.reports import exports
from grok.sweep import file as files
from grok.sweep.local import LocalSweep
from tests.analysis.scripts import call_script
from tests.conftest import PROJECT

FIRST = 80_001  # id of the first run of the sweep
SWEEP = {
    "program": "experiments/capacity.py",
    "method": "grid",
    "parameters": {
        "depth": {"values": [1, 4]},
        "width": {"values": [64, 128]},
        "seed": {"values": [0, 1]},
    },
}


def test_a_crossing_counts_when_five_evaluations_hold_it():
    values = [0.5, 1, 1, 0.9, 1, 1, 1, 1, 1, 0.2]
    assert capacity_study.first_sustained(pd.Series(values, np.arange(10) * 10)) == 40
    assert np.isnan(capacity_study.first_sustained(pd.Series([0.99] * 9)))


def test_the_last_value_of_a_run_that_stopped_early_counts_for_those_after_it():
    values = pd.Series([0.2, 0.5, 1, 1], [0, 10, 20, 30])
    assert np.isnan(capacity_study.first_sustained(values))
    assert capacity_study.first_sustained(values, repeat_last=4) == 20
    assert np.isnan(capacity_study.first_sustained(values - 0.5, repeat_last=4))


@pytest.mark.parametrize(
    ("size", "bucket"), [(224_353, "small"), (422_625, "medium"), (1_631_585, "large")]
)
def test_buckets(size, bucket):
    assert capacity_study.bucket_of(size) == bucket


@pytest.fixture(scope="module")
def sweep(store, tmp_path_factory):
    """The id of a sweep of four networks and two seeds.

    One network is really trained, for a short time. The other runs are its documents with another
    shape, seed and values, because training is what costs time.
    """
    path = tmp_path_factory.mktemp("sweep") / "tiny_capacity.yaml"
    path.write_text(yaml.safe_dump(SWEEP))
    file = files.read(path)
    sweep_id = LocalSweep.begin(file, store, None, None).id
    experiment = load(PROJECT / "experiments" / "capacity.py")
    config = {"p": 7, "batch_size": 16, "train_steps": 60, "eval_steps": 5, "heads": 2}
    trained = experiment.run(config_updates=config | {"depth": 1, "width": 64})
    database = store.database
    run = database.runs.find_one({"_id": trained._id})
    metrics = list(database.metrics.find({"run_id": trained._id}, {"_id": 0}))
    for point, (depth, width, seed) in enumerate(product((1, 4), (64, 128), (0, 1))):
        scale = 1 - point / 100  # distinguishes the runs
        copied = deepcopy(run) | {"_id": FIRST + point}
        copied["config"] |= {"depth": depth, "width": width, "seed": seed}
        copied["meta"]["sweep"] = {"id": sweep_id, "point": point}
        copied["result"]["parameters"] = 12 * depth * width**2
        for metric in metrics:
            values = [scale * value for value in metric["values"]]
            database.metrics.insert_one(metric | {"run_id": FIRST + point, "values": values})
            if metric["name"] in copied["result"]:
                copied["result"][metric["name"]] = values[-1]
        database.runs.insert_one(copied)
    yield sweep_id
    runs = {"$gte": FIRST, "$lt": FIRST + 8}
    database.metrics.delete_many({"run_id": runs})
    database.runs.delete_many({"_id": runs})


def test_the_study_writes_figures_and_the_templates_files(sweep, tmp_path):
    done = call_script("capacity_study", sweep, "-o", str(tmp_path / "out"), cwd=tmp_path)
    assert done.exit_code == 0, done.stderr
    assert "4 x 64" in done.stdout and "deep" in done.stdout
    written = sorted((tmp_path / "out").glob("capacity_*/*/final_info.json"))
    assert [path.parent.name for path in written] == ["1x128_h2", "1x64_h2", "4x128_h2", "4x64_h2"]
    info = json.loads(written[0].read_text())["x_plus_y"]
    lists = info["final_info_dict"]
    assert len(lists["final_val_acc"]) == 2
    assert info["means"]["final_val_acc_mean"] == pytest.approx(np.mean(lists["final_val_acc"]))
    deviation = np.std(lists["final_train_loss"])
    assert info["stderrs"]["final_train_loss_stderr"] == pytest.approx(deviation / 2)
    standard_error = info["standard_errors"]["final_train_loss_standard_error"]
    assert standard_error == pytest.approx(deviation / np.sqrt(2))
    assert len(list((tmp_path / "out").glob("*.png"))) == 2


def test_exported_runs_read_back(sweep, store, tmp_path):
    assert exports.export_sweep(store.database, sweep, tmp_path) == 8
    summary = pd.read_csv(tmp_path / "sweep_summary.csv")
    assert len(summary) == 8 and set(summary["seed"]) == {0, 1}
    assert json.loads((tmp_path / "sweep_summary.json").read_text())[0]["run"] == summary["run"][0]
    for row in summary.itertuples():
        folder = tmp_path / row.run_dir
        metrics = pd.read_csv(folder / "metrics.csv")
        assert list(metrics.columns) == ["step", "train_loss", "train_acc", "val_loss", "val_acc"]
        assert metrics["step"].tolist() == list(range(0, 61, 5))
        one = json.loads((folder / "summary.json").read_text())
        assert one["final_val_acc"] == metrics["val_acc"].iloc[-1]
        stored = store.database.runs.find_one({"_id": row.run})
        assert json.loads((folder / "config.json").read_text()) == stored["config"]
        assert (folder / "curves.png").stat().st_size > 5000


def test_what_cannot_be_written_is_one_line(sweep, store, tmp_path):
    (tmp_path / "file").write_text("")
    below = tmp_path / "file" / "out"
    with pytest.raises(UserError, match=r"cannot write .*/file/out.*: Not a directory"):
        exports.export_sweep(store.database, sweep, below)
    done = call_script("capacity_study", sweep, "-o", str(below), cwd=tmp_path)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1), done.stderr


def test_a_long_name_is_cut_and_still_its_own():
    presets = ["a" * 300 + end for end in "xy"]
    names = [exports._folder_name({"config": {"preset": preset}}, []) for preset in presets]
    assert all(len(name) < 120 for name in names) and names[0] != names[1]
    assert exports._folder_name({"config": {"preset": "small_adamw"}}, []) == "small_adamw"
