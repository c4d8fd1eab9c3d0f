"""The weights that runs ended with: `python analysis/weights.py run=12,13 [--matrix output.weight]`.

Norms and singular values of every parameter, the cosine between runs, and one matrix as a heat map, as
it is and with its rows in the order of their first singular vector.
"""

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from analysis import groups, query, style
from grok.cli.options import SELECTION_HELP, runs_argument
from grok.errors import did_you_mean

RANK = 50  # singular values that are shown
MOST_RUNS = 12
LARGEST = 6  # matrices whose singular values are drawn


@click.command(help=__doc__, epilog=SELECTION_HELP)
@runs_argument
@click.option("--matrix", help="the parameter drawn as a heat map; the largest, if none")
@style.name_option("weights")
@style.options  # fmt: skip
def main(filters, matrix, name) -> None:
    store = query.connect()
    runs = query.chosen(store, filters)
    if len(runs) > MOST_RUNS:
        query.fail(f"{len(runs)} runs: more than {MOST_RUNS}; choose fewer, as run=3,4")
    weights = {labels(runs)[run]: query.weights(store, run) for run in runs["run"]}
    sizes = {
        key: value.size for key, value in next(iter(weights.values())).items() if value.ndim == 2
    }
    if not sizes:
        query.fail("these runs have no matrix among their weights")
    matrix = matrix or max(sizes, key=sizes.get)
    if matrix not in sizes:
        query.fail(f"no matrix {matrix}{did_you_mean(matrix, sizes)}")
    largest = sorted(sizes, key=sizes.get, reverse=True)[:LARGEST]
    style.save(draw_spectra(weights, largest), f"{name}_spectra")
    style.save(draw_matrix(weights, matrix), f"{name}_{matrix.replace('.', '_')}")


def labels(runs: pd.DataFrame) -> dict[int, str]:
    """A short name for each run."""
    keys = [*groups.varying(runs), *(key for key in groups.SEEDS[:1] if runs[key].nunique() > 1)]
    words = {}
    for _, row in runs.iterrows():
        said = " ".join(f"{key.rpartition('.')[2]}={row[key]}" for key in keys[:2])
        words[row["run"]] = f"{row['run']} {said}".strip()
    return words


def cosines(weights: dict[str, dict[str, np.ndarray]]) -> np.ndarray:
    """Cosine between runs over all parameters, (runs, runs); NaN where their shapes differ."""
    flat = [
        np.concatenate([v.ravel() for v in run.values()]).astype(float) for run in weights.values()
    ]
    shapes = [[value.shape for value in run.values()] for run in weights.values()]
    result = np.full((len(flat), len(flat)), np.nan)
    for i, first in enumerate(flat):
        for j, second in enumerate(flat):
            if shapes[i] == shapes[j]:
                result[i, j] = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
    return result


def draw_spectra(weights, matrices: list[str]):
    """Norms per parameter, normalized singular values, cosines between runs."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(15, 4.4), layout="constrained")
    names = list(next(iter(weights.values())))
    height = 0.8 / len(weights)
    for number, (label, run) in enumerate(weights.items()):
        colour = style.COLOURS[number % len(style.COLOURS)]
        norms = [np.linalg.norm(run[key]) if key in run else 0.0 for key in names]
        left.barh(np.arange(len(names)) + height * number, norms, height, color=colour, label=label)
        for dashes, key in zip(
            ("-", "--", ":", "-.", (0, (5, 1, 1, 1)), (0, (1, 3))), matrices, strict=False
        ):
            if key in run:
                values = np.linalg.svd(run[key].astype(float), compute_uv=False)[:RANK]
                middle.plot(np.arange(1, len(values) + 1), values / values[0], ls=dashes, color=colour,
                            lw=1, label=key if number == 0 else None)  # fmt: skip
    left.set_yticks(np.arange(len(names)) + 0.4, names, fontsize="x-small")
    left.invert_yaxis()
    left.set_xlabel("norm")
    left.legend(fontsize="x-small")
    middle.set(
        xlabel="singular value number",
        ylabel="share of the largest",
        yscale="log",
        ylim=(1e-4, 1.3),
    )
    middle.legend(fontsize="x-small")
    found = cosines(weights)
    image = right.imshow(found, vmin=-1, vmax=1, cmap="RdBu_r")
    for (i, j), value in np.ndenumerate(found):
        right.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize="x-small",
                   color="white" if abs(value) > 0.7 else "black")  # fmt: skip
    right.set_xticks(
        range(len(weights)), list(weights), rotation=40, ha="right", fontsize="x-small"
    )
    right.set_yticks(range(len(weights)), list(weights), fontsize="x-small")
    right.set_title("cosine between all weights", fontsize="medium")
    figure.colorbar(image, ax=right, shrink=0.7)
    return figure


def draw_matrix(weights, matrix: str):
    """A column per run that has the matrix: as it is, and sorted by the first singular vectors."""
    weights = {label: run for label, run in weights.items() if matrix in run}
    figure, axes = plt.subplots(
        2, len(weights), figsize=(1 + 3.4 * len(weights), 6.4), squeeze=False, layout="constrained"
    )
    for (above, below), (label, run) in zip(axes.T, weights.items(), strict=True):
        values = run[matrix].astype(float)
        u, _, v = np.linalg.svd(values, full_matrices=False)
        most = np.percentile(np.abs(values), 99)
        for panel, shown in (
            (above, values),
            (below, values[np.argsort(u[:, 0])][:, np.argsort(v[0])]),
        ):
            image = panel.imshow(shown, aspect="auto", cmap="RdBu_r", vmin=-most, vmax=most,
                                 interpolation="nearest")  # fmt: skip
        above.set_title(label, fontsize="small")
        figure.colorbar(image, ax=[above, below], shrink=0.5)
    axes[0][0].set_ylabel(f"{matrix}, as it is")
    axes[1][0].set_ylabel("sorted by the first singular vectors")
    return figure


if __name__ == "__main__":
    main()
