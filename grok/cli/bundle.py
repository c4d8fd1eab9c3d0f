"""`grok bundle`: what a reviewer needs to check claims, written and verified."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from grok.cli.options import NamedPath, with_store
from grok.printable import echo

if TYPE_CHECKING:
    from grok.store.connection import Store


@click.group()
def bundle() -> None:
    """What a reviewer needs to check claims, in one folder or file."""


@bundle.command()
@click.argument("claims", nargs=-1, required=True)
@click.option(
    "--to",
    "path",
    required=True,
    type=NamedPath(),
    help="a new folder, or a file that ends in .zip",
)
@with_store
def write(store: "Store", claims: tuple[str, ...], path: Path) -> None:
    """Write claims, or all claims of papers, with their runs, figures, code and checksums.

    CLAIMS are ids of claims or names of papers that `grok replicate` or a sweep has checked.
    """
    from grok.reports import bundle

    count, runs, digest = bundle.write(store.database, claims, path)
    click.echo(f"{count} claims and {runs} runs in {path}")
    click.echo(f"publish with it the SHA-256 of its SHA256SUMS: {digest}")


@bundle.command()
@click.argument("path", metavar="BUNDLE", type=NamedPath(exists=True))
@click.option(
    "--runs", type=click.IntRange(1), default=2, show_default=True, help="runs to train again"
)
@click.option("--seed", type=int, help="of the choice of these runs; else one is drawn and printed")
@with_store
def verify(store: "Store", path: Path, runs: int, seed: int | None) -> None:
    """Check a bundle's files, compute its verdicts again and repeat some runs; exit 1 if one differs.

    Nothing in the bundle is executed. Its runs are repeated with this project's experiments.
    """
    from grok.interrupts import exit_on_interrupt
    from grok.reports import bundle_check

    is_right = True
    with exit_on_interrupt("the check was interrupted"):
        for agrees, line in bundle_check.verify(store, path, runs, seed):
            is_right = is_right and agrees
            echo(line if agrees else f"DIFFERS: {line}")
    sys.exit(0 if is_right else 1)
