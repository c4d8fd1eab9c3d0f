"""What `grok sweep submit` stores of a sweep that W&B's own server serves."""

from dataclasses import replace

import pytest
from click.testing import CliRunner

from grok.cli import main
from grok.reports.page import collect, views
from grok.store import archive
from grok.sweep import slurm, submission
from grok.sweep.client import SweepName
from tests.endpoint import SWEEP

RUN = {
    "_id": 1,
    "status": "COMPLETED",
    "experiment": {"name": "liu_toy"},
    "info": {"wandb": {"run": "r", "sweep": "q4x"}},
}
RUNS = {"COMPLETED": 1}  # by status


class Server:
    """W&B's own server, which knows one sweep."""

    def environment(self) -> dict[str, str]:
        return {}

    def config(self, name: SweepName) -> dict:
        return {"name": "rates", **SWEEP}


@pytest.fixture
def made(store, monkeypatch):
    made = replace(store, db_name="submission")
    monkeypatch.setattr(submission.Client, "find", lambda: Server())
    monkeypatch.setattr(submission.stores, "mongo", lambda: made)
    monkeypatch.setattr(slurm, "submit", lambda request, sweep, environment: "77")
    yield made
    for name in ("submission", "submission_copy"):
        store.client.drop_database(name)


def test_a_sweep_of_another_server_is_stored_whole(made, tmp_path):
    """Only its id and its jobs were stored: no archive of its runs could be imported, so that every
    later backup was useless, and `grok report` ended with a KeyError."""
    submitted = CliRunner().invoke(main, ["sweep", "submit", "--sweep", "lab/grok/q4x"])
    assert submitted.exit_code == 0, submitted.output
    made.database.runs.insert_one(RUN)
    path, copy = tmp_path / "runs.zip", replace(made, db_name="submission_copy")
    archive.export(made.database, {}, path)
    assert archive.import_(copy.database, path).new == 1
    (sweep,) = copy.database.sweeps.find()
    assert (sweep["name"], sweep["experiment"], sweep["jobs"]) == ("rates", "liu_toy", ["77"])
    (shown,) = collect.summary_of(made, {}, [])["sweeps"]
    assert shown["name"] == "rates" and shown["has_details"] and shown["created"]


def test_a_second_job_keeps_what_is_known_of_the_sweep(made):
    """The sweep of an endpoint has a state and points, and its date is when it began."""
    known = {"_id": "q4x", "name": "mine", "created": None, "config": {}, "served": True}
    made.database.sweeps.insert_one(known)
    assert CliRunner().invoke(main, ["sweep", "submit", "--sweep", "lab/grok/q4x"]).exit_code == 0
    assert made.database.sweeps.find_one() == {**known, "jobs": ["77"]}


def test_a_sweep_that_an_earlier_version_stored_in_part_is_shown_and_not_exported(made, tmp_path):
    """Stores have such sweeps; their runs must remain readable, and their archives importable."""
    made.database.sweeps.insert_one({"_id": "q4x", "jobs": ["77"]})
    made.database.runs.insert_one(RUN)
    (shown,) = collect.summary_of(made, {}, [])["sweeps"]
    assert shown["name"] == "" and views.sweeps(made.database) == [{**shown, "runs": RUNS}]
    path, copy = tmp_path / "runs.zip", replace(made, db_name="submission_copy")
    archive.export(made.database, {}, path)
    assert archive.import_(copy.database, path).new == 1
