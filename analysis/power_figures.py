"""Figures 1 to 4, 6 and 7 of Power et al. 2022 from stored sweeps: `python analysis/power_figures.py [--paper]`.

Draws those whose sweep (sweeps/power_figure*.yaml, or *_paper.yaml) has been run.
"""

from functools import partial

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from analysis import query, style, survival


@click.command(help=__doc__)
@click.option("--paper", is_flag=True, help="the sweeps at the paper's scale")
@style.options
def main(paper: bool) -> None:
    store = query.connect()
    drawn = False
    for name, draw in FIGURES.items():
        sweep = name + ("_paper" if paper else "")
        if not query.has_run(store, sweep):
            print(f"{sweep}: not run yet (grok sweep run sweeps/{sweep}.yaml)")
            continue
        _, runs = query.sweep(store, sweep)
        style.save(draw(store, runs), sweep)
        drawn = True
    if not drawn:
        query.fail("none of the sweeps has been run")


def draw_learning(store, runs: pd.DataFrame):
    """Figures 1 left and 4: accuracy and loss against steps; figure 3: a circle in the output layer."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 3.8))
    for number in runs["run"]:
        curves = query.curves(store, number)
        for panel, kind in ((left, "accuracy"), (middle, "loss")):
            for split, colour in (("train", style.TRAIN), ("test", style.TEST)):
                label = split if number == runs["run"].iloc[0] else None
                panel.plot(curves.index, curves[f"{split}_{kind}"], color=colour, label=label, lw=1)
    left.set_ylabel("accuracy")
    left.legend()
    middle.set(ylabel="loss", yscale="log")
    for panel in (left, middle):
        style.log_steps(panel)
    figure.suptitle(f"{runs['config.operation'].iloc[0]} mod {runs['config.p'].iloc[0]}", y=1)
    draw_circle(right, query.weights(store, runs["run"].iloc[0])["output.weight"])
    return figure


def draw_circle(axes, output: np.ndarray) -> None:
    """The rows of the output layer in the plane of the frequency that holds most of their power."""
    spectrum = np.fft.rfft(output - output.mean(0), axis=0)
    power = (np.abs(spectrum) ** 2).sum(1)
    best = int(power.argmax())
    # the two directions in which the rows move with cos and sin of that frequency
    plane = np.linalg.qr(np.stack([spectrum[best].real, spectrum[best].imag], axis=1))[0]
    x, y = ((output - output.mean(0)) @ plane).T
    order = np.arange(len(x)) * pow(best, -1, len(x)) % len(x)  # neighbours on the circle
    axes.plot(x[[*order, order[0]]], y[[*order, order[0]]], color="lightgrey", lw=0.7)
    axes.scatter(x, y, s=8, color=style.TEST)
    for number, place in enumerate(zip(x, y, strict=True)):
        axes.annotate(str(number), place, fontsize=6)
    axes.set_title(
        f"output weights, frequency {best} ({power[best] / power.sum():.0%} of power)", fontsize=9
    )
    axes.set_aspect("equal")
    axes.set(xticks=[], yticks=[])


def draw_fractions(store, runs: pd.DataFrame):
    """Figure 1 center: steps to 99 % of train and test against the train fraction."""
    figure, axes = plt.subplots(figsize=(5.5, 4))
    for split, colour in (("train", style.TRAIN), ("test", style.TEST)):
        steps = runs[f"result.steps_to_{split}"].astype(float)
        axes.scatter(runs["config.train_fraction"], steps, s=14, color=colour, alpha=0.6)
        medians = {
            fraction: survival.median(rows.fillna(runs["config.train_steps"].max()), rows.notna())
            for fraction, rows in steps.groupby(runs["config.train_fraction"])
        }
        axes.plot(list(medians), list(medians.values()), color=colour, label=f"{split}, median")
    axes.set(yscale="log", xlabel="train fraction", ylabel="steps to 99 %")
    axes.legend()
    return figure


def draw_best(store, runs: pd.DataFrame, key: str):
    """Figures 2 and 6: best test accuracy against the train fraction, a line per value of a config key."""
    tests = query.metrics(store, list(runs["run"]), ["test_accuracy"])
    best = tests.groupby("run")["value"].max().rename("best")
    table = runs.merge(best, on="run")
    figure, axes = plt.subplots(figsize=(7, 4.5))
    means = table.pivot_table("best", "config.train_fraction", f"config.{key}")
    for place, name in enumerate(means.mean().sort_values(ascending=False).index):  # as they lie
        label = str(name).removeprefix("small_").removeprefix("paper_").replace("_", " ")
        marker = "osv^D*Px+<>dhp"[place % 14]
        axes.plot(means[name], marker=marker, ms=4, label=label, color=plt.cm.tab20(place))
    axes.set(xlabel="train fraction", ylabel="best test accuracy")
    axes.legend(fontsize=8, bbox_to_anchor=(1, 1), title=key.replace("_", " "))
    return figure


def draw_sharpness(store, runs: pd.DataFrame):
    """Figure 7: final test accuracy against sharpness, Keskar's and as the published code has it; hollow
    where the train set is not fit at the end, which the correlation leaves out."""
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.8), sharey=True)
    fit = runs["result.train_accuracy"] >= 0.99
    scales = {"sharpness": "linear", "published_sharpness": "symlog"}
    for axes, (name, scale) in zip(panels, scales.items(), strict=True):
        found, accuracy = runs[f"result.{name}"].astype(float), runs["result.test_accuracy"]
        axes.scatter(found[fit], accuracy[fit], s=20, color=style.TEST)
        axes.scatter(found[~fit], accuracy[~fit], s=20, facecolors="none", edgecolors=style.TEST)
        rank = found[fit].corr(accuracy[fit], method="spearman")
        axes.set(xscale=scale, xlabel=name.replace("_", " "))
        axes.set_title(f"rank correlation {rank:.2f}", fontsize=9)
    panels[0].set_ylabel("final test accuracy")
    return figure


FIGURES = {
    "power_figure1": draw_learning,
    "power_figure1_center": draw_fractions,
    "power_figure2_left": partial(draw_best, key="preset"),
    "power_figure2_right": partial(draw_best, key="operation"),
    "power_figure6": partial(draw_best, key="noisy_answers"),
    "power_figure7": draw_sharpness,
}

if __name__ == "__main__":
    main()
