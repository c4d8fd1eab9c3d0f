"""Groups of runs side by side: `python analysis/compare.py sweep=power_figure1 -m test_accuracy`.

Bars are means over runs that differ in their seed alone, dots the runs, whiskers the standard error;
the table marks the best (least, for losses and steps).
"""

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from rich.table import Table

from analysis import groups, query, style
from grok.cli.options import SELECTION_HELP, runs_argument
from grok.experiment.show import wide_console


@click.command(help=__doc__, epilog=SELECTION_HELP)
@runs_argument
@click.option(
    "-m", "--metric", "names", multiple=True, default=("test_accuracy",), show_default=True
)
@click.option("--stat", type=click.Choice(groups.STATISTICS), default="final", show_default=True)
@groups.by_option
@style.name_option("compare")
@style.options  # fmt: skip
def main(filters, names, stat, by, name) -> None:
    store = query.connect()
    runs = groups.labelled(query.chosen(store, filters), by)
    values = groups.statistic(groups.logged(store, runs, list(names)), stat)
    wide_console().print(table(values, list(names), stat))
    style.save(bars(values, list(names), stat), name)


def best(means: pd.Series) -> str | None:
    """The group with the best mean; None if no mean is a number."""
    means = means.replace([np.inf, -np.inf], np.nan).dropna()
    if means.empty:
        return None
    return means.idxmin() if groups.is_better_low(str(means.name)) else means.idxmax()


def table(values: pd.DataFrame, names: list[str], stat: str) -> Table:
    """Mean ± standard error over each group's runs, the best in bold."""
    shown = Table("group", "runs", *(f"{stat} {style.words(name)}" for name in names))
    by = values.groupby("group", sort=False)
    means, errors, counts = by.mean(), by.sem(), by.size()
    winners = {name: best(means[name]) for name in names}
    for group in means.index:
        cells = []
        for name in names:
            text = f"{means.loc[group, name]:.4g}"
            if np.isfinite(errors.loc[group, name]):
                text += f" ± {errors.loc[group, name]:.2g}"
            cells.append(f"[bold]{text}[/bold]" if winners[name] == group else text)
        shown.add_row(group, str(counts[group]), *cells)
    return shown


def bars(values: pd.DataFrame, names: list[str], stat: str):
    """A panel per metric, a bar per group, a dot per run."""
    kinds = list(dict.fromkeys(values.index.get_level_values("group")))
    height = 0.9 + 0.32 * len(kinds)
    figure, axes = plt.subplots(
        1, len(names), figsize=(4.6 * len(names), height), squeeze=False, sharey=True,
        layout="constrained",
    )  # fmt: skip
    for panel, name in zip(axes[0], names, strict=True):
        winner = best(values[name].groupby("group").mean())
        for place, group in enumerate(kinds):
            mine = values.loc[group, name].replace([np.inf, -np.inf], np.nan).dropna()
            if mine.empty:
                continue
            colour = style.COLOURS[0] if group == winner else "#a9b7c6"
            error = mine.sem() if len(mine) > 1 else None
            panel.barh(place, mine.mean(), xerr=error, color=colour, height=0.7)
            panel.plot(mine, [place] * len(mine), "o", color="black", ms=3, alpha=0.6)
        panel.set_yticks(range(len(kinds)), kinds)
        panel.set_xlabel(f"{stat} {style.words(name)}")
    axes[0][0].invert_yaxis()
    return figure


if __name__ == "__main__":
    main()
