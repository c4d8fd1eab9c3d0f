"""The sweep queue gives each point to one agent, also after agents or runs have died."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
import yaml
from pymongo.errors import AutoReconnect

from grok.errors import UserError
from grok.store.lease import LeaseLost
from grok.store.observer import DurableObserver
from grok.sweep import agent as agents
from grok.sweep import queue as queues
from grok.sweep.client import Client, SweepName
from grok.sweep.progress import SweepProgress
from grok.sweep.queue import SweepQueue, check_assigned
from tests.conftest import PROJECT
from tests.helpers import wait_until
from tests.store.writers import Writer, held_delivery, node

LONG_AGO = datetime(2026, 1, 1)
GRID = {
    "program": "experiments/liu_toy.py",
    "method": "grid",
    "metric": {"name": "test_accuracy", "goal": "maximize"},
    "parameters": {"p": {"values": [5, 6, 7]}, "seed": {"values": [0, 1, 2, 3]}},
}


@pytest.fixture
def queue(store, monkeypatch):
    monkeypatch.setattr(queues, "READ_INTERVAL", 0.0)
    queue = SweepQueue(store, lost_after=60)  # no test waits: set_heartbeats() does
    for ago in (100, 50, 0):  # it has been in contact for longer than that
        queue.contact.make(datetime.now(UTC) - timedelta(seconds=ago))
    yield queue
    for name in ("sweeps", "sweep_points", "sweep_agents"):
        store.database[name].delete_many({"served": True} if name == "sweeps" else {})
    store.database.runs.delete_many({"made_up": True})


@pytest.fixture
def held():
    """Events of runs are delivered by the test alone."""
    with held_delivery():
        yield


def store_run(queue, sweep, run, status, curve=(), ago=0.0) -> None:
    """Store a Sacred run for the W&B run `run`, with a heartbeat so many seconds ago."""
    number = f"made-up-{run}"
    queue.runs.insert_one(
        {
            "_id": number,
            "made_up": True,
            "status": status,
            "info": {"wandb": {"run": run, "sweep": sweep}},
            "heartbeat": datetime.now(UTC) - timedelta(seconds=ago),
        }
    )
    queue.metrics.insert_one({"run_id": number, "name": "test_accuracy", "values": list(curve)})


def states(queue, sweep) -> list[str]:
    return [point["state"] for point in queue.points.find({"sweep": sweep}).sort("number")]


def set_heartbeats(queue, sweep, ago) -> None:
    """Set the heartbeats of the running points to so many seconds ago."""
    then = datetime.now(UTC) - timedelta(seconds=ago)
    queue.points.update_many({"sweep": sweep, "state": "running"}, {"$set": {"heartbeat": then}})


def test_forty_agents_at_once_get_twelve_different_points(queue):
    sweep = queue.create(GRID)
    agents = [queue.add_agent(sweep, "here") for _ in range(40)]
    with ThreadPoolExecutor(40) as pool:
        replies = list(pool.map(lambda agent: queue.heartbeat(agent, []), agents))
    commands = [command for reply in replies for command in reply if command["type"] == "run"]
    points = {tuple(entry["value"] for entry in command["args"].values()) for command in commands}
    assert len(commands) == len(points) == 12
    assert len({command["run_id"] for command in commands}) == 12


@pytest.mark.parametrize(("words", "seed"), [([], 0), (["with", "seed=7"], 7)])
def test_points_without_a_seed_get_that_of_the_sweep(queue, words, seed):
    """Otherwise Sacred draws one for each run, and the grid mixes seeds with its parameters."""
    config = {**GRID, "parameters": {"p": {"values": [5, 6]}}}
    sweep = queue.create({**config, "command": ["${program}", *words, "${args_no_hyphens}"]})
    agents = [queue.add_agent(sweep, "here") for _ in range(2)]
    commands = [command for agent in agents for command in queue.heartbeat(agent, [])]
    assert [command["args"] for command in commands] == [
        {"p": {"value": p}, "seed": {"value": seed}} for p in (5, 6)
    ]


def test_two_queues_on_one_store_share_a_sweep(queue, store):
    sweep, other = queue.create(GRID), SweepQueue(store)
    first, second = queue.add_agent(sweep, "a"), other.add_agent(sweep, "b")
    (command,), (other_command,) = queue.heartbeat(first, []), other.heartbeat(second, [])
    assert command["args"] != other_command["args"]


def test_a_finished_run_is_done_and_a_run_without_trace_has_failed(queue):
    sweep = queue.create(GRID)
    agent = queue.add_agent(sweep, "here")
    (first,) = queue.heartbeat(agent, [])
    assert queue.heartbeat(agent, [first["run_id"]]) == []  # busy: nothing new
    store_run(queue, sweep, first["run_id"], "COMPLETED")
    (second,) = queue.heartbeat(agent, [])
    assert states(queue, sweep)[:2] == ["finished", "running"]
    queue.heartbeat(agent, [second["run_id"]])
    queue.heartbeat(agent, [])  # gone, and the store never heard of it
    assert states(queue, sweep)[:3] == ["finished", "failed", "running"]


def test_a_run_interrupted_by_others_is_repeated_and_one_stopped_by_us_is_not(queue):
    sweep = queue.create(GRID)
    agent = queue.add_agent(sweep, "here")
    (first,) = queue.heartbeat(agent, [])
    queue.heartbeat(agent, [first["run_id"]])
    store_run(queue, sweep, first["run_id"], "INTERRUPTED")
    (again,) = queue.heartbeat(agent, [])
    assert again["args"] == first["args"] and again["run_id"] != first["run_id"]
    queue.set_state(sweep, "CANCELED")
    assert queue.heartbeat(agent, [again["run_id"]]) == [
        {"type": "stop", "run_id": again["run_id"]}
    ]
    store_run(queue, sweep, again["run_id"], "INTERRUPTED")
    assert queue.heartbeat(agent, []) == [{"type": "exit"}]
    assert states(queue, sweep)[0] == "stopped"


def test_the_point_of_a_silent_agent_is_reclaimed_unless_its_run_is_alive(queue):
    sweep = queue.create(GRID)
    lost, orphaned, other = (queue.add_agent(sweep, host) for host in "abc")
    (first,), (second,) = queue.heartbeat(lost, []), queue.heartbeat(orphaned, [])
    set_heartbeats(queue, sweep, 100)
    store_run(queue, sweep, first["run_id"], "RUNNING", ago=100)
    store_run(queue, sweep, second["run_id"], "RUNNING", ago=0)
    (reclaimed,) = queue.heartbeat(other, [])
    assert reclaimed["args"] == first["args"]
    assert states(queue, sweep)[:3] == ["running", "running", "pending"]


class Away:
    """A collection of a store that does not answer."""

    def find(self, *_):
        raise AutoReconnect("away")


@pytest.mark.parametrize("pause", ["of the endpoint", "of the agents", "of the store"])
def test_after_a_pause_no_living_agent_is_taken_for_dead(queue, store, monkeypatch, pause):
    """After it the heartbeats of all are old, whoever lives: the first agent that called took the
    points of all others away, and their runs were refused. One that stays silent is dead."""
    sweep = queue.create(GRID)
    first, second, third = agents = [queue.add_agent(sweep, host) for host in "abc"]
    runs = {agent: queue.heartbeat(agent, [])[0]["run_id"] for agent in agents}
    for run in runs.values():
        store_run(queue, sweep, run, "RUNNING")
    clock = [datetime.now(UTC)]
    monkeypatch.setattr(queues, "_now", lambda: clock[0])
    if pause == "of the endpoint":
        queue = SweepQueue(store, lost_after=60)
    if pause == "of the store":  # which a call has seen
        clock[0] += timedelta(seconds=20)
        queue.heartbeat(first, [runs[first]])
        clock[0] += timedelta(seconds=20)
        with monkeypatch.context() as patch, pytest.raises(AutoReconnect):
            patch.setattr(queue, "points", Away())
            queue.heartbeat(first, [runs[first]])
    clock[0] += timedelta(seconds=20 if pause == "of the store" else 600)
    for agent in (first, second):
        clock[0] += timedelta(seconds=2)
        assert queue.heartbeat(agent, [runs[agent]]) == []
        assert states(queue, sweep)[:4] == ["running"] * 3 + ["pending"]
    for _ in range(3):
        for agent in (first, second):
            clock[0] += timedelta(seconds=10)
            queue.heartbeat(agent, [runs[agent]])
    given_away = queue.points.find_one({"sweep": sweep, "attempts": runs[third]})
    assert given_away["state"] == "pending"
    assert states(queue, sweep)[:4] == ["running", "running", "pending", "pending"]


def test_a_run_that_has_ended_is_known_at_once_after_a_pause(queue, store):
    """Whether its agent lives does not matter then."""
    sweep = queue.create({**GRID, "parameters": {"p": {"values": [5]}}})
    lost, other = (queue.add_agent(sweep, host) for host in "ab")
    (command,) = queue.heartbeat(lost, [])
    store_run(queue, sweep, command["run_id"], "COMPLETED")
    set_heartbeats(queue, sweep, 600)
    assert SweepQueue(store, lost_after=60).heartbeat(other, []) == [{"type": "exit"}]
    assert states(queue, sweep) == ["finished"]


def test_a_run_that_was_given_up_is_not_completed_after_all(queue, store, held, tmp_path):
    """Its agent was frozen: it is not dead, and goes on when its point has been trained again. The
    same holds for a run that its agent has ended, when the store has not heard of the end."""
    sweep = queue.create(GRID)
    frozen, other = (queue.add_agent(sweep, host) for host in "ab")
    for agent in (frozen, other):
        (command,) = queue.heartbeat(agent, [])
        writer = Writer(node(store, tmp_path))
        made = {"meta.sweep": {"id": sweep, "run": command["run_id"]}, "made_up": True}
        store.database.runs.update_one({"_id": writer.run}, {"$set": made})
        if agent == frozen:
            store.database.runs.update_one({"_id": writer.run}, {"$set": {"start_time": LONG_AGO}})
            set_heartbeats(queue, sweep, 100)
        (again,) = queue.heartbeat(other, [])
        assert again["args"] == command["args"] and again["run_id"] != command["run_id"]
        store_run(queue, sweep, again["run_id"], "COMPLETED")
        queue.heartbeat(other, [again["run_id"]])
        writer.complete()
        with pytest.raises(LeaseLost, match="taken over by another process"):
            writer.deliver()
        writer.die()
        assert store.database.runs.find_one({"_id": writer.run})["status"] == "INTERRUPTED"


def test_a_run_begins_only_while_its_point_is_its_own(queue, store):
    """An agent that was frozen before it stored its run is refused. One that begins just when its
    point is to be given up keeps it."""
    sweep = queue.create(GRID)
    slow, other = (queue.add_agent(sweep, host) for host in "ab")
    (command,) = queue.heartbeat(slow, [])
    check_assigned(store.database, sweep, command["run_id"])
    set_heartbeats(queue, sweep, 100)
    run_of = queue._run_of

    def begin_meanwhile(point):
        check_assigned(store.database, sweep, point["run"])
        return run_of({"run": "not seen yet"})

    queue._run_of = begin_meanwhile
    (second,) = queue.heartbeat(other, [])
    assert second["args"] != command["args"]
    queue._run_of = run_of
    queue.heartbeat(other, [second["run_id"]])
    set_heartbeats(queue, sweep, 100)
    queue.last_reads.clear()
    queue.heartbeat(queue.add_agent(sweep, "c"), [])
    with pytest.raises(LeaseLost, match=f"W&B run {command['run_id']} of sweep .* no longer this"):
        check_assigned(store.database, sweep, command["run_id"])
    check_assigned(store.database, "a sweep of W&B's server", command["run_id"])


class DirectClient:
    """A queue as an agent's client, without HTTP."""

    def __init__(self, queue):
        self.queue = queue

    def register(self, name, host):
        return self.queue.add_agent(name.sweep, host)

    def heartbeat(self, agent, run):
        return self.queue.heartbeat(agent, [run] if run else [])


