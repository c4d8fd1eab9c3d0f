"""Area plot of the parts of a quantity through training.

`python analysis/area_plot.py run=12 -p weight_tracking/weight_norm`

Stacks the metrics PREFIX/PART as areas, with one panel per group of runs (means over its runs).
"""

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.table import Table

from grok.analysis import groups, query, style
from grok.cli.options import SELECTION_HELP, runs_argument
from grok.experiment.show import wide_console


@click.command(help=__doc__, epilog=SELECTION_HELP)
@runs_argument
@click.option(
    "-p",
    "--prefix",
    default="weight_tracking/weight_norm",
    show_default=True,
    help="Prefix of the metrics.",
)
@groups.by_option
@click.option(
    "--top",
    "max_parts",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    help="Number of parts that are shown singly; the sum of the others is one area.",
)
@click.option(
    "--sort",
    type=click.Choice(["size", "name", "acquired"]),
    default="size",
    show_default=True,
    help="Order of the parts; acquired: by the step at which they reach half of their maximum.",
)
@click.option("--normalize", is_flag=True, help="Show fractions of the sum.")
@style.name_option("area_plot")
@style.options
def main(
    filters: tuple[str, ...],
    prefix: str,
    keys: tuple[str, ...],
    max_parts: int,
    sort: str,
    normalize: bool,
    name: str,
) -> None:
    store = query.connect()
    runs = groups.with_groups(query.selected_runs(store, filters), keys)
    tables = {}
    for group, group_runs in runs.groupby("group"):
        values = groups.parameter_table(store, group_runs, prefix).fillna(0)
        tables[str(group)] = largest_parts(values, max_parts, sort)
    wide_console().print(part_table(tables))
    style.save(plot_areas(tables, prefix, normalize), name)


def largest_parts(table: pd.DataFrame, max_parts: int, sort: str) -> pd.DataFrame:
    """Absolute values of the `max_parts` parts with the largest maxima, and the sum of the others.

    Arguments:
        table: a row per part, a column per step.
        sort: `size`, `name` or `acquired`, as the option --sort describes.
    """
    table = table.abs()
    by_maximum = table.max(axis=1).sort_values(ascending=False).index
    parts, others = table.loc[by_maximum[:max_parts]], table.loc[by_maximum[max_parts:]]
    if sort == "name":
        parts = parts.sort_index()
    elif sort == "acquired":
        at_half = parts.ge(parts.max(axis=1) / 2, axis=0)
        parts = parts.loc[at_half.idxmax(axis=1).sort_values(kind="stable").index]
    if len(others):
        parts = pd.concat([parts, others.sum().to_frame(f"{len(others)} others").T])
    return parts


def part_table(tables: dict[str, pd.DataFrame]) -> Table:
    """First, largest and last value of every part."""
    result = Table("group", "part", "first", "largest", "last", "fraction of the last sum")
    for group, table in tables.items():
        last_sum = table.iloc[:, -1].sum()
        for part, values in table.iterrows():
            last = values.iloc[-1]
            result.add_row(
                group,
                str(part),
                f"{values.iloc[0]:.4g}",
                f"{values.max():.4g}",
                f"{last:.4g}",
                f"{last / last_sum if last_sum else np.nan:.1%}",
            )
    return result


def plot_areas(tables: dict[str, pd.DataFrame], prefix: str, normalize: bool) -> Figure:
    """One panel per group; a part has the same colour in all of them."""
    figure, axes = plt.subplots(
        1,
        len(tables),
        figsize=(1 + 5 * len(tables), 3.8),
        squeeze=False,
        sharey=True,
        layout="constrained",
    )
    parts = list(dict.fromkeys(part for table in tables.values() for part in table.index))
    palette = plt.get_cmap("tab20")(np.linspace(0, 1, max(2, len(parts))))
    colours = dict(zip(parts, palette, strict=False))
    for panel, (group, table) in zip(axes[0], tables.items(), strict=True):
        values = table / table.sum() if normalize else table
        panel.stackplot(
            values.columns,
            values.to_numpy(),
            labels=values.index,
            colors=[colours[part] for part in table.index],
        )
        panel.set(title=group, xlabel="step", xlim=(values.columns.min(), values.columns.max()))
    axes[0][0].set_ylabel(f"fraction of {prefix}" if normalize else prefix)
    handles, labels = axes[0][0].get_legend_handles_labels()
    axes[0][-1].legend(
        handles[::-1],
        labels[::-1],
        fontsize="x-small",
        loc="center left",
        bbox_to_anchor=(1, 0.5),
    )
    return figure


if __name__ == "__main__":
    main()
