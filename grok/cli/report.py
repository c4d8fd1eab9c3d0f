"""`grok board`, `grok report` and `grok measures`: the store as a page, and what measures there are."""

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from grok.cli.options import SELECTION_HELP, NamedPath, port_option, runs_argument, with_store
from grok.errors import UserError, check_names
from grok.paths import PROJECT, experiment_file, experiment_names

if TYPE_CHECKING:
    from grok.store.connection import Store


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="address to listen on")
@port_option(8420)
@click.option(
    "--reference",
    "references",
    type=NamedPath(dir_okay=False),
    multiple=True,
    help="CSV file of a published grid, shown beside diagrams over its keys",
)
@with_store
def board(store: "Store", host: str, port: int, references: tuple[Path, ...]) -> None:
    """Serve the page of all runs, live, to those who have its link."""
    from grok.reports.page import server

    server.serve(store, host, port, [*references], _details)


def _details(store: "Store", sweep: str) -> dict[str, Any]:
    from grok.sweep import board  # when a sweep is looked at

    return board.details(store, sweep)


@click.command(epilog=SELECTION_HELP)
@runs_argument
@click.option(
    "-o",
    "--output",
    type=NamedPath(dir_okay=False),
    default="report.html",
    show_default=True,
    help="the file to write",
)
@with_store
def report(store: "Store", filters: tuple[str, ...], output: Path) -> None:
    """Write one HTML page: the papers' scorecard and figures, sweeps, and every run."""
    from grok.store import selection

    wanted, _ = selection.select_nonempty(store.database, filters)

    from grok.reports.page import report as page  # after the filters are known to be right

    folders = [Path("figures"), PROJECT / "docs" / "images"]
    count = page.write(store, wanted, output, folders, _details)
    click.echo(f"{count} runs in {output} ({output.stat().st_size / 1e6:.1f} MB)")


@click.command()
@click.argument("name", required=False)
@click.option("--profile", "experiment", help="measure what each costs in this experiment")
@click.option("--config", "named", multiple=True, help="a named config of it")
def measures(name: str | None, experiment: str | None, named: tuple[str, ...]) -> None:
    """List the measures that a run can take, show the options of one, or what each costs."""
    catalogue = measure_names()
    own = {} if experiment or name in catalogue else own_instruments()
    if name is not None:
        check_names([name], [*catalogue, *own], "instrument")
    if experiment:
        check_names([experiment.removesuffix(".py")], experiment_names(), "experiment")
    if name is not None and experiment:
        raise UserError(f"{name} with --profile: expected one of them; all measures are profiled")
    if named and not experiment:
        raise UserError(f"--config {named[0]}: expected --profile EXPERIMENT, whose config it is")

    from grok.reports import measure_costs

    measure_costs.show(name, experiment, named, own)


def measure_names() -> list[str]:
    """The names of all measures, read from the source that defines them: importing it loads torch."""
    source = Path(__file__).parents[1] / "engine" / "instruments.py"
    calls = (node for node in ast.walk(ast.parse(source.read_text())) if isinstance(node, ast.Call))
    measures = (call for call in calls if getattr(call.func, "id", None) == "Measure")
    return [ast.literal_eval(call.args[0]) for call in measures]


def own_instruments() -> dict[str, list[str]]:
    """The instruments that this project's experiments define, each with the experiments that do.

    They are read from the sources, as `measure_names` does: the functions that `ex.instrument(...)`
    decorates. A file that is no Python is passed over.
    """
    found: dict[str, list[str]] = {}
    for experiment in experiment_names():
        try:
            tree = ast.parse(experiment_file(experiment).read_bytes())
        except (OSError, SyntaxError, ValueError):
            continue
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and any(
                ast.unparse(decorator).startswith("ex.instrument(")
                for decorator in node.decorator_list
            ):
                found.setdefault(node.name, []).append(experiment)
    return found
