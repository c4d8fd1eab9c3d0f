"""Runs that nobody made with this project: every script and the report take them."""

from dataclasses import replace
from datetime import datetime

import pytest

from benchmarks import synthetic
from grok.errors import UserError
from grok.paths import home
from grok.reports import ai_scientist, exports
from grok.reports.page import report as page
from grok.store import connection
from tests.analysis.scripts import call_script

NAN = float("nan")
CURVE = {"steps": [0, 10], "values": [0.5, 1.0], "timestamps": [datetime(2026, 1, 1)] * 2}
METRICS = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
FULL = {
    "status": "COMPLETED",
    "experiment": {"name": "elsewhere"},
    "start_time": datetime(2026, 1, 1),
}
# Documents of runs by their ids.
FOREIGN = {
    "hardly a run": {"_id": 101},
    "a name": {**FULL, "_id": "mine", "config": {"seed": 1}, "result": 0.5},
    "no config": {**FULL, "_id": 103, "config": None, "meta": None, "info": None},
    "no sweep point": {
        **FULL,
        "_id": 104,
        "config": {"seed": 1, "decoder_lr": 0.1, "model": {"width": 3}},
        "meta": {"sweep": {"id": "odd-1"}},
        "result": {"ended": "budget", "steps_to_test": NAN},
    },
    "not a number": {
        **FULL,
        "_id": 105,
        "config": {"seed": NAN, "decoder_lr": "high"},
        "result": {"ended": "budget", "test_accuracy": NAN},
        "meta": {"sweep": {"id": "odd-1", "point": 0}},
    },
    "texts and no values": {**FULL, "_id": 106, "config": {"seed": [1]}, "artifacts": None},
}
CALLS = {
    "learning_curves": (),
    "compare": (),
    "convergence": (),
    "export_table": (),
    "correlation": ("-x", "decoder_lr", "-y", "test_accuracy"),
    "layer_dynamics": (),
    "area_plot": (),
    "weights": (),
    "show": (),
    "history": (),
    "replay_to_wandb": ("--offline",),
}
CALLS_OF_SWEEPS = ("phase_diagram", "capacity_study", "ordering_study")
CALLS_OF_RUNS = ("activations", "liu_run", "nanda_figures")


@pytest.fixture(scope="module")
def foreign(store):
    """A database of two runs of ours and those of FOREIGN, and a sweep of some of them."""
    foreign = replace(store, db_name="foreign")
    database = foreign.database
    synthetic.fill(database, 2, steps=8)
    for name, run in FOREIGN.items():
        database.runs.insert_one(dict(run))
        values = {"not a number": [NAN, NAN], "texts and no values": ["high", {"a": 1}]}
        for metric in METRICS if name != "hardly a run" else ():
            curve = {**CURVE, "values": values.get(name, CURVE["values"])}
            database.metrics.insert_one({**curve, "run_id": run["_id"], "name": metric})
    database.metrics.insert_one({"run_id": 106, "name": "empty", "steps": [], "values": []})
    database.sweeps.insert_one({"_id": "odd-1", "name": "odd", "created": datetime(2026, 1, 1)})
    yield foreign
    store.client.drop_database("foreign")


def call(foreign, monkeypatch, name: str, *arguments: str, cwd) -> None:
    """Call a script on the database; it must succeed, or say in one line what it lacks."""
    monkeypatch.setattr(connection, "connect", lambda *_: foreign)
    environment = {"WANDB_DIR": str(cwd), "GROK_HOME": str(home())}
    done = call_script(name, *arguments, cwd=cwd, **environment)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert (done.exit_code, len(errors)) in ((0, 0), (2, 1)), done.output


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("run", ["all", *FOREIGN])
def test_scripts_over_runs(foreign, monkeypatch, tmp_path, name, run):
    """Each foreign run alone, and all of them among ours."""
    filters = () if run == "all" else (f"run={FOREIGN[run]['_id']}",)
    call(foreign, monkeypatch, name, *filters, *CALLS[name], cwd=tmp_path)


@pytest.mark.parametrize("name", CALLS_OF_SWEEPS)
def test_scripts_over_a_sweep(foreign, monkeypatch, tmp_path, name):
    call(foreign, monkeypatch, name, "odd", cwd=tmp_path)


@pytest.mark.parametrize("name", CALLS_OF_RUNS)
def test_scripts_over_one_run(foreign, monkeypatch, tmp_path, name):
    for run in FOREIGN.values():
        call(foreign, monkeypatch, name, str(run["_id"]), cwd=tmp_path)


def test_the_report_has_them_all(foreign, tmp_path):
    assert page.write(foreign, {}, tmp_path / "report.html", []) == 2 + len(FOREIGN)


def test_exports_leave_out_what_they_cannot_write(foreign, tmp_path):
    assert exports.export_sweep(foreign.database, "odd", tmp_path / "a") == 2
    assert ai_scientist.export_sweep(foreign.database, "odd", tmp_path / "b") == 1
    with pytest.raises(UserError, match="run 103 has no result"):
        exports.export_run(foreign.database, 103, tmp_path / "c")
