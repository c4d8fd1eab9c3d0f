"""A run repeated from what the store knows of it."""

import subprocess
import sys
from dataclasses import replace

import pytest
from click.testing import CliRunner

from benchmarks import synthetic
from grok.cli import main
from grok.errors import UserError
from grok.experiment.environment import differences, environment
from grok.experiment.experiment import load, load_registered
from grok.experiment.repeat import compare, repeat
from grok.store import archive
from tests.conftest import PROJECT
from tests.helpers import opened_files

SMALL = {
    "liu_toy": {"p": 6, "train_steps": 60},
    "power": {"p": 7, "width": 8, "heads": 2, "train_steps": 30, "batch_size": 16, "dropout": 0.1},
    "mlp": {
        "p": 7,
        "width": 16,
        "train_steps": 30,
        "eval_steps": 5,
        "batch_size": 8,
        "interventions": [
            {"when": 12, "set": {"fixed_norm": True, "weight_decay": 0}},
            {"when": "train_loss < 10", "reset": True},
        ],
    },
}


@pytest.mark.parametrize("name", SMALL)
def test_a_repeated_run_is_equal_bit_for_bit(store, name):
    paper = load(PROJECT / "experiments" / f"{name}.py")
    run = paper.run(config_updates={**SMALL[name], "seed": 4})
    verdict = repeat(store, run._id)
    assert verdict.first is None and verdict.environment == []
    if "interventions" in SMALL[name]:
        assert run.result["intervention_steps"] == [12, 0]
    assert verdict.values >= 5 * len(run.info["metrics"])
    document = store.database.runs.find_one({"_id": verdict.run})
    assert document["meta"]["repeats"] == run._id
    assert document["info"]["environment"]["torch"] == "2.13.0+cpu"


def test_a_difference_is_found_at_its_first_step():
    then = {"loss": {0: 1.0, 5: 2.0, 9: 3.0}, "accuracy": {0: 0.5, 5: 0.5, 9: 0.5}}
    now = {"loss": {0: 1.0, 5: 2.0, 9: 4.0}, "accuracy": {0: 0.5, 5: 0.6, 9: 0.7}}
    assert compare(then, now) == (6, (5, "accuracy", 0.5, 0.6))
    assert compare(then, then) == (6, None)
    assert compare({"loss": {0: float("nan")}}, {"loss": {0: float("nan")}})[1] is None
    assert compare({"loss": {0: 1.0}}, {"loss": {}})[1][:2] == (0, "loss")


def test_another_machine_is_flagged():
    other = {**environment(), "cpu": "another", "cudnn": 1}
    assert [line.split(":")[0] for line in differences(other, environment())] == ["cpu", "cudnn"]


@pytest.fixture
def outside(tmp_path):
    """A program that is no experiment of this project."""
    path = tmp_path / "evil.py"
    path.write_text("raise SystemExit('executed')")
    return path


def test_a_program_that_data_names_outside_the_experiments_is_not_opened(outside):
    """Stored runs and sweeps may come from anywhere: what they name is loaded only if it is a paper."""
    link = PROJECT / "experiments" / f"link_{outside.parent.name}.py"
    link.symlink_to(outside)
    climbing = "experiments/" + "../" * 40 + str(outside).lstrip("/")
    programs = [str(outside), climbing, "setup.py", "experiments/../setup.py", "", "experiments"]
    programs += [f"experiments/{link.name}", "experiments/./power.py", None, ["a"], {"$ne": 1}, 3]
    programs += [f"{PROJECT}/setup.py", f"{PROJECT}//experiments/power.py"]
    try:
        with opened_files() as opened:
            for program in programs:
                with pytest.raises(UserError) as caught:
                    load_registered(program)
                assert "\n" not in str(caught.value)
    finally:
        link.unlink()
    assert [name for name in opened if name.endswith(".py")] == []
    for program in ("experiments/power.py", f"{PROJECT}/experiments/power.py"):
        assert load_registered(program).path == "power"


def test_an_imported_run_cannot_choose_what_is_executed(store, outside, tmp_path):
    """`grok repeat` and `grok resume` refuse its program before it is opened; the user may name one."""
    database = replace(store, db_name="foreign").database
    synthetic.fill(database, 1, steps=4)
    hostile = {"experiment.mainfile": str(outside), "status": "INTERRUPTED"}
    database.runs.update_one({}, {"$set": hostile, "$unset": {"synthetic": ""}})
    archive.export(database, {}, tmp_path / "runs.zip")
    database.runs.delete_many({})
    archive.import_(database, tmp_path / "runs.zip")
    foreign = ["-m", f"{store.uri}/foreign"]
    with opened_files() as opened:
        for command in ("resume", "repeat"):
            result = CliRunner().invoke(main, [command, "1", *foreign])
            assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.output
            assert f"run 1: program {outside}: no experiment of this project" in result.stderr
            database.runs.update_one({}, {"$set": {"status": "COMPLETED"}})
    assert str(outside) not in opened
    named = CliRunner().invoke(main, ["repeat", "1", "--program", str(outside), *foreign])
    assert "executed" in named.output
    store.client.drop_database("foreign")


def test_what_cannot_be_repeated_is_one_line(store):
    with pytest.raises(UserError, match="no run 987654"):
        repeat(store, 987654)
    command = [sys.executable, "-m", "grok.cli", "repeat", "987654"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "error: no run 987654\n")
