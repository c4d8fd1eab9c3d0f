"""The progress of a sweep: runs done, replica-steps per second, time left."""

import time
from typing import Any

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from grok.engine.events import Event, Outcome, Start
from grok.experiment.progress import (
    LineSchedule,
    RateMeter,
    activity,
    console,
    format_rate,
    hardware,
    instruments_memory,
    line,
    mode,
    print_line,
)


class SweepProgress:
    """Counts runs and steps, and shows them on stderr. A context manager.

    On a terminal this is a bar, otherwise plain lines.

    Arguments:
        total_steps: Replica-steps that the sweep takes at most, as far as known.
        total_runs: Runs of the sweep, as far as known.

    Attributes:
        done: Runs that have ended.
        steps: Replica-steps taken.
        saved: Replica-steps that early stopping saved.
        outcomes: How many runs ended for each reason.
    """

    def __init__(self, total_steps: int, total_runs: int):
        self.screen = screen = console()
        self.has_lines = not screen.is_terminal and mode() in ("normal", "live")
        self.schedule = LineSchedule()
        self.program: tuple[int, bool] | None = None  # slots, and whether compiled
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[runs]}"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=screen,
            disable=not screen.is_terminal or mode() == "none",
        )
        self.task = self.bar.add_task("sweep", total=total_steps, runs="", rate="")
        self.total_runs, self.total_steps = total_runs, total_steps
        self.done = 0
        self.steps = 0
        self.saved = 0
        self.step_of: dict[int, int] = {}  # the last known step, by replica
        self.outcomes: dict[str, int] = {}
        self.started = time.perf_counter()
        self.meter = RateMeter()

    def __enter__(self) -> "SweepProgress":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.started

    def expect(self, steps: int, runs: int) -> None:
        """Add work to the totals."""
        self.total_runs += runs
        self.total_steps += steps
        self.bar.update(self.task, total=self.total_steps)

    def announce(self, text: str) -> None:
        """Print a line above the bar."""
        if mode() in ("normal", "live"):
            print_line(self.screen, text)

    def show(self, event: Event, train_steps: int, device: torch.device) -> None:
        """Count one event of a replica.

        Arguments:
            event: Its `replica` distinguishes it from all replicas that train at the same time.
            train_steps: How many steps the replica takes at most.
            device: Where it trains.
        """
        if isinstance(event, Start):
            self.step_of[event.replica] = 0
            self._show_program(event, device)
            return
        self.steps += event.step - self.step_of[event.replica]
        self.step_of[event.replica] = event.step
        if isinstance(event, Outcome):
            self.done += 1
            self.saved += train_steps - event.step
            self.outcomes[event.reason] = self.outcomes.get(event.reason, 0) + 1
        rate, done = self.meter.rate(self.steps), self.steps + self.saved
        shown: dict[str, Any] = (
            {} if rate is None else {"rate": f"{format_rate(rate)} replica-steps/s"}
        )
        runs = f"{self.done}/{self.total_runs} runs"
        self.bar.update(self.task, completed=done, runs=runs, **shown)
        fraction = done / max(self.total_steps, 1)
        if self.has_lines and self.schedule.is_due(fraction, rate is not None):
            runs = f"{self.done} of {self.total_runs} runs"
            left = max(self.total_steps - done, 0)
            print_line(self.screen, line(runs, left, rate, "replica-steps"))

    def _show_program(self, start: Start, device: torch.device) -> None:
        """Say once for each program that it starts, and on what."""
        if self.program == (start.slots, start.compiled):
            return
        self.program = start.slots, start.compiled
        self.bar.update(self.task, rate=activity(start))
        if self.has_lines:
            where = hardware(device, start.threads)
            told = f"{start.slots} at once on {where}, {activity(start)}{instruments_memory(start)}"
            print_line(self.screen, told)
