"""What is seen of a run: on a terminal as asked, in a pipe nothing but the result."""

import os
import pty
import subprocess
import sys

import pytest

from grok.experiment.progress import ask, mode, panels, sparkline
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
    assert done.stderr == ""


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
