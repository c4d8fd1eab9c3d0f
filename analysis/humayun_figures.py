"""Figures 2, 7, 12 and 29 and table 1 of Humayun et al. 2024: delayed robustness, linear regions.

`grok replicate humayun` makes the runs.
"""

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.table import Table

from analysis import query, style
from grok.experiment import show
from grok.store.connection import Store

ATTACKED_ACCURACY = "adversarial_accuracy_03"  # under attacks of size 0.03
ROBUST_FRACTION = 0.5  # of the test set, that must withstand the attacks
ACCURACIES = {
    "test_accuracy": "clean",
    "adversarial_accuracy_03": "attacked, 0.03",
    "adversarial_accuracy_06": "0.06",
    "adversarial_accuracy_10": "0.10",
}
COMPLEXITY_POINTS = ("train", "test", "random")
COMPLEXITY_RADII = {"005": "0.005", "050": "0.05"}
INITIALIZATIONS = {
    "cpu": "8 x torch's initial weights",
    "cpu_normalized": "with batch normalization",
    "cpu_small_init": "torch's initial weights",
}
COMPARED_METRICS = {
    "test_accuracy": "test accuracy",
    ATTACKED_ACCURACY: "accuracy under attacks of 0.03",
    "complexity_train_050": "local complexity about train points",
}
BASELINE = "trend"
TREND_LABELS = {
    BASELINE: "4 layers of 200, 1000 images, batch 200",
    "shallow": "3 layers",
    "narrow": "width 100",
    "little_data": "500 images",
    "small_batch": "batch 50",
    "random_labels": "10 % random labels",
}


@click.command(help=__doc__)
@style.options
def main() -> None:
    store = query.connect()
    _, runs = query.sweep(store, "humayun_cpu")
    curves = query.curves_by_preset(store, runs)
    style.save(plot_regions(curves["cpu"][0]), "humayun_regions")
    style.save(plot_initializations(curves), "humayun_normalization")
    if query.has_finished_run(store, "humayun_trends"):
        _, trend_runs = query.sweep(store, "humayun_trends")
        steps = steps_to_robustness(store, trend_runs)
        show.wide_console(110).print(trend_table(steps))
        style.save(plot_trends(steps), "humayun_trends")


def plot_regions(curve: pd.DataFrame) -> Figure:
    """One run: accuracies, clean and attacked, above; local complexity at two radii below."""
    figure, panels = plt.subplots(3, 1, figsize=(8, 9), sharex=True, layout="constrained")
    for metric, label in ACCURACIES.items():
        panels[0].plot(curve[metric], label=label)
    panels[0].plot(curve["train_accuracy"], color="grey", ls=":", label="train")
    panels[0].set(ylabel="accuracy", ylim=(-0.03, 1.03))
    for axes, (suffix, radius) in zip(panels[1:], COMPLEXITY_RADII.items(), strict=True):
        for points in COMPLEXITY_POINTS:
            axes.plot(curve[f"complexity_{points}_{suffix}"], label=f"about {points} points")
        axes.set_ylabel(f"local complexity, r = {radius}")
    for axes in panels:
        axes.legend(fontsize="small")
    panels[-1].set(xlabel="step", xscale="log", xlim=(100, None))
    return figure


def plot_initializations(curves: dict[str, list[pd.DataFrame]]) -> Figure:
    """Clean and attacked accuracy and local complexity, by initial weights and normalization."""
    figure, panels = plt.subplots(1, 3, figsize=(14, 3.8), layout="constrained")
    for axes, (metric, metric_label) in zip(panels, COMPARED_METRICS.items(), strict=True):
        for (preset, label), colour in zip(INITIALIZATIONS.items(), style.COLOURS, strict=False):
            seeds = (curve[metric] for curve in curves[preset])
            style.plot_seeds(axes, seeds, label, color=colour)
        axes.set(xlabel="step", xscale="log", ylabel=metric_label, xlim=(100, None))
    panels[0].legend(fontsize="small")
    return figure


def steps_to_robustness(store: Store, runs: pd.DataFrame) -> dict[str, list[float]]:
    """Steps to withstand half of the attacks (first crossing), seed by seed, by named config."""
    curves = query.curves_by_preset(store, runs)
    return {
        preset: [
            query.first_crossing(curve[ATTACKED_ACCURACY], ROBUST_FRACTION)
            for curve in curves[preset]
        ]
        for preset in TREND_LABELS
    }


def trend_table(steps: dict[str, list[float]]) -> Table:
    """Table 1: steps to withstand half of the attacks, and on how many seeds more than the baseline."""
    table = Table(
        "", "steps, seed by seed", "median", "later", title="to withstand half the attacks"
    )
    for preset, values in steps.items():
        later = int(np.sum(np.array(values) > steps[BASELINE]))
        table.add_row(
            TREND_LABELS[preset],
            "  ".join(format_steps(value) for value in values),
            format_steps(float(np.median(values))),
            "" if preset == BASELINE else f"{later} of {len(values)}",
        )
    return table


def format_steps(steps: float) -> str:
    return "never" if np.isinf(steps) else f"{steps:,.0f}"


def plot_trends(steps: dict[str, list[float]]) -> Figure:
    """The table as dots, with a line at the baseline's median."""
    figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
    for position, values in enumerate(steps.values()):
        axes.plot(values, [position] * len(values), "o", color=style.COLOURS[0], alpha=0.7)
    axes.axvline(np.median(steps[BASELINE]), color="grey", lw=0.7)
    axes.set_yticks(range(len(steps)), [TREND_LABELS[preset] for preset in steps])
    axes.invert_yaxis()
    axes.set_xlabel("steps to withstand half of the attacks of 0.03")
    return figure


if __name__ == "__main__":
    main()
