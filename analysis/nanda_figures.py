"""Figures 3 and 7 of Nanda et al. 2023: the embedding's spectrum, and the three phases; and figure 1 of
Liu et al. 2022, the principal components of the embedding.

`python analysis/nanda_figures.py [RUN]` (by default the latest run)

`grok replicate nanda` makes the runs, or `python experiments/nanda.py with cpu` makes one.
"""

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok.analysis import query, style
from grok.cli.options import run_id
from grok.engine.events import WEIGHTS
from grok.errors import UserError
from grok.measures.fourier import fourier_basis
from grok.measures.progress import frequency_power

LOSSES = {
    "train_loss": style.TRAIN,
    "test_loss": style.TEST,
    "restricted_loss": "#7d3c98",
    "excluded_loss": "#229954",
}
PHASES = {"memorization": "#fdebd0", "circuit formation": "#d6eaf8", "cleanup": "#d5f5e3"}


@click.command(help=__doc__)
@click.argument("run", type=run_id, required=False)
@style.options
def main(run: int | str | None) -> None:
    store = query.connect()
    matching: query.Filter = {
        "experiment.name": "nanda",
        "result.key_frequencies": {"$exists": True},
    }
    if run:
        matching["_id"] = run
    runs = query.runs(store, matching, last=1)
    if runs.empty:
        raise UserError("no run of experiments/nanda.py with its trajectory in the store")
    row = runs.iloc[0]
    name = f"nanda_run_{row['run']}"
    style.save(plot_phases(row, query.curves(store, row["run"])), f"{name}_phases")
    style.save(plot_spectrum(row, query.weights(store, row["run"])), f"{name}_spectrum")
    style.save(plot_embedding(row, query.arrays(store, row["run"])), f"{name}_embedding")


def plot_phases(row: pd.Series, curves: pd.DataFrame) -> Figure:
    """Losses, Gini coefficients and the sum of squared weights, with the phases shaded."""
    figure, (losses, gini, weights) = plt.subplots(3, 1, figsize=(7, 8), sharex=True)
    for loss, colour in LOSSES.items():
        losses.plot(curves[loss].dropna(), color=colour, label=loss.replace("_", " "))
    losses.set(ylabel="cross-entropy", yscale="log")
    gini.plot(curves["embedding_gini"].dropna(), color="black", label="of the embedding")
    gini.plot(curves["neuron_logit_gini"].dropna(), color="grey", label="of neurons to logits")
    gini.set(ylabel="Gini coefficient")
    weights.plot(curves["weight_norm"] ** 2, color="black")
    weights.set(ylabel="sum of squared weights")
    boundaries = phase_boundaries(row, curves["test_loss"].dropna())
    for axes in (losses, gini, weights):
        for (phase, colour), start, end in zip(
            PHASES.items(), boundaries[:-1], boundaries[1:], strict=True
        ):
            axes.axvspan(start, end, color=colour, lw=0, label=phase if axes is weights else None)
    losses.legend(loc="lower left", fontsize=8)
    gini.legend(loc="upper left", fontsize=8)
    # on white: the shading would hide its own colours
    weights.legend(loc="upper left", fontsize=8, frameon=True, facecolor="white", framealpha=1)
    weights.set_xscale("log")
    weights.set(xlabel="step", xlim=(10, curves.index.max()))
    return figure


def phase_boundaries(row: pd.Series, test_loss: pd.Series) -> list[float]:
    """The steps at which the three phases begin, and at which the last one ends.

    Circuits form from the step at which the train threshold is reached until the test loss has
    fallen to half of its maximum; cleanup ends when the test threshold is reached. A step that the
    run did not come to is its last one.
    """
    after_maximum = test_loss.loc[test_loss.idxmax() :]
    half = after_maximum[after_maximum < test_loss.max() / 2].index.min()
    boundaries = [1, row["result.steps_to_train"], half, row["result.steps_to_test"]]
    return [row["result.steps"] if pd.isna(step) else step for step in boundaries]


def plot_spectrum(row: pd.Series, weights: dict[str, np.ndarray]) -> Figure:
    """Norms of the Fourier components of the embedding, and of the map from neurons to logits."""
    p = row["config.p"]
    W_E, W_out, W_U = (
        weights[name] for name in ("tokens", "blocks.0.down.weight", "output.weight")
    )
    tables = {"embedding": W_E[:p], "neurons to logits": (W_U @ W_out)[:p]}
    basis = fourier_basis(p)
    frequencies = np.arange(1, (p + 1) // 2)
    figure, panels = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
    for axes, (title, table) in zip(panels, tables.items(), strict=True):
        norms = (basis @ torch.from_numpy(table).double()).norm(dim=1).numpy()
        axes.bar(frequencies - 0.2, norms[1::2], width=0.4, label="cos", color=style.TRAIN)
        axes.bar(frequencies + 0.2, norms[2::2], width=0.4, label="sin", color=style.TEST)
        axes.set(title=title, xlabel="frequency k", ylabel="norm of the component")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    return figure


def plot_embedding(row: pd.Series, arrays: dict[str, np.ndarray]) -> Figure:
    """The numbers' vectors in the plane of their first two principal components, from initial to final
    weights, and in the plane of the strongest frequency of the final ones.

    Arguments:
        row: of the table of runs.
        arrays: the run's trajectory, with `steps` (T,) and the embeddings (T, tokens, D).
    """
    p, steps = row["config.p"], arrays["steps"]
    embeddings = arrays[f"{WEIGHTS}tokens"][:, :p].astype(float)
    titles = {
        "initial": 0,
        "train accuracy 99 %": row["result.steps_to_train"],
        "test accuracy 99 %": row["result.steps_to_test"],
        "final": steps[-1],
    }
    final = torch.from_numpy(embeddings[-1])
    waves, powers = (fourier_basis(p) @ final).numpy()[1:], frequency_power(final)
    strongest = int(powers.argmax())
    figure, panels = plt.subplots(1, 5, figsize=(15, 3.4))
    for axes, (title, step) in zip(panels, titles.items(), strict=False):
        if pd.isna(step):
            axes.set(title=f"{title}: never", xticks=[], yticks=[])
            continue
        index = int(np.searchsorted(steps, step, side="right")) - 1
        centred = embeddings[index] - embeddings[index].mean(0)
        vectors, values, _ = np.linalg.svd(centred, full_matrices=False)
        share = (values[:2] ** 2).sum() / (values**2).sum()
        title += f"\nstep {steps[index]:,}: {share:.0%} of the variance"
        _draw_plane(axes, vectors[:, :2] * values[:2], title, strongest + 1)
    plane = np.linalg.qr(waves[2 * strongest : 2 * strongest + 2].T)[0]
    share = float(powers.max() / powers.sum())
    title = f"final, plane of frequency {strongest + 1}\n{share:.0%} of the variance"
    _draw_plane(panels[-1], embeddings[-1] @ plane, title, strongest + 1)
    return figure


def _draw_plane(axes: Axes, points: np.ndarray, title: str, frequency: int) -> None:
    """The numbers as points (p, 2), coloured by their angle at a frequency."""
    numbers = np.arange(len(points))
    axes.scatter(points[:, 0], points[:, 1], c=numbers * frequency % len(points), cmap="hsv", s=18)
    for number, (x, y) in zip(numbers, points, strict=True):
        axes.annotate(str(number), (x, y), fontsize=6)
    axes.set_title(title, fontsize=9)
    axes.set(xticks=[], yticks=[], aspect="equal")


if __name__ == "__main__":
    main()
