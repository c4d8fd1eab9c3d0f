"""Figures of Gromov 2023 and Doshi et al. 2024.

`grok replicate doshi` makes the runs.

How periodic the neurons are before and after training, the accuracy that networks by construction
reach at each width, and what pruning by periodicity removes.
"""

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from grok.analysis import query, style
from grok.store.connection import Store
from grok.theory import modular

PERIODICITY_CASES = {
    "cpu": "a + b, AdamW",
    "product": "a b, by the logarithm",
    "descent": "a + b, gradient descent",
}
BINS = np.linspace(0, 1, 41)
CONSTRUCTION_SEEDS = 10
CONSTRUCTION_MODULI = (23, 97)
WIDTHS = (10, 17, 25, 35, 50, 70, 100, 140, 200, 280, 400, 560, 800)
PRUNING_ORDERS = {"low": "least", "high": "most"}
PRUNING_ROWS = {"test": style.TEST, "clean": style.TRAIN, "corrupted": "black"}


@click.command(help=__doc__)
@style.options
def main() -> None:
    store = query.connect()
    _, runs = query.sweep(store, "doshi_cpu")
    first_seed = runs[runs["config.seed"] == runs["config.seed"].min()]
    run_ids = first_seed.set_index("config.preset")["run"]
    style.save(plot_periodicity(store, run_ids), "doshi_periodicity")
    style.save(plot_widths(), "doshi_widths")
    style.save(plot_pruning(query.metrics(store, [run_ids["noisy"]])), "doshi_pruning")


def plot_periodicity(store: Store, run_ids: pd.Series) -> Figure:
    """Inverse participation ratio of the neurons at the start and at the end, of three runs."""
    figure, panels = plt.subplots(1, 3, figsize=(12, 3.2), sharey=True)
    for axes, (preset, title) in zip(panels, PERIODICITY_CASES.items(), strict=True):
        ratios = query.arrays(store, run_ids[preset])["neuron_ipr"]
        axes.hist(ratios[0], BINS, color="grey", label="at the start")
        axes.hist(ratios[-1], BINS, color=style.TEST, alpha=0.8, label="at the end")
        axes.set(title=title, xlabel="inverse participation ratio")
    panels[0].set(ylabel="neurons")
    panels[0].legend()
    return figure


def plot_widths() -> Figure:
    """Accuracy of networks by construction against their width: mean and range over their phases."""
    figure, axes = plt.subplots(figsize=(5, 3.4))
    for p in CONSTRUCTION_MODULI:
        accuracies = np.array([constructed_accuracies(p, width) for width in WIDTHS])
        (line,) = axes.plot(WIDTHS, accuracies.mean(1), "o-", ms=3, label=f"p = {p}")
        axes.fill_between(
            WIDTHS, accuracies.min(1), accuracies.max(1), color=line.get_color(), alpha=0.2
        )
    axes.set(xscale="log", xlabel="width", ylabel="accuracy without training", ylim=(0, 1.03))
    axes.legend()
    return figure


def constructed_accuracies(p: int, width: int) -> list[float]:
    """Accuracy on all pairs of each of ten networks that add modulo p by construction."""
    pairs = np.array([(a, b) for a in range(p) for b in range(p)])
    labels = pairs.sum(1) % p
    accuracies = []
    for seed in range(CONSTRUCTION_SEEDS):
        inputs, outputs = modular.network(p, width, terms=2, product=False, seed=seed)
        accuracies.append(modular.accuracy(inputs, outputs, pairs, labels))
    return accuracies


def plot_pruning(values: pd.DataFrame) -> Figure:
    """Accuracies as neurons are removed: the least periodic first, the most periodic first."""
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True)
    for axes, (order, title) in zip(panels, PRUNING_ORDERS.items(), strict=True):
        for rows, colour in PRUNING_ROWS.items():
            curve = values[values["metric"] == f"pruned/{order}_{rows}"]
            axes.plot(curve["step"], curve["value"], "o-", ms=3, color=colour, label=rows)
        axes.set(title=f"the {title} periodic first", xlabel="neurons removed, %")
    panels[0].set(ylabel="accuracy")
    panels[0].legend(title="rows")
    return figure


if __name__ == "__main__":
    main()
