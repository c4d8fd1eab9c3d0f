"""Figures 2, 3, 7 and 10 of Omnigrok (Liu, Michaud, Tegmark 2022): delays and their causes.

`grok replicate omnigrok` makes the runs, `grok sweep run sweeps/omnigrok_alpha.yaml` those of the
last figure; figures of sweeps that have not been run are left out.
"""

from collections.abc import Callable

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok.analysis import query, style
from grok.store.connection import Store

DATASETS = {"teacher": "teacher and student", "digits": "digits"}
# Train and test accuracy that count as memorized and generalized.
THRESHOLDS = {
    "teacher": {"train": 0.95, "test": 0.95},
    "digits": {"train": 0.99, "test": 0.9},
}
STEP_COLOURS = {"to memorize": style.TRAIN, "to generalize": style.TEST}
# Labels of the named configs in each of three panels.
ADDITION = {
    "addition": "addition, free norm",
    "addition_fixed": "addition, norm fixed at 0.8 times",
}
SEQUENCES = {
    "sequences": "sequences, 6 times",
    "plain_sequences": "sequences, torch's weights",
}
DIABETES = {
    "diabetes": "diabetes, 3 times",
    "plain_diabetes": "diabetes, torch's weights",
}


@click.command(help=__doc__)
@style.options
def main() -> None:
    store = query.connect()
    for name, plot in PLOTS.items():
        if query.has_finished_run(store, name):
            _, runs = query.sweep(store, name)
            style.save(plot(store, runs), name)


def plot_weight_decays(store: Store, runs: pd.DataFrame) -> Figure:
    """Left: accuracies of one seed by weight decay. Right: steps against weight decay, all seeds."""
    figure, panels = plt.subplots(2, 2, figsize=(11, 7.4), layout="constrained")
    for (left, right), (dataset, title) in zip(panels, DATASETS.items(), strict=True):
        is_large = runs["config.init_scale"] > 1  # the sweep also has students from small weights
        dataset_runs = runs[is_large & (runs["config.dataset"] == dataset)]
        dataset_runs = dataset_runs.sort_values("config.weight_decay")
        curves = {run_id: query.curves(store, run_id) for run_id in dataset_runs["run"]}
        first_seed = dataset_runs[dataset_runs["config.seed"] == dataset_runs["config.seed"].min()]
        for colour, (_, row) in zip(
            style.cycle_colours(len(first_seed)), first_seed.iterrows(), strict=True
        ):
            curve, label = curves[row["run"]], f"weight decay {row['config.weight_decay']:g}"
            left.plot(curve["test_accuracy"], color=colour, label=label)
            left.plot(curve["train_accuracy"], color=colour, ls=":", lw=1)
        decayed = dataset_runs[dataset_runs["config.weight_decay"] > 0]
        plot_steps_by_decay(right, decayed, curves, dataset)
        left.set(
            xscale="log",
            xlim=(10, None),
            ylabel="test accuracy; train accuracy dotted",
            xlabel="step",
            title=title,
        )
        left.legend(fontsize="small")
    return figure


def plot_steps_by_decay(
    axes: Axes, runs: pd.DataFrame, curves: dict[int, pd.DataFrame], dataset: str
) -> None:
    """Plot steps to memorize and to generalize, and a line that falls as 1 / weight decay."""
    steps = pd.DataFrame([steps_to_thresholds(curves[run], dataset) for run in runs["run"]])
    decays = runs["config.weight_decay"].to_numpy()
    for label, colour in STEP_COLOURS.items():
        axes.plot(decays, steps[label], "o", ms=4, color=colour, label=label)
    reached = np.isfinite(steps["to generalize"].to_numpy())
    if not reached.all():
        last = [curves[run].index.max() for run in runs["run"][~reached]]
        colour = STEP_COLOURS["to generalize"]
        axes.plot(decays[~reached], last, "^", ms=6, mfc="none", color=colour, label="not reached")
    constant = np.exp(np.log(decays * steps["to generalize"])[reached].mean())
    axes.plot(decays, constant / decays, color="grey", lw=0.8, label="1 / weight decay")
    axes.set(xscale="log", yscale="log", xlabel="weight decay", ylabel="steps")
    axes.legend(fontsize="small")


