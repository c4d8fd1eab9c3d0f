"""`grok export`: stored runs as files."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from grok.cli.options import with_store
from grok.errors import writing

if TYPE_CHECKING:
    from grok.store.connection import Store


@click.group()
def export() -> None:
    """Stored runs as files."""


@export.command()
@click.argument("run", type=int)
@click.option("-o", "--output", type=click.Path(path_type=Path), default="training_history.json")
@with_store
def history(store: "Store", run: int, output: Path) -> None:
    """Write a run's training_history.json (epoch, train_loss, train_acc, test_loss, test_acc)."""
    from grok.reports.history import training_history

    values = training_history(store.database, run)
    with writing(output):
        output.write_text(json.dumps(values))
    click.echo(output)


@export.command("run")
@click.argument("run", type=int)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@with_store
def export_run(store: "Store", run: int, folder: Path) -> None:
    """Write a run's config.json, metrics.csv, summary.json and curves.png."""
    from grok.reports import exports

    exports.export_run(store.database, run, folder)
    click.echo(folder)


@export.command("sweep")
@click.argument("sweep")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@with_store
def export_sweep(store: "Store", sweep: str, folder: Path) -> None:
    """Write all finished runs of a sweep, and sweep_summary.csv and .json."""
    from grok.reports import exports

    click.echo(f"{exports.export_sweep(store.database, sweep, folder)} runs in {folder}")