def test_an_agent_whose_point_was_given_away_goes_on_with_the_next(
    queue, store, monkeypatch, capsys
):
    """It is frozen when it has stored its first run, until another agent has trained that point."""
    parameters = {"p": {"value": 5}, "train_steps": {"value": 20}, "seed": {"values": [0, 1, 2]}}
    sweep = queue.create({**GRID, "parameters": parameters})
    insert, inserted = DurableObserver.insert, []

    def frozen(observer):
        insert(observer)
        inserted.append(observer.run_entry["_id"])
        if len(inserted) == 1:
            store.database.runs.update_one({"_id": inserted[0]}, {"$set": {"start_time": LONG_AGO}})
            set_heartbeats(queue, sweep, 100)
            other = queue.add_agent(sweep, "other")
            (again,) = queue.heartbeat(other, [])
            store_run(queue, sweep, again["run_id"], "COMPLETED")
            queue.heartbeat(other, [again["run_id"]])
            queue.points.update_one({"run": again["run_id"]}, {"$set": {"state": "finished"}})

    monkeypatch.setattr(DurableObserver, "insert", frozen)
    monkeypatch.setattr(agents, "HEARTBEAT_INTERVAL", 1000.0)
    agent = agents.BatchAgent(
        DirectClient(queue), SweepName(None, None, sweep), queue.file(sweep), store, 1, 1
    )
    with SweepProgress(0, 0) as progress:
        agent.run(progress)
    assert "is no longer this agent's; going on with the next points" in capsys.readouterr().err
    assert states(queue, sweep) == ["finished"] * 3
    runs = store.database.runs.find({"_id": {"$in": inserted}}).sort("_id")
    assert [run["status"] for run in runs] == ["INTERRUPTED", "COMPLETED", "COMPLETED"]


