"""Heat map of a measure of every parameter through training.

`python analysis/layer_dynamics.py run=12 -p norms/norm`

Shows the metrics PREFIX/PARAMETER (norms/norm/..., weight_tracking/top_sv/..., and others that
`measures=full` logs) as means over the runs of a group, and a table of the parameters that change
most.
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

TABLE_ROWS = 15
COLOUR_PERCENTILES = (1, 99)  # of the values, at the ends of the colour scale
STEP_TICKS = 6


@click.command(help=__doc__, epilog=SELECTION_HELP)
@runs_argument
@click.option(
    "-p", "--prefix", default="norms/norm", show_default=True, help="Prefix of the metrics."
)
@groups.by_option
@click.option("--layers", is_flag=True, help="Show one row per layer: the mean of its parameters.")
@click.option("--log", is_flag=True, help="Use a logarithmic colour scale.")
@click.option(
    "--sort",
    type=click.Choice(["name", "variance"]),
    default="name",
    show_default=True,
    help="Order of the rows; variance shows those first that change most.",
)
@click.option(
    "--top",
    "max_rows",
    type=click.IntRange(1),
    default=40,
    show_default=True,
    help="Number of rows at most: those that change most.",
)
@style.name_option("layer_dynamics")
@style.options
def main(
    filters: tuple[str, ...],
    prefix: str,
    keys: tuple[str, ...],
    layers: bool,
    log: bool,
    sort: str,
    max_rows: int,
    name: str,
) -> None:
    store = query.connect()
    runs = groups.with_groups(query.selected_runs(store, filters), keys)
    tables = {
        str(group): groups.parameter_table(store, group_runs, prefix, layers)
        for group, group_runs in runs.groupby("group")
    }
    wide_console().print(change_table(tables))
    style.save(plot_heat_maps(tables, prefix, log, sort, max_rows), name)


def relative_variance(table: pd.DataFrame) -> pd.Series:
    """Each row's variance over the steps divided by its squared mean; 0 if it never changes."""
    mean = table.mean(axis=1).abs().clip(lower=1e-30)
    return (table.std(axis=1, ddof=0) / mean) ** 2


def change_table(tables: dict[str, pd.DataFrame]) -> Table:
    """The rows of each group that change most, with their first and last values."""
    result = Table("group", "parameter", "variance / mean²", "first", "last")
    for group, table in tables.items():
        variances = relative_variance(table).nlargest(TABLE_ROWS)
        rows = table.loc[variances.index].iterrows()
        for (row, row_values), variance in zip(rows, variances, strict=True):
            values = row_values.dropna()
            result.add_row(
                group,
                str(row),
                f"{variance:.3g}",
                f"{values.iloc[0]:.4g}",
                f"{values.iloc[-1]:.4g}",
            )
    return result


def plot_heat_maps(
    tables: dict[str, pd.DataFrame], prefix: str, log: bool, sort: str, max_rows: int
) -> Figure:
    """One heat map per group, all on one colour scale."""
    tables = {group: top_rows(table, sort, max_rows) for group, table in tables.items()}
    if log:
        tables = {group: table.apply(np.log10) for group, table in tables.items()}
    height = max(len(table) for table in tables.values())
    figure, axes = plt.subplots(
        1,
        len(tables),
        figsize=(1.5 + 4.5 * len(tables), 1.2 + 0.2 * height),
        squeeze=False,
        layout="constrained",
    )
    all_values = np.concatenate([table.to_numpy().ravel() for table in tables.values()])
    low, high = np.nanpercentile(all_values[np.isfinite(all_values)], COLOUR_PERCENTILES)
    for panel, (group, table) in zip(axes[0], tables.items(), strict=True):
        row_count, step_count = table.shape
        image = panel.pcolormesh(
            np.arange(step_count + 1),
            np.arange(row_count + 1),
            table.to_numpy(),
            vmin=low,
            vmax=high,
            cmap="viridis",
            rasterized=True,
        )
        panel.set_yticks(np.arange(row_count) + 0.5, table.index, fontsize="x-small")
        ticks = np.unique(np.linspace(0, step_count - 1, STEP_TICKS).astype(int))
        panel.set_xticks(ticks + 0.5, [f"{table.columns[tick]:g}" for tick in ticks])
        panel.set(title=group, xlabel="step")
        panel.invert_yaxis()
    figure.colorbar(image, ax=axes, label=f"log10 {prefix}" if log else prefix)
    return figure


def top_rows(table: pd.DataFrame, sort: str, max_rows: int) -> pd.DataFrame:
    """The `max_rows` rows that change most, by that (`variance`) or by name (`name`)."""
    by_variance = relative_variance(table).sort_values(ascending=False)
    chosen = table.loc[by_variance.index[:max_rows]]
    return chosen if sort == "variance" else chosen.sort_index()


if __name__ == "__main__":
    main()
