"""Runs stored by commit 3ee297d stay readable, repeatable and resumable (tests/fixtures/3ee297d)."""

import shutil
from pathlib import Path

import pytest

from grok.experiment.repeat import logged_values, repeat, resume
from grok.reports.page import report as page
from grok.reports.page.collect import summary_of
from grok.store import archive, connection
from grok.store.connection import Store

FIXTURE = Path(__file__).parents[1] / "fixtures" / "3ee297d"
KILLED = 8


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
    """Every value is logged again, at the same steps. The losses are equal to rounding errors, since
    the step is computed in another way than at that commit, and the repetition says so."""
    repetition = repeat(imported, number)
    before, now = (logged_values(imported, i) for i in (number, repetition.run))
    assert repetition.values == sum(map(len, before.values())) > 50
    assert any(line.startswith("commit: 3ee297d") for line in repetition.environment)
    for name, values in before.items():
        assert list(values) == list(now[name])
        if name.endswith("loss"):
            assert list(now[name].values()) == pytest.approx(list(values.values()), 1e-3, 1e-3)


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
