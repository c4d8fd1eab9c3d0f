"""`grok`: the store, sweeps and what is done with stored runs, from the command line.

The modules of this package import only click and the base modules, and every command imports what
it needs when it runs, so that help is shown without a wait.
"""

import os

import click

from grok.cli import bundle, export, papers, report, run, store, sweep
from grok.errors import UserError


class Program(click.Group):
    """A group of commands whose arguments are texts."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; UserError for one that is not UTF-8, which can be stored nowhere."""
        for argument in args:
            try:
                argument.encode()
            except UnicodeEncodeError:
                shown = os.fsencode(argument).decode(errors="backslashreplace")
                raise UserError(f"argument {shown}: expected a text in UTF-8") from None
        return super().parse_args(ctx, args)


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="grok-lab", prog_name="grok")
def main() -> None:
    """A laboratory for reproducing and mapping grokking."""


for command in (
    store.store,
    sweep.sweep,
    sweep.map_diagram,
    papers.papers,
    papers.claims,
    papers.replicate,
    papers.new,
    papers.init,
    report.board,
    report.report,
    report.measures,
    run.run,
    run.analyze,
    run.repeat,
    run.resume,
    export.export,
    bundle.bundle,
):
    main.add_command(command)
