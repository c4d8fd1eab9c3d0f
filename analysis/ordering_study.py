"""Orders of the data compared: epochs to 99.5 % of the test set, and the curves to it.

`python analysis/ordering_study.py SWEEP`. A run that never arrived counts as censored at its end.
"""

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from analysis import query, style, survival

COLOURS = dict(zip(("stride", "fixed_random", "random", "target", "resonant"), plt.cm.Dark2.colors,
                   strict=False))  # fmt: skip


@click.command(help=__doc__)
@click.argument("sweep")
@style.options
def main(sweep: str) -> None:
    store = query.connect()
    name, runs = query.sweep(store, sweep)
    runs = runs.assign(
        epochs=runs["result.steps"] / runs["result.epoch_steps"],
        reached=runs["result.epochs_to_test"].notna(),
    )
    runs["epochs"] = runs["result.epochs_to_test"].fillna(runs["epochs"])
    Console().print(comparison(runs))
    style.save(draw(store, runs), f"{name.rpartition('-')[0]}_study")


def comparison(runs: pd.DataFrame) -> Table:
    """One row an order: runs, how many arrived, median epochs, final accuracies."""
    table = Table("order", "runs", "arrived", "median epochs to 99.5 %", "test accuracy at the end")
    for order, rows in runs.groupby("config.ordering", sort=False):
        median = survival.median(rows["epochs"], rows["reached"])
        final = ", ".join(f"{value:.3f}" for value in rows["result.test_accuracy"])
        table.add_row(
            order, str(len(rows)), str(int(rows["reached"].sum())),
            f"{median:.0f}" if np.isfinite(median) else f"more than {rows['epochs'].max():.0f}", final,
        )  # fmt: skip
    return table


def draw(store, runs: pd.DataFrame):
    """Train and test accuracy against epochs, and where each run ended."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 3.8))
    for order, rows in runs.groupby("config.ordering", sort=False):
        colour = COLOURS[order]
        for place, row in enumerate(rows.itertuples()):
            curves = query.curves(store, row.run)
            epochs = curves.index / rows.iloc[place]["result.epoch_steps"]
            label = order if place == 0 else None
            for panel, split in ((left, "train"), (middle, "test")):
                panel.plot(epochs, curves[f"{split}_accuracy"], color=colour, lw=1, label=label)
        right.plot([order] * len(rows), rows["result.test_accuracy"], "o", color=colour)
    left.set(ylabel="train accuracy", xlabel="epoch")
    middle.set(ylabel="test accuracy", xlabel="epoch")
    right.set(ylabel="test accuracy at the end", ylim=(-0.03, 1.05))
    right.tick_params(axis="x", rotation=30)
    middle.legend()
    return figure


if __name__ == "__main__":
    main()
