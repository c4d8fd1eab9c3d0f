"""Figures of one run of the Liu toy.

`python analysis/liu_run.py [RUN]` (by default the latest completed run)

Accuracy and loss, RQI, and the representation through training beside the effective theory's.
"""

import click
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok.analysis import query, style
from grok.analysis.trajectories import plot_representation
from grok.cli.options import run_id


@click.command(help=__doc__)
@click.argument("run", type=run_id, required=False)
@style.options
def main(run: int | str | None) -> None:
    store = query.connect()
    row = query.run(store, run, "liu_toy")
    number = query.mongo_id(row["run"])
    curves, arrays = query.curves(store, number), query.arrays(store, number)
    style.save(plot_curves(row, curves), f"liu_run_{number}_curves")
    if "rqi" in curves:
        style.save(plot_rqi(row, curves), f"liu_run_{number}_rqi")
    if row["config.combine"] == "add":
        style.save(plot_representation(row, arrays), f"liu_run_{number}_representation")


def shade_phases(axes: Axes, row: pd.Series) -> None:
    """Shade the steps of memorization (train threshold reached, test not) and generalization."""
    train_steps, test_steps = row.get("result.steps_to_train"), row.get("result.steps_to_test")
    last_step = row["result.steps"]
    if pd.isna(train_steps):
        return
    memorized_until = last_step if pd.isna(test_steps) else test_steps
    if memorized_until > train_steps:
        colour = style.PHASE_COLOURS["memorization"]
        axes.axvspan(
            train_steps, memorized_until, color=colour, alpha=0.12, lw=0, label="memorized"
        )
    if not pd.isna(test_steps):
        colour = style.PHASE_COLOURS["comprehension"]
        axes.axvspan(test_steps, last_step, color=colour, alpha=0.2, lw=0, label="generalized")


def plot_curves(row: pd.Series, curves: pd.DataFrame) -> Figure:
    """Accuracy above loss, train and test, with the phases shaded."""
    figure, (above, below) = plt.subplots(2, 1, figsize=(6, 6), sharex=True)
    for axes, metric in ((above, "accuracy"), (below, "loss")):
        for split, colour in (("train", style.TRAIN), ("test", style.TEST)):
            axes.plot(curves.index, curves[f"{split}_{metric}"], color=colour, label=split)
        shade_phases(axes, row)
        axes.set_ylabel(metric)
    above.axhline(row["result.threshold"], color="grey", lw=0.7, ls=":")
    above.set_title(f"run {row['run']}: {row['result.phase']}")
    above.legend(loc="upper left")
    below.set_yscale("log")
    style.log_steps(below)
    return figure


def plot_rqi(row: pd.Series, curves: pd.DataFrame) -> Figure:
    """Representation quality index and test accuracy."""
    figure, axes = plt.subplots(figsize=(6, 3))
    axes.plot(curves.index, curves["rqi"], color="black", label="RQI")
    axes.plot(curves.index, curves["test_accuracy"], color=style.TEST, lw=1, label="test accuracy")
    ideal = row.get("result.ideal_accuracy")
    if not pd.isna(ideal):
        axes.axhline(ideal, color=style.TEST, lw=0.7, ls=":", label="ideal test accuracy")
    shade_phases(axes, row)
    style.log_steps(axes)
    axes.legend(loc="upper left")
    return figure


if __name__ == "__main__":
    main()
