"""The latest runs as a table.

`python analysis/show.py [-n 20] [experiment=liu_toy p=10]`

If all of them are of one sweep, there is a column for each key that the sweep varies.
"""

from typing import Any

import click
import pandas as pd
from rich.table import Column, Table

from grok.analysis import query
from grok.cli.options import SELECTION_HELP, mongo_option, runs_argument
from grok.experiment.show import wide_console
from grok.store.connection import Store, find_sweep, swept_keys
from grok.store.status import DEAD_AFTER, silence

RESULTS = ("phase", "steps_to_train", "steps_to_test", "train_accuracy", "test_accuracy", "seconds")
TABLE_WIDTH = 180  # characters, where the output is not a terminal


@click.command(help=__doc__, epilog=SELECTION_HELP)
@runs_argument
@mongo_option
@click.option("-n", "count", default=20, show_default=True, help="Number of runs.")
def main(filters: tuple[str, ...], count: int) -> None:
    store = query.connect()
    runs = query.selected_runs(store, filters, count)
    started = Column("started", no_wrap=True)
    keys = keys_of_sweep(store, runs)
    values = [Column(name, overflow="fold") for name in (*keys, *RESULTS)]
    table = Table("run", "experiment", "status", started, *values)
    for _, row in runs.iterrows():
        start_time = row["start_time"]
        table.add_row(
            str(row["run"]),
            str(row["experiment"]),
            run_status(store, row),
            f"{start_time:%m-%d %H:%M:%S}" if pd.notna(start_time) else "",
            *(format_setting(row[f"config.{key}"]) for key in keys),
            *(format_result(row.get(f"result.{name}"), name) for name in RESULTS),
        )
    wide_console(TABLE_WIDTH).print(table)


def keys_of_sweep(store: Store, runs: pd.DataFrame) -> list[str]:
    """The config keys whose values the sweep of these runs varies; none if not all are of one sweep."""
    if "sweep.id" not in runs:
        return []
    ids = runs["sweep.id"].unique()
    sweep = find_sweep(store.database, ids[0]) if len(ids) == 1 else None
    if sweep is None:
        return []
    keys = [key for key in swept_keys(sweep) if f"config.{key}" in runs]
    return [*keys, "seed"] if runs["config.seed"].nunique() > 1 else keys


def run_status(store: Store, row: pd.Series) -> str:
    """The run's status; `dead` for a running one whose heartbeat has stopped."""
    if row["status"] != "RUNNING":
        return str(row["status"])
    run_id = query.mongo_id(row["run"])
    seconds = silence(store.database.runs, {"_id": run_id}).get(run_id, 0.0)
    return "dead" if seconds > DEAD_AFTER else "RUNNING"


def format_setting(value: Any) -> str:
    """A configuration value as text."""
    if value is None or value != value:
        return "None"
    return f"{value:g}" if isinstance(value, float) else str(value)


def format_result(value: Any, name: str) -> str:
    """A result as text: `never` for steps to a threshold that was not reached."""
    is_steps = name.startswith("steps_to")
    if value is None or value != value:
        return "never" if is_steps else ""
    if isinstance(value, str):
        return value
    return f"{value:.0f}" if is_steps else f"{value:.3g}"


if __name__ == "__main__":
    main()
