"""`grok replicate`: papers' sweeps side by side, each in a process of its own."""

import signal
import subprocess
import sys
import textwrap
from datetime import UTC, datetime

import pytest

from grok.sweep import replication
from tests.conftest import PROJECT
from tests.helpers import wait_until

SWEEP = """
    program: experiments/{paper}.py
    method: grid
    metric: {{name: test_accuracy, goal: maximize}}
    command: ["${{program}}", with, cpu, train_steps={steps}, log_points=20, "${{args_no_hyphens}}"]
    parameters:
      seed: {{values: [0, 1]}}
"""
PAPERS = "lazy_to_rich", "levi"  # of one sweep each


@pytest.fixture
def short(tmp_path):
    """A folder with short sweeps under the names of these papers' own, so many updates a run."""

    def write(steps: int):
        (tmp_path / "sweeps").mkdir()
        for paper in PAPERS:
            text = textwrap.dedent(SWEEP.format(paper=paper, steps=steps))
            (tmp_path / "sweeps" / f"{paper}_cpu.yaml").write_text(text)
        return tmp_path

    return write


def states(store, since: datetime) -> dict[str, list[str]]:
    """Statuses of the runs of each paper that began since then."""
    found = store.database.runs.find({"start_time": {"$gte": since}})
    by_paper = {paper: [] for paper in PAPERS}
    for run in found:
        by_paper[run["experiment"]["name"]].append(run["status"])
    return by_paper


def test_papers_run_side_by_side_and_what_is_missing_is_not_passed(
    short, store, monkeypatch, capfd
):
    since = datetime.now(UTC).replace(tzinfo=None)
    monkeypatch.setattr(replication, "PROJECT", short(50))
    assert not replication.replicate(PAPERS, resume=False, jobs=2)
    assert states(store, since) == {paper: ["COMPLETED"] * 2 for paper in PAPERS}
    said = capfd.readouterr()
    assert "2 papers in" in said.out and "needs a run with" in said.out
    assert said.err.count("2 runs to do") == 2


def test_sigterm_ends_every_sweep_and_says_how_to_go_on(short, store):
    since, folder = datetime.now(UTC).replace(tzinfo=None), short(20_000_000)
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
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 128 + signal.SIGTERM
    assert states(store, since) == {paper: ["INTERRUPTED"] * 2 for paper in PAPERS}
    assert '"grok replicate --resume" goes on' in said
