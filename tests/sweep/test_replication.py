"""`grok replicate`: papers' sweeps side by side, each in its own process."""

import signal
import subprocess
import sys
import textwrap
from datetime import UTC, datetime

import pytest

from grok.sweep import replication
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
