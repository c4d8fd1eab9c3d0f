"""The final weights of runs.

`python analysis/weights.py run=12,13 [--matrix output.weight]`

One figure shows the norm of every parameter, the singular values of the largest matrices and the
cosine between the runs' weights. A second one shows one matrix as a heat map, as it is and with
rows and columns in the order of its first singular vectors.
"""

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok.analysis import groups, query, style
from grok.cli.options import SELECTION_HELP, runs_argument
from grok.errors import UserError, did_you_mean

MAX_RUNS = 12
SINGULAR_VALUES = 50  # shown of each matrix
# One line style for each matrix whose singular values are shown.
LINE_STYLES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1)), (0, (1, 3)))
HEAT_MAP_PERCENTILE = 99  # of absolute values, at the ends of the colour scale
LABEL_KEYS = 2  # config keys in the label of a run

Weights = dict[str, np.ndarray]


@click.command(help=__doc__, epilog=SELECTION_HELP)
@runs_argument
@click.option("--matrix", help="Parameter to show as a heat map; by default the largest matrix.")
@style.name_option("weights")
@style.options
def main(filters: tuple[str, ...], matrix: str | None, name: str) -> None:
    store = query.connect()
    runs = query.selected_runs(store, filters)
    if len(runs) > MAX_RUNS:
        raise UserError(f"{len(runs)} runs: more than {MAX_RUNS}; choose fewer, as run=3,4")
    labels = run_labels(runs)
    weights = {labels[run_id]: query.weights(store, run_id) for run_id in runs["run"]}
    first_run = next(iter(weights.values()))
    sizes = {parameter: value.size for parameter, value in first_run.items() if value.ndim == 2}
    if not sizes:
        raise UserError("these runs have no matrix among their weights")
    by_size = sorted(sizes, key=lambda parameter: sizes[parameter], reverse=True)
    matrix = matrix or by_size[0]
    if matrix not in sizes:
        raise UserError(f"no matrix {matrix}{did_you_mean(matrix, sizes)}")
    style.save(plot_spectra(weights, by_size[: len(LINE_STYLES)]), f"{name}_spectra")
    style.save(plot_matrix(weights, matrix), f"{name}_{matrix.replace('.', '_')}")


def run_labels(runs: pd.DataFrame) -> dict[int, str]:
    """A short label for each run: its id and its values of the first config keys that vary."""
    keys = groups.varying_keys(runs)
    if "config.seed" in runs and runs["config.seed"].map(repr).nunique() > 1:
        keys.append("config.seed")
    labels = {}
    for _, row in runs.iterrows():
        values = [f"{key.rpartition('.')[2]}={row[key]}" for key in keys[:LABEL_KEYS]]
        labels[row["run"]] = " ".join([str(row["run"]), *values])
    return labels


def cosines(weights: dict[str, Weights]) -> np.ndarray:
    """Cosine between the flattened weights of each pair of runs (R, R); NaN where shapes differ."""
    flat = [
        np.concatenate([value.ravel() for value in run.values()]).astype(float)
        for run in weights.values()
    ]
    shapes = [[value.shape for value in run.values()] for run in weights.values()]
    result = np.full((len(flat), len(flat)), np.nan)
    for i, first in enumerate(flat):
        for j, second in enumerate(flat):
            if shapes[i] == shapes[j]:
                result[i, j] = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
    return result


def plot_spectra(weights: dict[str, Weights], matrices: list[str]) -> Figure:
    """Norms of all parameters, singular values of some matrices, cosines between runs."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(15, 4.4), layout="constrained")
    plot_norms(left, weights)
    plot_singular_values(middle, weights, matrices)
    plot_cosines(right, weights)
    return figure


def plot_norms(axes: Axes, weights: dict[str, Weights]) -> None:
    """A bar per parameter and run."""
    parameters = list(next(iter(weights.values())))
    positions = np.arange(len(parameters))
    height = 0.8 / len(weights)
    colours = style.cycle_colours(len(weights))
    for index, (label, run) in enumerate(weights.items()):
        norms = [
            float(np.linalg.norm(run[parameter])) if parameter in run else 0.0
            for parameter in parameters
        ]
        axes.barh(positions + height * index, norms, height, color=colours[index], label=label)
    axes.set_yticks(positions + 0.4, parameters, fontsize="x-small")
    axes.invert_yaxis()
    axes.set_xlabel("norm")
    axes.legend(fontsize="x-small")


def plot_singular_values(axes: Axes, weights: dict[str, Weights], matrices: list[str]) -> None:
    """Singular values relative to the largest: a line style per matrix, a colour per run."""
    colours = style.cycle_colours(len(weights))
    for index, run in enumerate(weights.values()):
        for line_style, matrix in zip(LINE_STYLES, matrices, strict=False):
            if matrix in run:
                values = np.linalg.svd(run[matrix].astype(float), compute_uv=False)
                values = values[:SINGULAR_VALUES]
                axes.plot(
                    np.arange(1, len(values) + 1),
                    values / values[0],
                    ls=line_style,
                    color=colours[index],
                    lw=1,
                    label=matrix if index == 0 else None,
                )
    axes.set(
        xlabel="singular value number",
        ylabel="fraction of the largest",
        yscale="log",
        ylim=(1e-4, 1.3),
    )
    axes.legend(fontsize="x-small")


def plot_cosines(axes: Axes, weights: dict[str, Weights]) -> None:
    """The matrix of cosines between runs, with its numbers."""
    matrix = cosines(weights)
    image = axes.imshow(matrix, vmin=-1, vmax=1, cmap="RdBu_r")
    for (i, j), value in np.ndenumerate(matrix):
        colour = "white" if abs(value) > 0.7 else "black"
        axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize="x-small", color=colour)
    positions = range(len(weights))
    axes.set_xticks(positions, list(weights), rotation=40, ha="right", fontsize="x-small")
    axes.set_yticks(positions, list(weights), fontsize="x-small")
    axes.set_title("cosine between all weights", fontsize="medium")
    axes.figure.colorbar(image, ax=axes, shrink=0.7)


def plot_matrix(weights: dict[str, Weights], matrix: str) -> Figure:
    """A column per run that has the matrix: as it is, and sorted by its first singular vectors."""
    matrices = {label: run[matrix].astype(float) for label, run in weights.items() if matrix in run}
    figure, axes = plt.subplots(
        2,
        len(matrices),
        figsize=(1 + 3.4 * len(matrices), 6.4),
        squeeze=False,
        layout="constrained",
    )
    for (above, below), (label, values) in zip(axes.T, matrices.items(), strict=True):
        u, _, vh = np.linalg.svd(values, full_matrices=False)
        sorted_values = values[np.argsort(u[:, 0])][:, np.argsort(vh[0])]
        limit = np.percentile(np.abs(values), HEAT_MAP_PERCENTILE)
        for panel, panel_values in ((above, values), (below, sorted_values)):
            image = panel.imshow(
                panel_values,
                aspect="auto",
                cmap="RdBu_r",
                vmin=-limit,
                vmax=limit,
                interpolation="nearest",
            )
        above.set_title(label, fontsize="small")
        figure.colorbar(image, ax=[above, below], shrink=0.5)
    axes[0][0].set_ylabel(f"{matrix}, as it is")
    axes[1][0].set_ylabel("sorted by the first singular vectors")
    return figure


if __name__ == "__main__":
    main()
