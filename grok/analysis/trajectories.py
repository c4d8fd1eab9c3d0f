"""The path of a learned representation, as figure 4 of Liu et al. 2022 shows it."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from grok.analysis import style
from grok.theory import representation


def plot_representation(row: pd.Series, arrays: dict[str, np.ndarray]) -> Figure:
    """First component of the standardized vectors against steps: network, and effective theory.

    Liu et al. 2022, figures 4c and 4d.

    Arguments:
        row: the run, from `query.runs`.
        arrays: the run's trajectory, from `query.arrays`.
    """
    steps, vectors = arrays["steps"], arrays["representation"]  # (T,), (T, P, D)
    centred = vectors - vectors.mean(1, keepdims=True)
    measured = centred / vectors.std(1, ddof=1, keepdims=True)
    p = vectors.shape[1]
    equations = representation.equations(arrays["data_pairs"], arrays["data_answers"], p)
    predicted = representation.effective_path(
        measured[0].astype(float),
        equations,
        row["config.encoder_lr"],
        int(steps[-1]),
        average=False,
    )
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True)
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.9, p))
    panels = (
        (left, steps, measured, "network"),
        (
            right,
            np.arange(len(predicted)),
            predicted,
            "effective theory (gradient flow of the effective loss)",
        ),
    )
    for axes, path_steps, path, title in panels:
        for symbol in range(p):
            axes.plot(path_steps, path[:, symbol, 0], color=colours[symbol], lw=1.2)
        style.log_steps(axes)
        axes.set_title(title, fontsize=9)
    left.set_ylabel("representation (standardized)")
    return figure
