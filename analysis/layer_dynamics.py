"""Every parameter's share in a measure, through training: `python analysis/layer_dynamics.py run=12 -p norms/norm`.

A heat map of parameter x step for metrics PREFIX/PARAMETER (norms/norm, weight_tracking/top_sv, ...; the
mean over runs of a group), and the parameters that move most.
"""

import re

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from rich.table import Table

from analysis import groups, query, style
from grok.cli.options import SELECTION_HELP, runs_argument
from grok.experiment.show import wide_console

SHOWN = 15  # rows of the table


@click.command(help=__doc__, epilog=SELECTION_HELP)
@runs_argument
@click.option("-p", "--prefix", default="norms/norm", show_default=True, help="of the metrics")
@groups.by_option
@click.option("--layers", is_flag=True, help="one row a layer: the mean of its parameters")
@click.option("--log", is_flag=True, help="colours by the logarithm")
@click.option("--sort", type=click.Choice(["name", "variance"]), default="name", show_default=True)
@click.option(
    "--top", type=click.IntRange(1), default=40, show_default=True, help="at most so many rows"
)
@style.name_option("layer_dynamics")
@style.options  # fmt: skip
def main(filters, prefix, by, layers, log, sort, top, name) -> None:
    store = query.connect()
    runs = groups.labelled(query.chosen(store, filters), by)
    tables = {group: table_of(store, mine, prefix, layers) for group, mine in runs.groupby("group")}
    wide_console().print(movers(tables))
    style.save(draw(tables, prefix, log, sort, top), name)


def table_of(store, runs: pd.DataFrame, prefix: str, layers: bool) -> pd.DataFrame:
    """Parameter x step: the mean over runs. Exits if no metric begins so."""
    pattern = {"$regex": f"^{re.escape(prefix.rstrip('/'))}/"}
    names = store.database.metrics.distinct(
        "name", {"run_id": {"$in": [query.plain(one) for one in runs["run"]]}, "name": pattern}
    )
    if not names:
        query.fail(
            f"no metric {prefix}/... in these {len(runs)} runs; `measures=full` logs several"
        )
    long = groups.logged(store, runs, names)
    rows = long["metric"].astype(str).str.removeprefix(prefix.rstrip("/") + "/")
    if layers:
        rows = rows.str.extract(r"^(blocks/\d+|[^/]+)")[0]
    return long.assign(row=rows).pivot_table(index="row", columns="step", values="value")


def spread(table: pd.DataFrame) -> pd.Series:
    """Variance through training over the squared mean: 0 if a row never changes."""
    mean = table.mean(axis=1).abs().clip(lower=1e-30)
    return (table.std(axis=1, ddof=0) / mean) ** 2


def movers(tables: dict[str, pd.DataFrame]) -> Table:
    """The rows that change most, with their first and last values."""
    shown = Table("group", "parameter", "variance / mean²", "first", "last")
    for group, table in tables.items():
        for row, value in spread(table).nlargest(SHOWN).items():
            known = table.loc[row].dropna()
            shown.add_row(
                group, row, f"{value:.3g}", f"{known.iloc[0]:.4g}", f"{known.iloc[-1]:.4g}"
            )
    return shown


def draw(tables: dict[str, pd.DataFrame], prefix: str, log: bool, sort: str, top: int):
    """A panel per group on one colour scale."""
    rows = max(min(top, len(table)) for table in tables.values())
    figure, axes = plt.subplots(
        1, len(tables), figsize=(1.5 + 4.5 * len(tables), 1.2 + 0.2 * rows), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    shade = np.log10 if log else (lambda values: values)
    kept = {}
    for group, table in tables.items():
        order = spread(table).sort_values(ascending=False)
        chosen = table.loc[order.index[:top]]
        kept[group] = chosen if sort == "variance" else chosen.sort_index()
    everything = np.concatenate([shade(t.to_numpy()).ravel() for t in kept.values()])
    low, high = np.nanpercentile(everything[np.isfinite(everything)], [1, 99])
    for panel, (group, table) in zip(axes[0], kept.items(), strict=True):
        image = panel.pcolormesh(
            np.arange(table.shape[1] + 1), np.arange(len(table) + 1), shade(table.to_numpy()),
            vmin=low, vmax=high, cmap="viridis", rasterized=True,
        )  # fmt: skip
        panel.set_yticks(np.arange(len(table)) + 0.5, table.index, fontsize="x-small")
        ticks = np.unique(np.linspace(0, table.shape[1] - 1, 6).astype(int))
        panel.set_xticks(ticks + 0.5, [f"{table.columns[i]:g}" for i in ticks])
        panel.set(title=group, xlabel="step")
        panel.invert_yaxis()
    label = f"log10 {prefix}" if log else prefix
    figure.colorbar(image, ax=axes, label=label)
    return figure


if __name__ == "__main__":
    main()
