"""The curves of any runs as `training_history.json`.

`python analysis/history.py experiment=power -o DIR`

One run is written to DIR/training_history.json, several to DIR/run_N/training_history.json.
"""

import json

import click

from grok.analysis import query, style
from grok.cli.options import SELECTION_HELP, runs_argument
from grok.errors import UserError
from grok.printable import echo
from grok.reports.history import training_history


@click.command(help=__doc__, epilog=SELECTION_HELP)
@runs_argument
@style.options
def main(filters: tuple[str, ...]) -> None:
    store = query.connect()
    run_ids = query.selected_runs(store, filters)["run"]
    histories = {}
    for run_id in run_ids:
        try:
            histories[run_id] = training_history(store.database, query.mongo_id(run_id))
        except UserError as error:
            if len(run_ids) == 1:
                raise
            echo(f"left out: {error}", err=True)
    for run_id, history in histories.items():
        folder = "" if len(run_ids) == 1 else f"run_{run_id}/"
        print(style.write_text(f"{folder}training_history.json", json.dumps(history)))


if __name__ == "__main__":
    main()
