"""Figures 3a-c and 4a-d of Liu et al. 2022.

`grok sweep run sweeps/liu_figure3.yaml`, `grok sweep run sweeps/liu_figure4b.yaml` and
`python experiments/liu_toy.py with authors_seed58` make the runs.
"""

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from grok.analysis import query, style
from grok.analysis.trajectories import plot_representation
from grok.errors import UserError
from grok.theory import representation

# The run of `authors_seed58`, recognized by its config because older runs have no preset.
AUTHORS_RUN = {
    "experiment.name": "liu_toy",
    "config.variant": "table",
    "config.seed": 58,
    "config.train_count": 45,
    "config.decoder_lr": 1e-4,
    "config.decoder_weight_decay": 0.0,
    "config.authors_grid": False,
    "config.stop_when_decided": False,
    "status": "COMPLETED",
}
SYMBOLS = 10  # of the runs of figure 4b
TRAIN_SETS = 100  # sampled per train fraction for figure 4a
SAMPLING_SEED = 0


@click.command(help=__doc__)
@style.options
def main() -> None:
    store = query.connect()
    _, figure3_runs = query.sweep(store, "liu_figure3")
    _, figure4b_runs = query.sweep(store, "liu_figure4b")
    authors_runs = query.runs(store, AUTHORS_RUN, last=1)
    if authors_runs.empty:
        raise UserError("no run of `experiments/liu_toy.py with authors_seed58` in the store")
    accuracies = whole_table_accuracies(figure3_runs)
    correlation = accuracies["predicted"].corr(accuracies["real"])
    style.save(plot_figure3(accuracies, correlation), "liu_figure3")
    print(f"figure 3: Pearson correlation of predicted and real accuracy {correlation:.3f}")
    style.save(plot_figure4ab(figure4b_runs), "liu_figure4ab")
    run = authors_runs.iloc[0]
    style.save(plot_representation(run, query.arrays(store, run["run"])), "liu_figure4cd")


def whole_table_accuracies(runs: pd.DataFrame) -> pd.DataFrame:
    """Columns `fraction` (train fraction), `real`, `predicted` and `seed`: one row per run.

    The accuracies are over the whole addition table, train pairs included.
    """
    table_size = runs["config.p"] * (runs["config.p"] + 1) / 2
    fraction = runs["config.train_count"] / table_size
    real_train, real_test = runs["result.train_accuracy"], runs["result.test_accuracy"]
    predicted_test = runs["result.predicted_accuracy"]
    return pd.DataFrame(
        {
            "fraction": fraction,
            "real": fraction * real_train + (1 - fraction) * real_test,
            "predicted": fraction + (1 - fraction) * predicted_test,
            "seed": runs["config.seed"],
        }
    )


def plot_figure3(accuracies: pd.DataFrame, correlation: float) -> Figure:
    """Predicted and real accuracy against the train fraction, and against each other."""
    figure, panels = plt.subplots(1, 3, figsize=(11, 3.3))
    for axes, name in zip(panels, ("predicted", "real"), strict=False):
        for seed, rows in accuracies.groupby("seed"):
            axes.plot(rows["fraction"], rows[name], "o", ms=4, label=f"seed {seed}")
        axes.set(xlabel="train fraction", ylabel=f"{name} accuracy", xlim=(0, 1), ylim=(0, 1.03))
    panels[0].legend()
    panels[2].plot(accuracies["predicted"], accuracies["real"], "ko", ms=4)
    panels[2].set(
        xlabel="predicted accuracy", ylabel="real accuracy", title=f"r = {correlation:.3f}"
    )
    for axes in panels:
        axes.plot([0, 1], [0, 1], color="grey", lw=0.7, ls=":")
    figure.tight_layout()
    return figure


def plot_figure4ab(runs: pd.DataFrame) -> Figure:
    """Probability that a train set determines the linear representation; steps to RQI > 0.95."""
    pairs = np.stack(np.triu_indices(SYMBOLS), axis=1)
    sums = pairs.sum(1)
    train_counts = range(3, len(pairs))
    rng = np.random.default_rng(SAMPLING_SEED)
    probabilities = [
        representation.pinned_probability(pairs, sums, count, TRAIN_SETS, rng)
        for count in train_counts
    ]
    critical = representation.critical_fraction(pairs, sums, TRAIN_SETS, rng)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), sharex=True)
    left.plot(np.array(train_counts) / len(pairs), probabilities, "k.-")
    left.set(xlabel="train fraction", ylabel="P(linear representation is pinned)")
    left.set_title(f"critical fraction {critical:.2f}")
    fractions, steps = runs["config.train_count"] / len(pairs), runs["result.steps_to_rqi"]
    reached = steps.notna()
    budget = runs["config.train_steps"].max()
    right.plot(fractions[reached], steps[reached], "ko", ms=4)
    right.plot(fractions[~reached], [budget] * (~reached).sum(), "r^", ms=5, label="never")
    right.set(xlabel="train fraction", ylabel="steps to RQI > 0.95", yscale="log")
    right.legend()
    for axes in (left, right):
        axes.axvline(critical, color="grey", lw=0.7, ls=":")
    figure.tight_layout()
    return figure


if __name__ == "__main__":
    main()
