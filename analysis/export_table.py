"""A table for a paper: `python analysis/export_table.py sweep=mlp_small -m test_accuracy --format latex`.

One row per group of runs that differ in their seed alone, mean ± standard error over them.
"""

import click
import numpy as np
import pandas as pd

from analysis import compare, groups, query, style
from grok.cli.options import SELECTION_HELP, runs_argument

SUFFIX = {"latex": "tex", "markdown": "md", "csv": "csv"}


@click.command(help=__doc__, epilog=SELECTION_HELP)
@runs_argument
@click.option(
    "-m",
    "--metric",
    "names",
    multiple=True,
    default=("train_accuracy", "test_accuracy"),
    show_default=True,
    help="metrics, or results as result.steps_to_test",
)
@click.option("--stat", type=click.Choice(groups.STATISTICS), default="final", show_default=True)
@groups.by_option
@click.option(
    "--format", "kind", type=click.Choice(list(SUFFIX)), default="markdown", show_default=True
)
@click.option("--precision", default=4, show_default=True, help="digits")
@click.option("--no-bold", is_flag=True, help="do not mark the best")
@style.name_option("table")
@style.options  # fmt: skip
def main(filters, names, stat, by, kind, precision, no_bold, name) -> None:
    store = query.connect()
    runs = groups.labelled(query.chosen(store, filters), by)
    values = values_of(store, runs, list(names), stat)
    text = csv(values) if kind == "csv" else written(values, kind, stat, precision, not no_bold)
    path = style.place(f"{name}.{SUFFIX[kind]}")
    path.write_text(text)
    print(text)
    print(path)


def values_of(store, runs: pd.DataFrame, names: list[str], stat: str) -> pd.DataFrame:
    """One row a run (index group, run), a column per metric or result."""
    table = pd.DataFrame(index=pd.MultiIndex.from_frame(runs[["group", "run"]]))
    logged = [name for name in names if not name.startswith("result.")]
    found = groups.statistic(groups.logged(store, runs, logged), stat) if logged else None
    for name in names:
        if name in logged:
            table[name] = found[name].reindex(table.index)
        elif name in runs:
            table[name] = pd.to_numeric(runs[name], errors="coerce").to_numpy(float)
        else:
            query.fail(f"no {name} in these {len(runs)} runs")
    return table


def csv(values: pd.DataFrame) -> str:
    """Runs, mean and standard error of every column, in full precision."""
    by = values.groupby("group", sort=False)
    parts = {"runs": by.size()}
    for name in values:
        parts |= {f"{name}_mean": by[name].mean(), f"{name}_sem": by[name].sem()}
    return pd.DataFrame(parts).to_csv()


def written(values: pd.DataFrame, kind: str, stat: str, precision: int, bold: bool) -> str:
    """The table in LaTeX (booktabs) or Markdown."""
    by = values.groupby("group", sort=False)
    means, errors, counts, sizes = by.mean(), by.sem(), by.count(), by.size()
    winners = {name: compare.best(means[name]) if bold else None for name in values}
    plus, strong = (" $\\pm$ ", "\\textbf{%s}") if kind == "latex" else (" ± ", "**%s**")
    rows = []
    for group in means.index:
        cells = [escaped(str(group)) if kind == "latex" else str(group)]
        for name in values:
            mean, error = means.loc[group, name], errors.loc[group, name]
            text = f"{mean:.{precision}g}" if np.isfinite(mean) else "-"
            text += f"{plus}{error:.2g}" if np.isfinite(error) else ""
            if counts.loc[group, name] < sizes[group]:  # a mean over some runs says so
                text += f" ({counts.loc[group, name]} of {sizes[group]})"
            cells.append(strong % text if winners[name] == group else text)
        rows.append(cells)
    heads = ["", *(f"{stat} {style.words(name)}" for name in values)]
    if kind == "markdown":
        lines = [heads, ["---"] * len(heads), *rows]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"
    lines = [" & ".join(cells) + r" \\" for cells in rows]
    top = [f"\\begin{{tabular}}{{l{'r' * len(means.columns)}}}", r"\toprule"]
    head = " & ".join(map(escaped, heads)) + r" \\"
    return "\n".join([*top, head, r"\midrule", *lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def escaped(text: str) -> str:
    """For LaTeX."""
    for sign in "_%&#$":
        text = text.replace(sign, f"\\{sign}")
    return text


if __name__ == "__main__":
    main()
