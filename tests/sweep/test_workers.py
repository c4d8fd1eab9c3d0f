"""Worker processes of a sweep: the same numbers as one process, and no run lost with a process."""

import os
import signal
import subprocess
import sys
from multiprocessing.connection import Connection

import pytest
import yaml

from grok.errors import UserError
from grok.experiment.repeat import logged_values
from grok.store.connection import artifact
from grok.sweep import file as files
from grok.sweep.local import LocalSweep, points_of
from grok.sweep.plan import MOST_PARTS, plan, split
from grok.sweep.progress import SweepProgress
from grok.sweep.workers import Workers, choose_workers
from tests.conftest import PROJECT
from tests.helpers import wait_until


@pytest.fixture
def written(tmp_path):
    """Writes a sweep of liu_toy over these seeds, and returns its path."""

    def write(seeds: int, **fixed):
        values = {"p": 5, "decoder_width": 20, "log_points": 20, **fixed}
        parameters = {key: {"value": value} for key, value in values.items()}
        config = {
            "program": "experiments/liu_toy.py",
            "method": "grid",
            "parameters": {**parameters, "seed": {"values": list(range(seeds))}},
        }
        path = tmp_path / "sweep.yaml"
        path.write_text(yaml.safe_dump(config))
        return path

    return write


def groups_of(path):
    """The groups of the sweep in a file, by its seeds."""
    file = files.read(path)
    return plan(file, dict(enumerate(points_of(file, None, None))))


def numbers_of(parts):
    return sorted(run.number for part in parts for run in part.runs)


@pytest.mark.parametrize(
    ("seeds", "slots", "sizes"),
    [
        (1, None, [1]),
        (8, 2, [2, 2, 2, 2]),
        (5, 2, [3, 2]),
        (40, 2, [5] * MOST_PARTS),
        (3, 8, [3]),
    ],
)
def test_every_run_is_in_one_part_that_fills_its_slots(written, seeds, slots, sizes):
    """A run in two parts would be trained twice; a part with free slots would waste them."""
    parts = split(groups_of(written(seeds, train_steps=10)), slots)
    assert [len(part.runs) for part in parts] == sizes
    assert numbers_of(parts) == list(range(seeds))
    assert all(part.slots <= len(part.runs) for part in parts)
    threads = {part.threads for part in parts}
    assert threads == ({None} if len(parts) == 1 else {1})


def test_a_part_is_compiled_for_the_steps_of_its_whole_group(written):
    """40 runs of 100 steps, two at once, make 2,000 steps: enough to pay for a fused step, which each of
    eight parts alone would not."""
    parts = split(groups_of(written(40, train_steps=100)), 2)
    assert [part.steps for part in parts] == [2000] * MOST_PARTS


def test_processes_are_started_where_they_save_time(written, monkeypatch):
    """The start of a process takes 5 CPU seconds: a short sweep trains in one."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)))
    monkeypatch.setattr(os, "getloadavg", lambda: (1.2, 0.0, 0.0))
    few = split(groups_of(written(8, train_steps=100)), 2)
    assert choose_workers(few) == 1
    assert choose_workers(few * 100) == 3  # to record 800 runs takes longer than to train them
    long = split(groups_of(written(8, train_steps=10**6)), 2)
    assert choose_workers(long) == 3  # of four cores one is busy
    assert choose_workers(long[:2]) == 2
    assert choose_workers(long[:1]) == 1


def test_the_numbers_are_the_same_for_any_number_of_workers(written, store):
    """Bit for bit: how many cores a machine has must not change a result."""
    file = files.read(written(6, train_steps=30))
    runs = []
    for workers in (1, 2):
        sweep = LocalSweep.begin(file, store, None, None, slots=2, workers=workers)
        with SweepProgress(6 * 30, 6) as progress:
            sweep.run(progress)
        assert progress.done == 6 and progress.outcomes == {"budget": 6}
        found = store.database.runs.find({"meta.sweep.id": sweep.id}).sort("config.seed")
        runs.append([run["_id"] for run in found])
        document = store.database.sweeps.find_one({"_id": sweep.id})
        assert sorted(map(len, (batch["points"] for batch in document["batches"]))) == [2, 2, 2]
    assert len(runs[0]) == len(runs[1]) == 6
    for alone, shared in zip(*runs, strict=True):
        assert logged_values(store, alone) == logged_values(store, shared)
        weights = [artifact(store.database, run, "weights.safetensors") for run in (alone, shared)]
        assert weights[0] == weights[1]


def test_a_killed_worker_ends_the_sweep_and_resume_repeats_only_its_runs(written, store):
    """Out of memory kills one process: one line says so, and what has finished stays finished."""
    # Long runs, so that both processes are in one, however late one of them starts.
    path = written(3, train_steps=20_000, checkpoint_every=50, fused=False)
    command = [sys.executable, "-m", "grok.cli", "sweep", "run", str(path), "--slots", "1"]
    process = subprocess.Popen(
        [*command, "--workers", "2"],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    sweep_id = process.stdout.readline().split()[1].rstrip(":")
    runs = store.database.runs
    running = {"meta.sweep.id": sweep_id, "status": "RUNNING"}

    def both_have_checkpoints() -> bool:
        assert process.poll() is None, process.stderr.read()
        found = list(runs.find(running))
        return len(found) == 2 and all(store.checkpoint_path(r["_id"]).exists() for r in found)

    wait_until(both_have_checkpoints, 180)
    children = subprocess.run(
        ["pgrep", "-P", str(process.pid), "-f", "spawn_main"], capture_output=True, text=True
    )
    os.kill(int(children.stdout.split()[0]), signal.SIGKILL)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 2
    assert error.splitlines()[-1] == "error: a worker process has ended with SIGKILL"
    statuses = sorted(run["status"] for run in runs.find({"meta.sweep.id": sweep_id}))
    assert statuses == ["INTERRUPTED", "RUNNING"]
    done = subprocess.run(
        [*command, "--workers", "1", "--resume"], cwd=PROJECT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    finished = list(runs.find({"meta.sweep.id": sweep_id}))
    assert sorted(run["meta"]["sweep"]["point"] for run in finished) == [0, 1, 2]
    assert {run["status"] for run in finished} == {"COMPLETED"}


def refuse(parent: Connection, message: str) -> None:
    parent.send(message)
    raise UserError(f"{message} is wrong")


def test_an_error_of_the_users_in_a_worker_is_one_here():
    """What a worker cannot do is told once, by the process that the user has started."""
    heard = []
    with pytest.raises(UserError, match="p=1 is wrong"), Workers(refuse, [("p=1",)]) as workers:
        for _, message in workers.messages():
            heard.append(message)
    assert heard == ["p=1"]
    assert [worker.process.is_alive() for worker in workers.workers] == [False]
