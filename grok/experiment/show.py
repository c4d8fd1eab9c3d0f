"""A finished run, in a few lines."""

from rich.console import Console
from rich.table import Table
from sacred.run import Run

from grok.claims.model import numbers

FIRST = ("phase", "ended", "steps", "seconds", "compiled", "steps_to_train", "steps_to_test")


def show_result(run: Run, store) -> None:
    """Print the run's id, where it is kept, and its result: phase and steps first, then numbers."""
    table = Table(show_header=False, box=None)
    result = run.result or {}
    for key in [*FIRST, *(key for key in result if key not in FIRST)]:
        if key in result and not isinstance(result[key], dict):
            table.add_row(key, format_value(result[key]))
    if result.get("compiled") is False:
        table.add_row("", "(uncompiled: a short run, or no compiler)")
    screen = wide()
    if run._id is not None:
        where = f" in {store.describe()}" if store is not None else ""
        screen.print(f"run {run._id}{where}", highlight=False, soft_wrap=True)
    screen.print(table)
    findings = [one for one in run.info.get("claims", ()) if one["why"] is None]
    for one in findings:
        verdict = "passed" if one["passed"] else "failed"
        screen.print(f"claim {one['claim']} {verdict}: {numbers(one['measured'])}", highlight=False)


def wide(columns: int = 120) -> Console:
    """A console as wide as the terminal, of so many columns in a pipe."""
    return Console(width=None if Console().is_terminal else columns)


def format_value(value) -> str:
    """A result value for people: `never` for None, four significant digits for floats."""
    if value is None:
        return "never"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
