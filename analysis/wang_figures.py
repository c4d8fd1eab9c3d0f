"""Figures 1, 2, 4 and 13 of Wang et al. 2024: composition and comparison of facts.

`grok replicate wang` makes the runs.
"""

from typing import Literal

import click
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok.analysis import query, style

ACCURACIES = {
    "train_accuracy": "train inferences",
    "test_accuracy": "test inferences",
    "ood_accuracy": "out-of-distribution inferences",
    "atomic_accuracy": "atomic facts",
}
TASKS = {"cpu": "composition", "cpu_comparison": "comparison"}
# Named configs by the ratio phi of inferred to atomic facts, and by weight decay.
RATIOS = {
    "cpu": "8.5 inferences per fact",
    "phi_72": "7.2",
    "phi_60": "6.0",
    "decay_30": "8.5, weight decay 0.3",
    "decay_100": "8.5, weight decay 1",
}
LENS_METRICS = {"lens_bridge_1": "bridge, at r1", "lens_relation_1": "r2, at r2"}
CAUSAL_METRIC = "causal_1"


@click.command(help=__doc__)
@style.options
def main() -> None:
    store = query.connect()
    _, runs = query.sweep(store, "wang_cpu")
    curves = query.curves_by_preset(store, runs)
    style.save(plot_accuracies(curves), "wang_accuracies")
    style.save(plot_circuit(curves["cpu"]), "wang_circuit")


def plot_accuracies(curves: dict[str, list[pd.DataFrame]]) -> Figure:
    """Accuracies of composition and comparison; test accuracy of composition by phi and decay."""
    figure, panels = plt.subplots(1, 3, figsize=(15, 3.9), layout="constrained")
    for axes, (preset, title) in zip(panels, TASKS.items(), strict=False):
        for (metric, label), colour in zip(ACCURACIES.items(), style.COLOURS, strict=False):
            seeds = (curve[metric] for curve in curves[preset])
            style.plot_seeds(axes, seeds, label, color=colour)
        axes.set(title=title, ylabel="accuracy")
    for (preset, label), colour in zip(RATIOS.items(), style.COLOURS, strict=False):
        seeds = (curve["test_accuracy"] for curve in curves[preset])
        style.plot_seeds(panels[2], seeds, label, color=colour)
    panels[2].set(title="composition, how soon", ylabel="accuracy on test inferences")
    for axes in panels:
        finish_panel(axes)
    return figure


def plot_circuit(curves: list[pd.DataFrame]) -> Figure:
    """After the first of two layers: what the logit lens reads, and what the prediction depends on.

    Arguments:
        curves: the curves of each seed.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    lens_colour_1, lens_colour_2, causal_colour, *_ = style.COLOURS
    for (metric, label), colour in zip(
        LENS_METRICS.items(), (lens_colour_1, lens_colour_2), strict=True
    ):
        plot_metric(left, curves, metric, label, color=colour, marker="o", ms=3)
    causal_label = "predictions that change with the state at r1"
    plot_metric(right, curves, CAUSAL_METRIC, causal_label, color=causal_colour, marker="o", ms=3)
    plot_metric(right, curves, "train_accuracy", "train accuracy", color=style.TRAIN, ls=":")
    plot_metric(right, curves, "test_accuracy", "test accuracy", color=style.TEST, ls=":")
    left.set_ylabel("mean reciprocal rank of the token")
    right.set_ylabel("fraction")
    finish_panel(left)
    finish_panel(right, place="upper left")
    return figure


def plot_metric(
    axes: Axes, curves: list[pd.DataFrame], metric: str, label: str, **line: object
) -> None:
    """Plot a metric of all seeds at the steps at which it was logged."""
    style.plot_seeds(axes, (curve[metric].dropna() for curve in curves), label, **line)


def finish_panel(axes: Axes, place: Literal["best", "upper left"] = "best") -> None:
    """Set the axes and the legend that all panels share."""
    axes.set(xlabel="step", xscale="log", xlim=(30, None), ylim=(-0.03, 1.03))
    axes.legend(loc=place, fontsize="small", frameon=True, framealpha=0.8, edgecolor="none")


if __name__ == "__main__":
    main()
