"""Figures 3a-c and 4a-d of Liu et al. 2022 from stored sweeps.

Run first: `grok sweep run sweeps/liu_figure3.yaml`, `grok sweep run sweeps/liu_figure4b.yaml`, and
`python experiments/liu_toy.py with authors_seed58`.
"""

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from analysis import query, style
from analysis.liu_run import draw_paths
from grok.theory import representation as theory

DRAWS = 100


@click.command(help=__doc__)
@style.options
def main() -> None:
    store = query.connect()
    _, third = query.sweep(store, "liu_figure3")
    _, fourth = query.sweep(store, "liu_figure4b")
    golden = {"config.variant": "table", "config.seed": 58, "config.train_count": 45,
              "config.decoder_lr": 1e-4, "config.decoder_weight_decay": 0.0,
              "config.authors_grid": False, "config.stop_when_decided": False,
              "status": "COMPLETED"}  # fmt: skip
    path = query.runs(store, {"experiment.name": "liu_toy", **golden}, last=1)
    if path.empty:
        query.fail("no run of `experiments/liu_toy.py with authors_seed58` in the store")
    figure, correlation = figure3(whole_table(third))
    style.save(figure, "liu_figure3")
    print(f"figure 3: Pearson correlation of predicted and real accuracy {correlation:.3f}")
    style.save(figure4ab(fourth), "liu_figure4ab")
    style.save(draw_paths(path.iloc[0], query.arrays(store, path.iloc[0]["run"])), "liu_figure4cd")


def addition(p: int) -> tuple[np.ndarray, np.ndarray]:
    """Unordered pairs below p and their sums."""
    pairs = np.stack(np.triu_indices(p), axis=1)
    return pairs, pairs.sum(1)


def whole_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Train fraction, real and predicted accuracy over the whole table (train pairs included)."""
    size = runs["config.p"] * (runs["config.p"] + 1) / 2
    share = runs["config.train_count"] / size
    test, predicted = runs["result.test_accuracy"], runs["result.predicted_accuracy"]
    return pd.DataFrame(
        {
            "fraction": share,
            "real": share * runs["result.train_accuracy"] + (1 - share) * test,
            "predicted": share + (1 - share) * predicted,
            "seed": runs["config.seed"],
        }
    )


def figure3(table: pd.DataFrame):
    """Predicted and real accuracy against the train fraction, and against each other; Pearson r."""
    figure, panels = plt.subplots(1, 3, figsize=(11, 3.3))
    for axes, name in zip(panels, ("predicted", "real"), strict=False):
        for seed, rows in table.groupby("seed"):
            axes.plot(rows["fraction"], rows[name], "o", ms=4, label=f"seed {seed}")
        axes.plot([0, 1], [0, 1], color="grey", lw=0.7, ls=":")
        axes.set(xlabel="train fraction", ylabel=f"{name} accuracy", xlim=(0, 1), ylim=(0, 1.03))
    panels[0].legend()
    panels[2].plot(table["predicted"], table["real"], "ko", ms=4)
    panels[2].plot([0, 1], [0, 1], color="grey", lw=0.7, ls=":")
    correlation = table["predicted"].corr(table["real"])
    panels[2].set(
        xlabel="predicted accuracy", ylabel="real accuracy", title=f"r = {correlation:.3f}"
    )
    figure.tight_layout()
    return figure, correlation


def figure4ab(runs: pd.DataFrame):
    """Probability that a train set pins the linear representation; steps to RQI > 0.95."""
    pairs, answers = addition(10)
    counts = np.arange(3, len(pairs))
    rng = np.random.default_rng(0)
    chances = [theory.pinned_probability(pairs, answers, n, DRAWS, rng) for n in counts]
    critical = theory.critical_fraction(pairs, answers, DRAWS, rng)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), sharex=True)
    left.plot(counts / len(pairs), chances, "k.-")
    left.set(xlabel="train fraction", ylabel="P(linear representation is pinned)")
    left.set_title(f"critical fraction {critical:.2f}")
    reached = runs.dropna(subset=["result.steps_to_rqi"])
    never = runs[runs["result.steps_to_rqi"].isna()]
    budget = runs["config.train_steps"].max()
    fraction = "config.train_count"
    right.plot(reached[fraction] / len(pairs), reached["result.steps_to_rqi"], "ko", ms=4)
    right.plot(never[fraction] / len(pairs), [budget] * len(never), "r^", ms=5, label="never")
    right.set(xlabel="train fraction", ylabel="steps to RQI > 0.95", yscale="log")
    right.legend()
    for axes in (left, right):
        axes.axvline(critical, color="grey", lw=0.7, ls=":")
    figure.tight_layout()
    return figure


if __name__ == "__main__":
    main()
