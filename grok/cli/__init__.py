"""`grok`: the store, and what is done with stored runs, from the command line."""

import functools
import json
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from grok.cli.options import SELECTION_HELP, runs_argument
from grok.errors import UserError, writing
from grok.paths import home
from grok.store import connection as stores
from grok.store import mongod, selection


@click.group()
def main() -> None:
    """A laboratory for reproducing and mapping grokking."""


@main.group()
def store() -> None:
    """The MongoDB that keeps the runs."""


def with_store(function):
    """Pass the connected store to a command."""

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        return function(stores.mongo(), *args, **kwargs)

    return wrapped


@store.command()
def start() -> None:
    """Start the embedded MongoDB and keep it up."""
    server = mongod.Server(home())
    server.ensure()
    server.keep.touch()
    click.echo(server.uri)


@store.command()
def stop() -> None:
    """Let the embedded MongoDB stop as soon as nobody uses it."""
    server = mongod.Server(home())
    server.keep.unlink(missing_ok=True)
    if server.in_use():
        click.echo("in use: it stops when the last run ends")


@store.command()
def uri() -> None:
    """Print the store's URI. An embedded MongoDB is kept up for it until `grok store stop`."""
    found = stores.mongo()
    if found.kind == "embedded":
        mongod.Server(found.home).keep.touch()
    click.echo(found.uri)


@store.command()
@with_store
def status(found: stores.Store) -> None:
    """Runs by status, runs in progress and dead ones, values that still wait on disk."""
    from grok.store import journal as spool
    from grok.store import status

    click.echo(found.describe())
    for name, count in status.counts(found.database).items():
        click.echo(f"{count:6d} {name}")
    live = status.unfinished(found.database)
    if live:
        table = Table("run", "experiment", "state", "last heartbeat")
        for row in live:
            table.add_row(str(row["id"]), row["experiment"], row["state"], row["age"])
        Console().print(table)
    left = spool.waiting(found.spools)
    for one in left:
        one.close(delivered=False)
    if left:
        click.echo(f'{len(left)} runs wait on disk: "grok store recover" delivers them')


@store.command()
@with_store
def recover(found: stores.Store) -> None:
    """Deliver what runs could not deliver before they ended."""
    from grok.store import journal as spool

    click.echo(f"{spool.recover(found, click.echo)} runs delivered")


@store.command("export", epilog=SELECTION_HELP)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@runs_argument
@with_store
def export_store(found: stores.Store, file: Path, filters) -> None:
    """Write runs with metrics, files and sweeps to one archive, a zip."""
    from grok.store import archive

    wanted, _ = selection.chosen(found.database, filters)
    click.echo(f"{archive.export(found.database, wanted, file)} runs in {file}")


@store.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@with_store
def import_store(found: stores.Store, file: Path) -> None:
    """Bring the runs of an archive in; those that are there already stay as they are."""
    from grok.store import archive

    result = archive.import_(found.database, file)
    click.echo(f"{result.new} runs brought in, {result.known} were there already")
    for then, now in result.renamed.items():
        click.echo(f"run {then} of the archive is run {now} here")


@store.command(epilog=SELECTION_HELP)
@runs_argument
@click.option("--all", "everything", is_flag=True, help="every run of the store")
@click.option("--yes", is_flag=True, help="do not ask")
@with_store
def delete(found: stores.Store, filters, everything, yes) -> None:
    """Delete runs with all that is theirs."""
    from grok.store import maintenance as upkeep

    if not filters and not everything:
        raise UserError("delete which runs? give KEY=VALUE filters, or --all")
    wanted, count = selection.chosen(found.database, filters)
    if not yes:
        click.confirm(f"delete {count} runs of {found.describe()}?", abort=True)
    deleted, alive = upkeep.delete(found, wanted)
    left = f", {alive} are still running and stay" if alive else ""
    click.echo(f"{deleted} runs deleted{left}")


