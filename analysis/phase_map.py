"""The phase diagram that `grok map` has made, with the cells that were run.

`python analysis/phase_map.py SWEEP`

SWEEP is a sweep's id or its file's name. Phases of cells that were not run are predicted and pale. With
--reference, a CSV file of a published grid, and with --full, a sweep of a grid of the same keys, the script
also shows where the map agrees with it, in the cells that both have.
"""

from pathlib import Path

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import phase_diagram, query, style
from grok.errors import UserError
from grok.phases import PHASES
from grok.store import connection
from grok.sweep.map import stored_survey
from grok.sweep.mapping import UNKNOWN, Survey

PALE = 0.55  # fraction of white in the colours of cells that were not run
NOT_RUN = (0.93, 0.93, 0.93)


@click.command(help=__doc__)
@click.argument("sweep")
@click.option(
    "--delay",
    default=1000,
    show_default=True,
    help="Steps from train to test threshold from which a cell of --reference counts as grokking.",
)
@phase_diagram.reference_option
@click.option("--full", help="A sweep of a grid to compare with.")
@style.options
def main(sweep: str, delay: int, reference: Path | None, full: str | None) -> None:
    store = query.connect()
    document = connection.find_sweep(store.database, sweep)
    if document is None:
        raise UserError(f"no sweep {sweep} in {store.describe()}")
    survey = stored_survey(store, document)
    if not survey.is_run.any():
        raise UserError(f"sweep {document['_id']} has no finished run yet")
    x, y = (f"config.{key}" for key in survey.lattice.keys)
    grids = {}
    if (reference or full) and len(survey.lattice.slices) > 1:
        raise UserError("--reference and --full are for maps of one slice")
    if reference:
        grids["the published grid"] = phase_diagram.read_reference(reference, x, y, delay)
    if full:
        name, runs = query.sweep(store, full)
        query.require(runs, x, y, "result.phase")
        columns = runs[[x, y, "result.phase"]].set_axis(["x", "y", "phase"], axis=1)
        grids[f"sweep {name}"] = columns
    style.save(plot_map(survey, grids), f"phase_map_{document['_id']}")
    print(*survey.describe(), sep="\n")
    for name, grid in grids.items():
        print(describe_agreement(survey, name, grid))


def cells_of(survey: Survey, piece: int = 0) -> pd.DataFrame:
    """One row per cell of a slice: `x`, `y`, `phase`, and whether it `is_run`."""
    columns, rows = survey.lattice.axes
    x, y = np.meshgrid(np.array(columns, float), np.array(rows, float), indexing="ij")
    return pd.DataFrame(
        {
            "x": x.ravel(),
            "y": y.ravel(),
            "phase": np.array(PHASES)[survey.phases[piece].ravel()],
            "is_run": survey.is_run[piece].ravel(),
        }
    )


def describe_agreement(survey: Survey, name: str, grid: pd.DataFrame) -> str:
    """In how many of the cells that both have a grid has the phase of the map."""
    both = phase_diagram.matched_cells(cells_of(survey), grid)
    if both.empty:
        return f"{name}: no cell in common"
    same = both["phase"] == both["phase_published"]
    predicted = same[~both["is_run"]]
    return (
        f"{name}: {same.mean():.1%} of {len(both)} cells in the same phase; "
        f"of these {len(predicted)} not run in the map, {predicted.sum()} in the same phase"
    )


def plot_map(survey: Survey, grids: dict[str, pd.DataFrame]) -> Figure:
    """The phases and the runs of each slice, and the agreement with each of the grids."""
    slices, panels = len(survey.lattice.slices), 2 + len(grids)
    figure, grid_of_axes = plt.subplots(
        slices, panels, figsize=(4.8 * panels, 4 * slices), squeeze=False
    )
    for piece, values in enumerate(survey.lattice.slices):
        varying = {
            key: value
            for key, value in values.items()
            if any(other[key] != value for other in survey.lattice.slices)
        }
        title = ", ".join(f"{key}={value}" for key, value in varying.items())
        axes = grid_of_axes[piece]
        plot_cells(axes[0], survey, piece)
        axes[0].set_title(title or "phases (pale: predicted)")
        plot_runs(axes[1], survey, piece)
        for panel, (name, grid) in zip(axes[2:], grids.items(), strict=True):
            both = phase_diagram.matched_cells(cells_of(survey), grid)
            phase_diagram.plot_agreement(panel, both)
            panel.set_title(f"{name}:\n{panel.get_title()}")
        for panel in axes:
            panel.set_xlabel(style.axis_label(survey.lattice.keys[0]))
        axes[0].set_ylabel(style.axis_label(survey.lattice.keys[1]))
    style.phase_legend(figure)
    figure.tight_layout()
    return figure


def colours(survey: Survey, piece: int) -> np.ndarray:
    """The colour of the phase of each cell, (columns, rows, RGB)."""
    phases = survey.phases[piece]
    if (phases == UNKNOWN).any():
        raise UserError("a slice has no finished run yet")
    return np.array([style.PHASE_COLOURS[name] for name in PHASES])[phases]


def plot_cells(axes: Axes, survey: Survey, piece: int) -> None:
    """Show the phase of every cell of a slice, pale where it is predicted."""
    shown = colours(survey, piece)
    is_run = survey.is_run[piece][..., None]
    show(axes, np.where(is_run, shown, (1 - PALE) * shown + PALE), survey)


def plot_runs(axes: Axes, survey: Survey, piece: int) -> None:
    """Show the phases of the cells of a slice that were run."""
    is_run = survey.is_run[piece]
    show(axes, np.where(is_run[..., None], colours(survey, piece), NOT_RUN), survey)
    axes.set_title(f"{is_run.mean():.1%} of the cells run")


def show(axes: Axes, image: np.ndarray, survey: Survey) -> None:
    """Show an image (columns, rows, RGB) of a slice with the values of its axes."""
    axes.imshow(image.transpose(1, 0, 2), origin="lower", aspect="auto", interpolation="nearest")
    columns, rows = survey.lattice.axes
    phase_diagram.label_cells(axes, pd.DataFrame(index=rows, columns=columns))


if __name__ == "__main__":
    main()
