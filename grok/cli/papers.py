"""`grok papers`, `grok claims`, `grok replicate`, `grok new` and `grok init`: papers and their claims."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from grok.cli.options import NamedPath, mongo_option
from grok.errors import UserError, check_names
from grok.paths import experiment_names


@click.command()
@click.argument("paper", required=False)
@mongo_option
@click.option(
    "--check", is_flag=True, help="check the claims again, in their present form, on stored runs"
)
@click.option("--history", metavar="CLAIM", help="the versions of a claim, and what each found")
@click.option(
    "--figures", is_flag=True, help="draw the figures that the papers' files define, in figures/"
)
def papers(paper: str | None, check: bool, history: str | None, figures: bool) -> None:
    """List the papers and how their claims came out, or one paper's claims."""
    names = [paper] if paper else []
    check_names(names, experiment_names(), "paper")  # before the seconds of imports

    from grok.claims import scorecard
    from grok.experiment import show
    from grok.store.connection import mongo

    chosen = scorecard.experiments(names) if paper or check or history or figures else []
    made = {claim.id: (one, claim) for one in chosen for claim in one.claims}
    if history:
        check_names([history], [*made], "claim")
    store = mongo()
    if check:
        scorecard.check_again(store.database, chosen)
    if history:
        show.wide_console().print(scorecard.history(*made[history], store.database))
        return
    if figures:
        from grok.reports.figures import save_all

        sys.exit(0 if save_all(store.database, chosen, Path("figures")) else UserError.exit_code)
    table = scorecard.scorecard(chosen, store.database)[0] if paper else None
    show.wide_console().print(table or scorecard.overview(store.database))


@click.group()
def claims() -> None:
    """Register the claims of all papers."""


@claims.command()
@click.option("--note", default="", help="why claims that were registered before have changed")
def register(note: str) -> None:
    """Write the present version of every claim to experiments/claims.json, with today's date.

    Register claims before you train the runs that they are checked on: otherwise the scorecard says
    that they were stated after their runs.
    """
    from grok.claims import registry
    from grok.claims.scorecard import experiments

    ids = registry.register(experiments(), note)
    click.echo(f"registered: {', '.join(ids)}" if ids else "every claim is registered as it is")


@click.command()
@click.argument("paper", nargs=-1)
@mongo_option
@click.option(
    "--resume", is_flag=True, help="resume the latest sweep of each file that has not changed since"
)
@click.option("--jobs", type=click.IntRange(1), help="papers at once  [default: cores; on a GPU 1]")
def replicate(paper: tuple[str, ...], resume: bool, jobs: int | None) -> None:
    """Run the CPU recipes of papers (all, if none is named) and print the scorecard; exit 1 unless
    every claim that is checked has passed on most seeds."""
    check_names(paper, experiment_names(), "paper")

    from grok.sweep import replication

    sys.exit(0 if replication.replicate(paper, resume, jobs) else 1)


class _Asked(click.Option):
    """An option that is asked for where it is not given."""

    def prompt_for_value(self, ctx: click.Context) -> Any:
        """The answer; UserError if the input, which is no terminal, has ended."""
        try:
            return super().prompt_for_value(ctx)
        except click.Abort:
            if sys.stdin.isatty():
                raise
            click.echo()  # the end of the question's line
            expected = "expected the option, or an answer on the standard input"
            raise UserError(f"{self.opts[0]} is missing: {expected}") from None


@click.command()
@click.argument("name")
@click.option(
    "--says",
    "description",
    cls=_Asked,
    prompt="What is it, in one line",
    help="one line of description",
)
@click.option(
    "--operation", cls=_Asked, prompt="Operation", default="x_plus_y", help="the task's table"
)
@click.option(
    "--model",
    cls=_Asked,
    prompt="Model",
    type=click.Choice(["transformer", "mlp"]),
    default="transformer",
    help="what is trained",
)
@click.option(
    "--measures", cls=_Asked, prompt="Measures, with commas", default="", help="names or groups"
)
def new(name: str, description: str, operation: str, model: str, measures: str) -> None:
    """Write the files of a new paper: an experiment, a sweep and a test, which run at once."""
    from grok.experiment import scaffold
    from grok.paths import own_project

    wanted = [one.strip() for one in measures.split(",") if one.strip()]
    project = own_project()
    for path in scaffold.write(project, name, description, operation, model, wanted):
        click.echo(path.relative_to(project))
    click.echo(f"next: grok run {name} with cpu")


@click.command()
@click.argument("folder", type=NamedPath(file_okay=False))
def init(folder: Path) -> None:
    """Make a project of your own: an experiment, its sweep, figure and test, which run at once.

    In its folder, `grok` works on its experiments and sweeps. README.md there has all commands.
    """
    from grok.experiment import scaffold

    for path in scaffold.write_project(folder):
        click.echo(path)
    _make_repository(folder)
    click.echo(f"next: cd {folder} && grok run parity with cpu")


def _make_repository(folder: Path) -> None:
    """A git repository with a first commit, so that runs record one; unless the folder is in one."""
    git = ["git", "-C", str(folder)]
    try:
        if subprocess.run([*git, "rev-parse"], capture_output=True).returncode == 0:
            return
        subprocess.run([*git, "init", "--quiet"], check=True, capture_output=True)
        subprocess.run([*git, "add", "."], check=True, capture_output=True)
        commit = [*git, "commit", "--quiet", "--message", "grok init"]
        subprocess.run(commit, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        click.echo("no git commit was made; runs record the commit once there is one", err=True)
