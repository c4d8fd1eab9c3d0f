"""Learning curves of any runs.

`python analysis/learning_curves.py experiment=liu_toy p=10`

Runs that differ only in their seeds are one line, their mean, with a band around it. A run that
ended before the others keeps its last value.
"""

from collections.abc import Sequence

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok.analysis import groups, query, style
from grok.cli.options import SELECTION_HELP, runs_argument

BANDS = {"std": "standard deviation", "sem": "standard error", "range": "median and full range"}
PANELS_PER_ROW = 3
# Results that hold the steps at which an accuracy reaches the run's threshold, and their line styles.
THRESHOLD_STEPS = {"result.steps_to_train": ":", "result.steps_to_test": "--"}


@click.command(help=__doc__, epilog=SELECTION_HELP)
@runs_argument
@click.option(
    "-M",
    "--metric",
    "metrics",
    multiple=True,
    default=("train_accuracy", "test_accuracy"),
    show_default=True,
    help="Metric to plot; may be repeated.",
)
@groups.by_option
@click.option(
    "--layout",
    type=click.Choice(["metrics", "groups"]),
    default="metrics",
    show_default=True,
    help="One panel per metric, or one panel per group of runs.",
)
@click.option(
    "--band",
    type=click.Choice([*BANDS, "none"]),
    default="std",
    show_default=True,
    help=f"Band over seeds: {', '.join(f'{kind} ({text})' for kind, text in BANDS.items())}.",
)
@click.option(
    "--smooth",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    help="Weight of the past in an exponential moving average; the raw curve is drawn faintly.",
)
@click.option("--linear", is_flag=True, help="Use a linear axis of steps.")
@click.option("--log-y", is_flag=True, help="Use a logarithmic axis of values.")
@click.option(
    "--phases",
    is_flag=True,
    help="Mark the median steps at which train and test accuracy reach the threshold.",
)
@style.name_option("learning_curves")
@style.options
def main(
    filters: tuple[str, ...],
    metrics: tuple[str, ...],
    keys: tuple[str, ...],
    layout: str,
    band: str,
    smooth: float,
    linear: bool,
    log_y: bool,
    phases: bool,
    name: str,
) -> None:
    store = query.connect()
    runs = groups.with_groups(query.selected_runs(store, filters), keys)
    long = groups.grouped_metrics(store, runs, metrics)
    group_names = list(dict.fromkeys(runs["group"]))
    by_metric = layout == "metrics"
    panels, lines = (metrics, group_names) if by_metric else (group_names, metrics)
    figure, axes = panel_grid(len(panels))
    for panel, panel_name in zip(axes, panels, strict=True):
        for line_name, colour in zip(lines, style.cycle_colours(len(lines)), strict=True):
            group, metric = (line_name, panel_name) if by_metric else (panel_name, line_name)
            rows = long[(long["group"] == group) & (long["metric"] == metric)]
            if rows.empty:
                continue
            label = style.axis_label(line_name)
            plot_band(panel, groups.aligned_curves(rows), band, smooth, colour, label)
            if phases:
                marker_colour = colour if by_metric else "grey"
                mark_thresholds(panel, runs[runs["group"] == group], marker_colour)
        panel.set_title(style.axis_label(panel_name), fontsize="medium")
        set_scales(panel, linear, log_y)
    axes[0].legend(fontsize="small")
    style.save(figure, name)


def panel_grid(count: int) -> tuple[Figure, Sequence[Axes]]:
    """A figure and its `count` panels."""
    columns = min(PANELS_PER_ROW, count)
    rows = -(-count // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(4.4 * columns, 3.2 * rows), squeeze=False, layout="constrained"
    )
    for unused in axes.flat[count:]:
        unused.remove()
    return figure, list(axes.flat[:count])


def plot_band(
    axes: Axes, curves: pd.DataFrame, band: str, smooth: float, colour: str, label: str
) -> None:
    """Plot the centre of the curves (one column per run) and their band, with gaps at infinities."""
    kind = "std" if band == "none" else band
    centre, low, high = groups.band(curves.replace([np.inf, -np.inf], np.nan), kind)
    low = low.clip(lower=curves.min(axis=1))  # stays positive on a logarithmic axis
    if smooth:
        axes.plot(centre.index, centre, color=colour, alpha=0.25, lw=0.8)
        centre, low, high = (values.ewm(alpha=1 - smooth).mean() for values in (centre, low, high))
    count = curves.shape[1]
    axes.plot(
        centre.index, centre, color=colour, label=f"{label} ({count})" if count > 1 else label
    )
    if band != "none" and count > 1:
        axes.fill_between(centre.index, low, high, color=colour, alpha=0.18, lw=0)


def mark_thresholds(axes: Axes, runs: pd.DataFrame, colour: str) -> None:
    """Draw vertical lines at the median steps to the thresholds: train dotted, test dashed."""
    for column, line_style in THRESHOLD_STEPS.items():
        steps = pd.to_numeric(runs.get(column, pd.Series(dtype=float)), errors="coerce").dropna()
        if len(steps):
            axes.axvline(steps.median(), color=colour, ls=line_style, lw=1)


def set_scales(axes: Axes, linear: bool, log_y: bool) -> None:
    """Set the scales of both axes and the label of the steps."""
    if linear:
        axes.set_xlabel("step")
    else:
        style.log_steps(axes)
    if log_y:
        axes.set_yscale("log")


if __name__ == "__main__":
    main()
