"""`grok sweep run`: W&B's files without W&B's server."""

import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
import yaml
from click.testing import CliRunner

from grok.cli import main
from grok.errors import UserError
from grok.experiment.command_line import arguments_of
from grok.experiment.progress import duration
from grok.store import archive, archive_schema, journal, lease, maintenance
from grok.store.observer import DurableObserver
from grok.sweep import commands, local, plan, search
from grok.sweep import file as files
from grok.sweep import lease as sweep_lease
from grok.sweep.lease import SweepLease
from grok.sweep.local import LocalSweep, points_of
from grok.sweep.progress import SweepProgress
from grok.sweep.queue import SweepQueue
from tests.conftest import PROJECT
from tests.engine.toy import problem
from tests.helpers import wait_until
from tests.store.writers import Writer, held_delivery, node

SWEEPS = sorted((PROJECT / "sweeps").glob("*.yaml"))
EXPERIMENTS = sorted(path.stem for path in (PROJECT / "experiments").glob("*.py"))
# of experiments whose smallest recipe is not in NAME_cpu.yaml
SMALLEST_SWEEPS = {"capacity": "capacity_grid_small", "mlp": "mlp_suite", "power": "power_figure1"}
FEW_STEPS = {"train_steps": 5}
FEW_EPOCHS = {
    "epochs": 1,
    "train_count": 500,
    "test_count": 100,
    "eval_train_count": None,
    "eval_test_count": None,
}
GRID = """
    program: experiments/liu_toy.py
    method: grid
    metric: {name: test_accuracy, goal: maximize}
    command: ["${env}", "${interpreter}", "${program}", with, train_steps=60, p=5, "${args_no_hyphens}"]
    parameters:
      decoder_lr: {values: [0.001, 0.01]}
      decoder_width: {values: [20, 30, 40]}
"""


@pytest.fixture
def written(tmp_path):
    """Writes a sweep file, with some keys changed, and returns its path."""

    def write(text: str = GRID, **changes):
        config = {**yaml.safe_load(textwrap.dedent(text)), **changes}
        path = tmp_path / "sweep.yaml"
        path.write_text(yaml.safe_dump({k: v for k, v in config.items() if v is not None}))
        return path

    return write


def run_all(sweep: LocalSweep) -> SweepProgress:
    with SweepProgress(1, 1) as progress:
        sweep.run(progress)
    return progress


def stored(store, sweep: LocalSweep) -> list[dict]:
    return list(store.database.runs.find({"meta.sweep.id": sweep.id}))


def test_a_grid_is_one_sacred_run_per_point_batched_by_shape(written, store):
    sweep = LocalSweep.begin(files.read(written()), store, None, None)
    progress = run_all(sweep)
    runs = stored(store, sweep)
    assert progress.done == len(runs) == 6
    assert {run["status"] for run in runs} == {"COMPLETED"}
    assert not any(key.startswith("_") for run in runs for key in run["config"])
    points = {(run["config"]["decoder_lr"], run["config"]["decoder_width"]) for run in runs}
    assert points == {(lr, width) for lr in (0.001, 0.01) for width in (20, 30, 40)}
    document = store.database.sweeps.find_one({"_id": sweep.id})
    assert [len(batch["points"]) for batch in document["batches"]] == [2, 2, 2]
    by_batch = {run["meta"]["sweep"]["batch"] for run in runs}
    assert by_batch == {batch["id"] for batch in document["batches"]}
    for run in runs:
        curve = store.database.metrics.find_one({"run_id": run["_id"], "name": "test_accuracy"})
        assert curve["steps"][0] == 0 and curve["steps"][-1] == 60


def test_a_batched_run_equals_the_same_run_alone(written, store, liu_toy):
    sweep = LocalSweep.begin(files.read(written()), store, None, None)
    run_all(sweep)
    for batched in stored(store, sweep)[:2]:
        alone = liu_toy.run(config_updates=dict(batched["config"]))
        assert alone.result["train_loss"] == pytest.approx(
            batched["result"]["train_loss"], abs=1e-9
        )


