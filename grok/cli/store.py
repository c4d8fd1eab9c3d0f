"""`grok store`: the MongoDB that keeps the runs."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from grok.cli.options import (
    SELECTION_HELP,
    NamedPath,
    port_option,
    run_id,
    runs_argument,
    with_store,
)
from grok.errors import UserError, check_file
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


@store.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--host", default="127.0.0.1", show_default=True, help="address to listen on")
@port_option(27017)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def serve(host: str, port: int, command: tuple[str, ...]) -> None:
    """Serve the embedded MongoDB to other machines, with a password, until COMMAND has ended.

    Meanwhile every `grok` with the same GROK_HOME uses it, on all nodes that share the folder. Without
    COMMAND it serves until it is interrupted.
    """
    from grok.paths import home
    from grok.store import serving
    from grok.store.mongod import Server

    sys.exit(serving.serve(Server(home()), host, port, command))


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
    elsewhere = len(journal.of_other_stores(store))
    if elsewhere:
        click.echo(f'{elsewhere} journals wait for other stores: "grok store doctor" names them')
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
@click.argument("file", type=NamedPath(dir_okay=False), required=False)
@with_store
def backup(store: "Store", file: Path | None) -> None:
    """Write all runs to an archive, FILE or one of the three that are kept in the data folder."""
    from grok.store import backup

    click.echo(f"the runs are in {backup.back_up(store, file)}")


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
@click.argument("file", type=NamedPath(dir_okay=False))
@runs_argument
@with_store
def export_runs(store: "Store", file: Path, filters: tuple[str, ...]) -> None:
    """Write runs with metrics, files and sweeps to one archive, a zip."""
    from grok.store import archive, selection

    wanted, _ = selection.select_nonempty(store.database, filters)
    click.echo(f"{archive.export(store.database, wanted, file)} runs in {file}")


@store.command("import")
@click.argument("file", type=NamedPath(exists=True, dir_okay=False))
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
@click.option(
    "--files",
    "patterns",
    multiple=True,
    metavar="PATTERN",
    help="delete only the files of these names, as trajectory.npz or *.png; the runs stay",
)
@with_store
def delete(
    store: "Store",
    filters: tuple[str, ...],
    everything: bool,
    yes: bool,
    patterns: tuple[str, ...],
) -> None:
    """Delete runs with their metrics and files, or only some of their files."""
    from grok.store import files, maintenance, selection

    if not filters and not everything:
        raise UserError("delete which runs? give KEY=VALUE words, or --all")
    wanted, count = selection.select_nonempty(store.database, filters)
    if patterns and not yes:  # before the question; the deletion checks them itself
        files.check_patterns(store, wanted, patterns)
    what = f"{', '.join(patterns)} of {count} runs in" if patterns else f"{count} runs of"
    if not yes:
        click.confirm(f"delete {what} {store.describe()}?", abort=True)
    if patterns:
        deleted, runs, alive = files.delete(store, wanted, patterns)
        left = f"; {alive} are still running and keep theirs" if alive else ""
        click.echo(f"{deleted} files of {runs} runs deleted{left}")
        return
    deleted, alive = maintenance.delete(store, wanted)
    left = f", {alive} are still running and stay" if alive else ""
    click.echo(f"{deleted} runs deleted{left}")


@store.command()
@click.argument("run", type=run_id)
@click.argument("what", nargs=-1, required=True, metavar="FILE|NAME=VALUE...")
@with_store
def attach(store: "Store", run: int | str, what: tuple[str, ...]) -> None:
    """Add files, and results of later analysis, to a run that has ended; they are marked with the date.

    A value is a Python literal or a text: `grok store attach 12 peak=0.93 note="second peak" plot.png`.
    """
    from grok.store import files
    from grok.values import parse_value

    pairs = [word.split("=", 1) for word in what if "=" in word]
    values = {name: parse_value(text) for name, text in pairs}
    paths = [Path(word) for word in what if "=" not in word]
    # all is checked before anything is changed
    contents = {path.name: _content(path) for path in paths}
    if len(contents) < len(paths):
        raise UserError("two of the files have the same name")
    for name in values:
        files.check_name(name)
    for name in contents:
        files.check_file_name(store, run, name)
    for name, content in contents.items():
        files.attach_file(store, run, name, content)
    for name, value in values.items():
        files.attach_value(store, run, name, value)
    click.echo(f"run {run} has {', '.join([*contents, *values])}")


def _content(path: Path) -> bytes:
    check_file(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error


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
