"""A run repeated from what the store knows of it."""

import subprocess
import sys

import pytest

from grok.errors import UserError
from grok.experiment.environment import differences, environment
from grok.experiment.experiment import load
from grok.experiment.repeat import compare, repeat
from tests.conftest import PROJECT

SMALL = {
    "liu_toy": {"p": 6, "train_steps": 60},
    "power": {"p": 7, "width": 8, "heads": 2, "train_steps": 30, "batch_size": 16, "dropout": 0.1},
    "mlp": {"p": 7, "width": 16, "train_steps": 30, "eval_steps": 5, "batch_size": 8},
}


@pytest.mark.parametrize("name", SMALL)
def test_a_repeated_run_is_equal_bit_for_bit(store, name):
    paper = load(PROJECT / "experiments" / f"{name}.py")
    run = paper.run(config_updates={**SMALL[name], "seed": 4})
    verdict = repeat(store, run._id)
    assert verdict.first is None and verdict.environment == []
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


def test_what_cannot_be_repeated_is_one_line(store):
    with pytest.raises(UserError, match="no run 987654"):
        repeat(store, 987654)
    command = [sys.executable, "-m", "grok.cli", "repeat", "987654"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "error: no run 987654\n")
