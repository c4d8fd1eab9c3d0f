"""One figure each for lazy_to_rich, numerical_stability, circuit_efficiency and grokfast.

`grok replicate lazy_to_rich numerical_stability circuit_efficiency grokfast` makes the runs; the
figures of sweeps that have not been run are left out.
"""

from collections.abc import Callable

import click
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok.analysis import query, style
from grok.errors import UserError
from grok.store.connection import Store
from grok.theory.circuits import Circuits

# Labels of the named configs in each panel.
LAZINESS = {
    "cpu_rich": "α = 1/4",
    "cpu": "α = 1",
    "cpu_lazy": "α = 4",
    "cpu_little_data": "α = 1, P = 30",
}
GRADIENT_DIRECTION = {"cpu": "orthogonal gradient", "cpu_plain": "plain AdamW"}
COLLAPSES = "numerical_stability_collapse"
LOSS_PRECISION = {"cpu_collapse": "float32", "cpu_collapse_float64": "float64 loss"}
GRADIENT_FILTER = {
    "cpu": "filter and weight decay",
    "cpu_filter_alone": "filter alone",
    "cpu_decay_alone": "weight decay alone",
    "cpu_baseline": "neither",
}
IMAGES = "grokfast_mnist"
IMAGE_FILTER = {
    "mnist": "filter, weight decay 2",
    "mnist_decay_alone": "weight decay 2",
    "mnist_baseline": "weight decay 0.01",
}
GROKFAST_THRESHOLD, IMAGE_THRESHOLD = 0.95, 0.8  # test accuracies that count as generalization
THEORY_STEPS = 30_000
NORMS = "circuit_efficiency_norms"
DEGREE = 4  # of the logits of circuit_efficiency in its weights


@click.command(help=__doc__)
@style.options
def main() -> None:
    store = query.connect()
    available = [name for name in PLOTS if query.has_finished_run(store, f"{name}_cpu")]
    for name in PLOTS:
        if name not in available:
            print(f"{name}: not run yet (grok replicate {name})")
    if not available:
        raise UserError("none of the sweeps has been run")
    for name in available:
        _, runs = query.sweep(store, f"{name}_cpu")
        style.save(PLOTS[name](store, runs), name)


def plot_presets(
    store: Store,
    axes: Axes,
    runs: pd.DataFrame,
    metric: str,
    labels: dict[str, str],
    line_style: str = "-",
) -> None:
    """Plot a metric of every seed, with one colour per named config.

    Dotted lines repeat the colours of solid ones, so they have no legend entry.
    """
    for (preset, label), colour in zip(labels.items(), style.COLOURS, strict=False):
        run_ids = runs.loc[runs["config.preset"] == preset, "run"]
        curves = (query.curves(store, run_id)[metric] for run_id in run_ids)
        legend_label = label if line_style == "-" else None
        style.plot_seeds(axes, curves, legend_label, color=colour, ls=line_style)
    style.log_steps(axes)


def plot_lazy_to_rich(store: Store, runs: pd.DataFrame) -> Figure:
    """Losses (train dotted), the alignment with the teacher, and the norm, by laziness."""
    figure, panels = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    plot_presets(store, panels[0], runs, "test_loss", LAZINESS)
    plot_presets(store, panels[0], runs, "train_loss", LAZINESS, ":")
    plot_presets(store, panels[1], runs, "alignment", LAZINESS)
    plot_presets(store, panels[2], runs, "weight_norm", LAZINESS)
    panels[0].set(ylabel="test loss; train loss dotted", yscale="log", ylim=(1e-4, 10))
    panels[1].set_ylabel("cosine with the teacher's feature")
    panels[2].set_ylabel("norm of the weights")
    panels[1].legend(fontsize="small")
    return figure


def plot_numerical_stability(store: Store, runs: pd.DataFrame) -> Figure:
    """Test accuracy (train dotted) and alignment by gradient direction; softmax collapse."""
    figure, panels = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    plot_presets(store, panels[0], runs, "test_accuracy", GRADIENT_DIRECTION)
    plot_presets(store, panels[0], runs, "train_accuracy", GRADIENT_DIRECTION, ":")
    plot_presets(store, panels[1], runs, "alignment", GRADIENT_DIRECTION)
    if query.has_finished_run(store, COLLAPSES):
        _, collapses = query.sweep(store, COLLAPSES)
        plot_presets(store, panels[2], collapses, "collapsed", LOSS_PRECISION)
        plot_presets(store, panels[2], collapses, "test_accuracy", LOSS_PRECISION, ":")
        panels[2].legend(fontsize="small")
    panels[0].set(ylabel="test accuracy; train accuracy dotted", ylim=(-0.03, 1.03))
    panels[1].set_ylabel("cosine of descent and weights")
    panels[2].set(ylabel="train rows without gradient; test accuracy dotted", xscale="linear")
    panels[2].autoscale(axis="x")
    panels[0].legend(fontsize="small")
    return figure


