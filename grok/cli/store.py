"""`grok store`: the MongoDB that keeps the runs."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from grok.cli.options import SELECTION_HELP, runs_argument, with_store
from grok.errors import UserError
from grok.printable import echo

if TYPE_CHECKING:
    from grok.store.connection import Store


@click.group()
def store() -> None:
    """The MongoDB that keeps the runs."""


@store.command()
def start() -> None:
    """Start the embedded MongoDB and keep it up."""
    from grok.paths import home
    from grok.store.mongod import Server

    server = Server(home())
    server.ensure()
    server.keep_running.touch()
    click.echo(server.uri)


@store.command()
def stop() -> None:
    """Let the embedded MongoDB stop as soon as nobody uses it."""
    from grok.paths import home
    from grok.store.mongod import Server

    server = Server(home())
    server.keep_running.unlink(missing_ok=True)
    if server.in_use():
        click.echo("in use: it stops when the last run ends")


@store.command()
@with_store
def uri(store: "Store") -> None:
    """Print the store's URI. An embedded MongoDB is kept up for it until `grok store stop`."""
    from grok.store.mongod import Server

    if store.kind == "embedded":
        Server(store.home).keep_running.touch()
    click.echo(store.uri)


@store.command()
@with_store
def status(store: "Store") -> None:
    """Runs by status, runs in progress and dead ones, values that still wait on disk."""
    from rich.table import Table

    from grok.console import Console
    from grok.store import backup, journal, status

    click.echo(store.describe())
    for name, count in status.counts(store.database).items():
        echo(f"{count:6d} {name}")
    unfinished = status.unfinished(store.database)
    if unfinished:
        table = Table("run", "experiment", "state", "last heartbeat")
        for row in unfinished:
            table.add_row(str(row["id"]), row["experiment"], row["state"], row["age"])
        Console().print(table)
    waiting = journal.count_waiting(store)
    if waiting:
        click.echo(f'{waiting} runs wait on disk: "grok store recover" delivers them')
    undelivered = len(journal.set_aside(store))
    if undelivered:
        click.echo(f'{undelivered} journals could not be delivered: "grok store doctor" names them')
    for line in backup.describe(store):
        click.echo(line)


@store.command()
@with_store
def recover(store: "Store") -> None:
    """Deliver what runs could not deliver before they ended."""
    from grok.store import delivery

    click.echo(f"{delivery.recover(store, echo)} runs delivered")


@store.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), required=False)
@with_store
def backup(store: "Store", file: Path | None) -> None:
    """Write all runs to an archive, FILE or one of the three that are kept in the data folder."""
    from grok.store import backup

    click.echo(f"all runs are in {backup.back_up(store, file)}")


@store.command()
def repair() -> None:
    """Repair the embedded MongoDB's data, on a copy; the damaged data is kept."""
    from grok.paths import home
    from grok.store import backup, connection, delivery
    from grok.store.mongod import Server

    server = Server(home())
    damaged = backup.repair(server, click.echo)
    store = connection.Store("embedded", server.ensure())
    delivery.recover(store, echo)
    for line in backup.losses(store):
        echo(line)
    click.echo(f"the embedded MongoDB is repaired; the damaged data is kept in {damaged}")


@store.command("export", epilog=SELECTION_HELP)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@runs_argument
@with_store
def export_runs(store: "Store", file: Path, filters: tuple[str, ...]) -> None:
    """Write runs with metrics, files and sweeps to one archive, a zip."""
    from grok.store import archive, selection

    wanted, _ = selection.select_nonempty(store.database, filters)
    click.echo(f"{archive.export(store.database, wanted, file)} runs in {file}")


@store.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@with_store
def import_runs(store: "Store", file: Path) -> None:
    """Bring the runs of an archive in; those that are there already stay as they are."""
    from grok.store import archive

    imported = archive.import_(store.database, file)
    click.echo(f"{imported.new} runs brought in, {imported.known} were there already")
    for old_id, new_id in imported.renamed.items():
        echo(f"run {old_id} of the archive is run {new_id} here")


@store.command(epilog=SELECTION_HELP)
@runs_argument
@click.option("--all", "everything", is_flag=True, help="every run of the store")
@click.option("--yes", is_flag=True, help="do not ask")
@with_store
def delete(store: "Store", filters: tuple[str, ...], everything: bool, yes: bool) -> None:
    """Delete runs with their metrics and files."""
    from grok.store import maintenance, selection

    if not filters and not everything:
        raise UserError("delete which runs? give KEY=VALUE words, or --all")
    wanted, count = selection.select_nonempty(store.database, filters)
    if not yes:
        click.confirm(f"delete {count} runs of {store.describe()}?", abort=True)
    deleted, alive = maintenance.delete(store, wanted)
    left = f", {alive} are still running and stay" if alive else ""
    click.echo(f"{deleted} runs deleted{left}")


@store.command()
@click.option("--fix", is_flag=True, help="repair what is wrong")
@with_store
def doctor(store: "Store", fix: bool) -> None:
    """Look for dead runs, metrics and files of no run, missing indexes; exit 1 if something is wrong."""
    from grok.store import maintenance

    faults = maintenance.examine(store)
    for fault in faults:
        echo(fault.message)
        if fix and fault.repair is not None:
            fault.repair()
            click.echo("  repaired")
    if not faults:
        click.echo(f"{store.describe()} is in order")
    elif not fix:
        click.echo('"grok store doctor --fix" repairs this')
        sys.exit(1)
