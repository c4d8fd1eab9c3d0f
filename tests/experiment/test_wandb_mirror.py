"""Runs mirrored to W&B: what arrives there, and that W&B's failures stay W&B's."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from wandb.proto import wandb_internal_pb2

from grok.experiment.wandb_mirror import Identity, Mirror
from grok.store import connection as stores
from tests.conftest import PROJECT
from tests.helpers import ENDLESS, wait_until

RUN = ["p=5", "train_steps=200", "log_points=20", "seed=3"]
BLOCK = 32768  # a W&B file is LevelDB's log, after 7 bytes of W&B's own
HEADER = 7  # checksum (4), length (2), type (1)


def records(path: Path) -> list[wandb_internal_pb2.Record]:
    """What an offline run wrote, as `wandb sync` reads it."""
    data, place, part, found = path.read_bytes(), HEADER, b"", []
    while place + HEADER <= len(data):
        if BLOCK - place % BLOCK < HEADER:
            place += BLOCK - place % BLOCK
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        part += data[place + HEADER : place + HEADER + length]
        place += HEADER + length
        if kind in (1, 4):  # whole, or the last part
            found.append(wandb_internal_pb2.Record.FromString(part))
            part = b""
    return found


def values(items) -> dict:
    return {item.key or item.nested_key[0]: json.loads(item.value_json) for item in items}


def offline_run(home: Path) -> list[wandb_internal_pb2.Record]:
    (path,) = home.glob("wandb/offline-run-*/*.wandb")
    return records(path)


def environment(home: Path, **more: str) -> dict[str, str]:
    """Neither W&B settings nor an account of whoever runs the tests."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    return {**own, "GROK_HOME": str(home), "HOME": str(home), **more}


def train(home: Path, *words: str, **more: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "experiments/liu_toy.py", *words, "with", *RUN]
    return subprocess.run(
        command, cwd=PROJECT, env=environment(home, **more), capture_output=True, text=True
    )


def test_an_offline_run_has_config_metrics_summary_and_ids(home):
    done = train(home, "-W", "--comment", "a note", WANDB_RUN_ID="abcd1234", WANDB_SWEEP_ID="sw1")
    assert done.returncode == 0, done.stderr
    database = stores.connect().database
    run = database.runs.find_one()
    assert run["info"]["wandb"] == {"run": "abcd1234", "project": "grok", "sweep": "sw1"}
    found = offline_run(home)
    (begun,) = [one.run for one in found if one.WhichOneof("record_type") == "run"]
    assert (begun.run_id, begun.sweep_id, begun.notes) == ("abcd1234", "sw1", "a note")
    config = values(begun.config.update)
    assert config["p"] == 5 and config["seed"] == 3
    assert config["sacred"]["run"] == run["_id"] and config["sacred"]["experiment"] == "liu_toy"
    history = [values(one.history.item) for one in found if one.HasField("history")]
    for metric in database.metrics.find({"run_id": run["_id"]}):
        mirrored = {row["_step"]: row[metric["name"]] for row in history if metric["name"] in row}
        assert mirrored == dict(zip(metric["steps"], metric["values"], strict=True))
    summary = {}
    for one in found:
        summary |= values(one.summary.update)
    assert summary["status"] == "COMPLETED"
    assert summary["phase"] == run["result"]["phase"]
    assert found[-1].exit.exit_code == 0 or any(one.HasField("exit") for one in found)


def test_without_the_flag_or_an_agent_wandb_is_not_even_imported(home):
    code = "import sys, runpy; sys.argv = ['experiments/liu_toy.py', 'with', *sys.argv[1:]]\n"
    code += "runpy.run_path(sys.argv[0], run_name='__main__'); assert 'wandb' not in sys.modules"
    command = [sys.executable, "-c", code, *RUN]
    done = subprocess.run(command, cwd=PROJECT, env=environment(home), capture_output=True)
    assert done.returncode == 0, done.stderr
    assert not list(home.glob("wandb*"))


def test_a_server_that_never_answers_neither_changes_nor_holds_up_a_run(home):
    with socket.create_server(("127.0.0.1", 0), backlog=64) as hole:  # connects, and is silent
        url = f"http://127.0.0.1:{hole.getsockname()[1]}"
        account = {"WANDB_MODE": "online", "WANDB_BASE_URL": url, "WANDB_API_KEY": "0" * 40}
        begun = time.monotonic()
        done = train(home, "-W", **account)
        seconds = time.monotonic() - begun
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("W&B") == 1
    assert seconds < 60
    database = stores.connect().database
    assert database.runs.find_one()["status"] == "COMPLETED"
    assert train(home).returncode == 0
    first, second = (
        {m["name"]: m["values"] for m in database.metrics.find({"run_id": run})} for run in (1, 2)
    )
    assert first == second


@pytest.mark.parametrize("account", [{"WANDB_MODE": "online", "WANDB_API_KEY": "0" * 40}])
def test_a_server_that_refuses_is_told_of_once(home, account):
    done = train(home, "-W", WANDB_BASE_URL="http://127.0.0.1:9", **account)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("W&B") == 1
    assert stores.connect().database.runs.find_one()["status"] == "COMPLETED"


