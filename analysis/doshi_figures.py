"""Gromov 2023 and Doshi et al. 2024: how periodic neurons are before and after, what networks by
construction reach at which width, and what pruning by periodicity removes.

`grok replicate doshi` first.
"""

import click
import matplotlib.pyplot as plt
import numpy as np

from analysis import query, style
from grok.theory import modular

SEEDS = 10
WIDTHS = (10, 17, 25, 35, 50, 70, 100, 140, 200, 280, 400, 560, 800)


@click.command(help=__doc__)
@style.options
def main() -> None:
    store = query.connect()
    _, runs = query.sweep(store, "doshi_cpu")
    runs = runs[runs["config.seed"] == runs["config.seed"].min()].set_index("config.preset")
    style.save(histograms(store, runs), "doshi_periodicity")
    style.save(widths(), "doshi_widths")
    style.save(pruning(query.metrics(store, [runs.loc["noisy", "run"]])), "doshi_pruning")


def histograms(store, runs):
    """Inverse participation ratio of the neurons at the start and at the end, of three runs."""
    titles = {"cpu": "a + b, AdamW", "product": "a b, by the logarithm",
              "descent": "a + b, gradient descent"}  # fmt: skip
    figure, panels = plt.subplots(1, 3, figsize=(12, 3.2), sharey=True)
    bins = np.linspace(0, 1, 41)
    for axes, (case, title) in zip(panels, titles.items(), strict=True):
        ratios = query.arrays(store, runs.loc[case, "run"])["neuron_ipr"]
        axes.hist(ratios[0], bins, color="grey", label="at the start")
        axes.hist(ratios[-1], bins, color=style.TEST, alpha=0.8, label="at the end")
        axes.set(title=title, xlabel="inverse participation ratio")
    panels[0].set(ylabel="neurons")
    panels[0].legend()
    return figure


def widths():
    """Accuracy of networks by construction against their width, ten draws of the phases each."""
    figure, axes = plt.subplots(figsize=(5, 3.4))
    rows = {p: np.array([(a, b) for a in range(p) for b in range(p)]) for p in (23, 97)}
    for p, pairs in rows.items():
        reached = np.array([
            [modular.accuracy(*modular.network(p, width, 2, False, seed), pairs, pairs.sum(1) % p)
             for seed in range(SEEDS)]
            for width in WIDTHS
        ])  # fmt: skip
        line = axes.plot(WIDTHS, reached.mean(1), "o-", ms=3, label=f"p = {p}")[0]
        axes.fill_between(WIDTHS, reached.min(1), reached.max(1), color=line.get_color(), alpha=0.2)
    axes.set(xscale="log", xlabel="width", ylabel="accuracy without training", ylim=(0, 1.03))
    axes.legend()
    return figure


def pruning(values):
    """Accuracies as neurons are removed: the least periodic first, the most periodic first."""
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True)
    names = {"test": style.TEST, "clean": style.TRAIN, "corrupted": "black"}
    for axes, end, title in zip(panels, ("low", "high"), ("least", "most"), strict=True):
        for name, colour in names.items():
            curve = values[values["metric"] == f"pruned/{end}_{name}"]
            axes.plot(curve["step"], curve["value"], "o-", ms=3, color=colour, label=name)
        axes.set(title=f"the {title} periodic first", xlabel="neurons removed, %")
    panels[0].set(ylabel="accuracy")
    panels[0].legend(title="rows")
    return figure


if __name__ == "__main__":
    main()
