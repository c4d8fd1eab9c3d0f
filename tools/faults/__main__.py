"""A campaign of faults: what is killed, stopped, filled, damaged or lied to loses and doubles nothing.

    python -m tools.faults                               # all kinds, about 30 minutes
    python -m tools.faults --only runs --trials 10 --seed 3

Prints a line for each trial and a table at the end. The exit code is 1 if a run could not be brought
to its end, or did not record exactly what an uninterrupted run records.
"""

import sys
import tempfile
from pathlib import Path

import click

from tools.faults.campaign import KINDS, Row, table, try_kind
from tools.faults.laboratory import Laboratory


@click.command()
@click.option(
    "--only", type=click.Choice([*KINDS]), multiple=True, help="this kind; again for more"
)
@click.option("--trials", type=click.IntRange(1), help="of each kind, if not the usual number")
@click.option("--seed", default=0, show_default=True, help="of the random moments")
def main(only: tuple[str, ...], trials: int | None, seed: int) -> None:
    """Try all kinds of faults in a store of their own."""
    with tempfile.TemporaryDirectory(prefix="faults-") as home:
        laboratory = Laboratory(Path(home))
        laboratory.measure()
        rows: list[Row] = []
        for name in only or KINDS:
            rows.append(try_kind(laboratory, name, trials or KINDS[name].trials, seed, click.echo))
        click.echo(table(rows))
        laboratory.close()
    sys.exit(int(any(row.lost or row.doubled for row in rows)))


if __name__ == "__main__":
    main()
