"""`grok export`: stored runs as files."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from grok.cli.options import NamedPath, run_id, with_store
from grok.errors import writing
from grok.paths import write_private
from grok.printable import echo

if TYPE_CHECKING:
    from grok.store.connection import Store


@click.group()
def export() -> None:
    """Stored runs as files."""


@export.command()
@click.argument("run", type=run_id)
@click.option(
    "-o",
    "--output",
    type=NamedPath(dir_okay=False),
    default="training_history.json",
    show_default=True,
    help="the file to write",
)
@with_store
def history(store: "Store", run: int | str, output: Path) -> None:
    """Write a run's training_history.json (epoch, train_loss, train_acc, test_loss, test_acc, grokking_summary)."""
    from grok.reports.history import training_history

    values = training_history(store.database, run)
    with writing(output):
        write_private(output, json.dumps(values))
    click.echo(output)


@export.command()
@click.argument("run", type=run_id)
@click.argument("file", type=NamedPath(dir_okay=False))
@with_store
def metrics(store: "Store", run: int | str, file: Path) -> None:
    """Write every metric of a run to FILE, which ends in .csv or .jsonl."""
    from grok.experiment import metrics_file
    from grok.store.connection import find_run
    from grok.store.documents import find_metrics

    find_run(store.database, run)
    points = [
        (step, {series["name"]: value})
        for series in find_metrics(store.database.metrics, {"run_id": run})
        for step, value in zip(series["steps"], series["values"], strict=True)
    ]
    metrics_file.write_all(metrics_file.merged(points), file)
    click.echo(file)


@export.command()
@click.argument("run", type=run_id)
@click.argument("file", type=NamedPath(dir_okay=False))
@click.option("--step", type=click.IntRange(0), help="those of this step, or the next kept one")
@click.option("--lens", is_flag=True, help="under the names that HookedTransformer loads")
@with_store
def weights(store: "Store", run: int | str, file: Path, step: int | None, lens: bool) -> None:
    """Write the weights of a run to FILE, in the format safetensors; its final ones without --step.

    With --lens, FILE's metadata has the arguments of HookedTransformerConfig as `config`.
    """
    from grok.store.connection import find_run

    find_run(store.database, run)  # before the seconds of imports

    from grok.experiment import weights as files

    click.echo(f"{file}: step {files.export(store, run, file, step, lens)}")


@export.command("run")
@click.argument("run", type=run_id)
@click.argument("folder", type=NamedPath(file_okay=False))
@click.option("--files", is_flag=True, help="only its stored files and its output, in FOLDER/files")
@click.option(
    "--sources", is_flag=True, help="only the sources that it was made with, in FOLDER/sources"
)
@with_store
def export_run(store: "Store", run: int | str, folder: Path, files: bool, sources: bool) -> None:
    """Write a run's config.json, metrics.csv, training_history.json, summary.json and curves.png."""
    if files or sources:
        from grok.store import files as run_files

        parts = [*files * [run_files.FILES], *sources * [run_files.SOURCES]]
        for path in run_files.export(store, run, folder, parts):
            echo(str(path))
        return
    from grok.reports import exports

    exports.export_run(store.database, run, folder)
    click.echo(folder)


@export.command("sweep")
@click.argument("sweep")
@click.argument("folder", type=NamedPath(file_okay=False))
@click.option(
    "--ai-scientist", is_flag=True, help="Write the template's files: run_0, run_1, ... in FOLDER."
)
@with_store
def export_sweep(store: "Store", sweep: str, folder: Path, ai_scientist: bool) -> None:
    """Write all finished runs of a sweep, and sweep_summary.csv and .json."""
    from grok.reports import ai_scientist as template
    from grok.reports import exports

    if ai_scientist:
        click.echo(f"{template.export_sweep(store.database, sweep, folder)} settings in {folder}")
    else:
        click.echo(f"{exports.export_sweep(store.database, sweep, folder)} runs in {folder}")


@export.command("replication")
@click.argument("folder", type=NamedPath(file_okay=False))
@click.argument("papers", nargs=-1)
@with_store
def export_replication(store: "Store", folder: Path, papers: tuple[str, ...]) -> None:
    """Write the runs behind the claims of PAPERS (default: all) as PAPER/SWEEP/..., and index.csv."""
    from grok.reports import exports

    runs = exports.export_replication(store.database, papers, folder)
    click.echo(f"{runs} runs in {folder}")
