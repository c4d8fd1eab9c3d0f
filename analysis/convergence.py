"""How soon runs arrive: `python analysis/convergence.py sweep=power_figure1 -m test_accuracy -t 0.99`.

A run that never arrives counts as censored at its last step: survival curves and medians are
Kaplan-Meier's, never a mean over the runs that happened to arrive.
"""

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from rich.table import Table

from analysis import groups, query, style, survival
from grok.cli.options import SELECTION_HELP, runs_argument
from grok.experiment.show import wide_console


@click.command(help=__doc__, epilog=SELECTION_HELP)
@runs_argument
@click.option("-m", "--metric", default="test_accuracy", show_default=True)
@click.option("-t", "--threshold", type=float, default=0.99, show_default=True)
@click.option(
    "--below/--above", default=None, help="which side is there; below for losses, if not said"
)
@groups.by_option
@style.name_option("convergence")
@style.options  # fmt: skip
def main(filters, metric, threshold, below, by, name) -> None:
    store = query.connect()
    runs = groups.labelled(query.chosen(store, filters), by)
    long = groups.logged(store, runs, [metric])
    below = groups.is_better_low(metric) if below is None else below
    arrivals = arrival(long, threshold, below)
    wide_console().print(table(arrivals))
    style.save(draw(arrivals, long, metric, threshold), name)


def arrival(long: pd.DataFrame, threshold: float, below: bool) -> pd.DataFrame:
    """One row a run: group, its first step at the threshold (or its last step), and whether it is there."""
    rows = []
    for (group, run), mine in long.sort_values("step").groupby(["group", "run"], sort=False):
        there = mine["value"] <= threshold if below else mine["value"] >= threshold
        reached = bool(there.any())
        steps = mine["step"][there] if reached else mine["step"]
        rows.append((group, run, int(steps.iloc[0] if reached else steps.iloc[-1]), reached))
    return pd.DataFrame(rows, columns=["group", "run", "step", "reached"])


def table(arrivals: pd.DataFrame) -> Table:
    """One row a group: runs, how many arrived (95 % interval of the share), median and first step."""
    shown = Table("group", "arrived", "share, 95 %", "median step", "first", "last to arrive")
    for group, mine in arrivals.groupby("group", sort=False):
        count, total = int(mine["reached"].sum()), len(mine)
        low, high = survival.wilson(count, total)
        median = survival.median(mine["step"], mine["reached"])
        steps = mine["step"][mine["reached"]]
        ends = (f"{steps.min():.0f}", f"{steps.max():.0f}") if count else ("-", "-")
        shown.add_row(
            str(group), f"{count} of {total}", f"{low:.2f} to {high:.2f}",
            f"{median:.0f}" if np.isfinite(median) else f"more than {mine['step'].max()}", *ends,
        )  # fmt: skip
    return shown


def draw(arrivals: pd.DataFrame, long: pd.DataFrame, metric: str, threshold: float):
    """Left: share of runs that are not there yet, ticks for censored ones. Right: the curves."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    for number, (group, mine) in enumerate(arrivals.groupby("group", sort=False)):
        colour = style.COLOURS[number % len(style.COLOURS)]
        line = survival.kaplan_meier(mine["step"], mine["reached"])
        steps = np.concatenate([[0], line.quantiles, [mine["step"].max()]])
        shares = np.concatenate([[1], line.probabilities, line.probabilities[-1:]])
        left.step(steps, shares, where="post", color=colour, label=group)
        censored = mine["step"][~mine["reached"]]
        at = shares[np.searchsorted(steps, censored, side="right") - 1]
        left.plot(censored, at, "|", color=colour, ms=8)
        for _, rows in long[long["group"] == group].groupby("run"):
            rows = rows.sort_values("step")
            right.plot(rows["step"], rows["value"], color=colour, lw=0.8, alpha=0.8)
    left.set(ylabel=f"share of runs not yet at {threshold:g}", ylim=(-0.03, 1.03))
    right.axhline(threshold, color="grey", ls=":", lw=1)
    right.set_ylabel(style.words(metric))
    left.legend(fontsize="small")
    for axes in (left, right):
        style.log_steps(axes)
    return figure


if __name__ == "__main__":
    main()
