"""`grok run` and `grok analyze`: a program of the project; `grok repeat` and `grok resume`: a run."""

import runpy
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from grok.cli.options import NamedPath, run_id, with_store
from grok.errors import check_names
from grok.paths import experiment_file, experiment_names, script_file, script_names
from grok.printable import echo

if TYPE_CHECKING:
    from grok.store.connection import Store

program_option = click.option(
    "--program",
    type=NamedPath(),
    help="The run's file, if it is no experiment of this project; it is executed.",
)


# All that follows the name belongs to the program, its --help too.
FORWARDED = {"ignore_unknown_options": True, "allow_interspersed_args": False}
arguments = click.argument("arguments", nargs=-1, type=click.UNPROCESSED)


@click.command(context_settings=FORWARDED)
@click.argument("experiment")
@arguments
def run(experiment: str, arguments: tuple[str, ...]) -> None:
    """Run an experiment of the project: `grok run liu_toy with cpu`.

    The arguments are those of `python experiments/EXPERIMENT.py`. The project is the nearest folder,
    from the working directory upwards, with `experiments` and `sweeps`; without one, the papers of
    the package are used.
    """
    check_names([experiment], experiment_names(), "experiment")
    _execute(experiment_file(experiment), arguments)


@click.command(context_settings=FORWARDED)
@click.argument("script")
@arguments
def analyze(script: str, arguments: tuple[str, ...]) -> None:
    """Run a script of analysis: `grok analyze show`.

    The script is one of the project's folder `analysis`, or else one of the package.
    """
    check_names([script], script_names(), "script of analysis")
    _execute(script_file(script), arguments)


def _execute(program: Path, arguments: tuple[str, ...]) -> None:
    """Run a Python file as `python FILE ARGUMENTS` does."""
    sys.argv = [str(program), *arguments]
    sys.path.insert(0, str(program.parent))
    runpy.run_path(str(program), run_name="__main__")


@click.command()
@click.argument("run", type=run_id)
@program_option
@with_store
def repeat(store: "Store", run: int | str, program: Path | None) -> None:
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
@click.argument("run", type=run_id)
@program_option
@with_store
def resume(store: "Store", run: int | str, program: Path | None) -> None:
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
