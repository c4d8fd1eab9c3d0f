"""Figures 1 to 4, 6 and 7 of Power et al. 2022.

`python analysis/power_figures.py [--paper]`

`grok sweep run sweeps/power_figure1.yaml` and its siblings make the runs (with --paper,
sweeps/power_*_paper.yaml); figures of sweeps that have not been run are left out.
"""

from collections.abc import Callable
from functools import partial

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok.analysis import query, style
from grok.claims import statistics
from grok.errors import UserError
from grok.measures.fourier import power_spectrum
from grok.store.connection import Store

MARKERS = "osv^D*Px+<>dhp"
PRESET_PREFIXES = ("small_", "paper_")  # of named configs, not shown in legends
FITTED_TRAIN_ACCURACY = 0.99  # from which a run counts as having fit its train set
SHARPNESS_SCALES = {"sharpness": "linear", "published_sharpness": "symlog"}


@click.command(help=__doc__)
@click.option("--paper", is_flag=True, help="Show the sweeps at the paper's scale.")
@style.options
def main(paper: bool) -> None:
    store = query.connect()
    suffix = "_paper" if paper else ""
    available = [name for name in PLOTS if query.has_finished_run(store, name + suffix)]
    for name in PLOTS:
        if name not in available:
            print(f"{name}{suffix}: not run yet (grok sweep run sweeps/{name}{suffix}.yaml)")
    if not available:
        raise UserError("none of the sweeps has been run")
    for name in available:
        _, runs = query.sweep(store, name + suffix)
        style.save(PLOTS[name](store, runs), name + suffix)


def plot_learning(store: Store, runs: pd.DataFrame) -> Figure:
    """Figures 1 left and 4: accuracy and loss; figure 3: the circle in the output layer."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 3.8))
    first_run = runs.iloc[0]
    curves = [query.curves(store, run_id) for run_id in runs["run"]]
    for axes, metric in ((left, "accuracy"), (middle, "loss")):
        for split, colour in (("train", style.TRAIN), ("test", style.TEST)):
            seeds = (curve[f"{split}_{metric}"] for curve in curves)
            style.plot_seeds(axes, seeds, split, color=colour)
        style.log_steps(axes)
    left.set_ylabel("accuracy")
    left.legend()
    middle.set(ylabel="loss", yscale="log")
    figure.suptitle(f"{first_run['config.operation']} mod {first_run['config.p']}", y=1)
    plot_circle(right, query.weights(store, first_run["run"])["output.weight"])
    return figure


def plot_circle(axes: Axes, W_U: np.ndarray) -> None:
    """Plot the rows of the output layer (P, D) in the plane of their strongest frequency."""
    centred = W_U - W_U.mean(0)
    power = power_spectrum(torch.from_numpy(centred)).sum(1).numpy()
    strongest = int(power.argmax())
    fraction = power[strongest] / power.sum()
    # The rows move in two directions, with the cosine and the sine of the frequency.
    component = np.fft.rfft(centred, axis=0)[strongest]
    plane, _ = np.linalg.qr(np.stack([component.real, component.imag], axis=1))
    x, y = (centred @ plane).T
    symbols = len(W_U)
    order = np.arange(symbols) * pow(strongest, -1, symbols) % symbols  # neighbours on the circle
    closed = [*order, order[0]]
    axes.plot(x[closed], y[closed], color="lightgrey", lw=0.7)
    axes.scatter(x, y, s=8, color=style.TEST)
    for symbol in range(symbols):
        axes.annotate(str(symbol), (x[symbol], y[symbol]), fontsize=6)
    axes.set_title(f"output weights, frequency {strongest} ({fraction:.0%} of power)", fontsize=9)
    axes.set_aspect("equal")
    axes.set(xticks=[], yticks=[])


def plot_train_fractions(store: Store, runs: pd.DataFrame) -> Figure:
    """Figure 1 center: steps to 99 % of train and test accuracy against the train fraction."""
    figure, axes = plt.subplots(figsize=(5.5, 4))
    budget = runs["config.train_steps"].max()
    for split, colour in (("train", style.TRAIN), ("test", style.TEST)):
        steps = runs[f"result.steps_to_{split}"].astype(float)
        axes.scatter(runs["config.train_fraction"], steps, s=14, color=colour, alpha=0.6)
        medians = {
            fraction: statistics.median(rows.fillna(budget), rows.notna())
            for fraction, rows in steps.groupby(runs["config.train_fraction"])
        }
        axes.plot(list(medians), list(medians.values()), color=colour, label=f"{split}, median")
    axes.set(yscale="log", xlabel="train fraction", ylabel="steps to 99 %")
    axes.legend()
    return figure


def plot_best_accuracy(store: Store, runs: pd.DataFrame, key: str) -> Figure:
    """Figures 2 and 6: best test accuracy against the train fraction, a line per value of a key.

    Arguments:
        key: the config key that the sweep varies.
    """
    accuracies = query.metrics(store, list(runs["run"]), ["test_accuracy"])
    best = accuracies.groupby("run")["value"].max().rename("best")
    means = runs.merge(best, on="run").pivot_table("best", "config.train_fraction", f"config.{key}")
    highest_first = means.mean().sort_values(ascending=False).index  # as the lines lie
    figure, axes = plt.subplots(figsize=(7, 4.5))
    for index, value in enumerate(highest_first):
        axes.plot(
            means[value],
            marker=MARKERS[index % len(MARKERS)],
            ms=4,
            label=legend_label(value),
            color=plt.get_cmap("tab20")(index),
        )
    axes.set(xlabel="train fraction", ylabel="best test accuracy")
    axes.legend(fontsize=8, bbox_to_anchor=(1, 1), title=style.axis_label(key))
    return figure


def legend_label(value: object) -> str:
    """The value of a config key as text; a named config without the part that tells its scale."""
    text = str(value)
    for prefix in PRESET_PREFIXES:
        text = text.removeprefix(prefix)
    return text.replace("_", " ")


def plot_sharpness(store: Store, runs: pd.DataFrame) -> Figure:
    """Figure 7: final test accuracy against sharpness, Keskar's and that of the published code.

    Hollow points are runs that do not fit their train set at the end. The correlation leaves them
    out.
    """
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.8), sharey=True)
    fitted = runs["result.train_accuracy"] >= FITTED_TRAIN_ACCURACY
    accuracy = runs["result.test_accuracy"]
    for axes, (name, scale) in zip(panels, SHARPNESS_SCALES.items(), strict=True):
        sharpness = runs[f"result.{name}"].astype(float)
        axes.scatter(sharpness[fitted], accuracy[fitted], s=20, color=style.TEST)
        axes.scatter(
            sharpness[~fitted],
            accuracy[~fitted],
            s=20,
            facecolors="none",
            edgecolors=style.TEST,
        )
        correlation = sharpness[fitted].corr(accuracy[fitted], method="spearman")
        axes.set(xscale=scale, xlabel=style.axis_label(name))
        axes.set_title(f"rank correlation {correlation:.2f}", fontsize=9)
    panels[0].set_ylabel("final test accuracy")
    return figure


PLOTS: dict[str, Callable[[Store, pd.DataFrame], Figure]] = {
    "power_figure1": plot_learning,
    "power_figure1_center": plot_train_fractions,
    "power_figure2_left": partial(plot_best_accuracy, key="preset"),
    "power_figure2_right": partial(plot_best_accuracy, key="operation"),
    "power_figure6": partial(plot_best_accuracy, key="noisy_answers"),
    "power_figure7": plot_sharpness,
}

if __name__ == "__main__":
    main()
