"""The progress of a run: a bar or a full screen on a terminal, plain lines in a pipe, or nothing."""

import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from rich.console import Group
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from sacred.commandline_options import cli_option
from sacred.run import Run

from grok.console import Console
from grok.engine.events import Event, Intervened, Record, Start, Timing
from grok.engine.interventions import describe
from grok.engine.problem import Problem

MODES = ("normal", "live", "silent", "none")  # from most to least output
BLOCKS = "▁▂▃▄▅▆▇█"
SPARKS = 32  # characters of a sparkline
LINE_INTERVAL = 30.0  # seconds between two plain lines
LEAST_INTERVAL = 1.0  # seconds between two of them when work goes fast
LONG = 10 * 3600.0  # seconds, that are told in hours
LARGE_MEMORY = 0.5  # GB of a run's instruments, that are told
TIMED_SECONDS = 1.0  # of training, before a rate is shown


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


class LineSchedule:
    """Decides when a plain line of progress is due.

    Lines are due at the first evaluation, as soon as the time left is known, then every 30 seconds,
    and at every tenth of the work unless the last line was less than a second ago.

    Arguments:
        clock: gives the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self.clock = clock
        self.last: float | None = None  # time of the last line
        self.tenths = 0  # complete tenths of the work at that time
        self.has_told_time = False

    def is_due(self, fraction: float, is_time_known: bool) -> bool:
        """Whether to print a line now, when this fraction of the work is done."""
        now, tenths = self.clock(), int(10 * fraction + 1e-9)
        if self.last is not None:
            waited = now - self.last
            reaches_tenth = tenths > self.tenths and waited >= LEAST_INTERVAL
            tells_time = is_time_known and not self.has_told_time
            if not (reaches_tenth or tells_time or waited >= LINE_INTERVAL):
                return False
        self.last, self.tenths, self.has_told_time = now, tenths, is_time_known
        return True


class RateMeter:
    """Steps in a second, from the first evaluation after a step: the first step may be compiled.

    Arguments:
        first_step: the step at which the work begins.
    """

    def __init__(self, first_step: int = 0):
        self.first_step = first_step
        self.began: tuple[float, int] | None = None  # time and step

    def rate(self, step: int) -> float | None:
        """The rate when this step is reached; None before there has been time to measure."""
        now = time.perf_counter()
        if self.began is None:
            if step > self.first_step:
                self.began = now, step
            return None
        seconds = now - self.began[0]
        return (step - self.began[1]) / seconds if seconds >= TIMED_SECONDS else None


class RunProgress:
    """Shows the progress of one run, in the mode asked for. Use it as a context manager.

    On a terminal this is a bar or a full screen, otherwise plain lines; all go to stderr.

    Arguments:
        label: the name of the experiment.
        place: the run's id and where it is kept, in words.
        problem: what is trained.
        first_step: the step from which a run is resumed.
    """

    def __init__(self, label: str, place: str, problem: Problem, first_step: int = 0):
        self.screen = console()
        self.place = place
        self.label, self.problem, self.first_step = label, problem, first_step
        self.has_bar = self.screen.is_terminal and mode() != "none"
        self.has_lines = mode() == "normal" or (mode() == "live" and not self.screen.is_terminal)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.completed:.0f}/{task.total:.0f} steps"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[accuracy]}"),
            console=self.screen,
            disable=not self.has_bar,
        )
        self.task = self.bar.add_task(label, total=problem.train_steps, rate="", accuracy="")
        is_full = self.has_bar and mode() == "live"
        self.live = Live(console=self.screen, screen=True) if is_full else None
        self.display: Live | Progress = self.live or self.bar
        self.schedule = LineSchedule()
        self.series: dict[str, list[float]] = {}
        self.meter = RateMeter(first_step)

    def __enter__(self) -> "RunProgress":
        if self.has_bar:
            self.display.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.has_bar:
            self.display.refresh()  # the last state, however short the run
            self.display.stop()

    def show(self, event: Event) -> None:
        """Say that the training starts, or show what a record tells of it."""
        if isinstance(event, Start):
            self.bar.update(self.task, rate=activity(event))
            if self.has_lines:
                steps = f"{self.problem.train_steps:,} steps"
                begin = f" from step {self.first_step:,}" if self.first_step else ""
                where = hardware(self.problem.device, event.threads)
                self._print(
                    f"{self.place}: {self.label}, {steps}{begin} on {where}, {activity(event)}; "
                    f"the time is known after the first evaluations{instruments_memory(event)}"
                )
        elif isinstance(event, Timing) and self.has_lines:
            train_steps, rate = self.problem.train_steps, format_rate(1 / event.step_seconds)
            evaluations = sum(step > event.step for step in self.problem.log_steps)
            seconds = (train_steps - event.step) * event.step_seconds
            seconds += evaluations * event.evaluation_seconds
            more = "" if self.problem.measures is None else ", and more for the instruments"
            self._print(
                f"step {event.step:,} of {train_steps:,}  {rate} steps/s  about {duration(seconds)} for "
                f"all steps and {evaluations:,} evaluations{more}"
            )
        elif isinstance(event, Intervened) and self.has_lines and event.step >= self.first_step:
            change = describe(self.problem.interventions[event.number])
            self._print(f"step {event.step:,}: intervention {event.number + 1}, {change}")
        elif isinstance(event, Record) and event.step >= self.first_step:
            self._show_record(event)

    def _show_record(self, record: Record) -> None:
        rate = self.meter.rate(record.step)
        accuracies = "  ".join(
            f"{name} {record.metrics[key]:.3f}"
            for name, key in (("train", "train_accuracy"), ("test", "test_accuracy"))
            if key in record.metrics
        )
        shown: dict[str, Any] = {} if rate is None else {"rate": f"{format_rate(rate)}/s"}
        self.bar.update(self.task, completed=record.step, accuracy=accuracies, **shown)
        steps = self.problem.train_steps
        if self.has_bar:
            self._show_metrics(record)
        elif self.has_lines and self.schedule.is_due(record.step / steps, rate is not None):
            self._print(
                line(f"step {record.step:,} of {steps:,}", steps - record.step, rate, "steps"),
                accuracies,
            )

    def _show_metrics(self, record: Record) -> None:
        """Show every metric and its history, on a full screen."""
        if self.live is not None:
            for name, value in record.metrics.items():
                self.series.setdefault(name, []).append(value)
            self.live.update(Group(self.bar, *panels(self.series, self.screen.height - 2)))

    def _print(self, *parts: str) -> None:
        print_line(self.screen, "  ".join(filter(None, parts)))


def line(done: str, steps_left: int, rate: float | None, unit: str) -> str:
    """A line of progress: what is done, the rate and the time left, if the rate is known.

    Arguments:
        rate: steps in a second.
        unit: what is counted.
    """
    if not rate:
        return done
    return f"{done}  {format_rate(rate)} {unit}/s  {duration(steps_left / rate)} left"


def format_rate(rate: float) -> str:
    """A rate in whole numbers, or in two digits if it is low."""
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def print_line(screen: Console, text: str) -> None:
    """Print one line as it is, however long."""
    screen.print(text, highlight=False, markup=False, soft_wrap=True)


def hardware(device: torch.device, threads: int) -> str:
    """The device in words, and the number of threads of a CPU."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} with {threads} thread{'s' if threads > 1 else ''}"


def activity(start: Start) -> str:
    """What a program does before its first step, in words."""
    if start.fused:
        return "fused"
    return "compiling" if start.compiled else "not compiled"


def instruments_memory(start: Start) -> str:
    """How much memory the instruments of a replica need, in words; empty if it is little."""
    total = sum(start.gigabytes.values())
    if total < LARGE_MEMORY:
        return ""
    of_all = start.slots * total
    each = ", ".join(f"{name} {value:.1f}" for name, value in start.gigabytes.items())
    runs = f" for {start.slots} runs at once" if start.slots > 1 else ""
    return f"; the instruments need about {of_all:.1f} GB of memory{runs} (in one run: {each})"


def duration(seconds: float) -> str:
    """Minutes and seconds, or hours if they are many."""
    if seconds >= LONG:
        return f"{seconds / 3600:,.0f} h"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


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
