"""A killed run goes on under its own id, and ends bit for bit as if nothing had happened."""

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from grok.analysis import query
from grok.cli import main
from grok.errors import UserError
from grok.experiment.repeat import logged_values, repeat, resume
from grok.store import connection as stores
from tests.conftest import PROJECT
from tests.faults.test_runs import LONG, finish, logged, run_of, start
from tests.helpers import ENDLESS, wait_until

OPTIONS = [
    "p=5",
    "decoder_width=20",
    "train_steps=800",
    "log_points=200",
    "checkpoint_every=100",
    "seed=3",
]
SWEEP = {
    "program": "experiments/liu_toy.py",
    "method": "grid",
    "parameters": {
        "seed": {"values": [0, 1, 2, 3]},
        "p": {"value": 5},
        "decoder_width": {"value": 20},
        # the fastest machine trains for longer than it takes to see checkpoints and to send a signal
        "train_steps": {"value": 1500},
        "log_points": {"value": 1500},
        "checkpoint_every": {"value": 100},
    },
}


def grok(*words: str, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "grok.cli", *words],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def refusal(run: str) -> str:
    """The one line with which `grok resume` ends, with exit code 2."""
    result = CliRunner().invoke(main, ["resume", run])
    assert result.exit_code == 2 and result.stderr.count("\n") == 1, result.output
    assert result.stderr.startswith("error: ")
    return result.stderr


def assert_equal(store, first: int, second: int) -> None:
    assert logged_values(store, first) == logged_values(store, second)
    names = [run_of(store.database, run)["artifacts"] for run in (first, second)]
    assert [[a["name"] for a in found] for found in names] == [
        ["trajectory.npz", "weights.safetensors"]
    ] * 2
    weights = [query.weights(store, run) for run in (first, second)]
    assert all((weights[1][name] == value).all() for name, value in weights[0].items())


@pytest.mark.slow
def test_killed_at_five_random_moments(home):
    finish(start(*OPTIONS))
    store = stores.connect()
    moments = random.Random(5)
    finish_early = 0
    for number in range(2, 7):
        process = start(*OPTIONS)
        wait_until(lambda n=number: store.checkpoint_path(n).exists(), 180)
        time.sleep(moments.uniform(0, 1.0))
        process.kill()
        finish_early += process.wait() == 0
        if run_of(store.database, number)["status"] != "COMPLETED":
            _, step = resume(store, number)
            assert step > 0 and step % 100 == 0
        run = run_of(store.database, number)
        assert run["status"] == "COMPLETED" and run["result"]["steps"] == 800
        assert_equal(store, 1, number)
        assert not store.checkpoint_path(number).exists()
    assert finish_early < 5


def test_a_run_without_a_checkpoint_starts_again(home):
    process, store = start(*LONG), stores.connect()
    wait_until(lambda: len(logged(store.database)) > 100, 180)
    process.send_signal(signal.SIGTERM)
    finish(process, 143)
    assert run_of(store.database, 1)["status"] == "INTERRUPTED"
    out, _ = finish(grok("resume", "1"))
    assert "run 1 went on from step 0" in out
    assert repeat(store, 1).first is None


def test_what_cannot_be_resumed_is_one_line(home):
    finish(start(*OPTIONS, "train_steps=20"))
    store = stores.connect()
    with pytest.raises(UserError, match="run 1 is complete"):
        resume(store, 1)
    process = start("p=5", "decoder_width=20", f"train_steps={ENDLESS}", "checkpoint_every=50")
    wait_until(store.checkpoint_path(2).exists, 180)
    with pytest.raises(UserError, match="is still running"):
        resume(store, 2)
    process.kill()
    process.wait()
    path = store.checkpoint_path(2)
    whole = path.read_bytes()
    for bad in (whole[: len(whole) // 2], b"\x80\x04cos\nsystem\n.", whole.replace(b"run", b"rum")):
        path.write_bytes(bad)
        assert str(path) in refusal("2")
    store.checkpoint_path(1).write_bytes(whole)
    assert run_of(store.database, 2)["status"] == "RUNNING"
    path.write_bytes(whole)
    store.database.runs.update_one({"_id": 1}, {"$set": {"status": "FAILED"}})
    assert "of run 2, not of run 1" in refusal("1")


def test_a_killed_sweep_goes_on_in_its_batch(home, tmp_path):
    file = tmp_path / "four.yaml"
    file.write_text(yaml.safe_dump(SWEEP))
    finish(grok("sweep", "run", str(file)))
    store = stores.connect()
    process = grok("sweep", "run", str(file), preexec_fn=os.setsid)
    wait_until(lambda: all(store.checkpoint_path(run).exists() for run in range(5, 9)), 180)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    out, _ = finish(grok("sweep", "run", str(file), "--resume"))
    assert "4 runs to do, 4 of them from their checkpoints, in" in out
    assert store.database.runs.count_documents({}) == 8
    for seed in range(4):
        first, second = (
            store.database.runs.find_one({"config.seed": seed, "_id": numbers})["_id"]
            for numbers in ({"$lte": 4}, {"$gt": 4})
        )
        assert_equal(store, first, second)
        assert run_of(store.database, second)["meta"]["resumed"]
    steps = np.array(list(logged_values(store, 5)["train_loss"]))
    assert (np.diff(steps) > 0).all() and steps[-1] == 1500