def test_a_heartbeat_beside_the_end_of_a_run_asks_for_no_further_point(queue, store, monkeypatch):
    """Without a run a heartbeat asks for one, which the thread of heartbeats would not train: the run of
    a slot can end between two of its lines."""
    sweep = queue.create(GRID)
    agent = agents.BatchAgent(
        DirectClient(queue), SweepName(None, None, sweep), queue.file(sweep), store, 1, 1
    )

    class Ending:
        """A slot whose run has ended when it is looked at a second time."""

        agent, is_stopped, runs = "here", False, ["run"]

        @property
        def run(self):
            return self.runs.pop() if self.runs else None

    asked = []
    monkeypatch.setattr(agents, "HEARTBEAT_INTERVAL", 0.001)
    monkeypatch.setattr(agent, "slots", [Ending()])
    monkeypatch.setattr(
        agent, "client", SimpleNamespace(heartbeat=lambda *args: asked.append(args) or [])
    )
    is_done = threading.Event()
    thread = threading.Thread(target=agent._send_heartbeats, args=[is_done])
    thread.start()
    wait_until(lambda: asked)
    is_done.set()
    thread.join()
    assert asked == [("here", "run")]


NO_COMMANDS = [None, {}, ["exit"], [{}], [{"type": 1}], [{"type": "run", "run_id": "r"}]]
NO_COMMANDS += [[{"type": "run", "run_id": "r", "args": {"p": 5}}]]
ODD_ANSWERS = ["[]", "{}", "5", "null", "<html>", "[" * 100_000, '{"data": null}', '{"data": {}}']
ODD_ANSWERS += ['{"errors": ["x"]}', '{"errors": ["x"], "data": {}}']
ODD_ANSWERS += [json.dumps({"data": {key: None}}) for key in ("upsertSweep", "createAgent")]
ODD_ANSWERS += [
    json.dumps({"data": {"agentHeartbeat": {"commands": json.dumps(commands)}}})
    for commands in NO_COMMANDS
]


