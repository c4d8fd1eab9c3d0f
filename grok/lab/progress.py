"""Progress on a terminal; silence in a pipe."""

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from grok.training.problem import Record


def console() -> Console:
    """A console on the real stderr, whatever Sacred has put in its place."""
    return Console(file=sys.__stderr__)


class RunProgress:
    """A bar for one run: updates per second, time left, accuracies. Use as a context manager."""

    def __init__(self, label: str, train_steps: int):
        screen = console()
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.completed:.0f}/{task.total:.0f} steps"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[accuracy]}"),
            console=screen,
            disable=not screen.is_terminal,
        )
        self.task = self.bar.add_task(label, total=train_steps, rate="", accuracy="")
        self.started = time.perf_counter()

    def __enter__(self) -> "RunProgress":
        self.bar.start()
        return self

    def __exit__(self, *_) -> None:
        self.bar.stop()

    def show(self, record: Record) -> None:
        """Move the bar to the record's step."""
        if self.bar.disable:
            return
        rate = record.step / max(time.perf_counter() - self.started, 1e-9)
        parts = [
            f"{name} {record.metrics[key]:.3f}"
            for name, key in (("train", "train_accuracy"), ("test", "test_accuracy"))
            if key in record.metrics
        ]
        self.bar.update(
            self.task, completed=record.step, rate=f"{rate:,.0f}/s", accuracy="  ".join(parts)
        )
