"""Figures 2, 6 and 8 of Omnigrok (Liu, Michaud, Tegmark 2022): loss landscapes.

`grok sweep run sweeps/omnigrok_landscape.yaml` makes the runs of the first figure, and
sweeps/omnigrok_messiness.yaml those of the second; figures of sweeps that have not been run are
left out.

The norm of the weights is fixed while a run trains. Losses are shown against that norm, and against
norm and messiness of the inputs.
"""

from collections.abc import Callable

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok.analysis import query, style

LANDSCAPE_DATASETS = {"teacher": "teacher and student", "digits": "digits"}
MESSINESS_DATASETS = ("sums", "digits")
NORM_LABEL = "norm of the weights, relative to torch's initial norm"


@click.command(help=__doc__)
@style.options
def main() -> None:
    store = query.connect()
    for name, plot in PLOTS.items():
        if query.has_finished_run(store, name):
            _, runs = query.sweep(store, name)
            style.save(plot(runs), name)


def plot_landscapes(runs: pd.DataFrame) -> Figure:
    """Train and test loss after training at a fixed norm, against that norm."""
    figure, panels = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    for axes, (dataset, title) in zip(panels, LANDSCAPE_DATASETS.items(), strict=True):
        dataset_runs = runs[runs["config.dataset"] == dataset]
        norms = dataset_runs["config.init_scale"]
        for split, colour in (("train", style.TRAIN), ("test", style.TEST)):
            losses = dataset_runs[f"result.{split}_loss"].astype(float)
            axes.plot(norms, losses, "o", ms=3, alpha=0.4, color=colour)
            medians = losses.groupby(norms).median()
            axes.plot(medians.index, medians, color=colour, label=split)
        axes.set(xscale="log", yscale="log", title=title, ylabel="loss", xlabel=NORM_LABEL)
    panels[0].legend()
    return figure


def plot_messiness(runs: pd.DataFrame) -> Figure:
    """Train and test loss after training at a fixed norm, against norm and messiness."""
    figure, panels = plt.subplots(2, 2, figsize=(9, 7), layout="constrained")
    for row, dataset in zip(panels, MESSINESS_DATASETS, strict=True):
        dataset_runs = runs[runs["config.dataset"] == dataset]
        for axes, split in zip(row, ("train", "test"), strict=True):
            losses = dataset_runs[f"result.{split}_loss"].astype(float)
            medians = dataset_runs.assign(loss=losses).pivot_table(
                "loss", "config.messiness", "config.init_scale", aggfunc="median"
            )
            plot_loss_grid(axes, medians)
            axes.set_title(f"{dataset}, {split} loss")
    return figure


def plot_loss_grid(axes: Axes, losses: pd.DataFrame) -> None:
    """Heat map of losses with their numbers: a row per messiness, a column per norm."""
    image = axes.imshow(np.log10(losses), origin="lower", aspect="auto", cmap="magma")
    brightness = np.asarray(image.norm(np.log10(losses.to_numpy())))
    for (y, x), loss in np.ndenumerate(losses.to_numpy()):
        colour = "white" if brightness[y, x] < 0.6 else "black"
        axes.text(x, y, f"{loss:.1g}", ha="center", va="center", fontsize=7, color=colour)
    axes.set(
        xlabel=NORM_LABEL,
        ylabel="messiness of the inputs",
        xticks=range(losses.shape[1]),
        xticklabels=losses.columns,
        yticks=range(losses.shape[0]),
        yticklabels=losses.index,
    )
    axes.figure.colorbar(image, ax=axes, label="log10 loss")


PLOTS: dict[str, Callable[[pd.DataFrame], Figure]] = {
    "omnigrok_landscape": plot_landscapes,
    "omnigrok_messiness": plot_messiness,
}

if __name__ == "__main__":
    main()