@pytest.mark.parametrize("answer", ODD_ANSWERS, ids=range(len(ODD_ANSWERS)))
def test_an_odd_answer_is_one_line_and_heartbeats_go_on(monkeypatch, answer):
    """One such answer of a proxy was a traceback: it ended the thread of heartbeats, and after two
    minutes all points of the batch were given away."""
    client = Client("http://proxy", "key")
    reply = SimpleNamespace(status_code=200, content=answer.encode())
    answered = []
    monkeypatch.setattr(client.session, "post", lambda *_, **__: answered.append(1) or reply)
    name = SweepName("lab", "grok", "q4x")
    calls = [
        lambda: client.create({}),
        lambda: client.config(name),
        lambda: client.register(name, "here"),
        lambda: client.heartbeat("agent", "run"),
    ]
    for call in calls:
        with pytest.raises(UserError, match=r"^http://proxy is no W&B server"):
            call()
    answered.clear()
    monkeypatch.setattr(agents, "HEARTBEAT_INTERVAL", 0.001)
    slots, is_done = [SimpleNamespace(agent="agent", run="run")], threading.Event()
    of_agent = SimpleNamespace(client=client, slots=slots)
    thread = threading.Thread(target=agents.BatchAgent._send_heartbeats, args=[of_agent, is_done])
    thread.start()
    wait_until(lambda: len(answered) > 1)
    is_done.set()
    thread.join()


