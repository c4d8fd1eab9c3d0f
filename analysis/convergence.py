"""How soon the runs of each group reach a threshold of a metric.

`python analysis/convergence.py sweep=power_figure1 -M test_accuracy -t 0.99`

The steps of a run are those of its first evaluation at the threshold, whether or not it stays
there. A run that never reaches it is censored at its last step: survival curves and medians are
Kaplan-Meier estimates, never means over only the runs that reached the threshold.
"""

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.table import Table

from grok.analysis import groups, query, style
from grok.claims import statistics
from grok.cli.options import SELECTION_HELP, runs_argument
from grok.experiment.show import wide_console


@click.command(help=__doc__, epilog=SELECTION_HELP)
@runs_argument
@click.option("-M", "--metric", default="test_accuracy", show_default=True, help="Metric.")
@click.option(
    "-t",
    "--threshold",
    type=float,
    default=0.99,
    show_default=True,
    help="Threshold of the metric.",
)
@click.option(
    "--below/--above",
    default=None,
    help="Side of the threshold that counts as reached; by default below for losses, else above.",
)
@groups.by_option
@style.name_option("convergence")
@style.options
def main(
    filters: tuple[str, ...],
    metric: str,
    threshold: float,
    below: bool | None,
    keys: tuple[str, ...],
    name: str,
) -> None:
    store = query.connect()
    runs = groups.with_groups(query.selected_runs(store, filters), keys)
    long = groups.grouped_metrics(store, runs, [metric])
    below = groups.lower_is_better(metric) if below is None else below
    steps = steps_to_threshold(long, threshold, below)
    wide_console().print(convergence_table(steps))
    style.save(plot_convergence(steps, long, metric, threshold), name)


def steps_to_threshold(long: pd.DataFrame, threshold: float, below: bool) -> pd.DataFrame:
    """Columns `group`, `run`, `step`, `reached`: one row per run.

    `step` is the run's first logged step at the threshold, or its last step if it never reached it.
    """
    rows = []
    for (group, run), values in long.sort_values("step").groupby(["group", "run"], sort=False):
        at_threshold = values["value"] <= threshold if below else values["value"] >= threshold
        reached = bool(at_threshold.any())
        step = values["step"][at_threshold].iloc[0] if reached else values["step"].iloc[-1]
        rows.append((group, run, int(step), reached))
    return pd.DataFrame(rows, columns=["group", "run", "step", "reached"])


def convergence_table(steps: pd.DataFrame) -> Table:
    """For each group: runs that reached the threshold, 95 % interval of their fraction, steps."""
    table = Table("group", "reached", "fraction, 95 %", "median step", "first", "last to reach it")
    for group, runs in steps.groupby("group", sort=False):
        count, total = int(runs["reached"].sum()), len(runs)
        low, high = statistics.wilson_interval(count, total)
        median = statistics.median(runs["step"], runs["reached"])
        reached_steps = runs["step"][runs["reached"]]
        table.add_row(
            str(group),
            f"{count} of {total}",
            f"{low:.2f} to {high:.2f}",
            f"{median:.0f}" if np.isfinite(median) else f"more than {runs['step'].max()}",
            f"{reached_steps.min():.0f}" if count else "-",
            f"{reached_steps.max():.0f}" if count else "-",
        )
    return table


def plot_convergence(
    steps: pd.DataFrame, long: pd.DataFrame, metric: str, threshold: float
) -> Figure:
    """Left: Kaplan-Meier curves, with a tick where a run is censored. Right: the runs' curves."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    by_group = steps.groupby("group", sort=False)
    colours = style.cycle_colours(len(by_group))
    for colour, (group, runs) in zip(colours, by_group, strict=True):
        curve_steps, probabilities = statistics.kaplan_meier(runs["step"], runs["reached"])
        corners = np.concatenate([[0], curve_steps, [runs["step"].max()]])
        fractions = np.concatenate([[1], probabilities, probabilities[-1:]])
        left.step(corners, fractions, where="post", color=colour, label=group)
        censored = runs["step"][~runs["reached"]]
        heights = fractions[np.searchsorted(corners, censored, side="right") - 1]
        left.plot(censored, heights, "|", color=colour, ms=8)
        for _, rows in long[long["group"] == group].groupby("run"):
            rows = rows.sort_values("step")
            right.plot(rows["step"], rows["value"], color=colour, lw=0.8, alpha=0.8)
    left.set(ylabel=f"fraction of runs not yet at {threshold:g}", ylim=(-0.03, 1.03))
    right.axhline(threshold, color="grey", ls=":", lw=1)
    right.set_ylabel(style.axis_label(metric))
    left.legend(fontsize="small")
    for axes in (left, right):
        style.log_steps(axes)
    return figure


if __name__ == "__main__":
    main()