@store.command()
@click.option("--fix", is_flag=True, help="mend what is found")
@with_store
def doctor(found: stores.Store, fix) -> None:
    """Look for dead runs, metrics and files of no run, missing indexes; exit 1 if something is wrong."""
    from grok.store import maintenance as upkeep

    findings = upkeep.examine(found)
    for finding in findings:
        click.echo(f"{finding.says}")
        if fix:
            finding.mend()
            click.echo("  mended")
    if not findings:
        click.echo(f"{found.describe()} is in order")
    elif not fix:
        click.echo('"grok store doctor --fix" mends this')
        sys.exit(1)


@main.group()
def sweep() -> None:
    """Many runs from one W&B sweep file."""


@sweep.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--limit", type=click.IntRange(1), help="at most this many points")
@click.option("--seeds", type=click.IntRange(1), help="every point with this many seeds")
@click.option("--slots", type=click.IntRange(1), help="replicas that train at once")
@click.option("--resume", is_flag=True, help="go on with the latest sweep of this file")
@click.option("--id", "sweep_id", help="the sweep to resume, if not the latest")
@click.option("--dry-run", is_flag=True, help="print points, batches and time; run nothing")
def run(file, limit, seeds, slots, resume, sweep_id, dry_run) -> None:
    """Run a sweep on this machine, without a server."""
    from grok.sweep import commands

    if dry_run:
        commands.describe(file, limit, seeds, slots)
    else:
        commands.run(file, limit, seeds, slots, resume or bool(sweep_id), sweep_id)


@main.command("papers")
@click.argument("paper", required=False)
@click.option("--check", is_flag=True, help="check again, as they are stated now, on stored runs")
@with_store
def list_papers(found: stores.Store, paper, check) -> None:
    """List the papers and how their claims came out, or one paper's claims."""
    from grok.claims import scorecard
    from grok.experiment import show

    chosen = scorecard.named([paper] if paper else [])
    if check:
        scorecard.check_again(found.database, chosen)
    table = scorecard.scorecard(chosen, found.database)[0] if paper else None
    show.wide().print(table or scorecard.overview(found.database))


@main.command()
@click.argument("paper", nargs=-1)
@click.option("--resume", is_flag=True, help="go on with each sweep's latest, if there is one")
@click.option("--jobs", type=click.IntRange(1), help="papers at once  [default: cores; on a GPU 1]")
def replicate(paper, resume, jobs) -> None:
    """Run the CPU recipes of papers (all, if none is named) and print the scorecard; exit 1 unless
    every claim that counts has passed."""
    from grok.sweep import replication

    sys.exit(0 if replication.replicate(paper, resume, jobs) else 1)


@main.command(epilog=SELECTION_HELP)
@runs_argument
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default="report.html",
    show_default=True,
)
@with_store
def report(found: stores.Store, filters, output) -> None:
    """Write one HTML page: the papers' scorecard and figures, sweeps, and every run."""
    from grok.paths import PROJECT
    from grok.reports import page as reports

    wanted, _ = selection.chosen(found.database, filters)
    folders = [Path("figures"), PROJECT / "docs"]
    count = reports.write(found, wanted, output, folders)
    click.echo(f"{count} runs in {output} ({output.stat().st_size / 1e6:.1f} MB)")


batch_option = click.option(
    "--batch", type=click.IntRange(1), default=16, show_default=True, help="points at once"
)


@sweep.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="address to listen on")
@click.option("--port", default=8410, show_default=True, help="0 chooses a free one")
@click.option(
    "--lost-after", default=120.0, show_default=True, help="seconds of an agent's silence"
)
def serve(host, port, lost_after) -> None:
    """Answer `wandb sweep` and `wandb agent` where there is no internet."""
    from grok.sweep import serving

    serving.serve(host, port, lost_after)


@sweep.command()
@click.argument("sweep")
@batch_option
def agent(sweep, batch) -> None:
    """Work on a W&B sweep, many points as one program."""
    from grok.sweep import serving

    serving.agent(sweep, batch)


@sweep.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--sweep", help="join this sweep instead of creating one")
@click.option("--partition", help="Slurm partition")
@click.option("--agents", type=click.IntRange(1), default=1, show_default=True)
@click.option("--gpus", type=click.IntRange(0), default=0, show_default=True, help="for each agent")
@click.option("--time", help="time limit, as Slurm writes it")
@batch_option
@click.option("--sbatch", "extra", multiple=True, help="a further sbatch option, as --mem=8G")
@click.option("--dry-run", is_flag=True, help="print the script; submit nothing")
def submit(file, sweep, partition, agents, gpus, time, batch, extra, dry_run) -> None:
    """Queue an array of agents in Slurm."""
    from grok.sweep import serving
    from grok.sweep.slurm import Request

    serving.submit(file, sweep, Request(partition, agents, gpus, time, batch, extra), dry_run)


