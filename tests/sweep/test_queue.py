"""The points of a served sweep, each to one agent only, whatever dies."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import yaml

from grok.errors import UserError
from grok.sweep.board import Board
from tests.conftest import PROJECT

GRID = {
    "program": "experiments/liu_toy.py",
    "method": "grid",
    "metric": {"name": "test_accuracy", "goal": "maximize"},
    "parameters": {"p": {"values": [5, 6, 7]}, "seed": {"values": [0, 1, 2, 3]}},
}


@pytest.fixture
def board(store):
    yield Board(store, lost_after=60)  # no test waits: silence() moves the heartbeats
    for name in ("sweeps", "sweep_points", "sweep_agents"):
        store.database[name].delete_many({"served": True} if name == "sweeps" else {})
    store.database.runs.delete_many({"made_up": True})


def ran(board, sweep, run, status, curve=(), ago=0.0) -> None:
    """A Sacred run as the store has it after `run` of W&B ended (or while it runs)."""
    number = f"made-up-{run}"
    board.runs.insert_one(
        {
            "_id": number,
            "made_up": True,
            "status": status,
            "info": {"wandb": {"run": run, "sweep": sweep}},
            "heartbeat": datetime.now(UTC) - timedelta(seconds=ago),
        }
    )
    board.metrics.insert_one({"run_id": number, "name": "test_accuracy", "values": list(curve)})


def states(board, sweep) -> list[str]:
    return [point["state"] for point in board.points.find({"sweep": sweep}).sort("number")]


def silence(board, sweep, seconds) -> None:
    """Nothing has been heard of the running points for so long."""
    then = datetime.now(UTC) - timedelta(seconds=seconds)
    board.points.update_many({"sweep": sweep, "state": "running"}, {"$set": {"heartbeat": then}})


def test_forty_agents_at_once_get_twelve_different_points(board):
    sweep = board.create(GRID)
    agents = [board.join(sweep, "here") for _ in range(40)]
    with ThreadPoolExecutor(40) as pool:
        replies = list(pool.map(lambda agent: board.beat(agent, []), agents))
    given = [command for reply in replies for command in reply if command["type"] == "run"]
    points = {tuple(one["value"] for one in command["args"].values()) for command in given}
    assert len(given) == len(points) == 12
    assert len({command["run_id"] for command in given}) == 12


def test_two_boards_on_one_store_share_a_sweep(board, store):
    sweep, other = board.create(GRID), Board(store)
    first, second = board.join(sweep, "a"), other.join(sweep, "b")
    (one,), (two,) = board.beat(first, []), other.beat(second, [])
    assert one["args"] != two["args"]


def test_a_finished_run_is_done_and_a_run_without_trace_has_failed(board):
    sweep = board.create(GRID)
    agent = board.join(sweep, "here")
    (first,) = board.beat(agent, [])
    assert board.beat(agent, [first["run_id"]]) == []  # busy: nothing new
    ran(board, sweep, first["run_id"], "COMPLETED")
    (second,) = board.beat(agent, [])
    assert states(board, sweep)[:2] == ["finished", "running"]
    board.beat(agent, [second["run_id"]])
    board.beat(agent, [])  # gone, and the store never heard of it
    assert states(board, sweep)[:3] == ["finished", "failed", "running"]


def test_a_run_interrupted_by_others_is_repeated_and_one_stopped_by_us_is_not(board):
    sweep = board.create(GRID)
    agent = board.join(sweep, "here")
    (first,) = board.beat(agent, [])
    board.beat(agent, [first["run_id"]])
    ran(board, sweep, first["run_id"], "INTERRUPTED")
    (again,) = board.beat(agent, [])
    assert again["args"] == first["args"] and again["run_id"] != first["run_id"]
    board.set_state(sweep, "CANCELED")
    assert board.beat(agent, [again["run_id"]]) == [{"type": "stop", "run_id": again["run_id"]}]
    ran(board, sweep, again["run_id"], "INTERRUPTED")
    assert board.beat(agent, []) == [{"type": "exit"}]
    assert states(board, sweep)[0] == "stopped"


def test_the_point_of_a_silent_agent_is_taken_back_unless_its_run_is_alive(board):
    sweep = board.create(GRID)
    lost, orphaned, other = (board.join(sweep, host) for host in "abc")
    (first,), (second,) = board.beat(lost, []), board.beat(orphaned, [])
    silence(board, sweep, 100)
    ran(board, sweep, first["run_id"], "RUNNING", ago=100)
    ran(board, sweep, second["run_id"], "RUNNING", ago=0)
    (taken,) = board.beat(other, [])
    assert taken["args"] == first["args"]
    assert states(board, sweep)[:3] == ["running", "running", "pending"]


def test_a_point_whose_reply_was_lost_is_given_again_but_not_for_ever(board):
    sweep = board.create({**GRID, "parameters": {"p": {"values": [5]}}})
    agent = board.join(sweep, "here")
    runs = [board.beat(agent, [])[0] for _ in range(3)]
    assert len({run["run_id"] for run in runs}) == 3
    assert board.beat(agent, []) == [{"type": "exit"}]
    assert states(board, sweep) == ["failed"]


def test_agents_wait_while_a_point_may_come_back_and_leave_when_all_is_done(board):
    sweep = board.create({**GRID, "parameters": {"p": {"values": [5]}}})
    busy, idle = board.join(sweep, "a"), board.join(sweep, "b")
    (only,) = board.beat(busy, [])
    assert board.beat(idle, []) == []
    ran(board, sweep, only["run_id"], "COMPLETED")
    assert board.beat(busy, []) == board.beat(idle, []) == [{"type": "exit"}]
    assert board.sweep(sweep)["state"] == "FINISHED"


def test_hyperband_stops_the_evident_loser(board):
    config = {**GRID, "early_terminate": {"type": "hyperband", "min_iter": 3, "eta": 2}}
    sweep = board.create(config)
    agents = [board.join(sweep, "here") for _ in range(4)]
    runs = [board.beat(agent, [])[0]["run_id"] for agent in agents]
    for run, level in zip(runs, (0.9, 0.8, 0.7, 0.0), strict=True):
        ran(board, sweep, run, "RUNNING", [level] * 8)
    replies = [board.beat(agent, [run]) for agent, run in zip(agents, runs, strict=True)]
    assert replies[0] == [] and replies[3] == [{"type": "stop", "run_id": runs[3]}]


def searched(board, method: str, seed: int) -> float:
    """The best of 20 points of a search for the maximum of -(lr - 0.3)^2 - (scale - 0.7)^2."""
    uniform = {"distribution": "uniform", "min": 0.0, "max": 1.0}
    sweep = board.create(
        {
            **GRID,
            "method": method,
            "run_cap": 20,
            "parameters": {"decoder_lr": uniform, "init_scale": uniform, "seed": {"value": seed}},
        }
    )
    board.sweeps.update_one({"_id": sweep}, {"$set": {"seed": 100 * seed}})
    agent, best = board.join(sweep, "here"), -float("inf")
    for _ in range(20):
        (command,) = board.beat(agent, [])
        lr, scale = (command["args"][key]["value"] for key in ("decoder_lr", "init_scale"))
        value = -((lr - 0.3) ** 2) - (scale - 0.7) ** 2
        best = max(best, value)
        ran(board, sweep, command["run_id"], "COMPLETED", [value])
    assert board.beat(agent, []) == [{"type": "exit"}]
    return best


@pytest.mark.filterwarnings("ignore")  # scikit-learn's Gaussian process on 3 points
def test_a_bayes_sweep_of_20_points_beats_random_choice(board):
    seeds = (1, 2, 3)
    random = [searched(board, "random", seed) for seed in seeds]
    bayes = [searched(board, "bayes", seed) for seed in seeds]
    assert sum(bayes) > sum(random)
    assert max(bayes) > -0.005


def test_a_wrong_sweep_is_refused_before_anything_is_stored(board):
    before = board.sweeps.count_documents({})
    with pytest.raises(
        UserError, match=r"unknown config key .*decoder_lrr; did you mean decoder_lr"
    ):
        board.create({**GRID, "parameters": {"decoder_lrr": {"value": 1}}})
    with pytest.raises(UserError, match="no sweep nothing here"):
        board.join("nothing", "here")
    assert board.beat("nobody", []) is None
    assert board.sweeps.count_documents({}) == before


def test_the_last_point_settles_the_sweep_s_claims(board):
    """The figure's own file, sent by `wandb sweep`, is known by what it says."""
    config = yaml.safe_load((PROJECT / "sweeps" / "liu_figure4d.yaml").read_text())
    sweep = board.create(config)
    assert board.sweep(sweep)["name"] == "liu_figure4d"
    agent = board.join(sweep, "here")
    (command,) = board.beat(agent, [])
    run = command["run_id"]
    ran(board, sweep, run, "COMPLETED")
    paper = board.file(sweep).paper
    known = paper.full_config({"seed": 58}, ("authors_seed58",))
    result = {"ended": "budget", "steps_to_train": 1130, "steps_to_test": 1530}
    board.runs.update_one({"_id": f"made-up-{run}"}, {"$set": {"config": known, "result": result}})
    board.metrics.update_one({"run_id": f"made-up-{run}"}, {"$set": {"steps": []}})
    board.beat(agent, [run])
    board.beat(agent, [])
    (finding,) = board.sweep(sweep)["claims"]["findings"]
    assert finding["claim"] == "02-C4" and finding["passed"]