LATE = """
import PIL.Image
from grok.experiment.wandb_mirror import Identity, Mirror
mirror = Mirror(Identity("abcd1234", "grok", None), "here", [])
mirror.started_event({"name": "nanda"}, "run", {}, None, {}, {}, 1)
PIL.Image.new("RGB", (2, 2)).save("picture.png")
for number in range(3):
    mirror.artifact_event(f"picture_{number}.png", "picture.png")
loss, late = {"steps": [0, 1], "values": [3.0, 2.0]}, {"steps": [0, 50, 100], "values": [7, 8, 9]}
mirror.log_metrics({"train_loss": loss}, {})
mirror.log_metrics({"train_loss": {"steps": [50, 100], "values": [1.0, 0.5]}}, {})
mirror.log_metrics({"restricted_loss": late, "excluded_loss": late}, {})
mirror.log_metrics({"last_only": {"steps": [100], "values": [4]}}, {})
mirror.completed_event(None, None)
mirror.thread.join()
"""


def test_metrics_known_only_at_the_end_of_a_run_arrive_with_their_steps(home):
    """W&B ignores a step below its last one, in silence: those of nanda, wang, minegishi and doshi
    that are computed from the kept weights were missing there."""
    offline = environment(home, WANDB_MODE="offline", PYTHONPATH=str(PROJECT))
    words = [sys.executable, "-c", LATE]
    done = subprocess.run(words, env=offline, cwd=home, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    found = offline_run(home)
    history = [values(one.history.item) for one in found if one.HasField("history")]
    rows = [{"_step": row["_step"], **row} for row in history]
    loss = {row["_step"]: row["train_loss"] for row in rows if "train_loss" in row}
    assert loss == {0: 3.0, 1: 2.0, 50: 1.0, 100: 0.5}
    for name in ("restricted_loss", "excluded_loss"):
        assert {row["step"]: row[name] for row in rows if name in row} == {0: 7, 50: 8, 100: 9}
    assert [row["step"] for row in rows if row.get("last_only") == 4] == [100]
    axes = {one.metric.name: one.metric.step_metric for one in found if one.HasField("metric")}
    assert axes["restricted_loss"] == axes["last_only"] == "step" and "train_loss" not in axes
    assert {f"picture_{number}" for number in range(3)} <= set().union(*rows)


KILLED = """
import psutil
from grok.experiment.wandb_mirror import Identity, Mirror
mirror = Mirror(Identity("abcd1234", "grok", None), "here", [])
mirror._begin("name", None, {})
mirror.run.log({"loss": 1.0}, step=0)
for child in psutil.Process().children():
    child.kill()
    child.wait()
"""


def test_a_process_whose_w_and_b_process_was_killed_ends_without_a_traceback(home):
    """Slurm kills both: at exit W&B's handler raised ConnectionResetError, through asyncio."""
    words = [sys.executable, "-c", KILLED]
    offline = environment(home, WANDB_MODE="offline")
    done = subprocess.run(words, env=offline, cwd=PROJECT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_sigterm_ends_both_sides_with_all_metrics(home):
    words = ["-W", "with", "p=5", f"train_steps={ENDLESS}", "log_points=2900", "seed=1"]
    command = [sys.executable, "experiments/liu_toy.py", *words]
    process = subprocess.Popen(command, cwd=PROJECT, env=environment(home), stderr=-3)
    database = stores.connect().database
    wait_until(lambda: database.metrics.count_documents({"values.50": {"$exists": True}}) > 0, 180)
    process.send_signal(signal.SIGTERM)
    assert process.wait(180) == 143
    assert database.runs.find_one()["status"] == "INTERRUPTED"
    stored = database.metrics.find_one({"name": "train_loss"})["steps"]
    found = offline_run(home)
    history = [values(one.history.item) for one in found if one.HasField("history")]
    assert [row["_step"] for row in history if "train_loss" in row] == stored
    assert [one.exit.exit_code for one in found if one.HasField("exit")] == [143]


def test_a_mirror_that_has_failed_collects_nothing_more(monkeypatch, capsys, tmp_path):
    """A run of days would else keep all its metrics and pictures in memory for nobody."""
    mirror = Mirror(Identity("one", "grok", None), "a store", [])

    def fails(*_):
        raise ConnectionError("no answer")

    monkeypatch.setattr(mirror, "_begin", fails)
    mirror.started_event({"name": "liu_toy"}, "main", {}, None, {}, {}, 1)
    mirror.thread.join(10)
    picture = tmp_path / "curves.png"
    picture.write_bytes(b"picture")
    mirror.log_metrics({"train_loss": {"steps": [0], "values": [1.0]}}, {})
    mirror.artifact_event(picture.name, str(picture))
    assert mirror.tasks.empty()
    assert capsys.readouterr().err == "run 1: W&B fails (no answer); the run goes on\n"
