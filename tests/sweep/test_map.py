"""`grok map`: its points are ordinary points of an ordinary sweep, here and for agents."""

import signal
import subprocess
import sys
from datetime import UTC, datetime

import pytest
import yaml
from click.testing import CliRunner

from grok.cli import main as grok
from grok.errors import UserError
from grok.phases import PHASES
from grok.store.connection import find_sweep
from grok.sweep import file as files
from grok.sweep import local
from grok.sweep import map as maps
from grok.sweep import queue as queues
from grok.sweep.lattice import Lattice
from grok.sweep.local import LocalSweep
from grok.sweep.mapping import survey
from grok.sweep.progress import SweepProgress
from grok.sweep.queue import SweepQueue
from tests.conftest import PROJECT
from tests.helpers import wait_until

MAP = {
    "program": "experiments/liu_toy.py",
    "method": "random",
    "command": [
        "${program}",
        "with",
        "p=5",
        "decoder_width=10",
        "variant=table",
        "train_steps=30",
        "log_points=10",
        "${args_no_hyphens}",
    ],
    "parameters": {
        "decoder_lr": {"distribution": "log_uniform_values", "min": 1e-3, "max": 1.0},
        "init_scale": {"min": 0.0, "max": 2.0},
    },
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "small_map.yaml"
    path.write_text(yaml.safe_dump(MAP))
    return path


def test_lists_are_slices_too(path):
    """Betas are a list, which is no key of a dictionary."""
    file = files.read(path)
    file.config["parameters"]["betas"] = {"values": [[0.9, 0.98], [0.9, 0.99], [0.9, 0.98]]}
    lattice = Lattice.of(file, (4, 4), 1)
    assert len(lattice.slices) == 2
    runs = [((1, 2, 3), 0), ((0, 1, 0), 0)]
    assert [*lattice.runs(map(lattice.point, runs))] == runs


def phases_of(store, sweep_id: str) -> dict[tuple[float, float], list[str]]:
    """The phases of the finished runs of each cell."""
    cells: dict[tuple[float, float], list[str]] = {}
    for run in store.database.runs.find({"meta.sweep.id": sweep_id, "status": "COMPLETED"}):
        cell = run["config"]["decoder_lr"], run["config"]["init_scale"]
        cells.setdefault(cell, []).append(run["result"]["phase"])
    return cells


def latest(store) -> dict:
    document = find_sweep(store.database, "small_map")
    assert document is not None
    return document


def phase_at(point: dict) -> str:
    """A circle in the diagram, whatever a run would learn."""
    inside = point["decoder_lr"] < 0.1 and 0.5 < point["init_scale"] < 1.7
    return PHASES[0] if inside else PHASES[3]


def test_a_map_is_run_reported_and_resumed(store, path, capsys):
    """Killed in the middle and resumed, it has one finished run of each cell, and exactly the cells
    that follow from their phases; when it has ended, resuming it runs nothing."""
    command = [sys.executable, "-m", "grok.cli", "map", str(path), "--resolution", "8x7"]
    options = ["--workers", "1", "--slots", "4"]
    process = subprocess.Popen([*command, *options], cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    sweep_id = process.stdout.readline().split()[1].rstrip(":")
    finished = {"meta.sweep.id": sweep_id, "status": "COMPLETED"}
    wait_until(lambda: store.database.runs.count_documents(finished) >= 3, 180)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert store.database.runs.count_documents(finished) < 30
    maps.run(path, (64, 64), None, None, 4, 1, resume=True, sweep_id=None)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"sweep {sweep_id}: 8 x 7 cells, at most 56 runs, in ")
    cells = phases_of(store, sweep_id)
    assert all(len(phases) == 1 for phases in cells.values())
    lattice = Lattice.of(files.read(path), (8, 7), None)
    results = {
        run: cells[point["decoder_lr"], point["init_scale"]][0]
        for point in latest(store)["points"]
        for run in lattice.runs([point])
    }
    known = survey(lattice, results, 56)
    assert len(results) == len(cells) == known.runs and not known.wanted
    assert lines[1:-1] == known.describe()
    maps.run(path, (64, 64), None, None, 4, 1, resume=True, sweep_id=None)
    assert capsys.readouterr().out.splitlines()[-1].startswith("0 runs")


def test_a_map_with_more_budget_goes_on(store, path, capsys):
    """The budget is the largest number of runs in all, and may be raised later."""
    arguments = ["map", str(path), "--resolution", "8x8", "--workers", "1"]
    result = CliRunner().invoke(grok, [*arguments, "--budget", "41"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    document = latest(store)
    assert document["limit"] == 41 and len(document["points"]) <= 41
    maps.run(path, (64, 64), None, 64, None, 1, resume=True, sweep_id=document["_id"])
    again = latest(store)
    assert again["_id"] == document["_id"] and again["limit"] == 64
    assert again["points"][: len(document["points"])] == document["points"]
    assert maps.stored_survey(store, again).open == 0


def test_an_ordinary_sweep_is_no_map(store, path, tmp_path):
    grid = tmp_path / "small_map.yaml"
    parameters = {"decoder_lr": {"values": [0.1]}}
    grid.write_text(yaml.safe_dump({**MAP, "method": "grid", "parameters": parameters}))
    sweep = LocalSweep.begin(files.read(grid), store, None, None)
    with pytest.raises(UserError, match=f"sweep {sweep.id} is no map"):
        maps.run(grid, (8, 8), None, None, None, 1, resume=True, sweep_id=None)
    with pytest.raises(UserError, match="is no map"):
        maps.stored_survey(store, latest(store))


def test_sweep_run_resumes_a_map_too(store, path):
    """A map is an ordinary sweep: its points are those of its document, and rounds follow."""
    file = files.read(path)
    lattice = Lattice.of(file, (8, 8), None)
    begun = LocalSweep.begin_map(file, store, lattice, 64, None, 1)
    sweep = LocalSweep.resume(file, store, None, None, 1)
    assert sweep.id == begun.id
    with SweepProgress(1, 1) as progress:
        sweep.run(progress)
    assert not local.survey_of(store, latest(store)).wanted


def test_a_map_waits_for_the_runs_of_a_round(store, path, monkeypatch):
    """A run that has ended but has not reached the store yet is not run a second time."""
    monkeypatch.setattr(local, "DELIVERY_INTERVAL", 0.01)
    file = files.read(path)
    sweep = LocalSweep.begin_map(file, store, Lattice.of(file, (4, 4), None), 16, None, 1)
    late: dict[int, int] = {}  # looks at each point after it has been trained
    finished = local._finished_runs

    def some_are_late(*of_sweep) -> dict:
        runs = finished(*of_sweep)
        for number in runs:
            late[number] = late.get(number, 0) + 1
        return {number: run for number, run in runs.items() if late[number] > 3}

    monkeypatch.setattr(local, "_finished_runs", some_are_late)
    with SweepProgress(1, 1) as progress:
        sweep.run(progress)
    document = latest(store)
    assert len(document["points"]) == len({str(point) for point in document["points"]})
    assert all(len(phases) == 1 for phases in phases_of(store, sweep.id).values())
    monkeypatch.setattr(local, "DELIVERY_TIMEOUT", 0.0)
    monkeypatch.setattr(local, "_finished_runs", lambda *_: {})
    sweep.lease = None
    with pytest.raises(UserError, match=r"runs of sweep .* have not reached the store"):
        sweep._await_delivery()


@pytest.fixture
def queue(store, monkeypatch):
    monkeypatch.setattr(queues, "READ_INTERVAL", 0.0)
    yield SweepQueue(store)
    for name in ("sweeps", "sweep_points", "sweep_agents"):
        store.database[name].delete_many({"served": True} if name == "sweeps" else {})
    store.database.runs.delete_many({"made_up": True})


def test_agents_get_the_points_of_a_map_round_by_round(store, queue, path, capsys):
    """Three agents, of which one loses a run: they get the runs that a map on one machine makes, no
    cell twice, and leave when the boundary is known."""
    maps.serve(path, (16, 16), None, 256)
    sweep_id = capsys.readouterr().out.split()[-1]
    agents = [queue.add_agent(sweep_id, "here") for _ in range(3)]
    asked, has_lost_one = [], False
    while agents:
        for agent in list(agents):
            for command in queue.heartbeat(agent, []):
                if command["type"] == "exit":
                    agents.remove(agent)
                    continue
                point = {key: entry["value"] for key, entry in command["args"].items()}
                if len(asked) == 20 and not has_lost_one:
                    has_lost_one = True
                    continue  # the run never came to be: its point is given away again
                asked.append(point)
                queue.runs.insert_one(
                    {
                        "_id": f"made-up-{command['run_id']}",
                        "made_up": True,
                        "status": "COMPLETED",
                        "info": {"wandb": {"run": command["run_id"], "sweep": sweep_id}},
                        "result": {"ended": "budget", "phase": phase_at(point)},
                        "heartbeat": datetime.now(UTC),
                    }
                )
    lattice = Lattice.of(files.read(path), (16, 16), None)
    results: dict = {}
    while (known := survey(lattice, results, 256)).wanted:
        results |= {run: phase_at(lattice.point(run)) for run in known.wanted}
    assert len({str(point) for point in asked}) == len(asked)
    assert {*lattice.runs(asked)} == {*results}
    document = queue.sweep(sweep_id)
    assert document["state"] == "FINISHED"
    seen = maps.stored_survey(store, document)
    assert (seen.phases == known.phases).all() and seen.open == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resolution", "8"], "--resolution 8: expected two whole numbers, as in 64x64"),
        (["--resolution", "3x8"], "decoder_lr: 3 values; a map needs at least 4"),
        (["--budget", "3"], "a budget of 3 runs is too small"),
        (["--resume", "--serve"], "--resolution, --seeds and --serve are for a new map"),
        (["--id", "none"], "no sweep none to resume"),
    ],
)
def test_a_wrong_option_is_one_line_and_exit_2(store, path, arguments, message):
    result = CliRunner().invoke(grok, ["map", str(path), *arguments])
    assert result.exit_code == 2
    assert result.output.startswith(f"error: {message}") and result.output.count("\n") == 1
