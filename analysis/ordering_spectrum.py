"""Orders of the training data as signals.

`python analysis/ordering_spectrum.py -p 97 --train-count 2800`

For the operands and the labels in the sequence of each order: spectrum, autocorrelation and steps
from one symbol to the next; for its batches: entropy, number of distinct symbols and spectrum on
Z/p. One figure per column of the data, a table, and all numbers as JSON.
"""

import json
from math import isqrt

import click
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

from grok.analysis import style
from grok.experiment.show import wide_console
from grok.measures import sequences
from grok.tasks.orderings import ORDERINGS, Resonant, order_of, resonant_batches
from grok.tasks.pairs import sample_pairs

COLUMNS = {"c": "label c = a + b mod p", "a": "first operand a", "b": "second operand b"}
TABLE_COLUMNS = (
    "flatness",
    "autocorrelation_1",
    "entropy_mean",
    "distinct_mean",
    "below_stride",
    "above_stride",
)
PANEL_LABELS = (
    "spectrum",
    "autocorrelation",
    "step to the next",
    "entropy of a batch",
    "distinct symbols / p",
    "power on Z/p, mean of batches",
)
SMOOTHING_WINDOW = 100  # frequencies of the spectrum, or a tenth of them if that is less
HARMONICS = 5  # multiples of the stride that are marked in the spectrum on Z/p

Signals = dict[str, np.ndarray]  # of one sequence, from `sequences.signals`


@click.command(help=__doc__)
@click.option("-p", default=9973, show_default=True, help="Modulus.")
@click.option("--train-count", default=300_000, show_default=True, help="Size of the train set.")
@click.option("--batch-size", default=256, show_default=True, help="Size of a batch.")
@click.option("--seed", default=42, show_default=True, help="Seed of the train set and the orders.")
@click.option("--stride", type=int, help="Stride; by default floor(sqrt(p)).")
@style.options
def main(p: int, train_count: int, batch_size: int, seed: int, stride: int | None) -> None:
    stride = stride or isqrt(p)
    epochs = ordered_epochs(p, min(train_count, p * p), batch_size, seed, stride)
    numbers = {}
    for column in COLUMNS:
        signals = {
            order: sequences.signals(columns[column], p, size)
            for order, (columns, size) in epochs.items()
        }
        style.save(plot_signals(signals, p, stride, COLUMNS[column]), f"ordering_spectrum_{column}")
        numbers[column] = {
            order: sequences.summary(order_signals, p, stride)
            for order, order_signals in signals.items()
        }
    wide_console(150).print(summary_table(numbers["c"]))
    content = {"p": p, "stride": stride, "seed": seed, "columns": numbers}
    print(style.write_text("ordering_spectrum.json", json.dumps(content, indent=1)))


def ordered_epochs(
    p: int, train_count: int, batch_size: int, seed: int, stride: int
) -> dict[str, tuple[dict[str, np.ndarray], int]]:
    """For each order, the columns a, b, c of one epoch in its sequence, and its batch size."""
    train, _ = sample_pairs(p, train_count, 0, seed)
    epochs = {}
    for order in ORDERINGS:
        size = batch_size
        if order == "resonant":
            batches = resonant_batches(p, seed, Resonant(stride))
            pairs, size = batches.flatten(0, 1), batches.shape[1]
        elif order == "random":
            generator = torch.Generator().manual_seed(seed + 1)
            pairs = train[torch.randperm(train_count, generator=generator)]
        else:
            pairs = train[order_of(order, train, train.sum(1) % p, p, seed, stride)]
        a, b = pairs.numpy().T
        epochs[order] = {"a": a, "b": b, "c": (a + b) % p}, size
    return epochs


def summary_table(numbers: dict[str, dict]) -> Table:
    """The numbers of one column of the data, one row per order."""
    headings = [style.axis_label(name) for name in TABLE_COLUMNS]
    table = Table("order", *headings, "peaks on Z/p")
    for order, summary in numbers.items():
        cells = [f"{summary[name]:.3g}" for name in TABLE_COLUMNS]
        table.add_row(order, *cells, str(summary["peaks"]))
    return table


def plot_signals(signals: dict[str, Signals], p: int, stride: int, title: str) -> Figure:
    """A row per quantity, a column per order."""
    figure, axes = plt.subplots(
        len(PANEL_LABELS),
        len(signals),
        figsize=(3 * len(signals), 13),
        sharey="row",
        layout="constrained",
    )
    for panels, (order, order_signals) in zip(axes.T, signals.items(), strict=True):
        panels[0].set_title(order)
        plot_order(panels, order_signals, p, stride)
    for panel, label in zip(axes[:, 0], PANEL_LABELS, strict=True):
        panel.set_ylabel(label, fontsize="small")
    figure.suptitle(title)
    return figure


def plot_order(panels: np.ndarray, signals: Signals, p: int, stride: int) -> None:
    """Fill one column of panels with the quantities of `PANEL_LABELS`."""
    spectrum, autocorrelation, steps, entropy, distinct, circle = panels
    window = max(1, min(SMOOTHING_WINDOW, len(signals["spectrum"]) // 10))
    smooth = np.convolve(signals["spectrum"], np.ones(window) / window, "valid")
    plot_from_one(spectrum, smooth)
    spectrum.set(xscale="log", yscale="log")
    plot_from_one(autocorrelation, signals["autocorrelation"])
    steps.hist(signals["steps"], 101, range=(-p / 2, p / 2), density=True, log=True)
    entropy.plot(signals["entropy"], ".", ms=2)
    distinct.plot(signals["distinct"], ".", ms=2)
    plot_from_one(circle, signals["circle"])
    circle.set_yscale("log")
    circle.axhline(1, color="grey", lw=0.7, ls=":")
    for harmonic in range(stride, stride * HARMONICS + 1, stride):
        if harmonic <= len(signals["circle"]):
            circle.axvline(harmonic, color=style.TRAIN, lw=0.5, alpha=0.6)


def plot_from_one(axes: Axes, values: np.ndarray) -> None:
    """Plot values against 1, 2, 3, ..."""
    axes.plot(np.arange(1, len(values) + 1), values, lw=0.8)


if __name__ == "__main__":
    main()
