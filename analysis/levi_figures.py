"""Figures 1 to 3 of Levi et al. 2023: measured curves and delays beside the closed form.

`grok replicate levi` makes the runs.
"""

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok.analysis import query, style
from grok.store.connection import Store
from grok.theory import linear

# lambda, the number of inputs per sample, of the named configs whose curves are shown.
CURVE_LAMBDAS = {"ratio_30": 0.3, "cpu": 0.9, "ratio_150": 1.5}
DELAY_LAMBDA = 0.9  # of the runs that vary weight decay or outputs
# The learning rate at which delays are shown, and the squared error up to which an output counts as
# accurate.
LR, EPS = 0.01, 1e-3
SPLIT_LABELS = {"train": "train", "test": "generalization"}
SPLIT_COLOURS = {"train": style.TRAIN, "test": style.TEST}
# Where the closed form is evaluated.
STEPS = np.geomspace(1, 1e5, 200)
LAMBDAS = np.linspace(0.2, 0.96, 60)
WEIGHT_DECAYS = np.geomspace(1e-6, 2.5e-3, 40)
OUTPUTS = np.unique(np.geomspace(1, 700, 30).round())


@click.command(help=__doc__)
@style.options
def main() -> None:
    store = query.connect()
    _, runs = query.sweep(store, "levi_cpu")
    style.save(plot_curves(store, runs), "levi_curves")
    style.save(plot_delays(runs), "levi_delays")


def plot_curves(store: Store, runs: pd.DataFrame) -> Figure:
    """Losses and accuracies for three lambdas: every seed, and the closed form dashed."""
    figure, panels = plt.subplots(2, 3, figsize=(12, 5.5), sharex=True, sharey="row")
    for (upper, lower), (preset, lam) in zip(panels.T, CURVE_LAMBDAS.items(), strict=True):
        for run_id in runs.loc[runs["config.preset"] == preset, "run"]:
            curves = query.curves(store, run_id)
            for split, colour in SPLIT_COLOURS.items():
                upper.plot(curves[f"{split}_loss"], color=colour, lw=0.5, alpha=0.5)
                lower.plot(curves[f"{split}_accuracy"], color=colour, lw=0.5, alpha=0.5)
        losses = linear.losses(STEPS, lam, LR)
        for (split, colour), loss in zip(SPLIT_COLOURS.items(), losses, strict=True):
            label = f"{SPLIT_LABELS[split]}, closed form"
            upper.plot(STEPS, loss, color=colour, lw=2, ls="--", label=label)
            lower.plot(STEPS, linear.accuracy(loss, EPS), color=colour, lw=2, ls="--")
        upper.set(title=rf"$\lambda$ = {lam}", xscale="log", yscale="log", ylim=(1e-8, 2))
        lower.set(xlabel="step", xscale="log", xlim=(1, 1e5))
    panels[0, 0].set_ylabel("loss")
    panels[1, 0].set_ylabel("accuracy")
    panels[0, 0].legend(fontsize=8, loc="lower left")
    figure.tight_layout()
    return figure


def plot_delays(runs: pd.DataFrame) -> Figure:
    """Delay to 95 % accuracy against lambda, weight decay and number of outputs.

    Delays go with 1 / learning rate; those of runs with another one are converted to LR.
    """
    at_lr = runs["result.delay"] * runs["config.lr"] / LR
    runs = runs.assign(**{"result.delay": at_lr})
    is_linear = runs["config.hidden_dim"].isna()
    has_no_decay = runs["config.weight_decay"] == 0
    has_one_output = runs["config.output_dim"] == 1
    lam = runs["config.inputs_per_sample"]
    is_base = lam == DELAY_LAMBDA
    figure, (by_lambda, by_decay, by_outputs) = plt.subplots(1, 3, figsize=(12, 3.6))
    plot_delay_panel(
        by_lambda,
        runs[is_linear & has_no_decay & has_one_output & (lam < 1)],
        "inputs_per_sample",
        LAMBDAS,
        [predicted_delay(lam=value) for value in LAMBDAS],
    )
    plot_delay_panel(
        by_decay,
        runs[is_linear & ~has_no_decay & has_one_output & is_base],
        "weight_decay",
        WEIGHT_DECAYS,
        [predicted_delay(weight_decay=value) for value in WEIGHT_DECAYS],
    )
    plot_delay_panel(
        by_outputs,
        runs[is_linear & has_no_decay & is_base],
        "output_dim",
        OUTPUTS,
        [predicted_delay(outputs=int(value)) for value in OUTPUTS],
    )
    by_lambda.set(xlabel=r"$\lambda$, inputs per sample", ylabel="delay to 95 %, steps")
    by_decay.set(xlabel=r"weight decay $\gamma$", xscale="log")
    by_outputs.set(xlabel="outputs", xscale="log")
    by_lambda.legend()
    figure.tight_layout()
    return figure


def predicted_delay(
    lam: float = DELAY_LAMBDA, weight_decay: float = 0.0, outputs: int = 1
) -> float:
    """Steps between 95 % train and 95 % test accuracy, by the closed form."""
    return linear.delay(linear.times(lam, LR, EPS, weight_decay, d_out=outputs))


def plot_delay_panel(
    axes: Axes, runs: pd.DataFrame, key: str, x: np.ndarray, predicted: list[float]
) -> None:
    """Plot the delays of all seeds that have one, their medians, and the closed form."""
    finite = runs[np.isfinite(runs["result.delay"])]
    axes.plot(finite[f"config.{key}"], finite["result.delay"], ".", color="grey", label="seeds")
    medians = finite.groupby(f"config.{key}")["result.delay"].median()
    axes.plot(medians.index, medians, "o", mfc="none", color=style.TEST, label="median")
    axes.plot(x, predicted, color="black", lw=1, label="Marchenko-Pastur law")
    axes.set(yscale="log")


if __name__ == "__main__":
    main()
