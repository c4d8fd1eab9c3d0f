"""Grokking tickets (Minegishi et al. 2023): how fast they generalize, and how they come to be.

`grok replicate minegishi` first.
"""

import click
import matplotlib.pyplot as plt
import pandas as pd

from analysis import query, style

SHOWN = {  # seed by seed, in one panel each
    "the whole network, its ticket, its norm": {
        "cpu": "whole network", "ticket": "ticket", "ticket_no_decay": "without weight decay",
        "l1_norm": "whole, at its L1 norm", "l2_norm": "whole, at its L2 norm",
    },
    "other masks that keep 40 %": {
        "ticket": "ticket", "random": "random", "magnitude": "magnitude at the start",
        "snip": "SNIP", "grasp": "GraSP", "synflow": "SynFlow",
    },
    "when the mask is taken": {
        "ticket": "4000 after it generalized", "ticket_at_once": "as it generalized",
        "ticket_memorized": "memorized alone (update 500)",
    },
    "a mask learned on fixed weights": {
        "search": "1000 before it generalized", "search_no_decay": "without weight decay",
        "search_memorized": "memorized alone (update 500)",
    },
}  # fmt: skip
GRAPH = {
    "path_length": "mean path length", "clustering": "clustering",
    "spectral_gap": "spectral gap", "ramanujan_gap": "Ramanujan gap",
}  # fmt: skip
FORMED = 1500  # updates until the first large changes are over


@click.command(help=__doc__)
@style.options
def main() -> None:
    store = query.connect()
    dense = query.sweep(store, "minegishi_dense")[1].assign(**{"config.preset": "cpu"})
    runs = pd.concat([dense, query.sweep(store, "minegishi_cpu")[1]])
    curves = {run: query.curves(store, run) for run in runs["run"]}
    style.save(tickets(runs, curves), "minegishi_tickets")
    style.save(structure([curves[run] for run in dense["run"]]), "minegishi_structure")


def tickets(runs: pd.DataFrame, curves: dict):
    """Test accuracy of whole networks, tickets and controls; steps against what is kept."""
    figure, panels = plt.subplots(2, 3, figsize=(15, 7.6), layout="constrained")
    for axes, (title, presets) in zip(panels.flat, SHOWN.items(), strict=False):
        for number, (preset, label) in enumerate(presets.items()):
            mine = runs.loc[runs["config.preset"] == preset, "run"]
            seeds = (curves[run]["test_accuracy"].dropna() for run in mine)
            style.draw_seeds(axes, seeds, label, color=style.COLOURS[number])
        axes.set(title=title, ylabel="test accuracy", ylim=(-0.03, 1.03), xscale="log",
                 xlabel="update", xlim=(20, None))  # fmt: skip
        axes.legend(fontsize="small")
    kept(panels[1, 1], runs)
    panels[1, 2].axis("off")
    return figure


def kept(axes, runs: pd.DataFrame) -> None:
    """Steps to generalize of tickets against the share of the weights that they keep; x: never."""
    for number, (decay, label) in enumerate(((1.0, "weight decay 1"), (0.0, "no weight decay"))):
        mine = runs[(runs["config.mask"] == "ticket") & (runs["config.weight_decay"] == decay)
                    & runs["config.mask_step"].isna() & (runs["config.mask_delay"] != 0)]  # fmt: skip
        shares, steps = mine["config.keep"].astype(float), mine["result.steps_to_test"]
        steps, colour = steps.astype(float), style.COLOURS[number]
        axes.plot(shares, steps, "o", ms=4, alpha=0.5, color=colour)
        axes.plot(shares[steps.isna()], [mine["config.train_steps"].max()] * steps.isna().sum(), "x",
                  color=colour)  # fmt: skip
        medians = steps.fillna(float("inf")).groupby(shares).median()
        axes.plot(medians.index, medians, color=colour, label=label)
    axes.set(title="how much is kept", xlabel="share of the weights kept", yscale="log",
             ylabel="updates to 95 % (never: x)")  # fmt: skip
    axes.legend(fontsize="small")


def structure(curves: list[pd.DataFrame]):
    """How the ticket changes, how periodic network and ticket are, and the ticket's graph."""
    figure, panels = plt.subplots(2, 3, figsize=(15, 7), layout="constrained", sharex=True)
    first, second = panels[0, 0], panels[0, 1]
    for number, curve in enumerate(curves):
        colour = style.COLOURS[number]
        first.plot(curve["ticket_change"].dropna(), color=colour)
        first.plot(curve["test_accuracy"].dropna(), color=colour, lw=0.8, ls=":")
        second.plot(curve["fourier_entropy"].dropna(), color=colour)
        second.plot(curve["ticket_fourier_entropy"].dropna(), color=colour, ls="--")
        for axes, name in zip(panels.flat[2:], GRAPH, strict=True):
            axes.plot(curve[name].dropna().loc[FORMED:], color=colour)
    first.axhline(0.75, color="grey", lw=0.7)  # of two independent masks
    first.set(ylabel="change of the ticket in 2000 updates\n(test accuracy dotted)")
    second.set(ylabel="Fourier entropy: network\n(ticket's initial weights dashed)")
    for axes, label in zip(panels.flat[2:], GRAPH.values(), strict=True):
        axes.set_ylabel(f"ticket's graph: {label}")
    for axes in panels[1]:
        axes.set_xlabel("update")
    return figure


if __name__ == "__main__":
    main()
