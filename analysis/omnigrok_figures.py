"""Delays of Omnigrok against weight decay and initial scale (Liu, Michaud, Tegmark 2022, figures 2, 3, 7, 10).

`grok replicate omnigrok` first, and `grok sweep run sweeps/omnigrok_alpha.yaml` for the last.
"""

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from analysis import query, style

NAMES = {"teacher": "teacher and student", "digits": "digits"}
WITHIN = {"teacher": (0.95, 0.95), "digits": (0.99, 0.9)}  # accuracies that count
KINDS = {
    "addition": "addition, free norm", "addition_fixed": "addition, norm fixed at 0.8 times",
    "sequences": "sequences, 6 times", "plain_sequences": "sequences, torch's weights",
    "diabetes": "diabetes, 3 times", "plain_diabetes": "diabetes, torch's weights",
}  # fmt: skip


@click.command(help=__doc__)
@style.options
def main() -> None:
    store = query.connect()
    for name, draw in (("decay", delays), ("cpu", others), ("alpha", scales)):
        if query.has_run(store, f"omnigrok_{name}"):
            style.save(draw(store, query.sweep(store, f"omnigrok_{name}")[1]), f"omnigrok_{name}")


def delays(store, runs):
    """Accuracies by weight decay, one seed; steps to memorize and to generalize against it, all seeds."""
    figure, panels = plt.subplots(2, 2, figsize=(11, 7.4), layout="constrained")
    for (left, right), (dataset, title) in zip(panels, NAMES.items(), strict=True):
        mine = runs[runs["config.dataset"] == dataset].sort_values("config.weight_decay")
        steps = []
        for _, row in mine.iterrows():
            curve, decay = query.curves(store, row["run"]), row["config.weight_decay"]
            colour = style.COLOURS[list(mine["config.weight_decay"].unique()).index(decay)]
            if row["config.seed"] == mine["config.seed"].min():
                left.plot(curve["test_accuracy"], color=colour, label=f"weight decay {decay:g}")
                left.plot(curve["train_accuracy"], color=colour, ls=":", lw=1)
            steps.append((decay, *crossings(curve, dataset)))
        table = np.array([row for row in steps if row[0] > 0])
        right.plot(table[:, 0], table[:, 1], "o", ms=4, color=style.TRAIN, label="to memorize")
        right.plot(table[:, 0], table[:, 2], "o", ms=4, color=style.TEST, label="to generalize")
        middle = np.exp(np.log(table[:, 0] * table[:, 2]).mean())
        right.plot(
            table[:, 0], middle / table[:, 0], color="grey", lw=0.8, label="1 / weight decay"
        )
        left.set(xscale="log", xlim=(10, None), ylabel="test accuracy; train accuracy dotted",
                 xlabel="update", title=title)  # fmt: skip
        right.set(xscale="log", yscale="log", xlabel="weight decay", ylabel="updates")
        left.legend(fontsize="small")
        right.legend(fontsize="small")
    return figure


def scales(store, runs):
    """Steps to memorize and to generalize against the initial weights' scale, all seeds."""
    figure, panels = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    for axes, (dataset, title) in zip(panels, NAMES.items(), strict=True):
        mine = runs[runs["config.dataset"] == dataset]
        alphas = mine["config.init_scale"]
        found = [crossings(query.curves(store, run), dataset) for run in mine["run"]]
        table = pd.DataFrame(found, mine.index, ["to memorize", "to generalize"])
        for (label, steps), colour in zip(table.items(), (style.TRAIN, style.TEST), strict=True):
            axes.plot(alphas, steps, "o", ms=4, alpha=0.5, color=colour)
            medians = steps.groupby(alphas).median()
            axes.plot(medians.index, medians, color=colour, label=label)
        axes.set(xscale="log", yscale="log", title=title, ylabel="updates",
                 xlabel="initial weights, in torch's")  # fmt: skip
        ticks = sorted(alphas.unique())
        axes.set_xticks(ticks, [f"{alpha:g}" for alpha in ticks])
        axes.minorticks_off()
    panels[0].legend()
    return figure


def crossings(curve: pd.DataFrame, dataset: str) -> list[float]:
    """Steps of a run to the train accuracy and to the test accuracy that count."""
    return [query.first_crossing(curve[f"{part}_accuracy"], least)
            for part, least in zip(("train", "test"), WITHIN[dataset], strict=True)]  # fmt: skip


def others(store, runs):
    """Addition with its norm free and fixed, and what stands in for texts and tables, all seeds."""
    curves = query.curves_by_preset(store, runs[runs["config.preset"].isin(KINDS)])
    figure, panels = plt.subplots(1, 4, figsize=(18, 3.8), layout="constrained")
    for axes, pair in zip(
        (panels[0], panels[2], panels[3]), np.reshape(list(KINDS), (3, 2)), strict=True
    ):
        for number, preset in enumerate(pair):
            colour = style.COLOURS[number]
            tests, trains = ([curve[f"{part}_accuracy"] for curve in curves[preset]]
                             for part in ("test", "train"))  # fmt: skip
            style.draw_seeds(axes, tests, KINDS[preset], color=colour)
            style.draw_seeds(axes, trains, color=colour, ls=":", lw=0.8)
            if axes is panels[0]:
                norms = (curve["weight_norm"] for curve in curves[preset])
                style.draw_seeds(panels[1], (n / n.iloc[0] for n in norms), color=colour)
        axes.set(
            xscale="log",
            xlabel="update",
            ylabel="test accuracy; train accuracy dotted",
            xlim=(1, None),
        )
        axes.legend(fontsize="small")
    panels[1].set(
        xscale="log", xlabel="update", ylabel="norm of the weights / at the start", xlim=(1, None)
    )
    return figure


if __name__ == "__main__":
    main()
