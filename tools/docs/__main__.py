"""`python -m tools.docs`: fill the generated blocks of the documentation, or check them.

A block stands between the lines `<!-- generated: NAME -->` and `<!-- end -->` of README.md or of a
page in docs.
"""

import re
import sys
from functools import cache
from pathlib import Path

import click

from grok.claims.scorecard import experiments
from grok.experiment.experiment import Experiment
from grok.experiment.scaffold import NEW_PROJECT
from grok.paths import PROJECT
from grok.store import archive_schema
from tools.docs import papers, reference

BLOCK = re.compile(
    r"(?P<start>^<!-- generated: (?P<name>[\w-]+) -->\n).*?(?P<end>^<!-- end -->$)",
    re.DOTALL | re.MULTILINE,
)

DOCUMENTS: dict[str, type[archive_schema.Part]] = {
    "run-document": archive_schema.Run,
    "metric-document": archive_schema.Metric,
    "sweep-document": archive_schema.Sweep,
    "point-document": archive_schema.SweepPoint,
    "file-document": archive_schema.File,
}


@click.command()
@click.option("--check", is_flag=True, help="change nothing; exit 1 if a file is not current")
def main(check: bool) -> None:
    """Fill the generated blocks of README.md and the pages of docs."""
    old = []
    for page in pages():
        text = page.read_text()
        current = filled(page, text)
        if current != text:
            old.append(str(page.relative_to(PROJECT)))
            if not check:
                page.write_text(current)
    for name in old:
        click.echo(f"not current: {name}" if check else name)
    if check and old:
        click.echo("python -m tools.docs updates them", err=True)
        sys.exit(1)


def pages() -> list[Path]:
    """README.md and all pages of docs."""
    return [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]


def filled(page: Path, text: str) -> str:
    """A page's text with the present content of its generated blocks."""

    def block(match: re.Match[str]) -> str:
        return f"{match['start']}\n{content(match['name'], page)}\n\n{match['end']}"

    return BLOCK.sub(block, text)


def content(name: str, page: Path) -> str:
    """The content of the block `name` on a page.

    Raises:
        click.ClickException: there is no such block, or not on this page.
    """
    if name in ("claims", "keys"):
        paper = _by_name().get(page.stem)
        if paper is None:
            raise click.ClickException(f"{page}: {page.stem} is no experiment")
        return papers.claims(paper) if name == "claims" else papers.keys(paper)
    if name == "scorecard":
        return papers.scorecard(_by_name().values(), page)
    if name == "instruments":
        return _instruments()
    if name in DOCUMENTS:
        return reference.documents(DOCUMENTS[name])
    if name == "new-project-experiment":
        code = (NEW_PROJECT / "experiments" / "parity.py").read_text()
        return f"```python\n{code}```"
    if name == "operations":
        return reference.operations()
    tables = {
        "commands": reference.commands,
        "shared-keys": reference.shared_keys,
        "metrics": reference.metrics,
        "result-entries": reference.result_entries,
        "negative-controls": papers.negative_controls,
    }
    if name not in tables:
        raise click.ClickException(f"{page}: no generated block is called {name}")
    return tables[name](_by_name().values())


@cache
def _by_name() -> dict[str, Experiment]:
    return {experiment.path: experiment for experiment in experiments()}


@cache
def _instruments() -> str:
    return reference.instruments()


if __name__ == "__main__":
    main()
