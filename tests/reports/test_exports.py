"""Exports that others' scripts read: the AI-Scientist template's files, and a whole replication."""

import csv
import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from benchmarks import synthetic
from grok.errors import UserError
from grok.reports import ai_scientist, exports
from grok.reports.history import grokking_summary

OPERATIONS = ("x_div_y", "x_minus_y", "x_plus_y", "s5")
SEEDS = 3


@pytest.fixture(scope="module")
def made(store):
    """A sweep of two widths, four operations and three seeds; one run of it stopped early."""
    made = replace(store, db_name="exports")
    database = made.database
    count = 2 * len(OPERATIONS) * SEEDS
    synthetic.fill(database, count, steps=12)
    for number in range(count):
        point = {
            "width": (32, 64)[number % 2],
            "operation": OPERATIONS[number // 2 % len(OPERATIONS)],
            "seed": number // (2 * len(OPERATIONS)),
        }
        config = {f"config.{key}": value for key, value in point.items()}
        update = {**config, "meta.sweep": {"id": "capacity-1", "point": number}}
        database.runs.update_one({"_id": 1 + number}, {"$set": update})
    for metric in database.metrics.find({"run_id": 1}):
        shorter = {key: metric[key][:7] for key in ("steps", "values", "timestamps")}
        database.metrics.update_one({"_id": metric["_id"]}, {"$set": shorter})
    parameters = {key: {"values": [0, 1]} for key in ("width", "operation", "seed")}
    parameters["p"] = {"value": 97}  # one value for all runs, which tells none from another
    for sweep_id, name in (("capacity-1", "capacity_cpu"), ("liu_cpu-1", "liu_figure4b")):
        database.sweeps.insert_one(
            {
                "_id": sweep_id,
                "name": name,
                "created": datetime(2026, 1, 1, tzinfo=UTC),
                "config": {"parameters": parameters},
            }
        )
    yield made
    store.client.drop_database("exports")


def test_the_template_s_plot_script_finds_what_it_reads(made, tmp_path):
    """It walks the folders run*, averages over seeds, and needs lists of equal length."""
    assert ai_scientist.export_sweep(made.database, "capacity-1", tmp_path) == 2
    settings = json.loads((tmp_path / "settings.json").read_text())
    assert settings == {"run_0": {"width": 32}, "run_1": {"width": 64}}
    for folder in sorted(tmp_path.glob("run_*")):
        results = np.load(folder / "all_results.npy", allow_pickle=True).item()
        info = json.loads((folder / "final_info.json").read_text())
        assert set(info) == {"x_div_y", "x_minus_y", "x_plus_y", "permutation"}
        for operation, entry in info.items():
            seeds = [results[f"{operation}_{seed}_val_info"] for seed in range(SEEDS)]
            losses = np.array([[record["val_loss"] for record in seed] for seed in seeds])
            steps = [record["step"] for record in seeds[0]]
            assert losses.shape == (SEEDS, len(steps)) and np.isfinite(losses).all()
            trained = results[f"{operation}_0_train_info"]
            assert set(trained[0]) == {"step", "train_loss", "train_accuracy"}
            values = entry["final_info_dict"]["final_val_loss"]
            assert values == losses[:, -1].tolist()
            finals = [results[f"{operation}_{seed}_final_info"] for seed in range(SEEDS)]
            assert values == [final["final_val_loss"] for final in finals]
            error = entry["stderrs"]["final_val_loss_stderr"]
            assert error == pytest.approx(np.std(values) / SEEDS)  # the template's
            error = entry["standard_errors"]["final_val_loss_standard_error"]
            assert error == pytest.approx(np.std(values) / np.sqrt(SEEDS))


def test_a_run_that_stopped_keeps_its_last_values(made):
    short, full = (exports.curves_of(made.database, run) for run in (1, 9))
    extended, same = ai_scientist.with_equal_steps([short, full])
    assert same.equals(full) and len(extended) == len(full) == 12 and len(short) == 7
    assert (extended.iloc[7:] == short.iloc[-1]).all().all()


def test_the_step_to_99_percent_is_the_first_above_it_or_the_last(made):
    curves = exports.curves_of(made.database, 2)
    assert ai_scientist.final_info(curves * 0)["step_val_acc_99"] == curves.index[-1]
    assert ai_scientist.final_info(curves * 0 + 1)["step_val_acc_99"] == curves.index[0]


def test_a_plain_script_walks_a_whole_replication(made, tmp_path):
    sweep = "liu_figure4b"
    made.database.runs.update_many({"_id": {"$lte": 3}}, {"$set": {"meta.sweep.id": "liu_cpu-1"}})
    try:
        assert exports.export_replication(made.database, ("liu_toy",), tmp_path) == 3
    finally:
        made.database.runs.update_many(
            {"_id": {"$lte": 3}}, {"$set": {"meta.sweep.id": "capacity-1"}}
        )
    with (tmp_path / "index.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == ["1", "2", "3"]
    for row in rows:
        assert (row["paper"], row["sweep"]) == ("liu_toy", sweep)
        history = json.loads((tmp_path / row["run_dir"] / "training_history.json").read_text())
        assert history.pop("grokking_summary")["test_acc_step"] >= 1
        assert len({len(values) for values in history.values()}) == 1
        assert all(isinstance(number, int | float) for v in history.values() for number in v)
    assert len(list(tmp_path.rglob("metrics.csv"))) == 3
    with pytest.raises(UserError, match="no finished run of these papers"):
        exports.export_replication(made.database, ("nanda",), tmp_path)


def test_a_delay_needs_both_steps():
    reached = grokking_summary({"steps_to_train": 10, "steps_to_test": 30, "steps_to_rqi": 5})
    assert reached["grokking_delay"] == 20 and reached["grokking_detected"]
    never = grokking_summary({"steps_to_train": 10, "steps_to_test": None})
    assert never["grokking_delay"] is None and not never["grokking_detected"]
    assert set(grokking_summary(None).values()) == {None, False}


def test_a_point_that_was_trained_again_is_exported_once(made, tmp_path):
    """Two rows for one folder would count a seed twice in means and errors; the latest run counts."""
    count = exports.export_sweep(made.database, "capacity-1", tmp_path / "before")
    again = made.database.runs.find_one({"_id": 2})
    again["_id"] = 1002
    metrics = [{**m, "run_id": 1002} for m in made.database.metrics.find({"run_id": 2}, {"_id": 0})]
    made.database.runs.insert_one(again)
    made.database.metrics.insert_many(metrics)
    try:
        assert exports.export_sweep(made.database, "capacity-1", tmp_path / "after") == count
        rows = json.loads((tmp_path / "after" / "sweep_summary.json").read_text())
        assert 1002 in [row["run"] for row in rows] and 2 not in [row["run"] for row in rows]
        assert len({row["run_dir"] for row in rows}) == count
    finally:
        made.database.runs.delete_one({"_id": 1002})
        made.database.metrics.delete_many({"run_id": 1002})


def test_values_of_nested_options_tell_runs_apart(made, tmp_path):
    """A sweep over measure_options.hessian.every names the entry, and a run has it nested."""
    key = "measure_options.hessian.every"
    sweep = made.database.sweeps.find_one({"_id": "capacity-1"})
    seeds = {"values": [0, 1]}
    nested = {**sweep, "_id": "nested-1", "config": {"parameters": {key: seeds, "seed": seeds}}}
    made.database.sweeps.insert_one(nested)
    before = {run["_id"]: run for run in made.database.runs.find({"_id": {"$in": [2, 3, 4]}})}
    try:
        for number in before:
            options = {"hessian": {"every": 100 * number}}
            update = {"config.measure_options": options, "meta.sweep.id": "nested-1"}
            update["config.seed"] = 0
            made.database.runs.update_one({"_id": number}, {"$set": update})
        assert exports.export_sweep(made.database, "nested-1", tmp_path / "files") == 3
        rows = json.loads((tmp_path / "files" / "sweep_summary.json").read_text())
        assert [row["preset"] for row in rows] == [f"{key}={100 * n}" for n in sorted(before)]
        assert ai_scientist.export_sweep(made.database, "nested-1", tmp_path / "template") == 3
        made.database.runs.update_one(
            {"_id": 3}, {"$set": {"config.measure_options.hessian.every": 200}}
        )
        with pytest.raises(UserError, match=r"runs 2 and 3 .* differ, and would both be written"):
            exports.export_sweep(made.database, "nested-1", tmp_path / "same")
    finally:
        made.database.sweeps.delete_one({"_id": "nested-1"})
        for number, run in before.items():
            made.database.runs.replace_one({"_id": number}, run)


@pytest.mark.parametrize("seed", ["/../../../outside", "/" * 300, "\0", "e\u0301" * 300])
def test_no_value_of_an_imported_run_leads_out_of_the_folder(made, tmp_path, seed):
    """The seed of a run was a part of its path as it was stored, and an archive of anybody's may have
    any text there: files were written, and replaced, wherever the user may write."""
    before = made.database.runs.find_one({"_id": 2})
    sweep = {"meta.sweep.id": "liu_cpu-1", "config.seed": seed, "config.width": "../../outside"}
    made.database.runs.update_one({"_id": 2}, {"$set": sweep})
    try:
        assert exports.export_sweep(made.database, "liu_cpu-1", tmp_path / "a/b/in") == 1
        assert exports.export_replication(made.database, ("liu_toy",), tmp_path / "a/b/all") == 1
    finally:
        made.database.runs.replace_one({"_id": 2}, before)
    folders = {path.parent for path in tmp_path.rglob("config.json")}
    inside = {tmp_path / "a/b/in", tmp_path / "a/b/all/liu_toy/liu_figure4b"}
    assert {folder.parents[1] for folder in folders} == inside
    (row,) = json.loads((tmp_path / "a/b/in/sweep_summary.json").read_text())
    assert row["seed"] == seed and tmp_path / "a/b/in" / row["run_dir"] in folders
