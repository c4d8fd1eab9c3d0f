"""One number of a run against another: `python analysis/correlation.py experiment=doshi -x ipr -y test_accuracy`.

x and y are config keys (config.lr), results (result.steps_to_test) or final values of metrics. Pearson's
and Spearman's coefficients with 95 % bootstrap intervals, per group.
"""

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from rich.table import Table
from scipy import stats

from analysis import groups, query, style
from grok.cli.options import SELECTION_HELP, runs_argument
from grok.experiment.show import wide_console

LEAST = 3  # runs that a coefficient needs


@click.command(help=__doc__, epilog=SELECTION_HELP)
@runs_argument
@click.option("-x", required=True, help="config.KEY, result.KEY or a metric")
@click.option("-y", required=True, help="likewise")
@click.option("--by", multiple=True, help="config key that tells groups apart; one group, if none")
@click.option("--trend", is_flag=True, help="draw the least-squares line")
@click.option("--log-x", is_flag=True)
@click.option("--log-y", is_flag=True)
@style.name_option("correlation")
@style.options  # fmt: skip
def main(filters, x, y, by, trend, log_x, log_y, name) -> None:
    store = query.connect()
    runs = query.chosen(store, filters)
    runs = groups.labelled(runs, by) if by else runs.assign(group="all")
    pairs = pd.DataFrame({"group": runs["group"]})
    for axis, key in (("x", x), ("y", y)):
        pairs[axis] = numbers(store, runs, key)
    pairs = pairs.replace([np.inf, -np.inf], np.nan).dropna()
    if pairs.empty:
        query.fail(f"no run of these {len(runs)} has both {x} and {y} as numbers")
    if log_x or log_y:
        pairs = pairs[(pairs["x"] > 0) | (not log_x)]
        pairs = pairs[(pairs["y"] > 0) | (not log_y)]
    wide_console().print(table(pairs))
    style.save(draw(pairs, x, y, trend, log_x, log_y), name)


def numbers(store, runs: pd.DataFrame, key: str) -> np.ndarray:
    """One number a run: of its config, of its result, or a metric's last; NaN where there is none."""
    for column in (key, f"result.{key}", f"config.{key}"):
        if column in runs:
            return pd.to_numeric(runs[column], errors="coerce").to_numpy(float)
    final = groups.statistic(groups.logged(store, runs, [key]), "final").droplevel("group")
    return final[key].reindex(runs["run"]).to_numpy(float)


def table(pairs: pd.DataFrame) -> Table:
    """Pearson and Spearman with intervals, per group."""
    shown = Table("group", "runs", "Pearson r", "95 %", "Spearman rho", "95 %")
    for group, mine in pairs.groupby("group", sort=False):
        cells = [*coefficient(mine, stats.pearsonr), *coefficient(mine, stats.spearmanr)]
        shown.add_row(str(group), str(len(mine)), *cells)
    return shown


def coefficient(mine: pd.DataFrame, of) -> tuple[str, str]:
    """A coefficient and its bootstrap interval, `-` where it is not defined."""
    if len(mine) < LEAST or mine["x"].nunique() < 2 or mine["y"].nunique() < 2:
        return "-", "-"
    value = of(mine["x"], mine["y"]).statistic
    rng, draws = np.random.default_rng(0), []
    for _ in range(500):
        again = mine.iloc[rng.integers(len(mine), size=len(mine))]
        if again["x"].nunique() > 1 and again["y"].nunique() > 1:
            draws.append(of(again["x"], again["y"]).statistic)
    low, high = np.quantile(draws, [0.025, 0.975])
    return f"{value:.3f}", f"{low:.2f} to {high:.2f}"


def draw(pairs: pd.DataFrame, x: str, y: str, trend: bool, log_x: bool, log_y: bool):
    """A dot a run."""
    figure, axes = plt.subplots(figsize=(5, 4), layout="constrained")
    for number, (group, mine) in enumerate(pairs.groupby("group", sort=False)):
        colour = style.COLOURS[number % len(style.COLOURS)]
        axes.plot(mine["x"], mine["y"], "o", ms=4, alpha=0.75, color=colour, label=group)
        if trend and mine["x"].nunique() > 1:
            inner = np.log10(mine["x"]) if log_x else mine["x"]
            outer = np.log10(mine["y"]) if log_y else mine["y"]
            line = np.poly1d(np.polyfit(inner, outer, 1))
            ends = np.array([inner.min(), inner.max()])
            axes.plot(10**ends if log_x else ends, 10 ** line(ends) if log_y else line(ends),
                      color=colour, lw=1)  # fmt: skip
    axes.set(xlabel=style.words(x), ylabel=style.words(y))
    axes.set_xscale("log" if log_x else "linear")
    axes.set_yscale("log" if log_y else "linear")
    if pairs["group"].nunique() > 1:
        axes.legend(fontsize="small")
    return figure


if __name__ == "__main__":
    main()
