"""The latest runs as a table: `python analysis/show.py [-n 20] [experiment=liu_toy p=10]`."""

import click
import pandas as pd
from rich.table import Column, Table

from analysis import query
from grok.cli.options import SELECTION_HELP, runs_argument
from grok.experiment.show import wide_console
from grok.store.status import DEAD_AFTER, heartbeat_age

COLUMNS = ("phase", "steps_to_train", "steps_to_test", "train_accuracy", "test_accuracy", "seconds")


@click.command(help=__doc__, epilog=SELECTION_HELP)
@runs_argument
@click.option("-n", "last", default=20, show_default=True, help="how many")
def main(filters: tuple[str, ...], last: int) -> None:
    store = query.connect()
    found = query.chosen(store, filters, last)
    table = Table("run", "experiment", "status", Column("started", no_wrap=True), *COLUMNS)
    for _, row in found.iterrows():
        cells = [cell(row.get(f"result.{name}"), name) for name in COLUMNS]
        at = row["start_time"]
        started = f"{at:%m-%d %H:%M:%S}" if pd.notna(at) else ""
        table.add_row(str(row["run"]), str(row["experiment"]), status(store, row), started, *cells)
    wide_console(140).print(table)


def status(store, row: pd.Series) -> str:
    """The run's status; `dead` for a running one without a heartbeat."""
    if row["status"] != "RUNNING":
        return str(row["status"])
    document = store.database.runs.find_one(
        {"_id": query.plain(row["run"])}, {"heartbeat": 1, "start_time": 1}
    )
    return "dead" if heartbeat_age(document) > DEAD_AFTER else "RUNNING"


def cell(value, name: str) -> str:
    """A value for the table; steps that were never reached are `never`."""
    if value is None or value != value:
        return "never" if name.startswith("steps_to") else ""
    if name.startswith("steps_to"):
        return f"{value:.0f}"
    return value if isinstance(value, str) else f"{value:.3g}"


if __name__ == "__main__":
    main()
