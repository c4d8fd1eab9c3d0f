"""A table of runs for a paper, in LaTeX, Markdown or CSV.

`python analysis/export_table.py sweep=mlp_small -M test_accuracy --format latex`

One row per group of runs that differ only in their seeds: mean ± standard error over the runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import click
import numpy as np
import pandas as pd

from grok.analysis import groups, query, style
from grok.cli.options import SELECTION_HELP, runs_argument
from grok.errors import UserError
from grok.printable import echo
from grok.store.connection import Store

SUFFIXES = {"latex": "tex", "markdown": "md", "csv": "csv"}
LATEX_ESCAPES = {  # of the characters that LaTeX reads as commands
    **{char: f"\\{char}" for char in "_%&#${}"},
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "\\": r"\textbackslash{}",
}


@dataclass(frozen=True)
class Markup:
    """How a table format writes the two things that a cell needs."""

    plus_minus: str
    bold: str  # a %-format


MARKUP = {
    "latex": Markup(plus_minus=r" $\pm$ ", bold=r"\textbf{%s}"),
    "markdown": Markup(plus_minus=" ± ", bold="**%s**"),
}


@click.command(help=__doc__, epilog=SELECTION_HELP)
@runs_argument
@click.option(
    "-M",
    "--metric",
    "columns",
    multiple=True,
    default=("train_accuracy", "test_accuracy"),
    show_default=True,
    help="Column: a metric, or a result such as result.steps_to_test; may be repeated.",
)
@groups.statistic_option
@groups.by_option
@click.option(
    "--format",
    "table_format",
    type=click.Choice(list(SUFFIXES)),
    default="markdown",
    show_default=True,
    help="Format of the table.",
)
@click.option("--precision", default=4, show_default=True, help="Significant digits of a mean.")
@click.option("--no-bold", is_flag=True, help="Do not print the best mean of a column in bold.")
@style.name_option("table")
@style.options
def main(
    filters: tuple[str, ...],
    columns: tuple[str, ...],
    statistic: str,
    keys: tuple[str, ...],
    table_format: str,
    precision: int,
    no_bold: bool,
    name: str,
) -> None:
    store = query.connect()
    runs = groups.with_groups(query.selected_runs(store, filters), keys)
    values = run_values(store, runs, columns, statistic)
    if table_format == "csv":
        text = to_csv(values)
    else:
        cells = mean_cells(values, table_format, statistic, precision, bold=not no_bold)
        text = to_latex(cells) if table_format == "latex" else to_markdown(cells)
    path = style.write_text(f"{name}.{SUFFIXES[table_format]}", text)
    echo(text)
    print(path)


def run_values(
    store: Store, runs: pd.DataFrame, columns: Sequence[str], statistic: str
) -> pd.DataFrame:
    """One row per run (indexed by group and run), one column per metric or result.

    Raises:
        UserError: a column is neither a metric nor a result of these runs.
    """
    values = pd.DataFrame(index=pd.MultiIndex.from_frame(runs[["group", "run"]]))
    metrics = [column for column in columns if not column.startswith("result.")]
    if metrics:
        long = groups.grouped_metrics(store, runs, metrics)
        metric_values = groups.run_statistics(long, statistic).reindex(values.index)
    for column in columns:
        if column in metrics:
            values[column] = metric_values[column]
        elif column in runs:
            values[column] = pd.to_numeric(runs[column], errors="coerce").to_numpy(float)
        else:
            raise UserError(f"no {column} in these {len(runs)} runs")
    return values


def to_csv(values: pd.DataFrame) -> str:
    """The number of runs, and every column's mean and standard error in full precision, as CSV."""
    by_group = values.groupby("group", sort=False)
    columns: dict[str, pd.Series] = {"runs": by_group.size()}
    for column in map(str, values.columns):
        columns[f"{column}_mean"] = by_group[column].mean()
        columns[f"{column}_sem"] = by_group[column].sem()
    return pd.DataFrame(columns).to_csv()


def mean_cells(
    values: pd.DataFrame, table_format: str, statistic: str, precision: int, bold: bool
) -> pd.DataFrame:
    """The cells of the table as marked-up text: one row per group, one column per column of values.

    A mean over only some of a group's runs is followed by their number: `100 (1 of 2)`.

    Arguments:
        values: a table of `run_values`.
        table_format: `latex` or `markdown`.
        precision: significant digits of a mean.
        bold: whether the best mean of a column is bold.
    """
    markup = MARKUP[table_format]
    by_group = values.groupby("group", sort=False)
    sizes = by_group.size()
    cells = pd.DataFrame(index=sizes.index.astype(str).rename(None))
    for column in map(str, values.columns):
        means, errors = by_group[column].mean(), by_group[column].sem()
        best = groups.best_group(means) if bold else None
        texts = []
        for group, mean, error, count, size in zip(
            cells.index, means, errors, by_group[column].count(), sizes, strict=True
        ):
            text = f"{mean:.{precision}g}" if np.isfinite(mean) else "-"
            if np.isfinite(error):
                text += f"{markup.plus_minus}{error:.2g}"
            if count < size:
                text += f" ({count} of {size})"
            texts.append(markup.bold % text if group == best else text)
        cells[f"{statistic} {style.axis_label(column)}"] = texts
    return cells


def to_markdown(cells: pd.DataFrame) -> str:
    """The table as GitHub's Markdown. pandas' own `to_markdown` needs one more package, tabulate."""
    rows = [
        ["", *cells.columns],
        ["---"] * (1 + len(cells.columns)),
        *([group, *row] for group, row in zip(cells.index, cells.to_numpy(), strict=True)),
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def to_latex(cells: pd.DataFrame) -> str:
    """The table as LaTeX with booktabs' rules."""
    escaped = cells.rename(index=escape_latex, columns=escape_latex)
    return escaped.style.to_latex(hrules=True, column_format="l" + "r" * len(cells.columns))


def escape_latex(text: str) -> str:
    """The text with LaTeX's special characters escaped."""
    return "".join(LATEX_ESCAPES.get(char, char) for char in text)


if __name__ == "__main__":
    main()
