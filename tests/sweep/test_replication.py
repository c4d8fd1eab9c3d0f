"""`grok replicate`: papers' sweeps side by side, each in its own process."""

import signal
import subprocess
import sys
import textwrap
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from grok.sweep import file as files
from grok.sweep import replication
from grok.sweep.local import LocalSweep
from tests.conftest import PROJECT
from tests.helpers import ENDLESS, wait_until

SWEEP = """
    program: experiments/{paper}.py
    method: grid
    metric: {{name: test_accuracy, goal: maximize}}
    command: ["${{program}}", with, cpu, train_steps={steps}, log_points=20, "${{args_no_hyphens}}"]
    parameters:
      seed: {{values: [0, 1]}}
"""
PAPERS = ("lazy_to_rich", "levi")  # each has one sweep


@pytest.fixture
def short(tmp_path):
    """Writes a project folder with sweep files of these papers, with so many steps a run."""

    def write(steps: int):
        (tmp_path / "sweeps").mkdir()
        for paper in PAPERS:
            text = textwrap.dedent(SWEEP.format(paper=paper, steps=steps))
            (tmp_path / "sweeps" / f"{paper}_cpu.yaml").write_text(text)
        return tmp_path

    return write


def states(store, since: datetime) -> dict[str, list[str]]:
    """Statuses of the runs of each paper that began since then."""
    by_paper = {paper: [] for paper in PAPERS}
    for run in store.database.runs.find({"start_time": {"$gte": since}}):
        by_paper[run["experiment"]["name"]].append(run["status"])
    return by_paper


def test_papers_run_side_by_side_and_claims_without_their_runs_do_not_pass(
    short, store, monkeypatch, capfd
):
    since = datetime.now(UTC).replace(tzinfo=None)
    monkeypatch.setattr(replication, "PROJECT", short(50))
    assert not replication.replicate(PAPERS, resume=False, jobs=2)
    assert states(store, since) == {paper: ["COMPLETED"] * 2 for paper in PAPERS}
    output = capfd.readouterr()
    assert "2 papers in" in output.out and "the sweep differs from" in output.out
    assert output.err.count("2 runs to do") == 2


@pytest.fixture
def resumed(short, store, monkeypatch):
    """Begins a sweep of a paper's file, and returns what `--resume` then runs of it."""
    project, calls = short(50), []
    process = SimpleNamespace(communicate=lambda: ("", None), returncode=0)
    popen = lambda words, **options: calls.append(words) or process  # noqa: E731
    monkeypatch.setattr(replication, "PROJECT", project)
    path = project / "sweeps" / "levi_cpu.yaml"
    sweep = LocalSweep.begin(files.read(path), store, None, None)

    def resume(text: str | None = None) -> tuple[str, list]:
        if text is not None:
            path.write_text(text)
        monkeypatch.setattr(replication.subprocess, "Popen", popen)
        running = replication.Replication(store, resume=True, jobs=1)
        running.task = running.bar.add_task("sweeps")
        assert running._run_sweep("levi_cpu")
        return sweep.id, calls[-1][calls[-1].index(path) + 1 :]

    yield resume
    store.database.sweeps.delete_many({"name": "levi_cpu"})


def test_a_sweep_for_agents_is_not_continued(store, resumed):
    """`--resume` passed on the id of the latest sweep of the file's name, also of a served one."""
    later = datetime.now(UTC) + timedelta(days=1)
    served = {"_id": "served", "name": "levi_cpu", "created": later, "served": True}
    store.database.sweeps.insert_one(served)
    sweep, options = resumed()
    assert options == ["--id", sweep]


def test_a_changed_file_is_a_new_sweep(resumed, capfd):
    """After an update of the repository, `--resume` trained the points of the former file with the
    command of the present one. Refusing the sweep would leave the paper without its runs."""
    changed = textwrap.dedent(SWEEP.format(paper="levi", steps=60))
    sweep, options = resumed(changed)
    assert options == []
    said = capfd.readouterr().err
    assert f"levi_cpu has changed since sweep {sweep} began: a new sweep begins\n" in said


def test_a_wrong_file_is_left_to_its_sweep(resumed):
    """The other papers go on: its process says what is wrong, and ends with 2."""
    assert resumed("method: nothing")[1] == []


def test_sigterm_ends_every_sweep_and_tells_how_to_continue(short, store):
    since, folder = datetime.now(UTC).replace(tzinfo=None), short(ENDLESS)
    script = (
        "from pathlib import Path; from grok.sweep import replication;"
        f"replication.PROJECT = Path({str(folder)!r});"
        f"replication.replicate({PAPERS!r}, resume=False, jobs=2)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=PROJECT, stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: states(store, since) == {paper: ["RUNNING"] * 2 for paper in PAPERS}, 180)
    process.send_signal(signal.SIGTERM)
    message = process.communicate(timeout=120)[1]
    assert process.returncode == 128 + signal.SIGTERM
    assert states(store, since) == {paper: ["INTERRUPTED"] * 2 for paper in PAPERS}
    assert '"grok replicate --resume" continues' in message
