"""`grok repeat` and `grok resume`: one stored run again, or to its end."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from grok.cli.options import with_store
from grok.printable import echo

if TYPE_CHECKING:
    from grok.store.connection import Store

program_option = click.option(
    "--program",
    type=click.Path(path_type=Path),
    help="The run's file, if it is no experiment of this project; it is executed.",
)


@click.command()
@click.argument("run", type=int)
@program_option
@with_store
def repeat(store: "Store", run: int, program: Path | None) -> None:
    """Run a stored run again and compare every logged value; exit 1 if one differs."""
    from grok.interrupts import exit_on_interrupt
    from grok.store.connection import find_run

    find_run(store.database, run)  # before the seconds of imports

    from grok.experiment.repeat import repeat

    with exit_on_interrupt("the repetition was interrupted; what it logged is kept"):
        verdict = repeat(store, run, program)
    for line in verdict.environment:
        echo(f"another environment: {line}")
    if verdict.first is None:
        click.echo(f"run {verdict.run} equals run {run}: {verdict.values} values, bit for bit")
        return
    step, name, before, now = verdict.first
    echo(
        f"run {verdict.run} differs from run {run} first at step {step}: "
        f"{name} {before!r}, now {now!r}"
    )
    sys.exit(1)


@click.command()
@click.argument("run", type=int)
@program_option
@with_store
def resume(store: "Store", run: int, program: Path | None) -> None:
    """Bring a run that was killed to its end, from its last checkpoint."""
    from grok.interrupts import exit_on_interrupt
    from grok.store.connection import find_run

    find_run(store.database, run)  # before the seconds of imports

    from grok.experiment.repeat import resume
    from grok.experiment.show import show_result

    with exit_on_interrupt(f"run {run} interrupted; what it logged is kept"):
        ended, step = resume(store, run, program)
    click.echo(f"run {run} went on from step {step}")
    show_result(ended)
