"""The progress of a sweep counts steps, and its rate leaves out the time of compiling."""

import time

import pytest
import torch

from grok.engine.events import Outcome, Record, Start
from grok.sweep.progress import SweepProgress

CPU = torch.device("cpu")


@pytest.fixture
def clock(monkeypatch):
    """The time in seconds, which the test sets, in a list."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def test_the_time_left_does_not_count_compilation(clock, capfd):
    """A minute of compiling before the first step would make an hour of a sweep of seconds."""
    progress = SweepProgress(1000, 1)
    for seconds, event in (
        (0.0, Start(0, 0, 1, True, 1, False)),
        (0.0, Record(0, 0, {}, {})),
        (60.0, Record(0, 1, {}, {})),
        (60.5, Record(0, 51, {}, {})),
        (62.0, Record(0, 201, {}, {})),
    ):
        clock[0] = seconds
        progress.show(event, 1000, CPU)
    lines = capfd.readouterr().err.splitlines()
    assert lines[-1] == "0 of 1 runs  100 replica-steps/s  8 s left"
    assert not any("left" in line for line in lines[:-1])


def test_what_early_stopping_saves_is_counted(clock):
    """The summary of a sweep says how many steps were taken and how many were saved."""
    progress = SweepProgress(2000, 2)
    for number, (step, reason) in enumerate(((1000, "budget"), (300, "stopped"))):
        progress.show(Start(number, number, 2, False, 1, False), 1000, CPU)
        progress.show(Outcome(number, step, reason, {}, False), 1000, CPU)
    assert (progress.done, progress.steps, progress.saved) == (2, 1300, 700)
    assert progress.outcomes == {"budget": 1, "stopped": 1}
