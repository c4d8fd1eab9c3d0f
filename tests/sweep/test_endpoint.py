"""Unmodified W&B clients and our own agent against the endpoint: real processes, real kills."""

import shutil
import signal
import time
from base64 import b64encode

import pytest
import requests
import yaml

from grok.store import connection as stores
from grok.sweep.client import UPSERT
from tests.conftest import PROJECT
from tests.endpoint import BIN, SWEEP, Endpoint, runs_of
from tests.helpers import wait_until


@pytest.fixture
def endpoint(home):
    server = Endpoint(home).start()
    yield server
    server.process.terminate()
    server.process.wait(20)


def test_two_wandb_agents_share_twelve_points(endpoint):
    sweep = endpoint.sweep()
    agents = [endpoint.popen("wandb", "agent", sweep) for _ in range(2)]
    assert [agent.wait(300) for agent in agents] == [0, 0]
    runs = runs_of(sweep)
    assert [run["status"] for run in runs] == ["COMPLETED"] * 12
    assert sorted(run["config"]["seed"] for run in runs) == list(range(12))  # each exactly once
    at_wandb = {path.name[-8:] for path in (endpoint.home / "wandb").glob("offline-run-*")}
    assert at_wandb == {run["info"]["wandb"]["run"] for run in runs}
    assert at_wandb == {point["run"] for point in endpoint.points(sweep)}
    shown = endpoint.call("grok", "sweep", "status", sweep).stdout
    assert "12 finished" in shown and "0 failed" in shown


def test_sigkill_of_the_endpoint_loses_and_doubles_no_point(endpoint):
    parameters = {**SWEEP["parameters"], "train_steps": {"value": 600}}
    sweep = endpoint.sweep(parameters=parameters)
    agents = [endpoint.popen("grok", "sweep", "agent", sweep, "--batch", "3") for _ in range(2)]
    wait_until(lambda: endpoint.states(sweep).count("running") >= 6, 180)
    endpoint.process.kill()
    endpoint.process.wait()
    time.sleep(2)
    endpoint.start()
    assert [agent.wait(300) for agent in agents] == [0, 0]
    assert endpoint.states(sweep) == ["finished"] * 12
    assert sorted(run["config"]["seed"] for run in runs_of(sweep)) == list(range(12))


def test_the_point_of_a_killed_agent_is_taken_again(home):
    endpoint = Endpoint(home, lost_after=3.0).start()
    parameters = {**SWEEP["parameters"], "train_steps": {"value": 1000}, "seed": {"values": [0, 1]}}
    sweep = endpoint.sweep(parameters=parameters)
    victim = endpoint.popen("grok", "sweep", "agent", sweep, "--batch", "1")
    wait_until(lambda: len(runs_of(sweep)) == 1, 180)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    assert endpoint.call("grok", "sweep", "agent", sweep, "--batch", "2").returncode == 0
    assert endpoint.states(sweep) == ["finished"] * 2
    assert len(endpoint.points(sweep)[0]["attempts"]) == 2
    assert sorted(run["status"] for run in runs_of(sweep)) == ["COMPLETED", "COMPLETED", "RUNNING"]
    endpoint.process.terminate()
    endpoint.process.wait(20)


def test_hyperband_interrupts_a_loser_with_its_metrics(endpoint):
    sweep = endpoint.sweep(
        metric={"name": "train_loss", "goal": "minimize"},
        early_terminate={"type": "hyperband", "min_iter": 20, "eta": 2},
        parameters={
            "p": {"value": 5},
            "train_steps": {"value": 1200},
            "log_points": {"value": 600},
            "encoder_lr": {"value": 0.0},
            "decoder_lr": {"values": [1e-2, 3e-3, 1e-6, 1e-7]},
        },
    )
    agent = endpoint.popen("grok", "sweep", "agent", sweep, "--batch", "4")
    assert agent.wait(300) == 0
    stopped = next(point for point in endpoint.points(sweep) if point["state"] == "stopped")
    assert stopped["point"]["decoder_lr"] <= 1e-6
    database = stores.connect().database
    run = database.runs.find_one({"info.wandb.run": stopped["run"]})
    assert run["status"] == "INTERRUPTED" and run["result"]["ended"] == "terminated"
    curve = database.metrics.find_one({"run_id": run["_id"], "name": "train_loss"})
    assert curve["steps"][-1] == run["result"]["steps"] < 1200
    assert endpoint.states(sweep)[0] == "finished"


def test_wrong_tokens_large_bodies_and_unknown_calls_are_refused(endpoint):
    def post(body: dict, token: str) -> requests.Response:
        key = b64encode(f"api:{token}".encode()).decode()
        return requests.post(
            f"{endpoint.url}/graphql", json=body, headers={"Authorization": f"Basic {key}"}
        )

    token = endpoint.environment["WANDB_API_KEY"]
    upsert = {"query": UPSERT, "variables": {"config": yaml.safe_dump(SWEEP)}}
    assert post(upsert, "wrong" * 8).status_code == 401
    assert post({"query": "query Runs { x }"}, token).status_code == 400
    large = {"query": UPSERT, "variables": {"config": "x" * 2**20}}
    assert post(large, token).status_code == 413
    assert post(upsert, token).status_code == 200
    assert (endpoint.home / "endpoint.json").stat().st_mode & 0o777 == 0o600


def test_bad_input_is_one_line_and_exit_2(endpoint, tmp_path):
    def line(*words: str) -> str:
        said = endpoint.call(*words)
        assert said.returncode == 2 and said.stderr.count("\n") == 1, said.stderr
        return said.stderr

    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(yaml.safe_dump({**SWEEP, "parameters": {"pp": {"value": 1}}}))
    assert "no sweep grok/nothing" in line("grok", "sweep", "agent", "nothing")
    assert "expected [[ENTITY/]PROJECT/]SWEEP" in line("grok", "sweep", "agent", "a/b/c/d")
    assert "unknown config key of liu_toy pp" in line("grok", "sweep", "submit", str(wrong))
    right = str(PROJECT / "sweeps" / "liu_figure4b.yaml")
    (tmp_path / "git").symlink_to(shutil.which("git"))
    hidden = {**endpoint.environment, "PATH": f"{BIN}:{tmp_path}"}  # no sbatch
    endpoint.environment, kept = hidden, endpoint.environment
    assert "no Slurm here" in line("grok", "sweep", "submit", right)
    endpoint.environment = {**kept, "WANDB_API_KEY": "wrong" * 8}
    assert "refuses the key" in line("grok", "sweep", "agent", "nothing")
    endpoint.environment = {**kept, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    assert "no sweep server answers" in line("grok", "sweep", "agent", "nothing")
    endpoint.environment = kept
    assert endpoint.call("wandb", "sweep", str(wrong)).returncode != 0
    assert stores.connect().database.sweeps.count_documents({"name": "wrong"}) == 0
