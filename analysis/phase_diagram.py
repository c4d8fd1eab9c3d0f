"""The phase diagram of a sweep over two parameters: `python analysis/phase_diagram.py SWEEP`.

SWEEP is a sweep's id or its file's name. Draws the four phases and the steps to train and to test;
with --reference a CSV of a published grid, also where the two agree.
"""

from pathlib import Path

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap, LogNorm

from analysis import groups, query, style
from grok.phases import PHASES, phase


@click.command(help=__doc__)
@click.argument("sweep")
@click.option("--delay", default=1000, show_default=True, help="steps from which it is grokking")
@click.option("--reference", type=click.Path(exists=True, path_type=Path), help="published CSV")
@style.options
def main(sweep: str, delay: int, reference: Path | None) -> None:
    name, runs = query.sweep(query.connect(), sweep)
    x, y = axes_of(runs)
    seeds = sorted(runs["config.seed"].unique())
    for seed in seeds:
        table = cells(runs[runs["config.seed"] == seed], x, y, delay)
        label = f"phase_diagram_{name}" + (f"_seed{seed}" if len(seeds) > 1 else "")
        published = read_reference(reference, x, y, delay) if reference else None
        style.save(draw(table, x, y, published), label)
        counts = table["phase"].value_counts()
        print(f"seed {seed}: " + ", ".join(f"{n} {phase}" for phase, n in counts.items()))
        if published is not None:
            print(f"seed {seed}: {describe_agreement(table, published)}")


def axes_of(runs: pd.DataFrame) -> tuple[str, str]:
    """The two config keys (learning rate first) that vary; exits if they are not two."""
    varying = groups.varying(runs)
    if len(varying) != 2:
        query.fail(f"a phase diagram needs two varying parameters, not {varying or 'none'}")
    return tuple(sorted(varying, key=lambda c: (c != "config.decoder_lr", c)))


def cells(runs: pd.DataFrame, x: str, y: str, delay: int) -> pd.DataFrame:
    """One row per cell: x, y, steps to train and test (NaN for never), phase."""
    table = pd.DataFrame(
        {
            "x": runs[x],
            "y": runs[y],
            "train": runs["result.steps_to_train"].astype(float),
            "test": runs["result.steps_to_test"].astype(float),
        }
    )
    return with_phases(table, delay)


def read_reference(path: Path, x: str, y: str, delay: int) -> pd.DataFrame:
    """The same table from a CSV with columns x, y, steps_to_train, steps_to_test; 99999 = never."""
    frame = pd.read_csv(path)
    wanted = [x.removeprefix("config."), y.removeprefix("config.")]
    if missing := {*wanted, "steps_to_train", "steps_to_test"} - {*frame.columns}:
        query.fail(f"{path} lacks the columns {', '.join(sorted(missing))}")
    table = frame[[*wanted, "steps_to_train", "steps_to_test"]]
    table.columns = ["x", "y", "train", "test"]
    return with_phases(table.astype(float).replace(99999, np.nan), delay)


def with_phases(table: pd.DataFrame, delay: int) -> pd.DataFrame:
    """The table with a column `phase`."""
    steps = table[["train", "test"]].astype(object).where(table[["train", "test"]].notna(), None)
    return table.assign(
        phase=[
            phase(train, test, delay) for train, test in zip(steps.train, steps.test, strict=True)
        ]
    )


def matched(table: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """Cells that both have, with phases `phase` and `phase_published`."""
    text = "{:.4g}".format  # keys that rounding cannot part
    ours, theirs = (t.assign(x=t.x.map(text), y=t.y.map(text)) for t in (table, published))
    return ours.merge(theirs, on=["x", "y"], suffixes=("", "_published"))


def describe_agreement(table: pd.DataFrame, published: pd.DataFrame) -> str:
    """Share of cells in the published phase, and the rank correlation of steps where both reach."""
    both = matched(table, published)
    same = (both["phase"] == both["phase_published"]).mean()
    ranks = both[["train", "train_published"]].dropna().corr(method="spearman").iloc[0, 1]
    return f"{same:.1%} of {len(both)} cells in the published phase; Spearman of steps to train {ranks:.2f}"


def draw(table: pd.DataFrame, x: str, y: str, published: pd.DataFrame | None):
    """Phases, steps to train, steps to test; with a published grid its phases and the agreement."""
    count = 3 if published is None else 5
    figure, panels = plt.subplots(1, count, figsize=(4.8 * count, 4))
    draw_phases(panels[0], table, "phases")
    reached = table[["train", "test"]].stack().dropna()
    low, high = (max(reached.min(), 1), reached.max() + 1) if len(reached) else (1, 10)
    for axes, name in ((panels[1], "train"), (panels[2], "test")):
        grid = table.pivot(index="y", columns="x", values=name)
        image = axes.imshow(grid, origin="lower", aspect="auto", norm=LogNorm(low, high))
        figure.colorbar(image, ax=axes)
        axes.set_title(f"steps to {name} accuracy")
        label_cells(axes, grid)
    if published is not None:
        draw_phases(panels[3], published, "published phases")
        draw_agreement(panels[4], matched(table, published))
    for axes in panels:
        axes.set_xlabel(style.words(x))
    panels[0].set_ylabel(style.words(y))
    style.phase_legend(figure)
    figure.tight_layout()
    return figure


def draw_agreement(axes, both: pd.DataFrame) -> None:
    """Grey where the two grids agree, orange where they do not."""
    same = (both["phase"] == both["phase_published"]).astype(float)
    table = both.assign(x=both.x.astype(float), y=both.y.astype(float), same=same)
    grid = table.pivot(index="y", columns="x", values="same")
    colours = ListedColormap(["#d35400", "#eeeeee"])
    axes.imshow(grid, origin="lower", aspect="auto", cmap=colours, vmin=0, vmax=1)
    axes.set_title(f"same phase in {same.mean():.1%} of cells")
    label_cells(axes, grid)


def draw_phases(axes, table: pd.DataFrame, title: str) -> None:
    """The four phases in the paper's colours."""
    codes = table.assign(code=table["phase"].map(PHASES.index))
    grid = codes.pivot(index="y", columns="x", values="code")
    colours = ListedColormap([style.PHASE_COLOURS[name] for name in PHASES])
    axes.imshow(grid, origin="lower", aspect="auto", cmap=colours, vmin=-0.5, vmax=3.5)
    axes.set_title(title)
    label_cells(axes, grid)


def label_cells(axes, grid: pd.DataFrame) -> None:
    """Tick labels from the grid's index and columns, evenly spaced, at most five on an axis."""
    for ticks, set_ticks in ((grid.columns, axes.set_xticks), (grid.index, axes.set_yticks)):
        places = range(0, len(ticks), -(-len(ticks) // 5))
        set_ticks(places, [f"{ticks[i]:.2g}" for i in places])


if __name__ == "__main__":
    main()
