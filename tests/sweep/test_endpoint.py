"""W&B's clients and our own agent with the endpoint, all as processes, some of them killed."""

import shutil
import signal
import subprocess
import time
from base64 import b64encode

import pytest
import requests
import yaml
from click.testing import CliRunner

from grok.cli import main
from grok.store import connection as stores
from grok.sweep.client import UPSERT
from tests.conftest import PROJECT
from tests.endpoint import BIN, SWEEP, Endpoint, runs_of
from tests.helpers import wait_until


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    """One endpoint for all tests here; each has a sweep of its own."""
    home = tmp_path_factory.mktemp("h")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GROK_HOME", str(home))
        server = Endpoint(home).start()
        yield server
        server.stop()


def test_two_wandb_agents_share_the_points(endpoint):
    """Every run of a `wandb agent` is a process, which takes seconds to start: three points suffice."""
    seeds = [0, 1, 2]
    sweep = endpoint.sweep(parameters={**SWEEP["parameters"], "seed": {"values": seeds}})
    agents = [endpoint.popen("wandb", "agent", sweep) for _ in range(2)]
    assert [agent.wait(300) for agent in agents] == [0, 0]
    runs = runs_of(sweep)
    assert [run["status"] for run in runs] == ["COMPLETED"] * 3
    assert sorted(run["config"]["seed"] for run in runs) == seeds  # each exactly once
    at_wandb = {path.name[-8:] for path in (endpoint.home / "wandb").glob("offline-run-*")}
    assert at_wandb == {run["info"]["wandb"]["run"] for run in runs}
    assert at_wandb == {point["run"] for point in endpoint.points(sweep)}
    status = endpoint.call("grok", "sweep", "status", sweep).stdout
    assert "3 finished" in status and "0 failed" in status


def test_sigkill_of_the_endpoint_neither_loses_nor_repeats_a_point(endpoint):
    changes = {"train_steps": {"value": 300}, "seed": {"values": list(range(8))}}
    parameters = {**SWEEP["parameters"], **changes}
    sweep = endpoint.sweep(parameters=parameters)
    batch = ["--batch", "4", "--workers", "2"]
    agent = endpoint.popen("grok", "sweep", "agent", sweep, *batch, stdout=subprocess.PIPE)
    wait_until(lambda: endpoint.states(sweep).count("running") >= 4, 180)
    endpoint.process.kill()
    endpoint.process.wait()
    time.sleep(2)  # heartbeats of the agents fail meanwhile
    endpoint.start()
    said, _ = agent.communicate(timeout=300)
    assert agent.returncode == 0 and "8 runs (8 budget)" in said
    assert endpoint.states(sweep) == ["finished"] * 8
    assert sorted(run["config"]["seed"] for run in runs_of(sweep)) == list(range(8))


def test_the_point_of_a_killed_agent_is_run_again(endpoint):
    """By a second endpoint of the same store, which soon takes a silent agent for dead."""
    endpoint = Endpoint(endpoint.home, lost_after=10.0).start()
    # evaluated at every step, so that the first run lasts until it is killed
    slow = {"train_steps": {"value": 3000}, "log_points": {"value": 3000}}
    parameters = {**SWEEP["parameters"], **slow, "seed": {"values": [0, 1]}}
    sweep = endpoint.sweep(parameters=parameters)
    victim = endpoint.popen("grok", "sweep", "agent", sweep, "--batch", "1")
    wait_until(lambda: len(runs_of(sweep)) == 1, 180)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    endpoint.set_heartbeats(sweep, ago=endpoint.lost_after + 1)
    assert (
        endpoint.call("grok", "sweep", "agent", sweep, "--batch", "2", "--workers", "1").returncode
        == 0
    )
    endpoint.stop()
    assert endpoint.states(sweep) == ["finished"] * 2
    assert len(endpoint.points(sweep)[0]["attempts"]) == 2
    ended = sorted(run["status"] for run in runs_of(sweep))
    assert ended == ["COMPLETED", "COMPLETED", "INTERRUPTED"]


def test_hyperband_stops_a_loser_and_keeps_its_metrics(endpoint):
    """At a heartbeat, of which there is one every five seconds: the runs last longer."""
    steps = 60_000
    sweep = endpoint.sweep(
        metric={"name": "train_loss", "goal": "minimize"},
        early_terminate={"type": "hyperband", "min_iter": 20, "eta": 2},
        parameters={
            "p": {"value": 5},
            "decoder_width": {"value": 20},
            "train_steps": {"value": steps},
            "log_points": {"value": 2000},
            "encoder_lr": {"value": 0.0},
            "decoder_lr": {"values": [1e-2, 3e-3, 1e-6, 1e-7]},
        },
    )
    agent = endpoint.popen("grok", "sweep", "agent", sweep, "--batch", "4", "--workers", "1")
    assert agent.wait(300) == 0
    stopped = next(point for point in endpoint.points(sweep) if point["state"] == "stopped")
    assert stopped["point"]["decoder_lr"] <= 1e-6
    database = stores.connect().database
    run = database.runs.find_one({"info.wandb.run": stopped["run"]})
    assert run["status"] == "INTERRUPTED" and run["result"]["ended"] == "terminated"
    curve = database.metrics.find_one({"run_id": run["_id"], "name": "train_loss"})
    assert curve["steps"][-1] == run["result"]["steps"] < steps
    assert endpoint.states(sweep)[0] == "finished"


def test_wrong_tokens_large_bodies_and_unknown_calls_are_refused(endpoint):
    """By the server itself, beneath the rules of `tests/sweep/test_calls.py`."""

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
    def line(*words: str, **environment: str) -> str:
        variables = {**endpoint.environment, "WANDB_MODE": "offline", **environment}
        result = CliRunner().invoke(main, ["sweep", *words], env=variables)
        assert result.exit_code == 2 and result.stderr.count("\n") == 1, result.output
        return result.stderr

    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(yaml.safe_dump({**SWEEP, "parameters": {"pp": {"value": 1}}}))
    assert "no sweep grok/nothing" in line("agent", "nothing")
    assert "expected [[ENTITY/]PROJECT/]SWEEP" in line("agent", "a/b/c/d")
    assert "unknown config key of liu_toy pp" in line("submit", str(wrong))
    right = str(PROJECT / "sweeps" / "liu_figure4b.yaml")
    (tmp_path / "git").symlink_to(shutil.which("git"))
    without_sbatch = f"{BIN}:{tmp_path}"
    assert "no Slurm here" in line("submit", right, PATH=without_sbatch)
    assert "refuses the key" in line("agent", "nothing", WANDB_API_KEY="wrong" * 8)
    away = "http://127.0.0.1:9"
    assert "no sweep server answers" in line("agent", "nothing", WANDB_BASE_URL=away)
    assert endpoint.call("wandb", "sweep", str(wrong)).returncode != 0
    assert stores.connect().database.sweeps.count_documents({"name": "wrong"}) == 0


def test_bad_input_ends_the_process_with_2(endpoint):
    done = endpoint.call("grok", "sweep", "agent", "nothing")
    assert done.returncode == 2
    assert "no sweep grok/nothing" in done.stderr and done.stderr.count("\n") == 1
