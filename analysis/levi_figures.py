"""Levi et al. 2023, figures 1 to 3: losses and accuracies beside the closed form; delays against
lambda, weight decay and the number of outputs.

`grok replicate levi` first.
"""

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from analysis import query, style
from grok.theory import linear as theory

CURVES = {"ratio_30": 0.3, "cpu": 0.9, "ratio_150": 1.5}
LR, EPS = 0.01, 1e-3


@click.command(help=__doc__)
@style.options
def main() -> None:
    store = query.connect()
    _, runs = query.sweep(store, "levi_cpu")
    style.save(curves(store, runs), "levi_curves")
    style.save(delays(runs), "levi_delays")


def curves(store, runs: pd.DataFrame):
    """Losses and accuracies over the updates for three lambdas: every seed, and the law."""
    figure, panels = plt.subplots(2, 3, figsize=(12, 5.5), sharex=True, sharey="row")
    t = np.geomspace(1, 1e5, 200)
    for (upper, lower), (case, lam) in zip(panels.T, CURVES.items(), strict=True):
        for number in runs.loc[runs["config.preset"] == case, "run"]:
            logged = query.curves(store, number)
            for part, colour in (("train", style.TRAIN), ("test", style.TEST)):
                upper.plot(logged[f"{part}_loss"], color=colour, lw=0.5, alpha=0.5)
                lower.plot(logged[f"{part}_accuracy"], color=colour, lw=0.5, alpha=0.5)
        for loss, colour, part in zip(theory.losses(t, lam, LR), (style.TRAIN, style.TEST),
                                      ("train", "generalization"), strict=True):  # fmt: skip
            upper.plot(t, loss, color=colour, lw=2, ls="--", label=f"{part}, closed form")
            lower.plot(t, theory.accuracy(loss, EPS), color=colour, lw=2, ls="--")
        upper.set(title=rf"$\lambda$ = {lam}", xscale="log", yscale="log", ylim=(1e-8, 2))
        lower.set(xlabel="update", xscale="log", xlim=(1, 1e5))
    panels[0, 0].set_ylabel("loss")
    panels[1, 0].set_ylabel("accuracy")
    panels[0, 0].legend(fontsize=8, loc="lower left")
    figure.tight_layout()
    return figure


def delays(runs: pd.DataFrame):
    """Delay to 95 % against lambda, weight decay and outputs: every seed, their median, the law."""
    figure, panels = plt.subplots(1, 3, figsize=(12, 3.6))
    plain = (runs["config.weight_decay"] == 0) & runs["config.hidden_dim"].isna()
    alone = plain & (runs["config.output_dim"] == 1) & (runs["config.inputs_per_sample"] < 1)
    base = runs["config.inputs_per_sample"] == 0.9
    lam = np.linspace(0.2, 0.96, 60)
    outputs = np.unique(np.geomspace(1, 700, 30).round())
    panel(panels[0], runs[alone], "inputs_per_sample", lam,
          [theory.delay(theory.times(x, LR, EPS)) for x in lam])  # fmt: skip
    decayed = runs[base & (runs["config.output_dim"] == 1) & runs["config.hidden_dim"].isna()]
    gamma = np.geomspace(1e-6, 2.5e-3, 40)
    panel(panels[1], decayed[decayed["config.weight_decay"] > 0], "weight_decay", gamma,
          [theory.delay(theory.times(0.9, LR, EPS, x)) for x in gamma])  # fmt: skip
    panel(panels[2], runs[plain & base], "output_dim", outputs,
          [theory.delay(theory.times(0.9, LR, EPS, d_out=int(x))) for x in outputs])  # fmt: skip
    panels[0].set(xlabel=r"$\lambda$, inputs per sample", ylabel="delay to 95 %, updates")
    panels[1].set(xlabel=r"weight decay $\gamma$", xscale="log")
    panels[2].set(xlabel="outputs", xscale="log")
    panels[0].legend()
    figure.tight_layout()
    return figure


def panel(axes, runs: pd.DataFrame, key: str, x: np.ndarray, law: list[float]) -> None:
    """One panel: the seeds' delays where they end, their median, and the law's curve."""
    finite = runs[np.isfinite(runs["result.delay"])]
    axes.plot(finite[f"config.{key}"], finite["result.delay"], ".", color="grey", label="seeds")
    middle = finite.groupby(f"config.{key}")["result.delay"].median()
    axes.plot(middle.index, middle, "o", mfc="none", color=style.TEST, label="median")
    axes.plot(x, law, color="black", lw=1, label="Marchenko-Pastur law")
    axes.set(yscale="log")


if __name__ == "__main__":
    main()
