"""Figures 3 and 7 of Nanda et al. 2023: the embedding's spectrum, and the three phases.

`grok replicate nanda` first, or `python experiments/nanda.py with cpu`. RUN: a run of it (else the latest).
"""

import click
import matplotlib.pyplot as plt
import numpy as np
import torch

from analysis import query, style
from grok.measures import progress

PHASES = (("memorization", "#fdebd0"), ("circuit formation", "#d6eaf8"), ("cleanup", "#d5f5e3"))


@click.command(help=__doc__)
@click.argument("run", type=int, required=False)
@style.options
def main(run: int | None) -> None:
    store = query.connect()
    wanted = {"experiment.name": "nanda", "result.key_frequencies": {"$exists": True}}
    found = query.runs(store, wanted | ({"_id": run} if run else {}), last=1)
    if found.empty:
        query.fail("no run of experiments/nanda.py with its trajectory in the store")
    row = found.iloc[0]
    name = f"nanda_run_{row['run']}"
    style.save(phases(row, query.curves(store, row["run"])), f"{name}_phases")
    style.save(spectrum(row, query.weights(store, row["run"])), f"{name}_spectrum")


def phases(row, curves):
    """Losses, Gini coefficients and the sum of squared weights over the updates, phases shaded."""
    figure, panels = plt.subplots(3, 1, figsize=(7, 8), sharex=True)
    for loss, colour in (
        ("train_loss", style.TRAIN), ("test_loss", style.TEST), ("restricted_loss", "#7d3c98"),
        ("excluded_loss", "#229954"),
    ):  # fmt: skip
        panels[0].plot(curves[loss].dropna(), color=colour, label=loss.replace("_", " "))
    panels[0].set(ylabel="cross-entropy", yscale="log")
    panels[1].plot(curves["embedding_gini"].dropna(), color="black", label="of the embedding")
    panels[1].plot(curves["neuron_logit_gini"].dropna(), color="grey", label="of neurons to logits")
    panels[1].set(ylabel="Gini coefficient")
    panels[2].plot(curves["weight_norm"] ** 2, color="black")
    panels[2].set(ylabel="sum of squared weights")
    test = curves["test_loss"].dropna()
    half = test.loc[test.idxmax() :].loc[lambda values: values < test.max() / 2].index.min()
    ends = [1, row["result.steps_to_train"], half, row["result.steps_to_test"]]
    for axes in panels:
        for (label, colour), start, end in zip(PHASES, ends, ends[1:], strict=False):
            axes.axvspan(start, end, color=colour, lw=0, label=label if axes is panels[2] else None)
    for axes, place in zip(panels, ("lower left", "upper left", "upper left"), strict=True):
        axes.legend(loc=place, fontsize=8)
    panels[2].set_xscale("log")
    panels[2].set(xlabel="update", xlim=(10, curves.index.max()))
    return figure


def spectrum(row, weights):
    """Norm of every Fourier component of the embedding and of the neurons' way to the logits."""
    p = row["config.p"]
    maps = {
        "embedding": weights["tokens"][:p],
        "neurons to logits": (weights["output.weight"] @ weights["blocks.0.down.weight"])[:p],
    }
    figure, panels = plt.subplots(1, 2, figsize=(10, 3.2))
    for axes, (title, table) in zip(panels, maps.items(), strict=True):
        norms = (progress.fourier_basis(p) @ torch.from_numpy(table).double()).norm(dim=1).numpy()
        k = np.arange(1, (p + 1) // 2)
        axes.bar(k - 0.2, norms[1::2], width=0.4, label="cos", color=style.TRAIN)
        axes.bar(k + 0.2, norms[2::2], width=0.4, label="sin", color=style.TEST)
        axes.set(title=title, xlabel="frequency k", ylabel="norm of the component")
    panels[0].legend()
    return figure


if __name__ == "__main__":
    main()
