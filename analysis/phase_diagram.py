"""The phase diagram of a sweep over two parameters.

`python analysis/phase_diagram.py SWEEP`

SWEEP is a sweep's id or its file's name. Shows the four phases and the steps to train and to test
accuracy; with --reference, a CSV file of a published grid, also where the two agree.
"""

from pathlib import Path

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure

from grok.analysis import groups, query, style
from grok.errors import UserError
from grok.phases import PHASES, UNDECIDED, phase

X_FIRST = "config.decoder_lr"  # the key that is the x axis if it varies
NEVER_IN_REFERENCE = 99999
MAX_TICKS = 5
DISAGREE_COLOUR, AGREE_COLOUR = "#d35400", "#eeeeee"

reference_option = click.option(
    "--reference",
    type=click.Path(exists=True, path_type=Path),
    help="CSV file of a published grid.",
)


@click.command(help=__doc__)
@click.argument("sweep")
@click.option(
    "--delay",
    default=1000,
    show_default=True,
    help="Steps from train to test threshold from which a run counts as grokking.",
)
@reference_option
@style.options
def main(sweep: str, delay: int, reference: Path | None) -> None:
    name, runs = query.sweep(query.connect(), sweep)
    query.require(runs, "config.seed", "result.steps_to_train", "result.steps_to_test")
    x, y = axis_keys(runs)
    published = read_reference(reference, x, y, delay) if reference else None
    seeds = sorted(runs["config.seed"].unique())
    for seed in seeds:
        cells = grid_cells(runs[runs["config.seed"] == seed], x, y, delay)
        suffix = f"_seed{seed}" if len(seeds) > 1 else ""
        figure = plot_phase_diagram(cells, published, style.axis_label(x), style.axis_label(y))
        style.save(figure, f"phase_diagram_{name}{suffix}")
        counts = cells["phase"].value_counts()
        print(f"seed {seed}: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
        if published is not None:
            print(f"seed {seed}: {describe_agreement(cells, published)}")


def axis_keys(runs: pd.DataFrame) -> tuple[str, str]:
    """The two config keys that vary, the decoder's learning rate first.

    Raises:
        UserError: not exactly two keys vary.
    """
    varying = groups.varying_keys(runs)
    if len(varying) != 2:
        raise UserError(f"a phase diagram needs two varying parameters, not {varying or 'none'}")
    x, y = sorted(varying, key=lambda key: (key != X_FIRST, key))
    return x, y


def grid_cells(runs: pd.DataFrame, x: str, y: str, delay: int) -> pd.DataFrame:
    """One row per cell: `x`, `y`, steps to `train` and `test` (NaN for never), `phase`.

    The phase of a run that was given up as hopeless is undecided, as in its result.

    Arguments:
        runs: runs of one seed.
        x, y: columns of `runs`.
        delay: steps from train to test threshold from which a run counts as grokking.
    """
    cells = pd.DataFrame(
        {
            "x": runs[x],
            "y": runs[y],
            "train": runs["result.steps_to_train"].astype(float),
            "test": runs["result.steps_to_test"].astype(float),
        }
    )
    cells = with_phases(cells, delay)
    if "result.phase" in runs:
        cells.loc[runs["result.phase"] == UNDECIDED, "phase"] = UNDECIDED
    return cells


def read_reference(path: Path, x: str, y: str, delay: int) -> pd.DataFrame:
    """The cells, as of `grid_cells`, of a published grid.

    Arguments:
        path: a CSV file with columns named as x and y (without `config.`), `steps_to_train` and
            `steps_to_test`, where 99999 stands for never.

    Raises:
        UserError: the file lacks a column.
    """
    table = pd.read_csv(path)
    columns = [
        x.removeprefix("config."),
        y.removeprefix("config."),
        "steps_to_train",
        "steps_to_test",
    ]
    if missing := set(columns) - set(table.columns):
        raise UserError(f"{path} lacks the columns {', '.join(sorted(missing))}")
    cells = table[columns].set_axis(["x", "y", "train", "test"], axis=1)
    return with_phases(cells.astype(float).replace(NEVER_IN_REFERENCE, np.nan), delay)


def with_phases(cells: pd.DataFrame, delay: int) -> pd.DataFrame:
    """The cells with a column `phase`."""
    steps = cells[["train", "test"]].astype(object).where(cells[["train", "test"]].notna(), None)
    phases = [
        phase(train, test, delay) for train, test in zip(steps["train"], steps["test"], strict=True)
    ]
    return cells.assign(phase=phases)


def matched_cells(cells: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """Cells with a phase in both grids, with the columns of the published one as `*_published`."""
    ours, theirs = (
        with_text_coordinates(grid[grid["phase"].isin(PHASES)]) for grid in (cells, published)
    )
    return ours.merge(theirs, on=["x", "y"], suffixes=("", "_published"))


def with_text_coordinates(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells with coordinates of four digits, so that rounding does not separate equal ones."""
    x, y = (cells[axis].map("{:.4g}".format) for axis in ("x", "y"))
    return cells.assign(x=x, y=y)


def describe_agreement(cells: pd.DataFrame, published: pd.DataFrame) -> str:
    """Fraction of cells in the published phase, and the rank correlation of steps to train."""
    both = matched_cells(cells, published)
    same = (both["phase"] == both["phase_published"]).mean()
    steps = both[["train", "train_published"]].dropna()
    correlation = steps["train"].corr(steps["train_published"], method="spearman")
    return (
        f"{same:.1%} of {len(both)} cells in the published phase; "
        f"Spearman of steps to train {correlation:.2f}"
    )


def plot_phase_diagram(
    cells: pd.DataFrame, published: pd.DataFrame | None, x_label: str, y_label: str
) -> Figure:
    """Phases and steps to train and test; with a published grid its phases and the agreement."""
    rows = 1 if published is None else 2
    figure, grid_of_axes = plt.subplots(rows, 3, figsize=(14.4, 4 * rows))
    panels = grid_of_axes.flat[: 3 if published is None else 5]
    for axes in grid_of_axes.flat[len(panels) :]:
        axes.remove()
    plot_phases(panels[0], cells, "phases")
    steps = cells[["train", "test"]].to_numpy()
    reached = steps[~np.isnan(steps)]
    low, high = (max(reached.min(), 1), reached.max() + 1) if len(reached) else (1, 10)
    for axes, split in ((panels[1], "train"), (panels[2], "test")):
        grid = cells.pivot(index="y", columns="x", values=split)
        image = axes.imshow(grid, origin="lower", aspect="auto", norm=LogNorm(low, high))
        figure.colorbar(image, ax=axes)
        axes.set_title(f"steps to {split} accuracy")
        label_cells(axes, grid)
    if published is not None:
        plot_phases(panels[3], published, "published phases")
        plot_agreement(panels[4], matched_cells(cells, published))
    for axes in panels:
        axes.set_xlabel(x_label)
    for axes in panels[::3]:
        axes.set_ylabel(y_label)
    style.phase_legend(figure)
    figure.tight_layout()
    return figure


def plot_agreement(axes: Axes, both: pd.DataFrame) -> None:
    """Show in grey where the two grids agree, and in orange where they do not."""
    same = (both["phase"] == both["phase_published"]).astype(float)
    table = both.assign(x=both["x"].astype(float), y=both["y"].astype(float), same=same)
    grid = table.pivot(index="y", columns="x", values="same")
    colours = ListedColormap([DISAGREE_COLOUR, AGREE_COLOUR])
    axes.imshow(grid, origin="lower", aspect="auto", cmap=colours, vmin=0, vmax=1)
    axes.set_title(f"same phase in {same.mean():.1%} of cells")
    label_cells(axes, grid)


def plot_phases(axes: Axes, cells: pd.DataFrame, title: str) -> None:
    """Show the four phases in the colours of Liu et al. 2022."""
    numbers = {name: number for number, name in enumerate(PHASES)}  # undecided cells stay white
    codes = cells.assign(code=cells["phase"].map(numbers))
    grid = codes.pivot(index="y", columns="x", values="code")
    colours = ListedColormap([style.PHASE_COLOURS[name] for name in PHASES])
    axes.imshow(grid, origin="lower", aspect="auto", cmap=colours, vmin=-0.5, vmax=3.5)
    axes.set_title(title)
    label_cells(axes, grid)


def label_cells(axes: Axes, grid: pd.DataFrame) -> None:
    """Label evenly spaced cells with the grid's columns and index."""
    for values, set_ticks in ((grid.columns, axes.set_xticks), (grid.index, axes.set_yticks)):
        positions = range(0, len(values), -(-len(values) // MAX_TICKS))
        set_ticks(positions, [f"{values[position]:.2g}" for position in positions])


if __name__ == "__main__":
    main()
