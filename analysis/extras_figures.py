"""One figure each for lazy_to_rich, numerical_stability, circuit_efficiency and grokfast.

`grok replicate lazy_to_rich numerical_stability circuit_efficiency grokfast` first; draws those whose
sweep has been run.
"""

import click
import matplotlib.pyplot as plt
import pandas as pd

from analysis import query, style
from grok.theory.circuits import Circuits


@click.command(help=__doc__)
@style.options
def main() -> None:
    store, drawn = query.connect(), False
    for name, draw in FIGURES.items():
        if query.has_run(store, f"{name}_cpu"):
            style.save(draw(store, query.sweep(store, f"{name}_cpu")[1]), name)
            drawn = True
        else:
            print(f"{name}: not run yet (grok replicate {name})")
    if not drawn:
        query.fail("none of the sweeps has been run")


def by_preset(store, axes, runs, metric: str, presets: dict[str, str], **line) -> None:
    """A metric's curves, one colour per preset, every seed."""
    for number, (preset, label) in enumerate(presets.items()):
        mine = runs.loc[runs["config.preset"] == preset, "run"]
        seeds = (query.curves(store, run)[metric] for run in mine)
        style.draw_seeds(axes, seeds, None if line else label, color=style.COLOURS[number], **line)
    style.log_steps(axes, "update")


def lazy_to_rich(store, runs: pd.DataFrame):
    """Losses (train dotted), the alignment with the teacher, and the norm, by laziness."""
    lazy = {
        "cpu_rich": "α = 1/4",
        "cpu": "α = 1",
        "cpu_lazy": "α = 4",
        "cpu_little_data": "α = 1, P = 30",
    }
    figure, panels = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    by_preset(store, panels[0], runs, "test_loss", lazy)
    by_preset(store, panels[0], runs, "train_loss", lazy, ls=":")
    by_preset(store, panels[1], runs, "alignment", lazy)
    by_preset(store, panels[2], runs, "weight_norm", lazy)
    panels[0].set(ylabel="test loss; train loss dotted", yscale="log", ylim=(1e-4, 10))
    panels[1].set_ylabel("cosine with the teacher's feature")
    panels[2].set_ylabel("norm of the weights")
    panels[1].legend(fontsize="small")
    return figure


def numerical_stability(store, runs: pd.DataFrame):
    """Left: test accuracy across and along the weights (train dotted). Right: the collapse."""
    short = {"cpu": "gradient across the weights", "cpu_plain": "plain AdamW"}
    long = {"cpu_collapse": "float32", "cpu_collapse_float64": "float64 loss"}
    figure, panels = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    by_preset(store, panels[0], runs, "test_accuracy", short)
    by_preset(store, panels[0], runs, "train_accuracy", short, ls=":")
    by_preset(store, panels[1], runs, "alignment", short)
    by_preset(store, panels[2], runs, "collapsed", long)
    panels[0].set(ylabel="test accuracy; train accuracy dotted", ylim=(-0.03, 1.03))
    panels[1].set_ylabel("cosine of descent and weights")
    panels[2].set(ylabel="share of train rows without gradient", xscale="linear")
    for panel in (panels[0], panels[2]):
        panel.legend(fontsize="small")
    return figure


def circuit_efficiency(store, runs: pd.DataFrame):
    """Left: the two circuits in theory. Right: test accuracy after training on with less data."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    one = Circuits()
    train, test = one.losses(one.descend(30_000))
    left.loglog(train, color=style.TRAIN, label="train loss")
    left.loglog(test, color=style.TEST, label="test loss")
    left.set(xlabel="update", ylabel="loss, two circuits in theory")
    left.legend()
    for number, decay in enumerate(sorted(runs["config.weight_decay"].unique(), reverse=True)):
        mine = runs[runs["config.weight_decay"] == decay]
        sizes, tests = mine["config.train_count"], mine["result.test_accuracy"]
        right.plot(sizes, tests, "o", ms=4, alpha=0.6, color=style.COLOURS[number])
        means = tests.groupby(sizes).mean()
        right.plot(means.index, means, color=style.COLOURS[number], label=f"weight decay {decay:g}")
    right.set(
        xlabel="pairs that a grokked network is trained on with",
        ylabel="test accuracy",
        xscale="log",
    )
    right.legend()
    return figure


def grokfast(store, runs: pd.DataFrame):
    """Test accuracy (train dotted) with the filter, without, and with its weight decay alone."""
    kinds = {
        "cpu": "slow gradients amplified",
        "cpu_decay_alone": "its weight decay alone",
        "cpu_baseline": "neither",
    }
    figure, axes = plt.subplots(figsize=(6, 3.8), layout="constrained")
    by_preset(store, axes, runs, "test_accuracy", kinds)
    by_preset(store, axes, runs, "train_accuracy", kinds, ls=":")
    axes.axhline(0.95, color="grey", lw=0.7, ls=":")
    axes.set(ylabel="test accuracy; train accuracy dotted")
    axes.legend(fontsize="small")
    return figure


FIGURES = {
    function.__name__: function
    for function in (lazy_to_rich, numerical_stability, circuit_efficiency, grokfast)
}

if __name__ == "__main__":
    main()
