"""The capacity study: survival statistics by hand, and a small grid from sweep to files."""

import json
from math import inf

import numpy as np
import pandas as pd
import pytest
import yaml

from analysis import capacity_study, survival
from grok.errors import UserError
from grok.reports import exports
from grok.sweep import file as files
from grok.sweep.local import LocalSweep
from grok.sweep.progress import SweepProgress
from tests.analysis.test_query import script


def test_the_median_counts_runs_that_never_got_there():
    assert survival.median([3, 1, 2], [True] * 3) == 2
    # at 10 a half is there and a half is not; the censored one leaves at 20
    assert survival.median([10, 20, 30, 5], [True, False, True, True]) == 10
    assert survival.median([5, 100, 100, 100], [True, False, False, False]) == inf


def test_wilson_interval_of_none_and_all_of_five():
    assert survival.wilson(0, 5) == pytest.approx((0, 0.4345), abs=1e-4)
    assert survival.wilson(5, 5) == pytest.approx((0.5655, 1), abs=1e-4)


def test_paired_ratio_is_geometric_and_its_interval_holds_it():
    ratio, low, high = survival.paired_ratio([2, 8, 4], [1, 1, 1])
    assert ratio == pytest.approx(4) and low < 4 < high
    assert survival.paired_ratio([2, 4], [1, 2]) == (2, 2, 2)


def test_a_crossing_counts_when_five_evaluations_hold_it():
    values = [0.5, 1, 1, 0.9, 1, 1, 1, 1, 1, 0.2]
    assert capacity_study.first_sustained(pd.Series(values, np.arange(10) * 10)) == 40
    assert np.isnan(capacity_study.first_sustained(pd.Series([0.99] * 9)))


def test_a_run_that_retired_held_what_it_reached():
    values = pd.Series([0.2, 0.5, 1, 1], [0, 10, 20, 30])
    assert np.isnan(capacity_study.first_sustained(values))
    assert capacity_study.first_sustained(values, spared=4) == 20
    assert np.isnan(capacity_study.first_sustained(values - 0.5, spared=4))


@pytest.mark.parametrize(
    ("size", "bucket"), [(224_353, "small"), (422_625, "medium"), (1_631_585, "large")]
)
def test_buckets(size, bucket):
    assert capacity_study.bucket_of(size) == bucket


@pytest.fixture(scope="module")
def sweep(store, tmp_path_factory):
    """A grid of four networks and two seeds that have no time to learn much."""
    path = tmp_path_factory.mktemp("sweep") / "tiny_capacity.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "program": "experiments/capacity.py",
                "method": "grid",
                "command": ["${program}", "with", "p=7", "batch_size=16", "train_steps=60",
                            "eval_steps=5", "heads=2", "${args_no_hyphens}"],
                "parameters": {"depth": {"values": [1, 4]}, "width": {"values": [64, 128]},
                               "seed": {"values": [0, 1]}},
            }
        )
    )  # fmt: skip
    running = LocalSweep.begin(files.read(path), store, None, None)
    with SweepProgress(0, 0) as progress:
        running.run(progress)
    return running.id


def test_the_study_writes_figures_and_the_templates_files(sweep, tmp_path):
    done = script("capacity_study", sweep, "-o", str(tmp_path / "out"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "4 x 64" in done.stdout and "deep" in done.stdout
    written = sorted((tmp_path / "out").glob("capacity_*/*/final_info.json"))
    assert [path.parent.name for path in written] == ["1x128_h2", "1x64_h2", "4x128_h2", "4x64_h2"]
    info = json.loads(written[0].read_text())["x_plus_y"]
    lists = info["final_info_dict"]
    assert len(lists["final_val_acc"]) == 2
    assert info["means"]["final_val_acc_mean"] == pytest.approx(np.mean(lists["final_val_acc"]))
    spread = np.std(lists["final_train_loss"]) / np.sqrt(2)
    assert info["stderrs"]["final_train_loss_stderr"] == pytest.approx(spread)
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
    done = script("capacity_study", sweep, "-o", str(below), cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr


def test_a_long_name_is_cut_and_still_its_own():
    long = ["a" * 300 + end for end in "xy"]
    short = [exports._short(name) for name in long]
    assert all(len(name) < 120 for name in short) and short[0] != short[1]
    assert exports._short("small_adamw") == "small_adamw"