def test_a_point_whose_reply_was_lost_is_given_again_but_not_for_ever(queue):
    sweep = queue.create({**GRID, "parameters": {"p": {"values": [5]}}})
    agent = queue.add_agent(sweep, "here")
    runs = [queue.heartbeat(agent, [])[0] for _ in range(3)]
    assert len({run["run_id"] for run in runs}) == 3
    assert queue.heartbeat(agent, []) == [{"type": "exit"}]
    assert states(queue, sweep) == ["failed"]


def test_a_paused_sweep_gives_no_points_and_ends_no_run_until_it_is_resumed(queue):
    sweep = queue.create(GRID)
    busy, idle = (queue.add_agent(sweep, "here") for _ in range(2))
    (command,) = queue.heartbeat(busy, [])
    queue.set_state(sweep, "PAUSED")
    assert queue.heartbeat(busy, [command["run_id"]]) == []  # the run goes on
    assert queue.heartbeat(idle, []) == []  # neither a point nor the command to exit
    assert states(queue, sweep) == ["running"] + ["pending"] * 11
    store_run(queue, sweep, command["run_id"], "COMPLETED")
    assert queue.heartbeat(busy, []) == []
    assert states(queue, sweep) == ["finished"] + ["pending"] * 11
    queue.set_state(sweep, "RUNNING")
    (resumed,) = queue.heartbeat(idle, [])
    assert resumed["type"] == "run" and resumed["args"] != command["args"]


def test_a_paused_sweep_without_pending_points_is_not_finished(queue):
    sweep = queue.create({**GRID, "parameters": {"p": {"values": [5]}}})
    agent = queue.add_agent(sweep, "here")
    (command,) = queue.heartbeat(agent, [])
    queue.set_state(sweep, "PAUSED")
    store_run(queue, sweep, command["run_id"], "COMPLETED")
    assert queue.heartbeat(agent, []) == []
    assert queue.sweep(sweep)["state"] == "PAUSED"


def test_agents_wait_while_a_point_may_come_back_and_leave_when_all_is_done(queue):
    sweep = queue.create({**GRID, "parameters": {"p": {"values": [5]}}})
    busy, idle = queue.add_agent(sweep, "a"), queue.add_agent(sweep, "b")
    (only,) = queue.heartbeat(busy, [])
    assert queue.heartbeat(idle, []) == []
    store_run(queue, sweep, only["run_id"], "COMPLETED")
    assert queue.heartbeat(busy, []) == queue.heartbeat(idle, []) == [{"type": "exit"}]
    assert queue.sweep(sweep)["state"] == "FINISHED"