def plot_scales(store: Store, runs: pd.DataFrame) -> Figure:
    """Steps to memorize and to generalize against the scale of the initial weights, all seeds."""
    figure, panels = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    for axes, (dataset, title) in zip(panels, DATASETS.items(), strict=True):
        dataset_runs = runs[runs["config.dataset"] == dataset]
        scales = dataset_runs["config.init_scale"]
        steps = pd.DataFrame(
            [
                steps_to_thresholds(query.curves(store, run_id), dataset)
                for run_id in dataset_runs["run"]
            ],
            index=dataset_runs.index,
        )
        for label, colour in STEP_COLOURS.items():
            axes.plot(scales, steps[label], "o", ms=4, alpha=0.5, color=colour)
            medians = steps[label].groupby(scales).median()
            axes.plot(medians.index, medians, color=colour, label=label)
        axes.set(
            xscale="log",
            yscale="log",
            title=title,
            ylabel="steps",
            xlabel="scale of the initial weights, relative to torch's",
        )
        ticks = sorted(scales.unique())
        axes.set_xticks(ticks, [f"{scale:g}" for scale in ticks])
        axes.minorticks_off()
    panels[0].legend()
    return figure


def steps_to_thresholds(curve: pd.DataFrame, dataset: str) -> dict[str, float]:
    """Steps of a run to the first crossing of its train and of its test threshold."""
    thresholds = THRESHOLDS[dataset]
    return {
        "to memorize": query.first_crossing(curve["train_accuracy"], thresholds["train"]),
        "to generalize": query.first_crossing(curve["test_accuracy"], thresholds["test"]),
    }


def plot_other_tasks(store: Store, runs: pd.DataFrame) -> Figure:
    """Addition with its norm free and fixed, and what stands in for texts and tables, all seeds."""
    presets = ADDITION | SEQUENCES | DIABETES
    curves = query.curves_by_preset(store, runs[runs["config.preset"].isin(presets)])
    figure, panels = plt.subplots(2, 2, figsize=(11, 7.4), layout="constrained")
    addition, norm, sequences, diabetes = panels.flat
    plot_accuracies(addition, curves, ADDITION)
    plot_accuracies(sequences, curves, SEQUENCES)
    plot_accuracies(diabetes, curves, DIABETES)
    for preset, colour in zip(ADDITION, style.COLOURS, strict=False):
        norms = (curve["weight_norm"] for curve in curves[preset])
        style.plot_seeds(norm, (values / values.iloc[0] for values in norms), color=colour)
    norm.set(
        xscale="log", xlabel="step", ylabel="norm of the weights / at the start", xlim=(1, None)
    )
    return figure


def plot_accuracies(
    axes: Axes, curves: dict[str, list[pd.DataFrame]], labels: dict[str, str]
) -> None:
    """Plot test accuracy (train dotted) of some named configs, all seeds."""
    for (preset, label), colour in zip(labels.items(), style.COLOURS, strict=False):
        test = (curve["test_accuracy"] for curve in curves[preset])
        train = (curve["train_accuracy"] for curve in curves[preset])
        style.plot_seeds(axes, test, label, color=colour)
        style.plot_seeds(axes, train, color=colour, ls=":", lw=0.8)
    axes.set(
        xscale="log",
        xlabel="step",
        ylabel="test accuracy; train accuracy dotted",
        xlim=(1, None),
    )
    axes.legend(fontsize="small")


PLOTS: dict[str, Callable[[Store, pd.DataFrame], Figure]] = {
    "omnigrok_decay": plot_weight_decays,
    "omnigrok_cpu": plot_other_tasks,
    "omnigrok_alpha": plot_scales,
}

if __name__ == "__main__":
    main()
