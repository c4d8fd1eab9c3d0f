"""Scatter plot and correlation of two numbers of each run.

`python analysis/correlation.py experiment=doshi -x ipr -y test_accuracy`

x and y are config keys (config.lr), results (result.steps_to_test) or final values of metrics. The
table gives Pearson's and Spearman's coefficients of each group with 95 % bootstrap intervals.

`python analysis/correlation.py run=12 -x norms/total_norm -y test_accuracy --along`

With --along there is a dot for each step at which a run has both metrics, coloured by the step, and
a panel for each run.
"""

import warnings
from collections.abc import Callable

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from rich.table import Table
from scipy import stats

from grok.analysis import groups, query, style
from grok.cli.options import SELECTION_HELP, runs_argument
from grok.errors import UserError
from grok.experiment.show import wide_console
from grok.store.connection import Store

MOST_PANELS = 6  # runs that --along shows
MIN_RUNS = 3  # that a coefficient needs
BOOTSTRAP_SAMPLES = 500
BOOTSTRAP_SEED = 0
INTERVAL = (0.025, 0.975)  # quantiles at the ends of a 95 % interval


@click.command(help=__doc__, epilog=SELECTION_HELP)
@runs_argument
@click.option("-x", required=True, help="Horizontal axis: config.KEY, result.KEY or a metric.")
@click.option("-y", required=True, help="Vertical axis: config.KEY, result.KEY or a metric.")
@click.option(
    "--by",
    "keys",
    multiple=True,
    metavar="KEY",
    help="Config key that defines the groups; by default all runs are one group.",
)
@click.option("--along", is_flag=True, help="Plot two metrics against each other along each run.")
@click.option("--trend", is_flag=True, help="Draw the least-squares line of each group.")
@click.option("--log-x", is_flag=True, help="Use a logarithmic x axis.")
@click.option("--log-y", is_flag=True, help="Use a logarithmic y axis.")
@style.name_option("correlation")
@style.options
def main(
    filters: tuple[str, ...],
    x: str,
    y: str,
    keys: tuple[str, ...],
    along: bool,
    trend: bool,
    log_x: bool,
    log_y: bool,
    name: str,
) -> None:
    store = query.connect()
    runs = query.selected_runs(store, filters)
    if along:
        if keys:
            raise UserError(f"--by {keys[0]}: expected none with --along, which shows each run")
        points = points_along(store, runs, x, y)
        wide_console().print(correlation_table(points, "steps"))
        style.save(plot_along(points, x, y, trend, log_x, log_y), name)
        return
    runs = groups.with_groups(runs, keys) if keys else runs.assign(group="all")
    points = pd.DataFrame(
        {"group": runs["group"], "x": run_values(store, runs, x), "y": run_values(store, runs, y)}
    )
    points = points.replace([np.inf, -np.inf], np.nan).dropna()
    if points.empty:
        raise UserError(f"no run of these {len(runs)} has both {x} and {y} as numbers")
    if log_x:
        points = points[points["x"] > 0]
    if log_y:
        points = points[points["y"] > 0]
    wide_console().print(correlation_table(points))
    style.save(plot_points(points, x, y, trend, log_x, log_y), name)


def run_values(store: Store, runs: pd.DataFrame, key: str) -> np.ndarray:
    """One number per run, NaN where a run has none.

    Arguments:
        key: a column of `runs`, the name of a result or config key, or that of a metric, whose
            final values are returned.
    """
    for column in (key, f"result.{key}", f"config.{key}"):
        if column in runs:
            return pd.to_numeric(runs[column], errors="coerce").to_numpy(float)
    long = groups.grouped_metrics(store, runs, [key])
    final = groups.run_statistics(long, "final").droplevel("group")
    return final[key].reindex(runs["run"]).to_numpy(float)