def test_hyperband_stops_the_clear_loser(queue):
    config = {**GRID, "early_terminate": {"type": "hyperband", "min_iter": 3, "eta": 2}}
    sweep = queue.create(config)
    agents = [queue.add_agent(sweep, "here") for _ in range(4)]
    runs = [queue.heartbeat(agent, [])[0]["run_id"] for agent in agents]
    for run, level in zip(runs, (0.9, 0.8, 0.7, 0.0), strict=True):
        store_run(queue, sweep, run, "RUNNING", [level] * 8)
    replies = [queue.heartbeat(agent, [run]) for agent, run in zip(agents, runs, strict=True)]
    assert replies[0] == [] and replies[3] == [{"type": "stop", "run_id": runs[3]}]


def best_value(queue, method: str, seed: int) -> float:
    """The best of 20 points of a search for the maximum of -(lr - 0.3)^2 - (scale - 0.7)^2."""
    uniform = {"distribution": "uniform", "min": 0.0, "max": 1.0}
    sweep = queue.create(
        {
            **GRID,
            "method": method,
            "run_cap": 20,
            "parameters": {"decoder_lr": uniform, "init_scale": uniform, "seed": {"value": seed}},
        }
    )
    queue.sweeps.update_one({"_id": sweep}, {"$set": {"seed": 100 * seed}})
    agent, best = queue.add_agent(sweep, "here"), -float("inf")
    for _ in range(20):
        (command,) = queue.heartbeat(agent, [])
        lr, scale = (command["args"][key]["value"] for key in ("decoder_lr", "init_scale"))
        value = -((lr - 0.3) ** 2) - (scale - 0.7) ** 2
        best = max(best, value)
        store_run(queue, sweep, command["run_id"], "COMPLETED", [value])
    assert queue.heartbeat(agent, []) == [{"type": "exit"}]
    return best


@pytest.mark.filterwarnings("ignore")  # of the Gaussian process on 3 points
def test_a_bayes_sweep_of_20_points_beats_random_choice(queue):
    seeds = (1, 2, 3)
    random = [best_value(queue, "random", seed) for seed in seeds]
    bayes = [best_value(queue, "bayes", seed) for seed in seeds]
    assert sum(bayes) > sum(random)
    assert max(bayes) > -0.005


def test_a_wrong_sweep_is_refused_before_anything_is_stored(queue):
    before = queue.sweeps.count_documents({})
    with pytest.raises(
        UserError, match=r"unknown config key .*decoder_lrr; did you mean decoder_lr"
    ):
        queue.create({**GRID, "parameters": {"decoder_lrr": {"value": 1}}})
    with pytest.raises(UserError, match="no sweep nothing here"):
        queue.add_agent("nothing", "here")
    with pytest.raises(UserError, match="no agent nobody here"):
        queue.heartbeat("nobody", [])
    assert queue.sweeps.count_documents({}) == before


def test_the_claims_are_checked_after_the_last_point(queue):
    """A sweep file of the project that `wandb sweep` has sent is recognized by its content."""
    sweep_config = yaml.safe_load((PROJECT / "sweeps" / "liu_figure4d.yaml").read_text())
    sweep = queue.create(sweep_config)
    assert queue.sweep(sweep)["name"] == "liu_figure4d"
    agent = queue.add_agent(sweep, "here")
    (command,) = queue.heartbeat(agent, [])
    run = command["run_id"]
    store_run(queue, sweep, run, "COMPLETED")
    experiment = queue.file(sweep).experiment
    config = experiment.full_config({"seed": 58}, ("authors_seed58_dense",))
    steps = {"steps_to_rqi": 800, "steps_to_train": 1130, "steps_to_test": 1530}
    result = {"ended": "budget", **steps}
    queue.runs.update_one({"_id": f"made-up-{run}"}, {"$set": {"config": config, "result": result}})
    queue.metrics.update_one({"run_id": f"made-up-{run}"}, {"$set": {"steps": []}})
    queue.heartbeat(agent, [run])
    queue.heartbeat(agent, [])
    (finding,) = queue.sweep(sweep)["claims"]["findings"]
    assert finding["claim"] == "02-C4" and finding["passed"]
