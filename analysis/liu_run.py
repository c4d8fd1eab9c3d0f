"""Figures of one run of the Liu toy: `python analysis/liu_run.py [RUN]` (default: the latest).

Accuracy and loss, RQI, the representation's path, and the path that the effective theory predicts.
"""

import click
import matplotlib.pyplot as plt
import numpy as np

from analysis import query, style
from grok.theory import representation as theory


@click.command(help=__doc__)
@click.argument("run", type=int, required=False)
@style.options
def main(run: int | None) -> None:
    store = query.connect()
    row = query.run(store, run, "liu_toy")
    number = int(row["run"])
    curves, arrays = query.curves(store, number), query.arrays(store, number)
    style.save(draw_curves(row, curves), f"liu_run_{number}_curves")
    if "rqi" in curves:
        style.save(draw_rqi(row, curves), f"liu_run_{number}_rqi")
    if row["config.combine"] == "add":
        style.save(draw_paths(row, arrays), f"liu_run_{number}_representation")


def mark_phases(axes, row) -> None:
    """Shade memorization (train reached, test not) and generalization."""
    train, test = row.get("result.steps_to_train"), row.get("result.steps_to_test")
    last = row["result.steps"]
    if train is None or train != train:
        return
    ends = test if test is not None and test == test else last
    if ends > train:
        colour = style.PHASE_COLOURS["memorization"]
        axes.axvspan(train, ends, color=colour, alpha=0.12, lw=0, label="memorized")
    if ends == test:
        colour = style.PHASE_COLOURS["comprehension"]
        axes.axvspan(test, last, color=colour, alpha=0.2, lw=0, label="generalized")


def draw_curves(row, curves):
    """Accuracy over loss, train and test, on a logarithmic step axis, phases shaded."""
    figure, (above, below) = plt.subplots(2, 1, figsize=(6, 6), sharex=True)
    for axes, name in ((above, "accuracy"), (below, "loss")):
        for split, colour in (("train", style.TRAIN), ("test", style.TEST)):
            axes.plot(curves.index, curves[f"{split}_{name}"], color=colour, label=split)
        mark_phases(axes, row)
        axes.set_ylabel(name)
    above.axhline(row["result.threshold"], color="grey", lw=0.7, ls=":")
    above.set_title(f"run {row['run']}: {row['result.phase']}")
    above.legend(loc="upper left")
    below.set_yscale("log")
    style.log_steps(below)
    return figure


def draw_rqi(row, curves):
    """RQI beside test accuracy."""
    figure, axes = plt.subplots(figsize=(6, 3))
    axes.plot(curves.index, curves["rqi"], color="black", label="RQI")
    axes.plot(curves.index, curves["test_accuracy"], color=style.TEST, lw=1, label="test accuracy")
    ideal = row.get("result.ideal_accuracy")
    if ideal is not None and ideal == ideal:
        axes.axhline(ideal, color=style.TEST, lw=0.7, ls=":", label="ideal test accuracy")
    mark_phases(axes, row)
    style.log_steps(axes)
    axes.legend(loc="upper left")
    return figure


def draw_paths(row, arrays):
    """First component of the standardized vectors against steps: network, and effective theory."""
    steps, vectors = arrays["steps"], arrays["representation"]
    scaled = (vectors - vectors.mean(1, keepdims=True)) / vectors.std(1, ddof=1, keepdims=True)
    p = vectors.shape[1]
    matrix = theory.equations(arrays["data_pairs"], arrays["data_answers"], p)
    predicted = theory.effective_path(
        scaled[0].astype(float), matrix, row["config.encoder_lr"], int(steps[-1]), average=False
    )
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True)
    colours = plt.cm.viridis(np.linspace(0, 0.9, p))
    titles = ("network", "effective theory (gradient flow of the effective loss)")
    for axes, x, path, title in zip(
        panels, (steps, np.arange(len(predicted))), (scaled, predicted), titles, strict=True
    ):
        for symbol in range(p):
            axes.plot(x, path[:, symbol, 0], color=colours[symbol], lw=1.2)
        style.log_steps(axes)
        axes.set_title(title, fontsize=9)
    panels[0].set_ylabel("representation (standardized)")
    return figure


if __name__ == "__main__":
    main()
