"""What is killed loses nothing: real processes, real signals, a real MongoDB."""

import os
import signal
import subprocess
import sys
import time

import pymongo
import pytest

from grok.engine.problem import log_steps
from grok.store import connection as stores
from grok.store import delivery, mongod, status
from tests.conftest import PROJECT
from tests.helpers import ENDLESS, mongods, wait_until

LONG = [
    "p=5",
    "decoder_width=20",
    "train_steps=6000",
    "log_points=6000",
    "seed=1",
]  # many records, and on the fastest machine longer than it takes to see them and to send a signal
EXPECTED = log_steps(6000, 6000)


def is_start_of_expected(steps: list[int]) -> bool:
    return steps == EXPECTED[: len(steps)]


def start(*words: str, uri: str | None = None) -> subprocess.Popen:
    environment = {**os.environ, **({"GROK_MONGO_URI": uri} if uri else {})}
    return subprocess.Popen(
        [sys.executable, "experiments/liu_toy.py", "with", *words],
        cwd=PROJECT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a test run in the background ignores Ctrl-C, and its children would too
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def logged(database, run: int = 1) -> list[int]:
    """Steps of one metric of a run."""
    documents = list(database.metrics.find({"run_id": run, "name": "train_loss"}))
    assert len(documents) <= 1
    return documents[0]["steps"] if documents else []


def run_of(database, run: int = 1) -> dict:
    return database.runs.find_one({"_id": run}) or {}


def finish(process: subprocess.Popen, code: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, err
    return out, err


def test_sigkill_of_the_server_in_the_middle_of_a_run(home):
    process, database = start(*LONG), stores.connect().database
    wait_until(lambda: len(logged(database)) > 100, 180)
    (pid,) = mongods(home)
    os.kill(pid, signal.SIGKILL)
    finish(process)
    assert mongods(home) != [pid]
    assert run_of(database)["status"] == "COMPLETED"
    assert logged(database) == EXPECTED


def test_sigkill_of_a_run(home, monkeypatch):
    process, store = start(*LONG), stores.connect()
    wait_until(lambda: len(logged(store.database)) > 100, 180)
    process.kill()
    process.wait()
    delivery.recover(store)
    steps = logged(store.database)
    assert is_start_of_expected(steps) and len(steps) > 100
    monkeypatch.setattr(status, "DEAD_AFTER", 0.0)
    assert [row["state"] for row in status.unfinished(store.database)] == ["dead"]
    assert status.counts(store.database) == {"DEAD": 1}
    assert list(store.journals.iterdir()) == []
    finish(start("p=5", "train_steps=5"))  # the next run is not blocked
    assert run_of(store.database, 2)["status"] == "COMPLETED"


@pytest.mark.parametrize(("how", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_that_is_asked_to_end_is_interrupted_and_keeps_what_it_has(home, how, code):
    process, database = start(*LONG), stores.connect().database
    wait_until(lambda: len(logged(database)) > 100, 180)
    process.send_signal(how)
    _, err = finish(process, code)
    assert err.splitlines()[-1] == "run 1 interrupted; what it logged is kept"
    assert "Traceback" not in err
    run, steps = run_of(database), logged(database)
    assert run["status"] == "INTERRUPTED"
    assert is_start_of_expected(steps)
    assert run["result"]["steps"] == steps[-1]
    assert [artifact["name"] for artifact in run["artifacts"]] == ["trajectory.npz"]


@pytest.mark.parametrize(("how", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_inside_a_compiled_step_is_not_lost(home, how, code):
    process = start(
        "p=5", "decoder_width=20", f"train_steps={ENDLESS}", "log_points=2000", "seed=1"
    )
    database = stores.connect().database
    wait_until(lambda: len(logged(database)) > 20, 180)
    process.send_signal(how)
    finish(process, code)
    assert run_of(database)["status"] == "INTERRUPTED"
    assert len(logged(database)) > 20


def test_two_runs_in_the_same_second_both_land(home):
    processes = [start("p=5", "train_steps=50", f"seed={seed}") for seed in (1, 2)]
    for process in processes:
        finish(process)
    database = stores.connect().database
    found = list(database.runs.find())
    assert sorted(run["_id"] for run in found) == [1, 2]
    assert {run["config"]["seed"] for run in found} == {1, 2}
    assert {run["status"] for run in found} == {"COMPLETED"}


def test_a_server_that_goes_away_and_comes_back_after_the_run(home, tmp_path):
    (tmp_path / "data").mkdir()
    port = 40_000 + os.getpid() % 20_000
    command = [mongod.binary(), "--dbpath", str(tmp_path / "data"), "--port", str(port), "--quiet"]
    command += ["--bind_ip", "127.0.0.1", "--nounixsocket", "--wiredTigerCacheSizeGB", "0.25"]
    uri = f"mongodb://127.0.0.1:{port}/away"
    database = pymongo.MongoClient(uri)["away"]

    def serve() -> subprocess.Popen:
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        database.client.admin.command("ping")
        return server

    server = serve()
    process = start(*LONG, uri=uri)
    wait_until(lambda: len(logged(database)) > 100, 180)
    server.kill()
    server.wait()
    out, err = finish(process)
    assert "grok store recover" in err and "MongoDB is away" in err
    assert "run 1" in out
    time.sleep(0.2)
    server = serve()
    try:
        before = logged(database)
        assert is_start_of_expected(before) and len(before) < len(EXPECTED)
        assert run_of(database)["status"] == "RUNNING"
        environment = {**os.environ, "GROK_MONGO_URI": uri}
        recover = [sys.executable, "-m", "grok.cli", "store", "recover"]
        told = subprocess.run(recover, cwd=PROJECT, env=environment, capture_output=True, text=True)
        assert told.returncode == 0 and "1 runs delivered" in told.stdout
        assert logged(database) == EXPECTED
        assert run_of(database)["status"] == "COMPLETED"
        assert len(run_of(database)["artifacts"]) == 2
        assert delivery.recover(stores.connect(uri)) == 0
    finally:
        server.kill()
        server.wait()