@sweep.command("status")
@click.argument("sweep", required=False)
def sweep_status(sweep) -> None:
    """Points done, running and failed, by whom, and Slurm's jobs."""
    from grok.sweep import serving

    serving.status(sweep)


@main.command()
@click.argument("name")
@click.option("--says", prompt="What is it, in one line", help="one line of description")
@click.option("--operation", prompt="Operation", default="x_plus_y", help="the task's table")
@click.option(
    "--model", prompt="Model", type=click.Choice(["transformer", "mlp"]), default="transformer"
)
@click.option("--measures", prompt="Measures, with commas", default="", help="names or groups")
def new(name, says, operation, model, measures) -> None:
    """Write the files of a new paper: an experiment, a sweep and a test, which run at once."""
    from grok.experiment import scaffold
    from grok.paths import PROJECT

    wanted = [one.strip() for one in measures.split(",") if one.strip()]
    for path in scaffold.write(PROJECT, name, says, operation, model, wanted):
        click.echo(path.relative_to(PROJECT))
    click.echo(f"next: python experiments/{name}.py with cpu")


@main.command()
@click.option("--profile", "experiment", help="measure what each costs in this experiment")
@click.option("--config", "named", multiple=True, help="a named config of it")
def measures(experiment, named) -> None:
    """List the measures that a run can take, or what each costs."""
    from grok.reports import measure_costs as measuring

    measuring.show(experiment, named)


@main.command()
@click.argument("run", type=int)
@with_store
def repeat(found: stores.Store, run: int) -> None:
    """Run a stored run again and compare every logged value; exit 1 if one differs."""
    from grok.experiment import repeat as repeats

    verdict = repeats.repeat(found, run)
    for line in verdict.environment:
        click.echo(f"another environment: {line}")
    if verdict.first is None:
        click.echo(f"run {verdict.run} equals run {run}: {verdict.values} values, bit for bit")
        return
    step, name, then, now = verdict.first
    click.echo(
        f"run {verdict.run} differs from run {run} first at step {step}: {name} {then!r}, now {now!r}"
    )
    sys.exit(1)


@main.command()
@click.argument("run", type=int)
@with_store
def resume(found: stores.Store, run: int) -> None:
    """Bring a run that was killed to its end, from its last checkpoint."""
    from grok.experiment import repeat as repeats
    from grok.experiment.show import show_result
    from grok.interrupts import raise_on_signals

    raise_on_signals()
    ended, step = repeats.resume(found, run)
    click.echo(f"run {run} went on from step {step}")
    show_result(ended, found)


@main.group()
def export() -> None:
    """Stored runs as files."""


@export.command()
@click.argument("run", type=int)
@click.option("-o", "--output", type=click.Path(path_type=Path), default="training_history.json")
@with_store
def history(found: stores.Store, run: int, output: Path) -> None:
    """Write a run's training_history.json (epoch, train_loss, train_acc, test_loss, test_acc)."""
    from grok.reports.history import training_history

    told = training_history(found.database, run)
    with writing(output):
        output.write_text(json.dumps(told))
    click.echo(output)


@export.command("run")
@click.argument("run", type=int)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@with_store
def export_run(found: stores.Store, run: int, folder: Path) -> None:
    """Write a run's config.json, metrics.csv, summary.json and curves.png."""
    from grok.reports import exports

    exports.export_run(found.database, run, folder)
    click.echo(folder)


@export.command("sweep")
@click.argument("sweep")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@with_store
def export_sweep(found: stores.Store, sweep: str, folder: Path) -> None:
    """Write all finished runs of a sweep, and sweep_summary.csv and .json."""
    from grok.reports import exports

    click.echo(f"{exports.export_sweep(found.database, sweep, folder)} runs in {folder}")
