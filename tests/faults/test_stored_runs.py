"""Runs stored by commit 3ee297d stay readable, repeatable and resumable (tests/fixtures/3ee297d)."""

import shutil
from pathlib import Path

import pytest
import torch

from grok.experiment.environment import environment
from grok.experiment.repeat import logged_values, repeat, resume
from grok.reports import page
from grok.reports.page.collect import summary_of
from grok.store import archive, connection
from grok.store.connection import Store

FIXTURE = Path(__file__).parents[1] / "fixtures" / "3ee297d"
KILLED = 8
WHAT_NUMBERS_DEPEND_ON = ("torch", "cpu", "cpu_capability")


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """A store of its own with the archive's runs, and the checkpoint in its place."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GROK_HOME", str(tmp_path_factory.mktemp("h")))
        store = connection.connect()
        result = archive.import_(store.database, FIXTURE / "runs.zip")
        assert (result.new, result.known, result.renamed) == (8, 0, {})
        path = store.checkpoint_path(KILLED)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(FIXTURE / f"sacred-{KILLED}.safetensors", path)
        yield store


def is_same_machine(run: dict) -> bool:
    """Whether the run was made where its numbers come out bit for bit."""
    before, now = run["info"]["environment"], environment()
    return all(before[key] == now[key] for key in WHAT_NUMBERS_DEPEND_ON)


def test_the_report_shows_them(imported: Store, tmp_path: Path):
    """All eight runs, the sweep with its two keys, and curves are in the page."""
    summary = summary_of(imported, {}, [])
    assert sorted(summary["runs"]["run"]) == list(range(1, 9))
    assert [(s["experiment"], s["keys"]) for s in summary["sweeps"]] == [
        ("liu_toy", ["decoder_lr"])
    ]
    assert page.write(imported, {}, tmp_path / "report.html", []) == 8


@pytest.mark.parametrize("number", [1, 3])
def test_a_repetition_equals_the_stored_run(imported: Store, number: int):
    """The same code on the same machine gives every logged value again, bit for bit."""
    run = connection.find_run(imported.database, number)
    repetition = repeat(imported, number)
    assert repetition.values == sum(map(len, logged_values(imported, number).values())) > 50
    if is_same_machine(run):
        assert repetition.first is None
    else:
        before, now = (logged_values(imported, i)["test_loss"] for i in (number, repetition.run))
        assert list(before) == list(now)
        torch.testing.assert_close(
            torch.tensor(list(before.values())),
            torch.tensor(list(now.values())),
            rtol=1e-3,
            atol=1e-3,
        )


def test_the_killed_run_resumes_from_its_checkpoint(imported: Store):
    """It ends under its own id at its last step, from the checkpoint of the former version."""
    run = connection.find_run(imported.database, KILLED)
    assert run["status"] == "RUNNING"
    _, step = resume(imported, KILLED)
    assert step % 100 == 0 and 0 < step < run["config"]["train_steps"]
    stored = connection.find_run(imported.database, KILLED)
    assert (stored["status"], stored["result"]["steps"]) == ("COMPLETED", 2900)
    steps = list(logged_values(imported, KILLED)["train_loss"])
    assert steps[0] == 0 and steps[-1] == 2900 and steps == sorted(set(steps))
    assert not imported.checkpoint_path(KILLED).exists()
