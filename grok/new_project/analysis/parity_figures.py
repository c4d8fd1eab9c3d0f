"""Test accuracy of the latest sweep parity_cpu, with and without weight decay.

`python analysis/parity_figures.py`
"""

import click
import matplotlib.pyplot as plt

from grok.analysis import query, style


@click.command(help=__doc__)
@style.options
def main() -> None:
    store = query.connect()
    _, runs = query.sweep(store, "parity_cpu")
    figure, axes = plt.subplots(figsize=(5, 3))
    presets = query.curves_by_preset(store, runs)
    for (preset, curves), colour in zip(presets.items(), style.cycle_colours(2), strict=True):
        accuracies = [each["test_accuracy"].dropna() for each in curves]
        style.plot_seeds(axes, accuracies, label=preset, color=colour)
    style.log_steps(axes)
    axes.set_ylabel("test accuracy")
    axes.legend()
    style.save(figure, "parity_weight_decay")


if __name__ == "__main__":
    main()
