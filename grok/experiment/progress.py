"""The progress of a run on a terminal: a bar, a full screen, or nothing. In a pipe there is none."""

import math
import os
import sys
import time
from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from sacred.commandline_options import cli_option
from sacred.run import Run

from grok.engine.events import Record

MODES = ("normal", "live", "silent", "none")  # from most to least output
BLOCKS = "▁▂▃▄▅▆▇█"
SPARKS = 32  # characters of a sparkline


@cli_option("-L", "--live", is_flag=True)
def live_option(args: object, run: Run) -> None:
    """Show a full screen with every metric and its history."""
    ask("live")


@cli_option("-B", "--silent", is_flag=True)
def silent_option(args: object, run: Run) -> None:
    """Show the progress bar only."""
    ask("silent")


@cli_option("-N", "--none", is_flag=True)
def none_option(args: object, run: Run) -> None:
    """Show nothing unless something goes wrong."""
    ask("none")


def mode() -> str:
    """The mode that flags, or GROK_CONSOLE, ask for."""
    asked = os.environ.get("GROK_CONSOLE", "normal")
    return asked if asked in MODES else "normal"


def ask(wanted: str) -> None:
    """Ask for a mode. Of several, the one with the least output holds, also over GROK_CONSOLE."""
    os.environ["GROK_CONSOLE"] = max(mode(), wanted, key=MODES.index)


def console() -> Console:
    """A console on the real stderr, whatever Sacred has put in its place."""
    return Console(file=sys.__stderr__)


class RunProgress:
    """Shows the progress of one run, in the mode asked for. Use it as a context manager."""

    def __init__(self, label: str, train_steps: int):
        self.screen = console()
        self.visible = self.screen.is_terminal and mode() != "none"
        self.full = self.visible and mode() == "live"
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.completed:.0f}/{task.total:.0f} steps"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[accuracy]}"),
            console=self.screen,
            disable=not self.visible,
        )
        self.task = self.bar.add_task(label, total=train_steps, rate="", accuracy="")
        self.live = Live(console=self.screen, screen=True) if self.full else None
        self.display: Live | Progress = self.live or self.bar
        self.series: dict[str, list[float]] = {}
        self.began: tuple[int, float] | None = None  # step and time of the first record

    def __enter__(self) -> "RunProgress":
        if self.visible:
            self.display.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.visible:
            self.display.refresh()  # the last state, however short the run
            self.display.stop()

    def show(self, record: Record) -> None:
        """Move the bar to the record's step; on a full screen, show its metrics."""
        if not self.visible:
            return
        now = time.perf_counter()
        self.began = self.began or (record.step, now)
        rate = (record.step - self.began[0]) / max(now - self.began[1], 1e-9)
        parts = [
            f"{name} {record.metrics[key]:.3f}"
            for name, key in (("train", "train_accuracy"), ("test", "test_accuracy"))
            if key in record.metrics
        ]
        self.bar.update(
            self.task, completed=record.step, rate=f"{rate:,.0f}/s", accuracy="  ".join(parts)
        )
        if self.live is not None:
            for name, value in record.metrics.items():
                self.series.setdefault(name, []).append(value)
            self.live.update(Group(self.bar, *panels(self.series, self.screen.height - 2)))


def panels(series: dict[str, list[float]], height: int) -> list[Panel]:
    """A panel for each group of metrics (what stands before "/"), as many as the height allows."""
    groups: dict[str, list[str]] = {}
    for name in series:
        groups.setdefault(name.rpartition("/")[0].split("/")[0] or "run", []).append(name)
    found = []
    for group, names in groups.items():
        height -= 2
        if height < 1:
            break
        table = Table.grid(padding=(0, 2))
        for name in names[:height]:
            table.add_row(
                name.removeprefix(f"{group}/"), f"{series[name][-1]:.4g}", sparkline(series[name])
            )
        height -= len(names[:height])
        found.append(Panel(table, title=group, title_align="left"))
    return found


def sparkline(values: Sequence[float], width: int = SPARKS) -> str:
    """The course of some values in at most `width` characters; a gap where one is not finite."""
    picked = [
        values[i * len(values) // min(width, len(values))] for i in range(min(width, len(values)))
    ]
    picked[-1] = values[-1]
    finite = [value for value in picked if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    scale = 7.999 / (high - low) if high > low else 0.0
    return "".join(
        BLOCKS[int((value - low) * scale)] if math.isfinite(value) else " " for value in picked
    )
