"""Bar chart and table that compare groups of runs.

`python analysis/compare.py sweep=power_figure1 -M test_accuracy`

A bar is the mean over runs that differ only in their seeds, dots are the runs, and whiskers the
standard error. The best group is highlighted: the lowest for losses and steps, else the highest.
"""

from collections.abc import Sequence

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.table import Table
from rich.text import Text

from grok.analysis import groups, query, style
from grok.cli.options import SELECTION_HELP, runs_argument
from grok.experiment.show import wide_console

BEST_COLOUR, OTHER_COLOUR = style.COLOURS[0], "#a9b7c6"


@click.command(help=__doc__, epilog=SELECTION_HELP)
@runs_argument
@click.option(
    "-M",
    "--metric",
    "metrics",
    multiple=True,
    default=("test_accuracy",),
    show_default=True,
    help="Metric to compare; may be repeated.",
)
@groups.statistic_option
@groups.by_option
@style.name_option("compare")
@style.options
def main(
    filters: tuple[str, ...],
    metrics: tuple[str, ...],
    statistic: str,
    keys: tuple[str, ...],
    name: str,
) -> None:
    store = query.connect()
    runs = groups.with_groups(query.selected_runs(store, filters), keys)
    long = groups.grouped_metrics(store, runs, metrics)
    values = groups.run_statistics(long, statistic)
    wide_console().print(comparison_table(values, metrics, statistic))
    style.save(plot_bars(values, metrics, statistic), name)


def comparison_table(values: pd.DataFrame, metrics: Sequence[str], statistic: str) -> Table:
    """Mean ± standard error of every metric for each group of runs, the best in bold."""
    headings = [f"{statistic} {style.axis_label(metric)}" for metric in metrics]
    table = Table("group", "runs", *headings)
    by_group = values.groupby("group", sort=False)
    means, errors, counts = by_group.mean(), by_group.sem(), by_group.size()
    best = {metric: groups.best_group(means[metric]) for metric in metrics}
    for group in means.index:
        cells = []
        for metric in metrics:
            text = f"{means.loc[group, metric]:.4g}"
            if np.isfinite(errors.loc[group, metric]):
                text += f" ± {errors.loc[group, metric]:.2g}"
            cells.append(Text(text, "bold" if best[metric] == group else ""))
        table.add_row(group, str(counts[group]), *cells)
    return table


def plot_bars(values: pd.DataFrame, metrics: Sequence[str], statistic: str) -> Figure:
    """One panel per metric, with a bar per group and a dot per run."""
    group_names = list(dict.fromkeys(values.index.get_level_values("group")))
    figure, axes = plt.subplots(
        1,
        len(metrics),
        figsize=(4.6 * len(metrics), 0.9 + 0.32 * len(group_names)),
        squeeze=False,
        sharey=True,
        layout="constrained",
    )
    for panel, metric in zip(axes[0], metrics, strict=True):
        best = groups.best_group(values[metric].groupby("group").mean())
        for position, group in enumerate(group_names):
            runs = values.loc[group, metric].replace([np.inf, -np.inf], np.nan).dropna()
            if runs.empty:
                continue
            colour = BEST_COLOUR if group == best else OTHER_COLOUR
            error = runs.sem() if len(runs) > 1 else None
            panel.barh(position, runs.mean(), xerr=error, color=colour, height=0.7)
            panel.plot(runs, [position] * len(runs), "o", color="black", ms=3, alpha=0.6)
        panel.set_yticks(range(len(group_names)), group_names)
        panel.set_xlabel(f"{statistic} {style.axis_label(metric)}")
    axes[0][0].invert_yaxis()
    return figure


if __name__ == "__main__":
    main()
