"""Learning curves of any runs: `python analysis/learning_curves.py experiment=liu_toy p=10`.

Runs that differ in their seed alone are one line, the mean, in a band; a run that ended early keeps its
last value.
"""

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from analysis import groups, query, style
from grok.cli.options import SELECTION_HELP, runs_argument

BANDS = {"std": "standard deviation", "sem": "standard error", "range": "median and full range"}


@click.command(help=__doc__, epilog=SELECTION_HELP)
@runs_argument
@click.option(
    "-m",
    "--metric",
    "names",
    multiple=True,
    default=("train_accuracy", "test_accuracy"),
    show_default=True,
)
@click.option(
    "--by", multiple=True, help="config key that tells lines apart; all that differ, if none"
)
@click.option(
    "--layout",
    type=click.Choice(["metrics", "groups"]),
    default="metrics",
    help="a panel per metric (lines overlaid), or per group (a grid)",
)
@click.option(
    "--band",
    type=click.Choice([*BANDS, "none"]),
    default="std",
    show_default=True,
    help="over seeds: " + ", ".join(f"{k}: {v}" for k, v in BANDS.items()),
)
@click.option(
    "--smooth",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    help="weight of the past in a moving average; the raw curve stays, faint",
)
@click.option("--linear", is_flag=True, help="linear steps")
@click.option("--log-y", is_flag=True, help="logarithmic values")
@click.option(
    "--phases", is_flag=True, help="mark where train and test accuracy reach the threshold"
)
@style.name_option("learning_curves")
@style.options  # fmt: skip
def main(filters, names, by, layout, band, smooth, linear, log_y, phases, name) -> None:
    store = query.connect()
    runs = groups.labelled(query.chosen(store, filters), by)
    long = groups.logged(store, runs, list(names))
    kinds = list(dict.fromkeys(runs["group"]))
    panels, lines = (list(names), kinds) if layout == "metrics" else (kinds, list(names))
    figure, axes = grid(len(panels))
    for panel, title in zip(axes, panels, strict=True):
        for number, line in enumerate(lines):
            group, metric = (line, title) if layout == "metrics" else (title, line)
            rows = long[(long["group"] == group) & (long["metric"] == metric)]
            if rows.empty:
                continue
            colour = style.COLOURS[number % len(style.COLOURS)]
            draw(panel, groups.curve(rows), band, smooth, color=colour, label=style.words(line))
            if phases:
                mark(panel, runs[runs["group"] == group], colour if layout == "metrics" else "grey")
        panel.set_title(style.words(title), fontsize="medium")
        finish(panel, linear, log_y)
    axes[0].legend(fontsize="small")
    style.save(figure, name)


def grid(count: int):
    """A figure with `count` panels, at most three in a row."""
    columns = min(3, count)
    rows = -(-count // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(4.4 * columns, 3.2 * rows), squeeze=False, layout="constrained"
    )
    for spare in axes.flat[count:]:
        spare.remove()
    return figure, list(axes.flat[:count])


def draw(axes, table: pd.DataFrame, band: str, smooth: float, color, label) -> None:
    """One line with its band; infinite values leave a gap."""
    middle, low, high = groups.band(
        table.replace([np.inf, -np.inf], np.nan), band.replace("none", "std")
    )
    low = low.clip(lower=table.min(axis=1))  # no band below what was seen, on a logarithmic axis
    if smooth:
        axes.plot(middle.index, middle, color=color, alpha=0.25, lw=0.8)
        middle, low, high = (one.ewm(alpha=1 - smooth).mean() for one in (middle, low, high))
    count = table.shape[1]
    axes.plot(middle.index, middle, color=color, label=f"{label} ({count})" if count > 1 else label)
    if band != "none" and count > 1:
        axes.fill_between(middle.index, low, high, color=color, alpha=0.18, lw=0)


def mark(axes, runs: pd.DataFrame, color) -> None:
    """Median steps at which train (dotted) and test (dashed) accuracy reach the run's threshold."""
    for key, dashes in (("result.steps_to_train", ":"), ("result.steps_to_test", "--")):
        reached = pd.to_numeric(runs.get(key, pd.Series(dtype=float)), errors="coerce").dropna()
        if len(reached):
            axes.axvline(reached.median(), color=color, ls=dashes, lw=1)


def finish(axes, linear: bool, log_y: bool) -> None:
    """Scales and labels."""
    if linear:
        axes.set_xlabel("step")
    else:
        style.log_steps(axes)
    if log_y:
        axes.set_yscale("log")


if __name__ == "__main__":
    main()
