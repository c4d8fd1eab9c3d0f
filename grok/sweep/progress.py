"""A sweep's progress on a terminal: runs done, replica-steps per second, time left."""

import time

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from grok.engine.events import Event, Outcome, Start
from grok.engine.problem import Problem
from grok.experiment.progress import console


class SweepProgress:
    """Counts what happens; draws a bar if stderr is a terminal. Use as a context manager."""

    def __init__(self, total_steps: int, total_runs: int):
        screen = console()
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[runs]}"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=screen,
            disable=not screen.is_terminal,
        )
        self.task = self.bar.add_task("sweep", total=total_steps, runs="", rate="")
        self.total_runs = total_runs
        self.done = 0
        self.steps = 0  # replica-steps taken
        self.saved = 0  # replica-steps that retirement made unnecessary
        self.at: dict[int, int] = {}
        self.outcomes: dict[str, int] = {}
        self.started = time.perf_counter()

    def __enter__(self) -> "SweepProgress":
        self.bar.start()
        return self

    def __exit__(self, *_) -> None:
        self.bar.stop()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.started

    def expect(self, steps: int, runs: int) -> None:
        """More work has come."""
        self.total_runs += runs
        self.bar.update(self.task, total=self.bar.tasks[self.task].total + steps)

    def show(self, event: Event, problem: Problem) -> None:
        """Count one event of a replica with this problem."""
        if isinstance(event, Start):
            self.at[event.replica] = 0
            return
        self.steps += event.step - self.at[event.replica]
        self.at[event.replica] = event.step
        if isinstance(event, Outcome):
            self.done += 1
            self.saved += problem.train_steps - event.step
            self.outcomes[event.reason] = self.outcomes.get(event.reason, 0) + 1
        self.bar.update(
            self.task,
            completed=self.steps + self.saved,
            runs=f"{self.done}/{self.total_runs} runs",
            rate=f"{self.steps / max(self.seconds, 1e-9):,.0f} replica-steps/s",
        )
