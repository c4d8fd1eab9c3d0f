"""Figures on the grokking tickets of Minegishi et al. 2023.

`grok replicate minegishi` makes the runs.

How fast tickets and their controls generalize, and how a ticket comes to be.
"""

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok.analysis import query, style

DENSE_NETWORK = "cpu"
# Titles of the panels, and in each the labels of the named configs.
TICKET_PANELS = {
    "the dense network, its ticket, its norm": {
        DENSE_NETWORK: "dense network",
        "ticket": "ticket",
        "ticket_no_decay": "without weight decay",
        "l1_norm": "whole, at its L1 norm",
        "l2_norm": "whole, at its L2 norm",
    },
    "other masks that keep 40 %": {
        "ticket": "ticket",
        "random": "random",
        "magnitude": "magnitude at the start",
        "snip": "SNIP",
        "grasp": "GraSP",
        "synflow": "SynFlow",
    },
    "when the mask is taken": {
        "ticket": "4000 after it generalized",
        "ticket_at_once": "as it generalized",
        "ticket_memorized": "memorized alone (step 500)",
    },
    "a mask learned on fixed weights": {
        "search": "1000 before it generalized",
        "search_no_decay": "without weight decay",
        "search_memorized": "memorized alone (step 500)",
        "search_memorized_no_decay": "the same without weight decay",
    },
}
WEIGHT_DECAYS = {1.0: "weight decay 1", 0.0: "no weight decay"}
GRAPH_METRICS = {
    "path_length": "mean path length",
    "clustering": "clustering",
    "spectral_gap": "spectral gap",
    "ramanujan_gap": "Ramanujan gap",
}
GRAPH_FIRST_STEP = 1500  # the graph changes too much before for one scale
INDEPENDENT_MASKS = 0.75  # change of the ticket between two independent masks


@click.command(help=__doc__)
@style.options
def main() -> None:
    store = query.connect()
    _, dense = query.sweep(store, "minegishi_dense")
    _, masked = query.sweep(store, "minegishi_cpu")
    runs = pd.concat([dense.assign(**{"config.preset": DENSE_NETWORK}), masked])
    curves = {run_id: query.curves(store, run_id) for run_id in runs["run"]}
    style.save(plot_tickets(runs, curves), "minegishi_tickets")
    style.save(plot_structure([curves[run_id] for run_id in dense["run"]]), "minegishi_structure")


def plot_tickets(runs: pd.DataFrame, curves: dict[int, pd.DataFrame]) -> Figure:
    """Test accuracy of dense networks, tickets and controls; steps by fraction of weights kept.

    Arguments:
        curves: the curves of each run by its id.
    """
    figure, panels = plt.subplots(2, 3, figsize=(15, 7.6), layout="constrained")
    for axes, (title, presets) in zip(panels.flat, TICKET_PANELS.items(), strict=False):
        for (preset, label), colour in zip(presets.items(), style.COLOURS, strict=False):
            run_ids = runs.loc[runs["config.preset"] == preset, "run"]
            seeds = (curves[run_id]["test_accuracy"].dropna() for run_id in run_ids)
            style.plot_seeds(axes, seeds, label, color=colour)
        axes.set(
            title=title,
            ylabel="test accuracy",
            ylim=(-0.03, 1.03),
            xscale="log",
            xlabel="step",
            xlim=(20, None),
        )
        axes.legend(fontsize="small")
    plot_kept_fractions(panels[1, 1], runs)
    panels[1, 2].axis("off")
    return figure


def plot_kept_fractions(axes: Axes, runs: pd.DataFrame) -> None:
    """Plot tickets' steps to generalize against the fraction of weights kept; crosses: never."""
    is_ticket = (
        (runs["config.mask"] == "ticket")
        & runs["config.mask_step"].isna()
        & (runs["config.mask_delay"] != 0)
    )
    for (decay, label), colour in zip(WEIGHT_DECAYS.items(), style.COLOURS, strict=False):
        tickets = runs[is_ticket & (runs["config.weight_decay"] == decay)]
        fractions = tickets["config.keep"].astype(float)
        steps = tickets["result.steps_to_test"].astype(float)
        never = steps.isna()
        budget = tickets["config.train_steps"].max()
        axes.plot(fractions, steps, "o", ms=4, alpha=0.5, color=colour)
        axes.plot(fractions[never], [budget] * never.sum(), "x", color=colour)
        medians = steps.fillna(np.inf).groupby(fractions).median()
        axes.plot(medians.index, medians, color=colour, label=label)
    axes.set(
        title="how much is kept",
        xlabel="fraction of the weights kept",
        yscale="log",
        ylabel="steps to 95 % (never: x)",
    )
    axes.legend(fontsize="small")


def plot_structure(curves: list[pd.DataFrame]) -> Figure:
    """The ticket's change, the periodicity of network and ticket, and the ticket's graph.

    Arguments:
        curves: the curves of each seed of the dense network.
    """
    figure, panels = plt.subplots(2, 3, figsize=(15, 7), layout="constrained", sharex=True)
    change, entropy, *graph_panels = panels.flat
    for curve, colour in zip(curves, style.cycle_colours(len(curves)), strict=True):
        change.plot(curve["ticket_change"].dropna(), color=colour)
        change.plot(curve["test_accuracy"].dropna(), color=colour, lw=0.8, ls=":")
        entropy.plot(curve["fourier_entropy"].dropna(), color=colour)
        entropy.plot(curve["ticket_fourier_entropy"].dropna(), color=colour, ls="--")
        for axes, metric in zip(graph_panels, GRAPH_METRICS, strict=True):
            axes.plot(curve[metric].dropna().loc[GRAPH_FIRST_STEP:], color=colour)
    change.axhline(INDEPENDENT_MASKS, color="grey", lw=0.7)
    change.set(ylabel="change of the ticket in 2000 steps\n(test accuracy dotted)")
    entropy.set(ylabel="Fourier entropy: network\n(ticket's initial weights dashed)")
    for axes, label in zip(graph_panels, GRAPH_METRICS.values(), strict=True):
        axes.set_ylabel(f"ticket's graph: {label}")
    for axes in panels[1]:
        axes.set_xlabel("step")
        axes.locator_params(axis="x", nbins=5)  # more labels would touch each other
    return figure


if __name__ == "__main__":
    main()
