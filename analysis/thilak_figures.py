"""Slingshots (Thilak et al. 2022, figures 1 to 4), and what removes them.

`grok replicate thilak` first.
"""

import click
import matplotlib.pyplot as plt

from analysis import query, style

PANELS = (
    ("train_loss", "train loss", "log"), ("classifier_norm", "norm of the last layer", "linear"),
    ("update_sharpness", "sharpness along the update", "symlog"),
    ("representation_change", "relative change of features", "log"),
    ("test_accuracy", "test accuracy", "linear"),
)  # fmt: skip
CASES = {
    "cpu": r"$\epsilon = 10^{-8}$, float32", "cpu_large_eps": r"$\epsilon = 10^{-5}$, float32",
    "cpu_float64": r"$\epsilon = 10^{-8}$, loss in float64",
}  # fmt: skip


@click.command(help=__doc__)
@style.options
def main() -> None:
    store = query.connect()
    _, runs = query.sweep(store, "thilak_cpu")
    runs = runs[runs["config.seed"] == runs["config.seed"].min()].set_index("config.preset")
    curves = {case: query.curves(store, runs.loc[case, "run"]) for case in CASES}
    style.save(cycles(curves["cpu"], runs.loc["cpu", "result.cycle_steps"]), "thilak_slingshots")
    style.save(compared(curves), "thilak_comparison")


def cycles(curves, spikes: list[int]):
    """One run: loss, norm, sharpness, features and test accuracy, every slingshot marked."""
    figure, panels = plt.subplots(len(PANELS), 1, figsize=(8, 10), sharex=True)
    for axes, (metric, label, scale) in zip(panels, PANELS, strict=True):
        values = curves[metric]
        axes.plot(values.where(values > 0) if scale == "log" else values, color="black", lw=1)
        for step in spikes:
            axes.axvline(step, color=style.TRAIN, lw=0.8, ls=":")
        axes.set_yscale(scale)
        if scale == "symlog":
            axes.set_ylim(bottom=-1)
        axes.set_ylabel(label, fontsize=8)
    panels[-1].set(xlabel="update")
    panels[-1].set_ylim(0.7, 1)
    return figure


def compared(curves: dict):
    """Loss, norm and test accuracy with a small epsilon, a larger one, and the loss in float64."""
    figure, panels = plt.subplots(1, 3, figsize=(12, 3.4))
    for axes, (metric, label, scale) in zip(panels, (*PANELS[:2], PANELS[-1]), strict=True):
        for case, name in CASES.items():
            values = curves[case][metric]
            axes.plot(values.where(values > 0) if scale == "log" else values, label=name, lw=1)
        axes.set(xlabel="update", ylabel=label, yscale=scale)
    panels[2].set_ylim(0.7, 1)
    panels[1].legend(fontsize=8)
    figure.tight_layout()
    return figure


if __name__ == "__main__":
    main()