def points_along(store: Store, runs: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    """The steps at which runs have both metrics, with the columns group, step, x and y.

    Raises:
        UserError: no run has both, there are more than MOST_PANELS runs, x is y, or one is no metric.
    """
    if len(runs) > MOST_PANELS:
        raise UserError(f"{len(runs)} runs: --along shows at most {MOST_PANELS}")
    if x == y:
        raise UserError(f"-x and -y are both {x}")
    for name in (x, y):
        if name.startswith(("config.", "result.")):
            raise UserError(f"{name}: expected a metric, which has values along a run")
    long = groups.grouped_metrics(store, runs.assign(group=runs["run"]), [x, y])
    points = query.wide(long)[[x, y]].replace([np.inf, -np.inf], np.nan).dropna().reset_index()
    if points.empty:
        raise UserError(f"no run of these {len(runs)} has both {x} and {y} at a step")
    points = points.rename(columns={x: "x", y: "y"})
    return points.assign(group="run " + points["run"].astype(str))


def correlation_table(points: pd.DataFrame, counted: str = "runs") -> Table:
    """Pearson's and Spearman's coefficients with their intervals, one row per group.

    Arguments:
        counted: what a point is.
    """
    table = Table("group", counted, "Pearson r", "95 %", "Spearman rho", "95 %")
    for group, rows in points.groupby("group", sort=False):
        pearson = coefficient_cells(rows, stats.pearsonr)
        spearman = coefficient_cells(rows, stats.spearmanr)
        table.add_row(str(group), str(len(rows)), *pearson, *spearman)
    return table


def coefficient_cells(points: pd.DataFrame, correlate: Callable) -> tuple[str, str]:
    """A coefficient and its bootstrap interval as text; `-` where they are not defined.

    Arguments:
        correlate: `scipy.stats.pearsonr` or `scipy.stats.spearmanr`.
    """
    x, y = points["x"].to_numpy(), points["y"].to_numpy()
    if len(points) < MIN_RUNS or np.ptp(x) == 0 or np.ptp(y) == 0:
        return "-", "-"
    with warnings.catch_warnings():
        # A resample may be constant; its coefficient is NaN and does not count.
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        bootstrap = stats.bootstrap(
            (x, y),
            lambda x, y: correlate(x, y).statistic,
            n_resamples=BOOTSTRAP_SAMPLES,
            paired=True,
            vectorized=False,
            method="percentile",
            rng=np.random.default_rng(BOOTSTRAP_SEED),
        )
    low, high = np.nanquantile(bootstrap.bootstrap_distribution, INTERVAL)
    return f"{correlate(x, y).statistic:.3f}", f"{low:.2f} to {high:.2f}"


def plot_points(
    points: pd.DataFrame, x: str, y: str, trend: bool, log_x: bool, log_y: bool
) -> Figure:
    """A dot per run, a colour per group, and the groups' least-squares lines if `trend`."""
    figure, axes = plt.subplots(figsize=(5, 4), layout="constrained")
    by_group = points.groupby("group", sort=False)
    for colour, (group, rows) in zip(style.cycle_colours(len(by_group)), by_group, strict=True):
        axes.plot(rows["x"], rows["y"], "o", ms=4, alpha=0.75, color=colour, label=group)
        if trend and rows["x"].nunique() > 1:
            axes.plot(*least_squares_line(rows, log_x, log_y), color=colour, lw=1)
    axes.set(xlabel=style.axis_label(x), ylabel=style.axis_label(y))
    axes.set_xscale("log" if log_x else "linear")
    axes.set_yscale("log" if log_y else "linear")
    if len(by_group) > 1:
        axes.legend(fontsize="small")
    return figure


def plot_along(
    points: pd.DataFrame, x: str, y: str, trend: bool, log_x: bool, log_y: bool
) -> Figure:
    """A panel for each run: a dot for each step, coloured by it on a scale that all panels share."""
    by_run = points.groupby("group", sort=False)
    figure, grid = plt.subplots(
        1, len(by_run), figsize=(1 + 4 * len(by_run), 4), squeeze=False, layout="constrained"
    )
    steps = plt.Normalize(points["step"].min(), points["step"].max())
    for axes, (run, rows) in zip(grid[0], by_run, strict=True):
        axes.scatter(rows["x"], rows["y"], c=rows["step"], norm=steps, s=14, cmap="viridis")
        shown = rows[((rows["x"] > 0) | (not log_x)) & ((rows["y"] > 0) | (not log_y))]
        if trend and shown["x"].nunique() > 1:
            axes.plot(*least_squares_line(shown, log_x, log_y), color="gray", lw=1)
        axes.set(title=run, xlabel=style.axis_label(x), ylabel=style.axis_label(y))
        axes.set_xscale("log" if log_x else "linear")
        axes.set_yscale("log" if log_y else "linear")
    figure.colorbar(ScalarMappable(steps, "viridis"), ax=grid[0].tolist(), label="step")
    return figure


def least_squares_line(
    points: pd.DataFrame, log_x: bool, log_y: bool
) -> tuple[np.ndarray, np.ndarray]:
    """x (2,) and y (2,) at the ends of the line that is fitted on the scales of the plot."""
    x = np.log10(points["x"]) if log_x else points["x"]
    y = np.log10(points["y"]) if log_y else points["y"]
    slope, intercept = np.polyfit(x, y, 1)
    ends = np.array([x.min(), x.max()])
    heights = slope * ends + intercept
    return (10**ends if log_x else ends), (10**heights if log_y else heights)


if __name__ == "__main__":
    main()
