"""`training_history.json` of any runs: `python analysis/history.py experiment=power -o DIR`.

One run goes to DIR/training_history.json, several to DIR/run_N/training_history.json.
"""

import json

import click

from analysis import query, style
from grok.cli.options import SELECTION_HELP, runs_argument
from grok.errors import UserError
from grok.reports.history import training_history


@click.command(help=__doc__, epilog=SELECTION_HELP)
@runs_argument
@style.options
def main(filters) -> None:
    store = query.connect()
    runs = query.chosen(store, filters)["run"]
    histories = {}
    for run in runs:
        try:
            histories[run] = training_history(store.database, query.plain(run))
        except UserError as error:
            if len(runs) == 1:
                query.fail(str(error))
            click.echo(f"left out: {error}", err=True)
    for run, history in histories.items():
        folder = "" if len(runs) == 1 else f"run_{run}/"
        path = style.place(f"{folder}training_history.json")
        path.write_text(json.dumps(history))
        print(path)


if __name__ == "__main__":
    main()
