"""A finished run, shown in a few lines."""

import shlex
from collections.abc import Mapping
from math import inf, isnan
from typing import Any

from rich.table import Table
from sacred.observers import FileStorageObserver
from sacred.run import Run

from grok.console import Console
from grok.paths import INSTALLED, PROJECT, relative_to_here
from grok.store.connection import redacted
from grok.store.observer import DurableObserver

FIRST = ("phase", "ended", "steps", "seconds", "compiled", "steps_to_train", "steps_to_test")


def show_result(run: Run) -> None:
    """Print a run's id, where it is kept, its result (phase and steps first), and its claims.

    The last line is the command that finds the run again.
    """
    table = Table(show_header=False, box=None)
    result = run.result or {}
    for key in [*FIRST, *(key for key in result if key not in FIRST)]:
        if key in result and not isinstance(result[key], dict):
            table.add_row(key, format_value(result[key]))
    if result.get("compiled") is False:
        table.add_row("", "(uncompiled: a short run, or no compiler)")
    screen = wide_console()
    if run._id is not None:
        screen.print(place(run), highlight=False, soft_wrap=True)
    screen.print(table)
    for finding in run.info.get("claims", ()):
        verdict = "passed" if finding["passed"] else "failed"
        measured = format_numbers(finding["measured"])
        screen.print(f"claim {finding['claim']} {verdict}: {measured}", highlight=False)
    command = command_to_find(run)
    if command:
        screen.print(f"to find it again: {command}", highlight=False, soft_wrap=True, markup=False)


def command_to_find(run: Run) -> str | None:
    """The command that lists a run, with its database; None for a run that no command finds."""
    for observer in run.observers:
        if isinstance(observer, DurableObserver) and not observer.prefix:
            script = PROJECT / "analysis" / "show.py"
            is_own = script.exists() and PROJECT != INSTALLED
            program = (
                ["python", relative_to_here(script)] if is_own else ["grok", "analyze", "show"]
            )
            words = [*program, f"run={run._id}"]
            if observer.store.kind == "uri":
                words += ["-m", redacted(observer.store.uri)]
            return shlex.join(words)
    return None


def wide_console(columns: int = 120) -> Console:
    """A console as wide as the terminal, or of so many columns in a pipe."""
    return Console(width=None if Console().is_terminal else columns)


def format_value(value: Any) -> str:
    """A result value for people: `never` for None, four significant digits for floats."""
    if value is None:
        return "never"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def format_number(value: float) -> str:
    """A measured number, with four digits; `never` for infinity and `undefined` for NaN."""
    if isnan(value):
        return "undefined"
    return "never" if value == inf else f"{value:.4g}"


def format_numbers(measured: Mapping[str, float]) -> str:
    """Measured numbers in one line."""
    return ", ".join(f"{name} {format_number(value)}" for name, value in measured.items())


def place(run: Run) -> str:
    """The run's id and where its observers keep it, in words."""
    if run._id is None:
        return "run not recorded"
    for observer in run.observers:
        if isinstance(observer, DurableObserver):
            return f"run {run._id} in {observer.store.describe()}"
        if isinstance(observer, FileStorageObserver):
            return f"run {run._id} in files in {observer.basedir}"
    return f"run {run._id}"
