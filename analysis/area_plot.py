"""What a quantity is made of, through training: `python analysis/area_plot.py run=12 -p weight_tracking/weight_norm`.

Metrics PREFIX/PART stacked as areas, one panel per group of runs (means over its runs).
"""

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from rich.table import Table

from analysis import groups, query, style
from analysis.layer_dynamics import table_of
from grok.cli.options import SELECTION_HELP, runs_argument
from grok.experiment.show import wide_console


@click.command(help=__doc__, epilog=SELECTION_HELP)
@runs_argument
@click.option("-p", "--prefix", default="weight_tracking/weight_norm", show_default=True)
@groups.by_option
@click.option(
    "--top", type=click.IntRange(1), default=10, show_default=True, help="parts; the rest are one"
)
@click.option(
    "--sort",
    type=click.Choice(["size", "name", "acquired"]),
    default="size",
    show_default=True,
    help="acquired: in the order in which parts reach half of their largest value",
)
@click.option("--normalize", is_flag=True, help="shares of the whole")
@style.name_option("area_plot")
@style.options  # fmt: skip
def main(filters, prefix, by, top, sort, normalize, name) -> None:
    store = query.connect()
    runs = groups.labelled(query.chosen(store, filters), by)
    tables = {
        group: parts(table_of(store, mine, prefix, layers=False).fillna(0), top, sort)
        for group, mine in runs.groupby("group")
    }
    wide_console().print(listed(tables))
    style.save(draw(tables, prefix, normalize), name)


def parts(table: pd.DataFrame, top: int, sort: str) -> pd.DataFrame:
    """The `top` largest rows in order, and the sum of the others."""
    table = table.abs()
    order = table.max(axis=1).sort_values(ascending=False).index
    kept, rest = table.loc[order[:top]], table.loc[order[top:]]
    if sort == "name":
        kept = kept.sort_index()
    elif sort == "acquired":
        half = kept.ge(kept.max(axis=1) / 2, axis=0)
        kept = kept.loc[half.idxmax(axis=1).sort_values(kind="stable").index]
    if len(rest):
        kept = pd.concat([kept, rest.sum().to_frame(f"{len(rest)} others").T])
    return kept


def listed(tables: dict[str, pd.DataFrame]) -> Table:
    """First, largest and last value of every part."""
    shown = Table("group", "part", "first", "largest", "last", "share of the last")
    for group, table in tables.items():
        last = table.iloc[:, -1]
        for part, row in table.iterrows():
            share = last[part] / last.sum() if last.sum() else np.nan
            shown.add_row(group, str(part), f"{row.iloc[0]:.4g}", f"{row.max():.4g}",
                          f"{row.iloc[-1]:.4g}", f"{share:.1%}")  # fmt: skip
    return shown


def draw(tables: dict[str, pd.DataFrame], prefix: str, normalize: bool):
    """A panel per group, areas in one colour scheme."""
    figure, axes = plt.subplots(
        1, len(tables), figsize=(1 + 5 * len(tables), 3.8), squeeze=False, sharey=True,
        layout="constrained",
    )  # fmt: skip
    names = list(dict.fromkeys(part for table in tables.values() for part in table.index))
    colours = dict(zip(names, plt.cm.tab20(np.linspace(0, 1, max(2, len(names)))), strict=False))
    for panel, (group, table) in zip(axes[0], tables.items(), strict=True):
        values = table / table.sum() if normalize else table
        panel.stackplot(
            values.columns,
            values.to_numpy(),
            labels=values.index,
            colors=[colours[n] for n in table.index],
        )
        panel.set(title=group, xlabel="step", xlim=(values.columns.min(), values.columns.max()))
    axes[0][0].set_ylabel(f"share of {prefix}" if normalize else prefix)
    handles, said = axes[0][0].get_legend_handles_labels()
    axes[0][-1].legend(
        handles[::-1], said[::-1], fontsize="x-small", loc="center left", bbox_to_anchor=(1, 0.5)
    )
    return figure


if __name__ == "__main__":
    main()
