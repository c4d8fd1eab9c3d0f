"""Composition and comparison of facts (Wang et al. 2024, figures 1, 2, 4 and 13).

`grok replicate wang` first.
"""

import click
import matplotlib.pyplot as plt

from analysis import query, style

PARTS = {
    "train_accuracy": "train inferences", "test_accuracy": "test inferences",
    "ood_accuracy": "facts that no inference was from", "atomic_accuracy": "the facts",
}  # fmt: skip
KINDS = {"cpu": "composition", "cpu_comparison": "comparison"}
SPEEDS = {"cpu": "8.5 inferences a fact", "phi_72": "7.2", "phi_60": "6.0",
          "decay_30": "8.5, weight decay 0.3", "decay_100": "8.5, weight decay 1"}  # fmt: skip
CIRCUIT = {"lens_bridge_1": "bridge, at r1", "lens_relation_1": "r2, at r2"}


@click.command(help=__doc__)
@style.options
def main() -> None:
    store = query.connect()
    _, runs = query.sweep(store, "wang_cpu")
    curves = query.curves_by_preset(store, runs)
    style.save(accuracies(curves), "wang_accuracies")
    style.save(circuit(curves["cpu"]), "wang_circuit")


def accuracies(curves):
    """Accuracies of composition and comparison; test accuracy of composition by phi and weight decay."""
    figure, panels = plt.subplots(1, 3, figsize=(15, 3.9), layout="constrained")
    for axes, (preset, title) in zip(panels, KINDS.items(), strict=False):
        for number, (metric, label) in enumerate(PARTS.items()):
            seeds = (curve[metric] for curve in curves[preset])
            style.draw_seeds(axes, seeds, label, color=style.COLOURS[number])
        axes.set(title=title, ylabel="accuracy")
    for number, (preset, label) in enumerate(SPEEDS.items()):
        seeds = (curve["test_accuracy"] for curve in curves[preset])
        style.draw_seeds(panels[2], seeds, label, color=style.COLOURS[number])
    panels[2].set(title="composition, how soon", ylabel="accuracy on test inferences")
    for axes in panels:
        axes.set(xlabel="update", xscale="log", xlim=(30, None), ylim=(-0.03, 1.03))
        axes.legend(fontsize="small")
    return figure


def circuit(curves):
    """After the first of two layers: what the lens reads, and what the answer hangs on."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    lines = [(left, metric, label, {"marker": "o", "ms": 3, "color": style.COLOURS[number]})
             for number, (metric, label) in enumerate(CIRCUIT.items())]  # fmt: skip
    lines += [
        (right, "causal_1", "answers that change with the state at r1",
         {"marker": "o", "ms": 3, "color": style.COLOURS[2]}),
        (right, "train_accuracy", "train accuracy", {"ls": ":", "color": style.TRAIN}),
        (right, "test_accuracy", "test accuracy", {"ls": ":", "color": style.TEST}),
    ]  # fmt: skip
    for axes, metric, label, line in lines:
        style.draw_seeds(axes, (curve[metric].dropna() for curve in curves), label, **line)
    left.set_ylabel("mean reciprocal rank of the token")
    right.set_ylabel("share")
    for axes in (left, right):
        axes.set(xlabel="update", xscale="log", xlim=(30, None), ylim=(-0.03, 1.03))
        axes.legend(fontsize="small")
    return figure


if __name__ == "__main__":
    main()
