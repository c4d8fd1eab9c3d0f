"""Orders of the data as signals: `python analysis/ordering_spectrum.py -p 97 --train-count 2800`.

For the operands and the answers as each order shows them: spectrum, autocorrelation, steps from one
to the next, and of every batch its entropy, its distinct symbols and its spectrum on Z/p. A figure per
column, a table, and all numbers as JSON.
"""

import json
from math import isqrt

import click
import matplotlib.pyplot as plt
import numpy as np
import torch
from rich.table import Table

from analysis import style
from grok.experiment.show import wide_console
from grok.measures import sequences
from grok.tasks.orderings import ORDERINGS, Resonant, order_of, resonant_batches
from grok.tasks.pairs import sample_pairs

COLUMNS = {"c": "answer c = a + b mod p", "a": "first operand a", "b": "second operand b"}


@click.command(help=__doc__)
@click.option("-p", default=9973, show_default=True, help="modulus")
@click.option("--train-count", default=300_000, show_default=True)
@click.option("--batch-size", default=256, show_default=True)
@click.option("--seed", default=42, show_default=True)
@click.option("--stride", type=int, help="floor(sqrt(p)), if none")
@style.options
def main(p, train_count, batch_size, seed, stride) -> None:
    stride = stride or isqrt(p)
    orders = shown_orders(p, min(train_count, p * p), batch_size, seed, stride)
    found = {}
    for column in COLUMNS:
        signals = {name: (one[column], size) for name, (one, size) in orders.items()}
        found[column] = {name: sequences.signals(x, p, size) for name, (x, size) in signals.items()}
        style.save(draw(found[column], p, stride, column), f"ordering_spectrum_{column}")
    numbers = {
        column: {order: sequences.summary(one, p, stride) for order, one in each.items()}
        for column, each in found.items()
    }
    wide_console(150).print(table_of(numbers["c"]))
    path = style.place("ordering_spectrum.json")
    facts = {"p": p, "stride": stride, "seed": seed, "columns": numbers}
    path.write_text(json.dumps(facts, indent=1))
    print(path)


def shown_orders(
    p: int, count: int, batch: int, seed: int, stride: int
) -> dict[str, tuple[dict, int]]:
    """Columns a, b, c of the train set as one epoch of each order shows them, and its batch size."""
    train, _ = sample_pairs(p, count, 0, seed)
    orders = {}
    for name in ORDERINGS:
        size = batch
        if name == "resonant":
            batches = resonant_batches(p, seed, Resonant(stride))
            pairs, size = batches.flatten(0, 1), batches.shape[1]
        elif name == "random":
            pairs = train[torch.randperm(count, generator=torch.Generator().manual_seed(seed + 1))]
        else:
            pairs = train[order_of(name, train, train.sum(1) % p, p, seed, stride)]
        a, b = pairs.numpy().T
        orders[name] = {"a": a, "b": b, "c": (a + b) % p}, size
    return orders


def table_of(orders: dict[str, dict]) -> Table:
    """The numbers of the answers' column, an order a row."""
    shown = (
        "flatness",
        "autocorrelation_1",
        "entropy_mean",
        "distinct_mean",
        "below_stride",
        "above_stride",
    )
    table = Table("order", *(style.words(name) for name in shown), "peaks on Z/p")
    for order, numbers in orders.items():
        table.add_row(order, *(f"{numbers[name]:.3g}" for name in shown), str(numbers["peaks"]))
    return table


def draw(found: dict[str, dict], p: int, stride: int, column: str):
    """A row per quantity, a column per order."""
    rows = ("spectrum", "autocorrelation", "steps", "entropy", "distinct", "circle")
    figure, axes = plt.subplots(
        len(rows), len(found), figsize=(3 * len(found), 13), sharey="row", layout="constrained"
    )
    for panels, (order, one) in zip(axes.T, found.items(), strict=True):
        panels[0].set_title(order)
        window = max(1, min(100, len(one["spectrum"]) // 10))
        smooth = np.convolve(one["spectrum"], np.ones(window) / window, "valid")
        panels[0].loglog(np.arange(1, len(smooth) + 1), smooth, lw=0.8)
        panels[1].plot(
            np.arange(1, len(one["autocorrelation"]) + 1), one["autocorrelation"], lw=0.8
        )
        panels[2].hist(one["steps"], 101, range=(-p / 2, p / 2), density=True, log=True)
        panels[3].plot(one["entropy"], ".", ms=2)
        panels[4].plot(one["distinct"], ".", ms=2)
        panels[5].semilogy(np.arange(1, len(one["circle"]) + 1), one["circle"], lw=0.8)
        panels[5].axhline(1, color="grey", lw=0.7, ls=":")
        for h in range(1, 6):
            if h * stride <= len(one["circle"]):
                panels[5].axvline(h * stride, color=style.TRAIN, lw=0.5, alpha=0.6)
    labels = ("spectrum", "autocorrelation", "step to the next", "entropy of a batch", "distinct symbols / p",
              "power on Z/p, mean of batches")  # fmt: skip
    for panel, label in zip(axes[:, 0], labels, strict=True):
        panel.set_ylabel(label, fontsize="small")
    figure.suptitle(COLUMNS[column])
    return figure


if __name__ == "__main__":
    main()