def plot_circuit_efficiency(store: Store, runs: pd.DataFrame) -> Figure:
    """The two circuits in theory, test accuracy after training on with less data, and the norm that
    each circuit takes."""
    has_norms = query.has_finished_run(store, NORMS)
    figure, panels = plt.subplots(1, 3 if has_norms else 2, figsize=(13, 3.8), layout="constrained")
    left, right = panels[:2]
    circuits = Circuits()
    train_loss, test_loss = circuits.losses(circuits.descend(THEORY_STEPS))
    left.loglog(train_loss, color=style.TRAIN, label="train loss")
    left.loglog(test_loss, color=style.TEST, label="test loss")
    left.set(xlabel="step", ylabel="loss, two circuits in theory")
    left.legend()
    decays = sorted(runs["config.weight_decay"].unique(), reverse=True)
    for decay, colour in zip(decays, style.COLOURS, strict=False):
        rows = runs[runs["config.weight_decay"] == decay]
        sizes, accuracies = rows["config.train_count"], rows["result.test_accuracy"]
        right.plot(sizes, accuracies, "o", ms=4, alpha=0.6, color=colour)
        means = accuracies.groupby(sizes).mean()
        right.plot(means.index, means, color=colour, label=f"weight decay {decay:g}")
    right.set(
        xlabel="pairs that a grokked network is trained on with",
        ylabel="test accuracy",
        xscale="log",
    )
    right.legend()
    if has_norms:
        _, norms = query.sweep(store, NORMS)
        plot_norms(panels[2], norms)
    return figure


def plot_norms(axes: Axes, runs: pd.DataFrame) -> None:
    """The norm of the weights at a correct logit of 1, against the number of train pairs."""
    norm = runs["result.weight_norm"] / runs["result.correct_logit"] ** (1 / DEGREE)
    is_memorizing = runs["config.noisy_answers"] > 0
    for rows, label, colour in (
        (is_memorizing, "random labels", style.TRAIN),
        (~is_memorizing, "true labels", style.TEST),
    ):
        sizes = runs.loc[rows, "config.train_count"]
        axes.plot(sizes, norm[rows], "o", ms=4, alpha=0.6, color=colour)
        means = norm[rows].groupby(sizes).mean()
        axes.plot(means.index, means, color=colour, label=label)
    axes.set(xlabel="train pairs", ylabel="norm at a correct logit of 1", xscale="log")
    axes.legend()


def plot_grokfast(store: Store, runs: pd.DataFrame) -> Figure:
    """Test accuracy (train dotted) with and without the filter and its weight decay; on MNIST, too."""
    panels = [(runs, GRADIENT_FILTER, GROKFAST_THRESHOLD, "x y mod 97")]
    if query.has_finished_run(store, IMAGES):
        panels.append((query.sweep(store, IMAGES)[1], IMAGE_FILTER, IMAGE_THRESHOLD, "MNIST"))
    figure, grid = plt.subplots(
        1, len(panels), figsize=(6 * len(panels), 3.8), layout="constrained", squeeze=False
    )
    for axes, (shown, labels, threshold, title) in zip(grid[0], panels, strict=True):
        plot_presets(store, axes, shown, "test_accuracy", labels)
        plot_presets(store, axes, shown, "train_accuracy", labels, ":")
        axes.axhline(threshold, color="grey", lw=0.7, ls=":")
        axes.set(title=title, ylabel="test accuracy; train accuracy dotted", xlim=(10, None))
        axes.legend(fontsize="small", loc="upper left")
    return figure


PLOTS: dict[str, Callable[[Store, pd.DataFrame], Figure]] = {
    "lazy_to_rich": plot_lazy_to_rich,
    "numerical_stability": plot_numerical_stability,
    "circuit_efficiency": plot_circuit_efficiency,
    "grokfast": plot_grokfast,
}

if __name__ == "__main__":
    main()
