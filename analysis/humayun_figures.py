"""Figures 2, 7, 12 and 29 and table 1 of Humayun et al. 2024: delayed robustness, linear regions.

`grok replicate humayun` makes the runs; figures of sweeps that have not been run are left out.
"""

from collections.abc import Callable
from math import inf

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.table import Table

from grok import phases
from grok.analysis import query, style
from grok.experiment import show
from grok.store.connection import Store

ROBUST_FRACTION = 0.5  # of the test images of digits, that must withstand attacks of 0.03
RISE = 0.1  # of the accuracy under attacks of 0.06 on MNIST, since the network has memorized
MEMORIZED = 0.99  # train accuracy
ACCURACIES = {
    "test_accuracy": "clean",
    "adversarial_accuracy_03": "attacked, 0.03",
    "adversarial_accuracy_06": "0.06",
    "adversarial_accuracy_10": "0.10",
}
COMPLEXITY_POINTS = ("train", "test", "random")
COMPLEXITY_RADII = {"005": "0.005", "050": "0.05"}
NORMALIZATIONS = {"mnist": "without", "mnist_normalized": "with batch normalization"}
COMPARED_METRICS = {
    "test_accuracy": "test accuracy",
    "adversarial_accuracy_06": "accuracy under attacks of 0.06",
    "complexity_train_050": "local complexity about train points",
}
TREND_LABELS = {
    "trend": "4 layers of 200, 1000 images, batch 200",
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
    if query.has_finished_run(store, "humayun_cpu"):
        _, runs = query.sweep(store, "humayun_cpu")
        style.save(plot_regions(query.curves_by_preset(store, runs)["cpu"][0]), "humayun_regions")
    if query.has_finished_run(store, "humayun_mnist"):
        _, runs = query.sweep(store, "humayun_mnist")
        curves = query.curves_by_preset(store, runs)
        style.save(plot_regions(curves["mnist"][0]), "humayun_mnist")
        style.save(plot_normalization(curves), "humayun_normalization")
    for sweep, prefix, measure in (
        ("humayun_trends", "", step_of_half),
        ("humayun_mnist_trends", "mnist_", step_of_rise),
    ):
        if query.has_finished_run(store, sweep):
            steps = steps_to_robustness(store, sweep, prefix, measure)
            show.wide_console(110).print(trend_table(steps, sweep))
            style.save(plot_trends(steps), sweep)


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


def plot_normalization(curves: dict[str, list[pd.DataFrame]]) -> Figure:
    """Clean and attacked accuracy and local complexity, with and without batch normalization."""
    figure, panels = plt.subplots(1, 3, figsize=(14, 3.8), layout="constrained")
    for axes, (metric, metric_label) in zip(panels, COMPARED_METRICS.items(), strict=True):
        for (preset, label), colour in zip(NORMALIZATIONS.items(), style.COLOURS, strict=False):
            seeds = (curve[metric] for curve in curves[preset])
            style.plot_seeds(axes, seeds, label, color=colour)
        axes.set(xlabel="step", xscale="log", ylabel=metric_label, xlim=(1, None))
    panels[0].legend(fontsize="small")
    return figure


def step_of_half(curve: pd.DataFrame) -> float:
    """The step at which half of the attacks of 0.03 are withstood, reached and held."""
    return first_step_held(curve["adversarial_accuracy_03"], ROBUST_FRACTION)


def step_of_rise(curve: pd.DataFrame) -> float:
    """The step at which accuracy under attacks of 0.06 has risen by RISE since the network had
    memorized."""
    memorized = first_step_held(curve["train_accuracy"], MEMORIZED)
    later = curve["adversarial_accuracy_06"].loc[memorized:]
    return first_step_held(later, later.iloc[0] + RISE) if len(later) else inf


def first_step_held(curve: pd.Series, threshold: float) -> float:
    """`grok.phases.first_step_held` of a metric; inf if there is no such step."""
    values = curve.dropna()
    step = phases.first_step_held(list(values.index), list(values), threshold)
    return inf if step is None else step


def steps_to_robustness(
    store: Store, sweep: str, prefix: str, measure: Callable[[pd.DataFrame], float]
) -> dict[str, list[float]]:
    """The measured step of each run, in the order of seeds, by the keys of TREND_LABELS."""
    _, runs = query.sweep(store, sweep)
    curves = query.curves_by_preset(store, runs)
    return {name: [measure(curve) for curve in curves[prefix + name]] for name in TREND_LABELS}


def trend_table(steps: dict[str, list[float]], title: str) -> Table:
    """Table 1: steps to robustness, and on how many seeds there are more than of the baseline."""
    table = Table("", "steps, seed by seed", "median", "later", title=title)
    for name, values in steps.items():
        later = int(np.sum(np.array(values) > steps["trend"]))
        table.add_row(
            TREND_LABELS[name],
            "  ".join(format_steps(value) for value in values),
            format_steps(float(np.median(values))),
            "" if name == "trend" else f"{later} of {len(values)}",
        )
    return table


def format_steps(steps: float) -> str:
    return "never" if np.isinf(steps) else f"{steps:,.0f}"


def plot_trends(steps: dict[str, list[float]]) -> Figure:
    """The table as dots, with a line at the baseline's median; runs that never arrive are counted."""
    figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
    for position, values in enumerate(steps.values()):
        axes.plot(values, [position] * len(values), "o", color=style.COLOURS[0], alpha=0.7)
        if never := int(np.isinf(values).sum()):
            place = ("axes fraction", "data")
            axes.annotate(f"{never} never", (1.02, position), xycoords=place, va="center")
    axes.axvline(np.median(steps["trend"]), color="grey", lw=0.7)
    axes.set_yticks(range(len(steps)), [TREND_LABELS[name] for name in steps])
    axes.set_xlabel("steps to robustness")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_ylim(len(steps) - 0.5, -0.5)
    return figure


if __name__ == "__main__":
    main()