def test_seeds_multiply_points_and_limit_cuts_the_grid(written, store):
    points = points_of(files.read(written()), 2, 3)
    assert [point["seed"] for point in points] == [0, 0, 1, 1, 2, 2]
    assert points[0]["decoder_lr"] == points[2]["decoder_lr"]


def test_random_and_bayes_are_repeatable_and_need_an_end(written, store):
    parameters = {"decoder_lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2}}
    path = written(method="random", parameters=parameters)
    assert points_of(files.read(path), 5, None) == points_of(files.read(path), 5, None)
    with pytest.raises(UserError, match="give --limit or run_cap"):
        points_of(files.read(path), None, None)
    sweep = LocalSweep.begin(
        files.read(written(method="bayes", parameters=parameters)), store, 4, None
    )
    run_all(sweep)
    rates = [run["config"]["decoder_lr"] for run in stored(store, sweep)]
    assert len(set(rates)) == 4 and all(1e-4 <= rate <= 1e-2 for rate in rates)


def test_bayes_gets_nearer_to_an_optimum_than_random():
    """The minimum of a quadratic function, with 20 points each and W&B's own search, seeded."""
    square = {"x": {"min": 0.0, "max": 1.0}, "y": {"min": 0.0, "max": 1.0}}
    config = {"metric": {"name": "bowl", "goal": "minimize"}, "parameters": square}

    def bowl(point):
        return (point["x"] - 0.7) ** 2 + (point["y"] - 0.2) ** 2

    def best(method, seed):
        runs = []
        for index in range(20):
            (point,) = search.suggest({**config, "method": method}, runs, 1, seed * 1000)
            metrics = {"bowl": bowl(point)}
            runs.append(search.run_of(str(index), point, "finished", [metrics], metrics))
        return min(run.summary_metrics["bowl"] for run in runs)

    wins = sum(best("bayes", seed) < best("random", seed) for seed in range(5))
    assert wins >= 4


def test_hyperband_stops_losers_early_and_keeps_their_metrics(written, store, monkeypatch):
    monkeypatch.setattr(local, "HYPERBAND_INTERVAL", 0.02)  # so that a short run has many decisions
    path = written(
        parameters={
            "decoder_lr": {"values": [1e-2, 3e-3, 1e-6, 1e-7]},
            "encoder_lr": {"value": 0.0},
        },
        metric={"name": "train_loss", "goal": "minimize"},
        early_terminate={"type": "hyperband", "min_iter": 20, "eta": 2},
        command=["${program}", "with", "train_steps=400", "p=5", "log_points=200"],
    )
    sweep = LocalSweep.begin(files.read(path), store, None, None)
    progress = run_all(sweep)
    runs = {run["config"]["decoder_lr"]: run for run in stored(store, sweep)}
    assert progress.outcomes.get("terminated", 0) >= 1
    assert runs[1e-2]["status"] == "COMPLETED"
    ended = [run for run in runs.values() if run["status"] == "INTERRUPTED"]
    assert len(ended) == progress.outcomes["terminated"]
    for run in ended:
        curve = store.database.metrics.find_one({"run_id": run["_id"], "name": "train_loss"})
        assert curve["steps"][-1] == run["result"]["steps"] < 400
        assert run["result"]["ended"] == "terminated"


def test_a_diverging_replica_is_recorded_and_its_neighbours_finish(written, store):
    path = written(
        parameters={"decoder_lr": {"values": [1e-3, 1e3]}, "optimizer": {"value": "sgd"}}
    )
    sweep = LocalSweep.begin(files.read(path), store, None, None)
    run_all(sweep)
    ended = {run["config"]["decoder_lr"]: run["result"]["ended"] for run in stored(store, sweep)}
    assert ended == {1e-3: "budget", 1e3: "diverged"}


def test_sigkill_and_resume_lose_nothing_and_repeat_nothing(written, store, capsys):
    """Resumed once more when it is finished, a sweep says so and trains nothing."""
    path = written(
        parameters={"seed": {"values": list(range(12))}},
        command=[
            "${program}",
            "with",
            "train_steps=600",
            "log_points=600",  # so that the first runs end well before the last
            "p=5",
            "decoder_width=20",
            "${args_no_hyphens}",
        ],
    )
    command = [sys.executable, "-m", "grok.cli", "sweep", "run", str(path), "--slots", "2"]
    process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    sweep_id = process.stdout.readline().split()[1].rstrip(":")
    wanted = {"meta.sweep.id": sweep_id, "status": "COMPLETED"}
    wait_until(lambda: store.database.runs.count_documents(wanted) >= 2, 180)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = {run["_id"] for run in store.database.runs.find(wanted)}
    assert 2 <= len(before) < 12
    done = subprocess.run([*command, "--resume"], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    finished = list(store.database.runs.find(wanted))
    assert sorted(run["meta"]["sweep"]["point"] for run in finished) == list(range(12))
    assert before <= {run["_id"] for run in finished}
    commands.run(path, None, None, 2, None, resume=True, sweep_id=None)
    assert f"sweep {sweep_id} has no runs left to do" in capsys.readouterr().out
    assert store.database.runs.count_documents(wanted) == 12


def test_an_interrupted_sweep_keeps_its_time(written, store, monkeypatch):
    """The time of a sweep is that of all its sessions: it is shown as the time of the recipe."""
    file = files.read(written(parameters={"seed": {"values": [20, 21]}}))
    sweep = LocalSweep.begin(file, store, 1, 1)
    show, events = SweepProgress.show, []

    def interrupted(*args):
        events.append(show(*args))
        if len(events) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(SweepProgress, "show", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_all(sweep)
    first = store.database.sweeps.find_one(sweep.id)["seconds"]
    assert first > 0
    progress = run_all(LocalSweep.resume(file, store, sweep.id, 1, 1))
    total = store.database.sweeps.find_one(sweep.id)["seconds"]
    assert total == pytest.approx(first + progress.seconds, abs=0.5) and total > first


def test_a_dry_run_of_a_resumption_lists_what_is_left(written, store, capsys):
    """Points with a finished run are not listed; the others keep their numbers."""
    path = written(parameters={"seed": {"values": list(range(10, 16))}})
    sweep = LocalSweep.begin(files.read(path), store, None, None)

    def finish(*points: int) -> None:
        result = {"ended": "budget"}
        for point in points:
            entry = {"sweep": {"id": sweep.id, "point": point}}
            run = {"_id": f"{sweep.id}-{point}", "status": "COMPLETED", "meta": entry}
            store.database.runs.insert_one({**run, "result": result})

    def describe() -> list[str]:
        commands.describe(path, None, None, 2, 1, resume=True, sweep_id=None)
        return capsys.readouterr().out.splitlines()

    finish(0, 1, 3, 4)
    lines = describe()
    assert [line.split()[1::2] for line in lines if "seed=" in line] == [
        ["2", "seed=12"],
        ["5", "seed=15"],
    ]
    assert any(line.startswith("2 runs, ") for line in lines), lines
    finish(2, 5)
    assert describe() == ["no runs to do"]
    store.database.runs.delete_many({"meta.sweep.id": sweep.id})


@pytest.mark.parametrize("method", ["grid", "random", "resumed"])
def test_a_dry_run_of_a_large_sweep_plans_few_of_its_points(
    written, store, capsys, monkeypatch, method
):
    """Each point that is planned holds a problem with its data and weights, and takes 10 ms; each
    batch whose time is measured takes a second. Both are counted here, for 99,990 points."""
    parameters = {"decoder_width": {"values": list(range(1, 34))}, "seed": {"min": 0, "max": 3029}}
    path = written(
        method="random" if method == "random" else "grid",
        parameters=parameters,
        run_cap=99_990 if method == "random" else None,
    )
    file = files.read(path)
    if method == "resumed":
        points = points_of(file, None, None)
        made = {"config": file.config, "experiment": "liu_toy", "points": points, "limit": None}
        created = {"_id": "large", "name": file.name, "created": datetime.now(UTC)}
        store.database.sweeps.insert_one({**created, **made})
    suggested, planned, measured = [], [], []

    def plan(file, points):
        planned.extend(points)
        return plan_points(file, points)

    def suggest(config, runs, count, seed):
        suggested.append(count)
        return draw(config, runs, count, seed)

    def estimate(part):
        measured.append(part)
        return 2.0 * sum(run.problem.train_steps for run in part.runs)

    plan_points, draw = commands.plan, search.suggest
    monkeypatch.setattr(commands, "plan", plan)
    monkeypatch.setattr(commands, "estimate", estimate)
    monkeypatch.setattr(search, "suggest", suggest)
    assert commands.MOST_PLANNED <= 500 and commands.SHOWN_PARTS <= 10
    monkeypatch.setattr(commands, "MOST_PLANNED", 30)
    resumed = {"resume": method == "resumed", "sweep_id": None}
    commands.describe(path, None, None, None, 1, **resumed)
    store.database.sweeps.delete_one({"_id": "large"})
    lines = capsys.readouterr().out.splitlines()
    assert len(planned) == len(set(planned)) == 30 and max(planned) < 99_990
    assert len(measured) == 10 and len(lines) < 40
    assert suggested == ([30] if method == "random" else [])
    assert "99990 points in all" in "".join(lines)
    assert "batches of 30 points that were drawn at random:" in lines
    seconds = 2.0 * 60 * 99_990  # steps of a run, and points
    assert f"together about {duration(seconds)}; early stopping may save some of it" in lines


def test_an_estimate_counts_evaluations(monkeypatch):
    """They can take longer than the steps, as in `humayun`, so that "at most" was not true."""
    clock = [0.0]

    class Program:
        slots = 2

        def load(self, slot, problem): ...

        def step(self):
            clock[0] += 40  # compiling included

        def advance(self, most, slots):
            clock[0] += 0.5
            return 1

        def evaluate(self, slots):
            clock[0] += 3

    monkeypatch.setattr(plan, "runnable_program", lambda *_, **__: Program())
    monkeypatch.setattr(plan.time, "perf_counter", lambda: clock[0])
    run = plan.PlannedRun(0, {}, problem(0, train_steps=1000, log_steps=[0, 10, 500, 1000]))
    assert plan.estimate(plan.Part([run] * 6, 2, 3000)) == 43 + 3 * (1000 * 0.5 + 4 * 3)


def test_an_imported_sweep_that_names_runs_by_id_is_not_resumed(written, store, tmp_path):
    """Its points have ids of the store that it comes from; here they are those of other runs."""
    file = files.read(written())
    sweep = LocalSweep.begin(file, store, None, None)
    archived = tmp_path / "runs.zip"
    run = {"_id": f"run-{sweep.id}", "status": "FAILED", "experiment": {"name": "liu_toy"}}
    store.database.runs.insert_one({**run, "meta": {"sweep": {"id": sweep.id, "point": 0}}})
    for points, refused in (([{"seed": 1}], False), ([{"seed": 1, "reference_run": 3}], True)):
        store.database.sweeps.update_one({"_id": sweep.id}, {"$set": {"points": points}})
        archive.export(store.database, {"_id": run["_id"]}, archived)
        maintenance.delete(store, {"_id": run["_id"]})
        store.database.sweeps.delete_one({"_id": sweep.id})
        archive.import_(store.database, archived)
        if refused:
            with pytest.raises(UserError, match="was imported: its reference_run=3 is a run of"):
                LocalSweep.resume(file, store, sweep.id)
        else:
            assert LocalSweep.resume(file, store, sweep.id).pending() == dict(enumerate(points))
    maintenance.delete(store, {"_id": run["_id"]})


def test_only_a_sweep_of_this_file_without_a_server_is_resumed(written, store):
    """The points of a sweep for agents are elsewhere: after `grok sweep serve`, `--resume` ended with
    a KeyError. `--id` ran the points of another file's sweep by this file's command."""
    file = files.read(written())
    sweep = LocalSweep.begin(file, store, None, None)
    served = SweepQueue(store).create(file.config, file.name)
    try:
        assert local.find_to_resume(file, store, None)["_id"] == sweep.id
        with pytest.raises(
            UserError, match=f'^sweep {served} is one for agents: "grok sweep agent'
        ):
            local.find_to_resume(file, store, served)
        other = replace(file, name="another")
        with pytest.raises(UserError, match=f"^sweep {sweep.id} is of {file.name}, not of another"):
            local.find_to_resume(other, store, sweep.id)
    finally:
        store.database.sweeps.delete_many({"_id": {"$in": [sweep.id, served]}})
        store.database.sweep_points.delete_many({"sweep": served})


@pytest.mark.parametrize(
    "changes",
    [
        {"command": ["${program}", "with", "train_steps=60", "p=7", "${args_no_hyphens}"]},
        {"program": "experiments/power.py", "command": None, "parameters": {"p": {"value": 5}}},
        {"parameters": {"decoder_lr": {"values": [0.1]}}},
        {"early_terminate": {"type": "hyperband", "min_iter": 20}},
        {"run_cap": 3},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_sweep_whose_file_has_changed_is_not_resumed(written, store, changes):
    """The points are the sweep's own, but the command, the program and the search came from the file
    of today: a sweep had runs of p=10 and p=13 under one id, without a word."""
    sweep = LocalSweep.begin(files.read(written()), store, None, None)
    changed = files.read(written(**changes))
    said = f"^the file sweep has changed since sweep {sweep.id} began: restore it, or start a new"
    for sweep_id in (None, sweep.id):
        with pytest.raises(UserError, match=said):
            LocalSweep.resume(changed, store, sweep_id)


def test_a_sweep_is_resumed_if_its_file_says_the_same_in_other_words(written, store):
    """What does not say which runs there are may change, and so may the form of a number."""
    rates = {"values": [0.001, 0.01]}
    sweep = LocalSweep.begin(files.read(written(parameters={"decoder_lr": rates})), store, 2, None)
    command = ["${program}", "with", "train_steps=60", "p=5", "${args_no_hyphens}"]
    rates = {"values": ["1e-3", "1e-2"]}
    changes = {"command": command, "metric": None, "description": "rates"}
    again = files.read(written(parameters={"decoder_lr": rates}, **changes))
    assert LocalSweep.resume(again, store, None).id == sweep.id


@pytest.mark.parametrize("option", [["--limit", "1"], ["--seeds", "3"]])
@pytest.mark.parametrize("resume", [["--resume"], ["--id", "none"], ["--resume", "--dry-run"]])
def test_options_of_a_new_sweep_are_refused_with_resume(written, option, resume):
    """The points of a stored sweep are known: the options were ignored."""
    result = CliRunner().invoke(main, ["sweep", "run", str(written()), *option, *resume])
    assert result.exit_code == 2
    assert result.output == "error: --limit and --seeds are for a new sweep\n"


def test_a_sweep_that_is_running_is_not_resumed(written, store):
    """Fault 1: every point would be trained twice."""
    file = files.read(written())
    sweep = LocalSweep.begin(file, store, None, None)
    seen = store.database.sweeps.find_one({"_id": sweep.id})
    with SweepLease(store, sweep.document):
        with pytest.raises(UserError, match=f"sweep {sweep.id} is still running"):
            LocalSweep.resume(file, store, sweep.id)
        with (
            pytest.raises(UserError, match="has just been taken by another process"),
            SweepLease(store, seen),
        ):
            pass
    assert len(LocalSweep.resume(file, store, sweep.id).pending()) == 6


def test_a_process_has_the_lock_of_a_sweep_before_its_lease(written, store, monkeypatch):
    """One that is killed between the two would be taken for alive for a minute, and the sweep would
    not be resumed until then."""
    sweep = LocalSweep.begin(files.read(written()), store, None, None)
    take, locked = lease.take, []

    def observed(store, documents, seen, running, holder):
        folder = store.journals / journal.folder_name(seen["_id"], holder["holder"])
        locked.append(journal.is_locked(folder))
        return take(store, documents, seen, running, holder)

    monkeypatch.setattr(lease, "take", observed)
    with SweepLease(store, sweep.document):
        pass
    assert locked == [True]


def test_a_sweep_that_another_process_has_taken_over_ends(written, store, monkeypatch):
    monkeypatch.setattr(sweep_lease, "RENEWAL_INTERVAL", 0.05)
    sweep = LocalSweep.begin(files.read(written()), store, None, None)
    taken = {"$set": {"lease.holder": "another"}, "$inc": {"lease.term": 1}}
    with SweepLease(store, sweep.document) as held:
        held.check()
        store.database.sweeps.update_one({"_id": sweep.id}, taken)
        wait_until(lambda: held.loss is not None)
        with pytest.raises(UserError, match=r"taken over by another process on .* \(term 2\)"):
            held.check()
    assert store.database.sweeps.find_one({"_id": sweep.id})["state"] == "running"


def be_elsewhere_and_silent(store, documents, wanted: dict) -> None:
    """Make the holders of leases seem to be on another machine, and silent for two minutes."""
    long_ago = datetime.now(UTC) - timedelta(minutes=2)
    changes = {"lease.machine": "elsewhere", "lease.renewed": long_ago, "lease.taken": long_ago}
    documents.update_many(wanted, {"$set": changes})


def complete_points(store, sweep: LocalSweep) -> list[int]:
    complete = store.database.runs.find({"meta.sweep.id": sweep.id, "status": "COMPLETED"})
    return sorted(run["meta"]["sweep"]["point"] for run in complete)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_run_that_begins_when_its_sweep_is_taken_over_is_refused(
    written, store, monkeypatch, moment
):
    """Fault 1: the former holder is held up just before or after it stores a run, for as long as it
    takes to take the sweep over. Each point must have one complete run in the end."""
    monkeypatch.setattr(sweep_lease, "RENEWAL_INTERVAL", 1000.0)
    file, runs, sweeps = files.read(written()), store.database.runs, store.database.sweeps
    sweep = LocalSweep.begin(file, store, None, None, slots=1)
    insert, begun, taken = DurableObserver.insert, [], []

    def take_over() -> None:
        be_elsewhere_and_silent(store, sweeps, {"_id": sweep.id})
        with SweepLease(store, sweeps.find_one({"_id": sweep.id})) as second:
            second.end_unfinished_runs([])
            taken.append(second.lease.term)

    def held_up(observer: DurableObserver) -> None:
        begun.append(observer)
        if len(begun) == 2 and moment == "before":
            take_over()
        insert(observer)
        if len(begun) == 2 and moment == "after":
            take_over()

    monkeypatch.setattr(DurableObserver, "insert", held_up)
    with pytest.raises(UserError, match=r"taken over by another process on .* \(term 2\)"):
        run_all(sweep)
    assert taken == [2] and 1 not in complete_points(store, sweep)
    monkeypatch.setattr(DurableObserver, "insert", insert)
    run_all(LocalSweep.resume(file, store, sweep.id))
    assert complete_points(store, sweep) == list(range(6))
    assert not runs.count_documents({"meta.sweep.id": sweep.id, "status": "RUNNING"})


def test_a_run_of_a_former_holder_is_not_finished_after_its_point_was_trained_again(
    written, store, tmp_path
):
    """Fault 1: a node was away with a run of the sweep, or with the journal of one that was marked as
    INTERRUPTED. What it sends when it comes back must not make a second complete run of the point."""
    file, runs = files.read(written()), store.database.runs
    sweep = LocalSweep.begin(file, store, None, None)
    away = node(store, tmp_path / "away")
    away.db_name = store.db_name
    writers = []
    with held_delivery():
        for point, status in enumerate(("RUNNING", "INTERRUPTED")):
            writers.append(Writer(away))
            runs.update_one(
                {"_id": writers[-1].run},
                {"$set": {"status": status, "meta.sweep": {"id": sweep.id, "point": point}}},
            )
    be_elsewhere_and_silent(store, runs, {"_id": {"$in": [writer.run for writer in writers]}})
    run_all(LocalSweep.resume(file, store, sweep.id))
    assert complete_points(store, sweep) == list(range(6))
    for writer in writers:
        writer.observer.run_entry["result"] = {"ended": "budget"}
        writer.observer.completed_event(datetime.now(UTC), {"ended": "budget"})
        writer.observer.join()
        assert "taken over" in writer.observer.superseded
    assert complete_points(store, sweep) == list(range(6))
    stored = runs.find({"_id": {"$in": [writer.run for writer in writers]}})
    assert {run["status"] for run in stored} == {"INTERRUPTED"}


def test_a_run_that_was_killed_after_its_result_is_not_left_running(written, store):
    """Fault 5: its files are missing, so its result does not count, and its point is trained again."""
    file = files.read(written())
    sweep = LocalSweep.begin(file, store, None, None)
    killed = {
        "_id": f"killed-{sweep.id}",
        "status": "RUNNING",
        "start_time": datetime(2026, 1, 1),
        "meta": {"sweep": {"id": sweep.id, "point": 3}},
        "result": {"ended": "budget", "steps": 60},
    }
    store.database.runs.insert_one(killed)
    resumed = LocalSweep.resume(file, store, sweep.id)
    assert 3 in resumed.pending()
    assert store.database.runs.find_one({"_id": killed["_id"]}) == killed  # as for a dry run
    run_all(resumed)
    run = store.database.runs.find_one({"_id": killed["_id"]})
    assert run["status"] == "INTERRUPTED" and run["result"]["ended"] == "interrupted"
    trained = store.database.runs.find({"meta.sweep.id": sweep.id, "status": "COMPLETED"})
    assert sorted(run["meta"]["sweep"]["point"] for run in trained) == list(range(6))
    store.database.runs.delete_one({"_id": killed["_id"]})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parameters": {"decoder_rl": {"values": [1]}}}, "decoder_rl; did you mean decoder_lr"),
        ({"parameters": {"decoder_lr": {"values": []}}}, "sweep.yaml"),
        ({"parameters": {}}, "parameters is missing or empty"),
        ({"method": "gird"}, "did you mean grid"),
        ({"program": "experiments/nothing.py"}, "experiments/nothing.py: no experiment of"),
        ({"program": "experiments"}, "experiments: no experiment of this"),
        ({"program": "setup.py"}, "setup.py: no experiment of this"),
        ({"command": ["sh", "-c", "x", "${program}"]}, "command: 'sh' before"),
        ({"command": "sh"}, "command: expected a list"),
        ({"parameters": ["seed"]}, "parameters: expected a mapping"),
        ({"run_cap": "x"}, "run_cap='x': expected a whole number"),
        ({"program": None}, "program is missing"),
        ({"parameters": {"decoder_lr": {"values": [-1]}}}, "decoder_lr=-1: expected"),
        ({"command": ["${program}", "with", "papr", "${args_no_hyphens}"]}, "did you mean paper"),
    ],
)
def test_a_wrong_sweep_file_is_one_line_and_nothing_starts(written, store, changes, message):
    before = store.database.sweeps.count_documents({}), store.database.runs.count_documents({})
    with pytest.raises(UserError, match=message):
        LocalSweep.begin(files.read(written(**changes)), store, None, None)
    after = store.database.sweeps.count_documents({}), store.database.runs.count_documents({})
    assert before == after


@pytest.mark.parametrize("stem", ["scan (1)", "-x", "\u626b\u63cf", "\u00b2e\u0301", "s" * 200])
def test_a_sweep_s_id_is_one_that_an_import_takes(written, store, stem):
    """Its runs were left out of archives, or made them unreadable, whatever file was swept."""
    path = written()
    sweep = LocalSweep.begin(files.read(path.rename(path.with_stem(stem))), store, None, None)
    document = store.database.sweeps.find_one_and_delete({"_id": sweep.id})
    archive_schema.check(document, archive_schema.Sweep)
    assert document["name"] == stem and len(sweep.id) < 70


def test_texts_are_read_as_agents_put_them_on_the_command_line(liu_toy):
    """YAML reads 1e-3 and None as texts; an experiment's command line does not."""
    command = ["${program}", "with", "eval_points=None", "betas=(0.9, 0.98)", "${args_no_hyphens}"]
    file = files.SweepFile("x", {}, liu_toy, (), arguments_of(command)[1])
    point = yaml.safe_load("{decoder_lr: 1e-3, variant: table, operation: a**2 + b, p: 5}")
    assert point["decoder_lr"] == "1e-3"
    assert file.updates(point) == {
        "eval_points": None,
        "betas": (0.9, 0.98),
        "decoder_lr": 1e-3,
        "variant": "table",
        "operation": "a**2 + b",
        "p": 5,
    }


def test_broken_yaml_and_a_missing_file_exit_with_2(tmp_path):
    broken = tmp_path / "broken.yaml"
    broken.write_text("method: [grid\nparameters: }")
    for path, message in (
        (broken, "broken YAML in line 2"),
        (tmp_path / "none.yaml", "No such file"),
    ):
        command = [sys.executable, "-m", "grok.cli", "sweep", "run", str(path)]
        ended = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
        assert ended.returncode == 2
        assert message in ended.stderr and ended.stderr.count("\n") == 1


def without_seed(point: dict) -> dict:
    return {key: value for key, value in point.items() if key != "seed"}


def one_per_value(points: list[dict]) -> list[dict]:
    """Points in which every value of every parameter, the seed aside, occurs at least once."""
    chosen, seen = points[:1], set()
    for point in points:
        values = {(key, str(value)) for key, value in without_seed(point).items()}
        if not values <= seen and point not in chosen:
            chosen.append(point)
        seen |= values
    return chosen


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_point_of_a_sweep_file_is_valid_and_makes_a_problem(path, monkeypatch, mlxtend):
    """Every configuration is checked; a problem is built for every value of every parameter. Of a
    file with ranges, these are the first points of a random search."""
    file = files.read(path)
    points = points_of(file, None if file.config["method"] == "grid" else 10, None)
    for point in {str(without_seed(point)): point for point in points}.values():
        file.experiment.full_config(file.updates(point), file.named_configs)
    # a warm start needs a stored run: it is tested below
    monkeypatch.setattr(file.experiment, "_parent_run", lambda *_: SimpleNamespace(number=1))
    file.experiment.warm_start(lambda config, problem, parent: problem)
    for point in one_per_value(points):
        config = file.experiment.full_config(file.updates(point), file.named_configs)
        assert file.experiment.problem_of(config).train_steps > 0


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_smallest_recipe_of_an_experiment_runs(name, store):
    """Its first point; a point that starts from another run is trained after that run."""
    names = (SMALLEST_SWEEPS.get(name, f"{name}_cpu"), name)
    file = files.read(next(path for stem in names for path in SWEEPS if path.stem == stem))
    experiment = file.experiment
    few = FEW_STEPS if "train_steps" in experiment.defaults() else FEW_EPOCHS
    points = points_of(file, None, None)

    def train(point: dict, **changes) -> int:
        updates = {**file.updates(point), **few, "seed": 1, **changes}
        run = experiment.run(config_updates=updates, named_configs=file.named_configs)
        assert run.status == "COMPLETED"
        return run._id

    def parent_of(point: dict) -> str | None:
        return experiment.full_config(file.updates(point), file.named_configs)["initial_run"]

    if parent_of(points[0]) is None:
        train(points[0])
    warm_started = next((point for point in points if parent_of(point)), None)
    if warm_started is not None:
        parent = experiment.run(
            config_updates={**few, "seed": 1}, named_configs=[parent_of(warm_started)]
        )
        mask_step = {"mask_step": 0} if "mask_step" in experiment.defaults() else {}
        train(warm_started, initial_run=parent._id, **mask_step)
