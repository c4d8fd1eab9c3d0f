"""What is seen of a run: on a terminal as asked, in a pipe plain lines and the result."""

import os
import pty
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from grok.engine.events import Start, Timing
from grok.engine.instruments import BY_NAME
from grok.engine.spec import MeasureConfig
from grok.experiment import progress
from grok.experiment.progress import LineSchedule, ask, line, mode, panels, sparkline
from tests.conftest import PROJECT

COMMAND = [sys.executable, "experiments/liu_toy.py"]
RUN = ["with", "p=5", "train_steps=40", "seed=1"]


def on_a_terminal(*flags: str) -> str:
    """What a run writes to a terminal of 100 by 40."""
    parent, child = pty.openpty()
    environment = {**os.environ, "COLUMNS": "100", "LINES": "40", "TERM": "xterm-256color"}
    process = subprocess.Popen(
        [*COMMAND, *flags, *RUN],
        cwd=PROJECT,
        env=environment,
        stdin=child,
        stdout=child,
        stderr=child,
    )
    os.close(child)
    seen = b""
    while True:
        try:
            part = os.read(parent, 65536)
        except OSError:
            break
        if not part:
            break
        seen += part
    os.close(parent)
    assert process.wait(300) == 0, seen
    return seen.decode()


def test_a_pipe_gets_plain_lines():
    done = subprocess.run([*COMMAND, "--live", *RUN], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0 and "phase" in done.stdout
    assert all(c.isprintable() or c == "\n" for c in done.stdout + done.stderr)
    header, first, *_ = lines = done.stderr.splitlines()
    assert re.fullmatch(
        r"run \d+ in .*: liu_toy, 40 steps on \w+ with 1 thread, not compiled; .*", header
    )
    assert first.startswith("step 0 of 40  train 0.") and "  test 0." in first
    assert len(lines) <= 13  # tenths at most, however fast


def test_in_a_pipe_silent_and_none_say_nothing_on_stderr():
    for flag in ("--silent", "--none"):
        arguments = [*COMMAND, flag, *RUN]
        done = subprocess.run(arguments, cwd=PROJECT, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


class Clock:
    """A clock that the test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def due_at(seconds: float, total: float, step: float = 0.5) -> list[float]:
    """When lines are due in work of a duration, evaluated every `step` seconds up to `seconds`."""
    clock = Clock()
    schedule = LineSchedule(clock)
    due = []
    while clock.now <= seconds:
        if schedule.is_due(clock.now / total, is_time_known=clock.now > 1):
            due.append(clock.now)
        clock.now += step
    return due


def test_slow_work_gets_a_line_every_30_seconds():
    assert due_at(100, total=1e6) == [0, 1.5, 31.5, 61.5, 91.5]


def test_fast_work_gets_a_line_at_every_tenth_and_at_its_end():
    assert due_at(50, total=50) == [0, 1.5, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50]


def test_no_two_lines_within_a_second():
    assert due_at(2, total=2, step=0.1)[0] == 0
    assert len(due_at(2, total=2, step=0.1)) <= 4


def test_a_line_tells_rate_and_time_left():
    assert line("step 1 of 9", 8, None, "steps") == "step 1 of 9"
    assert line("step 1 of 9", 8, 0.1, "steps") == "step 1 of 9  0.1 steps/s  1 min 20 s left"
    assert line("2 of 3 runs", 90_000, 1500.4, "steps").endswith("1,500 steps/s  1 min 00 s left")


def test_the_time_of_a_long_run_is_told_before_its_first_record(liu_toy, monkeypatch, capfd):
    """Steps and evaluations that are left, at the speed that was measured: 9990 * 4 + 3 * 20 s."""
    monkeypatch.setenv("GROK_CONSOLE", "normal")
    problem = replace(
        liu_toy.problem_of(liu_toy.full_config({"seed": 0})),
        train_steps=10_000,
        log_steps=[0, 5_000, 9_000, 10_000],
    )
    progress.RunProgress("toy", "run 1", problem).show(Timing(0, 10, 4.0, 20.0))
    line = capfd.readouterr().err
    assert "step 10 of 10,000" in line and "0.25 steps/s" in line
    assert f"about {(9990 * 4 + 60) / 3600:.0f} h for all steps and 3 evaluations\n" in line
    measured = replace(problem, measures=MeasureConfig((BY_NAME["norms"],)))
    progress.RunProgress("toy", "run 1", measured).show(Timing(0, 10, 4.0, 20.0))
    assert "evaluations, and more for the instruments\n" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("first_step", "words"), [(0, "800 steps on"), (300, "800 steps from step 300 on")]
)
def test_a_resumed_run_says_at_its_start_from_which_step_it_goes_on(
    liu_toy, monkeypatch, capfd, first_step, words
):
    monkeypatch.setenv("GROK_CONSOLE", "normal")
    problem = liu_toy.problem_of(liu_toy.full_config({"train_steps": 800}))
    start = Start(0, 0, 1, compiled=True, threads=1, fused=False)
    progress.RunProgress("toy", "run 1", problem, first_step).show(start)
    assert f"run 1: toy, {words} " in capfd.readouterr().err


@pytest.mark.parametrize(
    ("slots", "gigabytes", "words"),
    [
        (1, {"variance": 0.3}, "first evaluations\n"),
        (
            1,
            {"batch_dynamics": 1.5, "variance": 1.0},
            "about 2.5 GB of memory (in one run: batch_d",
        ),
        (
            3,
            {"batch_dynamics": 1.5},
            "about 4.5 GB of memory for 3 runs at once (in one run: batch_d",
        ),
    ],
)
def test_a_run_says_at_its_start_how_much_memory_its_instruments_need(
    liu_toy, monkeypatch, capfd, slots, gigabytes, words
):
    """Gigabytes were taken without a word."""
    monkeypatch.setenv("GROK_CONSOLE", "normal")
    problem = liu_toy.problem_of(liu_toy.full_config({"train_steps": 800}))
    start = Start(0, 0, slots, compiled=True, threads=1, fused=False, gigabytes=gigabytes)
    progress.RunProgress("toy", "run 1", problem).show(start)
    assert words in capfd.readouterr().err


def test_live_shows_every_metric_on_a_screen_of_its_own():
    seen = on_a_terminal("--live")
    assert "\x1b[?1049h" in seen and "\x1b[?1049l" in seen  # the alternate screen, left again
    assert "weight_norm" in seen and any(block in seen for block in "▂▃▄▅▆▇")
    assert "steps_to_train" in seen  # the result, afterwards


def test_the_strongest_wins_and_none_is_silent():
    seen = on_a_terminal("--none", "--live", "--silent")
    assert seen.strip() == ""


@pytest.mark.parametrize("order", [("live", "silent"), ("silent", "live")])
def test_the_strongest_wins_in_any_order(order, monkeypatch):
    monkeypatch.setenv("GROK_CONSOLE", "normal")
    for asked in order:
        ask(asked)
    assert mode() == "silent"


def test_sparklines():
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([1.0]) == sparkline([1.0, 1.0])[:1] == "▁"
    assert sparkline([0.0, float("nan"), float("inf"), 1.0]) == "▁  █"
    assert len(sparkline(list(range(1000)))) == 32 and sparkline(list(range(1000)))[-1] == "█"


def test_panels_fit_the_screen():
    series = {"train_loss": [1.0], **{f"norms/{i}": [1.0] for i in range(50)}}
    found = panels(series, 20)
    assert [panel.title for panel in found] == ["run", "norms"]
    assert sum(2 + panel.renderable.row_count for panel in found) <= 20
