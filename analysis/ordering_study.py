"""Orders of the training data compared: epochs to 99.5 % test accuracy, and the curves.

`python analysis/ordering_study.py SWEEP`

A run that did not reach 99.5 % is censored at its end.
"""

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.table import Table

from grok.analysis import query, style
from grok.claims import statistics
from grok.console import Console
from grok.store.connection import Store

ORDERS = ("stride", "fixed_random", "random", "target", "resonant", "hash", "alternating")
COLOURS = dict(zip(ORDERS, plt.get_cmap("Dark2")(range(len(ORDERS))), strict=True))


@click.command(help=__doc__)
@click.argument("sweep")
@style.options
def main(sweep: str) -> None:
    store = query.connect()
    sweep_id, runs = query.sweep(store, sweep)
    query.require(runs, "config.ordering", "result.epoch_steps", "result.epochs_to_test")
    runs = with_epochs(runs)
    Console().print(comparison_table(runs))
    sweep_name, _, _ = sweep_id.rpartition("-")
    style.save(plot_orders(store, runs), f"{sweep_name}_study")


def with_epochs(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs with `reached` (99.5 %) and `epochs`: the epoch at which they did, or their last."""
    last_epoch = runs["result.steps"] / runs["result.epoch_steps"]
    epochs_to_test = runs["result.epochs_to_test"]
    return runs.assign(epochs=epochs_to_test.fillna(last_epoch), reached=epochs_to_test.notna())


def comparison_table(runs: pd.DataFrame) -> Table:
    """For each order: runs, how many reached 99.5 %, median epochs, final accuracies."""
    table = Table("order", "runs", "reached", "median epochs to 99.5 %", "test accuracy at the end")
    for order, rows in runs.groupby("config.ordering", sort=False):
        median = statistics.median(rows["epochs"], rows["reached"])
        table.add_row(
            str(order),
            str(len(rows)),
            str(int(rows["reached"].sum())),
            f"{median:.0f}" if np.isfinite(median) else f"more than {rows['epochs'].max():.0f}",
            ", ".join(f"{accuracy:.3f}" for accuracy in rows["result.test_accuracy"]),
        )
    return table


def plot_orders(store: Store, runs: pd.DataFrame) -> Figure:
    """Train and test accuracy against epochs, and the test accuracy at the end of each run."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 3.8))
    for order, rows in runs.groupby("config.ordering", sort=False):
        colour = COLOURS[str(order)]
        for index, (_, row) in enumerate(rows.iterrows()):
            curves = query.curves(store, row["run"])
            epochs = curves.index / row["result.epoch_steps"]
            label = order if index == 0 else None
            for axes, split in ((left, "train"), (middle, "test")):
                axes.plot(epochs, curves[f"{split}_accuracy"], color=colour, lw=1, label=label)
        right.plot([order] * len(rows), rows["result.test_accuracy"], "o", color=colour)
    left.set(ylabel="train accuracy", xlabel="epoch")
    middle.set(ylabel="test accuracy", xlabel="epoch")
    right.set(ylabel="test accuracy at the end", ylim=(-0.03, 1.05))
    right.tick_params(axis="x", rotation=30)
    middle.legend()
    return figure


if __name__ == "__main__":
    main()
