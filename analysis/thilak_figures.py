"""Figures 1 to 4 of Thilak et al. 2022: slingshots, and what removes them.

`grok replicate thilak` makes the runs.
"""

from dataclasses import dataclass

import click
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok.analysis import query, style


@dataclass(frozen=True)
class Panel:
    """A metric, its label, and the scale of its axis."""

    metric: str
    label: str
    scale: str


TRAIN_LOSS = Panel("train_loss", "train loss", "log")
CLASSIFIER_NORM = Panel("classifier_norm", "norm of the last layer", "linear")
SHARPNESS = Panel("update_sharpness", "sharpness along the update", "symlog")
FEATURE_CHANGE = Panel("representation_change", "relative change of features", "log")
TEST_ACCURACY = Panel("test_accuracy", "test accuracy", "linear")
CYCLE_PANELS = (TRAIN_LOSS, CLASSIFIER_NORM, SHARPNESS, FEATURE_CHANGE, TEST_ACCURACY)
COMPARISON_PANELS = (TRAIN_LOSS, CLASSIFIER_NORM, TEST_ACCURACY)
TEST_ACCURACY_LIMITS = (0.7, 1)
PRESETS = {
    "cpu": r"$\epsilon = 10^{-8}$, float32",
    "cpu_large_eps": r"$\epsilon = 10^{-5}$, float32",
    "cpu_float64": r"$\epsilon = 10^{-8}$, loss in float64",
}


@click.command(help=__doc__)
@style.options
def main() -> None:
    store = query.connect()
    _, runs = query.sweep(store, "thilak_cpu")
    first_seed = runs[runs["config.seed"] == runs["config.seed"].min()].set_index("config.preset")
    curves = {preset: query.curves(store, first_seed.loc[preset, "run"]) for preset in PRESETS}
    slingshot_steps = first_seed.loc["cpu", "result.cycle_steps"]
    style.save(plot_slingshots(curves["cpu"], slingshot_steps), "thilak_slingshots")
    style.save(plot_comparison(curves), "thilak_comparison")


def plot_slingshots(curves: pd.DataFrame, slingshot_steps: list[int]) -> Figure:
    """One run: loss, norm, sharpness, features and test accuracy, with every slingshot marked."""
    figure, axes = plt.subplots(len(CYCLE_PANELS), 1, figsize=(8, 10), sharex=True)
    for panel_axes, panel in zip(axes, CYCLE_PANELS, strict=True):
        plot_metric(panel_axes, panel, curves, color="black")
        for step in slingshot_steps:
            panel_axes.axvline(step, color=style.TRAIN, lw=0.8, ls=":")
        panel_axes.set_yscale(panel.scale)
        if panel.scale == "symlog":
            panel_axes.set_ylim(bottom=-1)
        panel_axes.set_ylabel(panel.label, fontsize=8)
    axes[-1].set(xlabel="step")
    axes[-1].set_ylim(TEST_ACCURACY_LIMITS)
    return figure


def plot_comparison(curves: dict[str, pd.DataFrame]) -> Figure:
    """Loss, norm and test accuracy with a small epsilon, a larger one, and the loss in float64."""
    figure, axes = plt.subplots(1, len(COMPARISON_PANELS), figsize=(12, 3.4))
    for panel_axes, panel in zip(axes, COMPARISON_PANELS, strict=True):
        for preset, label in PRESETS.items():
            plot_metric(panel_axes, panel, curves[preset], label=label)
        panel_axes.set(xlabel="step", ylabel=panel.label, yscale=panel.scale)
    axes[-1].set_ylim(TEST_ACCURACY_LIMITS)
    axes[1].legend(fontsize=8)
    figure.tight_layout()
    return figure


def plot_metric(
    axes: Axes,
    panel: Panel,
    curves: pd.DataFrame,
    color: str | None = None,
    label: str | None = None,
) -> None:
    """Plot a panel's metric, with gaps where a logarithmic axis has no place for it."""
    values = curves[panel.metric]
    if panel.scale == "log":
        values = values.where(values > 0)
    axes.plot(values, color=color, label=label, lw=1)


if __name__ == "__main__":
    main()
