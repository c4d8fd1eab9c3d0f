"""Delayed robustness and linear regions (Humayun et al. 2024, figures 2, 7, 12 and 29, table 1).

`grok replicate humayun` first.
"""

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from rich.table import Table

from analysis import query, style
from grok.experiment import show

ATTACKS = {"test_accuracy": "clean", "adversarial_accuracy_03": "attacked, 0.03",
           "adversarial_accuracy_06": "0.06", "adversarial_accuracy_10": "0.10"}  # fmt: skip
SPLITS = ("train", "test", "random")
RADII = {"005": "0.005", "050": "0.05"}
ROBUST = "adversarial_accuracy_03"
TREND = {
    "trend": "4 layers of 200, 1000 images, batch 200", "shallow": "3 layers", "narrow": "width 100",
    "little_data": "500 images", "small_batch": "batch 50", "random_labels": "10 % random labels",
}  # fmt: skip


@click.command(help=__doc__)
@style.options
def main() -> None:
    store = query.connect()
    _, runs = query.sweep(store, "humayun_cpu")
    curves = query.curves_by_preset(store, runs)
    style.save(regions(curves["cpu"][0]), "humayun_regions")
    style.save(compared(curves), "humayun_normalization")
    if query.has_run(store, "humayun_trends"):
        steps = crossings(store, query.sweep(store, "humayun_trends")[1])
        show.wide_console(110).print(table(steps))
        style.save(trends(steps), "humayun_trends")


def regions(curve: pd.DataFrame):
    """One run: accuracies, clean and attacked, above; local complexity at two radii below."""
    figure, panels = plt.subplots(3, 1, figsize=(8, 9), sharex=True, layout="constrained")
    for name, label in ATTACKS.items():
        panels[0].plot(curve[name], label=label)
    panels[0].plot(curve["train_accuracy"], color="grey", ls=":", label="train")
    panels[0].set(ylabel="accuracy", ylim=(-0.03, 1.03))
    for axes, (suffix, radius) in zip(panels[1:], RADII.items(), strict=True):
        for split in SPLITS:
            axes.plot(curve[f"complexity_{split}_{suffix}"], label=f"about {split} points")
        axes.set_ylabel(f"local complexity, r = {radius}")
    for axes in panels:
        axes.legend(fontsize="small")
    panels[-1].set(xlabel="update", xscale="log", xlim=(100, None))
    return figure


def compared(curves: dict[str, list[pd.DataFrame]]):
    """Clean and attacked accuracy and local complexity: large initial weights, with batch
    normalization, and torch's own initial weights."""
    cases = {"cpu": "8 x torch's initial weights", "cpu_normalized": "with batch normalization",
             "cpu_small_init": "torch's initial weights"}  # fmt: skip
    names = {"test_accuracy": "test accuracy", ROBUST: "accuracy under attacks of 0.03",
             "complexity_train_050": "local complexity about train points"}  # fmt: skip
    figure, panels = plt.subplots(1, 3, figsize=(14, 3.8), layout="constrained")
    for axes, (metric, label) in zip(panels, names.items(), strict=True):
        for number, (preset, case) in enumerate(cases.items()):
            seeds = (curve[metric] for curve in curves[preset])
            style.draw_seeds(axes, seeds, case, color=style.COLOURS[number])
        axes.set(xlabel="update", xscale="log", ylabel=label, xlim=(100, None))
    panels[0].legend(fontsize="small")
    return figure


def crossings(store, runs: pd.DataFrame) -> dict[str, list[float]]:
    """Updates to half of the test set under attacks of 0.03, by preset, seed by seed."""
    found = {}
    for preset, curves in query.curves_by_preset(store, runs).items():
        found[preset] = [query.first_crossing(curve[ROBUST], 0.5) for curve in curves]
    return {preset: found[preset] for preset in TREND}


def table(steps: dict[str, list[float]]) -> Table:
    """Table 1: when half of the attacks are withstood, and on how many seeds later than without."""
    rows = Table(
        "", "updates, seed by seed", "median", "later", title="to withstand half the attacks"
    )
    for preset, values in steps.items():
        later = sum(np.array(values) > steps["trend"])
        shown = ["never" if np.isinf(v) else f"{v:,.0f}" for v in (*values, np.median(values))]
        verdict = "" if preset == "trend" else f"{later} of {len(values)}"
        rows.add_row(TREND[preset], "  ".join(shown[:-1]), shown[-1], verdict)
    return rows


def trends(steps: dict[str, list[float]]):
    """The table as dots."""
    figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
    for place, values in enumerate(steps.values()):
        axes.plot(values, [place] * len(values), "o", color=style.COLOURS[0], alpha=0.7)
    axes.axvline(np.median(steps["trend"]), color="grey", lw=0.7)
    axes.set_yticks(range(len(steps)), [TREND[preset] for preset in steps])
    axes.invert_yaxis()
    axes.set_xlabel("updates to withstand half of the attacks of 0.03")
    return figure


if __name__ == "__main__":
    main()
