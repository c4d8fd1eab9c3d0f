"""Which law of the delay predicts runs that it has not seen: a table, a figure and a sentence.

`grok replicate delay_laws` makes the runs of the bench. Every law is fitted on the runs of all cells
of its kind but one and predicts the steps to generalization of that cell (a cell is one setting with
all its seeds); cells of other kinds are predicted from all. `--sweep NAME` applies the laws of a free
norm to any stored sweep over learning rates and weight decays, such as omnigrok_decay or
liu_regression_grid, with `--memorized` and `--generalized` for its accuracies. FILTERS such as
`preset=cpu` take a part of that sweep.
"""

import re
from collections.abc import Sequence
from math import exp, log

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from grok.analysis import query, style
from grok.cli.options import SELECTION_HELP, runs_argument
from grok.errors import UserError
from grok.phases import first_step_held
from grok.store.connection import Store
from grok.theory import delays
from grok.theory.delays import Trial

BENCH = "delay_laws_cpu"
NORMS = {53: 38.34, 67: 42.5}  # W_c of the bench, by modulus
FREE_LAWS = {
    "c / (lr decay)": delays.inverse_decay,
    "log norm ratio / (lr decay)": delays.first_passage,
    "(decay - threshold)^-nu": delays.threshold_power,
    "decay^a lr^b": delays.two_powers,
}
HELD_LAWS = {"exp(norm)": delays.held_norm, "exp(logit scale)": delays.logit_scale}
CLOCKS = {"clock of the norm": delays.norm_clock, "clock of the layers": delays.product_clock}
LAWS = {**FREE_LAWS, **HELD_LAWS, **CLOCKS}
# Groups of cells, by the named config; the first that matches.
GROUPS = {
    "p = 67": r"p67_",
    "temperature": r".*_temperature_",
    "held, other lr": r"norm_.*_lr_",
    "held at a norm": r"norm_",
    "frozen": r"(large_)?frozen$",
    "large embeddings": r"large",
    "free, other lr": r"lr_",
    "free, decays": r"(cpu|decay_)",
}
FREE_GROUPS = ("free, decays", "free, other lr")
HELD_GROUPS = ("held at a norm", "held, other lr")
LEAST_RATIO = 0.85  # of the held norms that arXiv:2606.13753 fits
MOST_FACTOR = 10.0  # errors count as this one at most, a prediction of "never" too
RESAMPLES = 2000
LR_KEYS = ("config.lr", "config.decoder_lr")
DECAY_KEYS = ("config.weight_decay", "config.decoder_weight_decay")
SEEDS = ("config.seed", "config.data_seed")


@click.command(help=__doc__, epilog=SELECTION_HELP)
@style.options
@runs_argument
@click.option("--sweep", default=BENCH, show_default=True, help="Name of a stored sweep file.")
@click.option("--memorized", default=0.99, show_default=True, help="Train accuracy of T_m.")
@click.option("--generalized", default=0.9, show_default=True, help="Test accuracy of T.")
def main(filters: tuple[str, ...], sweep: str, memorized: float, generalized: float) -> None:
    store = query.connect()
    sweep_id, runs = query.sweep(store, sweep)
    if filters:
        chosen = query.selected_runs(store, [f"sweep={sweep_id}", *filters])["run"]
        runs = runs[runs["run"].isin(chosen)]
    groups, trials = zip(
        *(each for each in trials_of(store, runs, sweep, memorized, generalized)), strict=True
    )
    table = predictions(groups, trials)
    if table.empty:
        raise UserError(
            f"{sweep}: fewer than three cells of runs that generalize after they memorize"
        )
    print(errors_by_group(table).round(2).to_string(na_rep="-"))
    summary = summarize(table)
    print(summary.round(3).to_string())
    print(sentence(table, summary))
    name = "delay_laws" if sweep == BENCH else f"delay_laws_{sweep}"
    style.write_text(f"{name}.csv", summary.to_csv())
    style.save(plot(table), name)


def trials_of(
    store: Store, runs: pd.DataFrame, sweep: str, memorized: float, generalized: float
) -> list[tuple[str, Trial]]:
    """The group and the trial of every run that memorizes, and generalizes later, with weight decay.

    Arguments:
        runs: of the sweep.
        sweep: name of its file.
        memorized, generalized: train and test accuracy that count.
    """
    lr_key, decay_key = (
        next((key for key in keys if key in runs), None) for keys in (LR_KEYS, DECAY_KEYS)
    )
    if lr_key is None or decay_key is None:
        raise UserError(f"{sweep}: its runs have no learning rate, or no weight decay")
    keys = [str(key) for key in runs if str(key).startswith("config.") and key not in SEEDS]
    varying = [key for key in keys if runs[key].map(repr).nunique() > 1]
    found = []
    for _, row in runs.iterrows():
        group, held = group_of(row) if sweep == BENCH else ("runs", None)
        curve = query.curves(store, row["run"])
        steps_to = {
            part: first_step_held(
                curve.index.to_numpy(), curve[f"{part}_accuracy"].to_numpy(), level
            )
            for part, level in (("train", memorized), ("test", generalized))
        }
        first, end = steps_to["train"], steps_to["test"]
        is_delayed = first is not None and end is not None and first < end
        if group is None or not is_delayed or not row[decay_key]:
            continue
        assert first is not None
        assert end is not None
        products, temperature = curve.get("layer_product", ()), row.get("config.temperature")
        trial = Trial(
            cell=" ".join(f"{key.removeprefix('config.')}={row[key]}" for key in varying),
            lr=row[lr_key],
            weight_decay=row[decay_key],
            memorized=first,
            generalized=end,
            held=held,
            temperature=1.0 if pd.isna(temperature) else temperature,
            steps=curve.index.to_numpy(),
            norms=curve["weight_norm"].to_numpy(),
            products=np.asarray(products),
        )
        found.append((group, trial))
    if not found:
        raise UserError(f"{sweep}: no run memorizes, and generalizes later, with weight decay")
    return found


def group_of(row: pd.Series) -> tuple[str | None, float | None]:
    """The group of a run of the bench, None if no law is about it, and its norm ratio if it is held."""
    name = row["config.preset"]
    group = next((group for group, pattern in GROUPS.items() if re.match(pattern, name)), None)
    if row["config.loss"] != "cross_entropy":
        group = None
    norm = row["config.fixed_norm"]
    return group, norm / NORMS[row["config.p"]] if norm else None


def predictions(groups: Sequence[str], trials: Sequence[Trial]) -> pd.DataFrame:
    """Columns law, group, cell, measured and predicted: a row per law and run that it says something of.

    A law is fitted without the cell that it predicts.
    """
    free = [t for g, t in zip(groups, trials, strict=True) if g in (*FREE_GROUPS, "runs")]
    held = [t for g, t in zip(groups, trials, strict=True) if g in HELD_GROUPS]
    is_bench = bool(held)
    rows = []
    for cell in dict.fromkeys(t.cell for t in trials):
        chosen = [(g, t) for g, t in zip(groups, trials, strict=True) if t.cell == cell]
        free_rest, held_rest = ([t for t in ts if t.cell != cell] for ts in (free, held))
        for name, law in LAWS.items():
            is_clock, is_held_law = name in CLOCKS, name in HELD_LAWS
            if (is_clock or is_held_law) and not is_bench:
                continue
            is_held = chosen[0][1].held is not None
            if not is_clock and is_held != is_held_law:
                continue
            if name in FREE_LAWS and chosen[0][0] == "frozen":
                continue
            if is_clock and chosen[0][0] == "p = 67":
                continue  # the clock's unit is a norm of p = 53
            fitted = free_rest + held_rest if is_clock else held_rest if is_held_law else free_rest
            if is_held_law:
                fitted = [t for t in fitted if t.held is not None and t.held >= LEAST_RATIO]
            if len({t.cell for t in fitted}) < 2:
                continue
            predict = law(fitted)
            rows += [
                (name, g, cell, t.generalized, max(predict(t), t.memorized)) for g, t in chosen
            ]
    return pd.DataFrame(rows, columns=["law", "group", "cell", "measured", "predicted"])


def log_errors(table: pd.DataFrame) -> pd.Series:
    """|ln(predicted / measured)| of every row, at most that of MOST_FACTOR."""
    ratios = np.log(table["predicted"] / table["measured"])
    return pd.Series(ratios, index=table.index).abs().clip(upper=log(MOST_FACTOR))


def errors_by_group(table: pd.DataFrame) -> pd.DataFrame:
    """The typical factor between prediction and measurement, by law and group."""
    order = [group for group in reversed(GROUPS) if group in set(table["group"])]
    return (
        table.assign(error=log_errors(table))
        .pivot_table(index="law", columns="group", values="error", aggfunc=lambda e: exp(e.mean()))
        .reindex(index=laws_of(table), columns=order or ["runs"])
    )


def laws_of(table: pd.DataFrame) -> list[str]:
    """The laws of a table, in their order."""
    return [law for law in LAWS if law in set(table["law"])]


def summarize(table: pd.DataFrame) -> pd.DataFrame:
    """For each law: its typical factor with a 95 % interval, its mean error, and how many runs and cells.

    The interval is of a bootstrap that draws cells, and runs within them. Free and held runs are
    apart, since most laws are about one of these; all of them, and frozen ones, are `both`.
    """
    rows = {}
    for law in laws_of(table):
        of_law = table[table["law"] == law]
        is_held = of_law["group"].isin([*HELD_GROUPS, "temperature", "p = 67"])
        is_frozen = of_law["group"] == "frozen"
        parts = {"free": of_law[~is_held & ~is_frozen], "held": of_law[is_held], "both": of_law}
        for kind, part in parts.items():
            if part.empty or (kind == "both" and is_held.nunique() == 1):
                continue
            low, high = bootstrap(part)
            rows[law, kind] = {
                "factor": exp(log_errors(part).mean()),
                "low": low,
                "high": high,
                "worst": exp(log_errors(part).max()),
                "runs": len(part),
                "cells": part["cell"].nunique(),
            }
    return pd.DataFrame(rows).T


def bootstrap(part: pd.DataFrame) -> tuple[float, float]:
    """95 % interval of the typical factor, over cells and runs within them."""
    generator = np.random.default_rng(0)
    cells = [errors.to_numpy() for _, errors in log_errors(part).groupby(part["cell"])]
    means = []
    for _ in range(RESAMPLES):
        chosen = generator.integers(len(cells), size=len(cells))
        drawn = [generator.choice(cells[index], len(cells[index])) for index in chosen]
        means.append(np.concatenate(drawn).mean())
    low, high = np.exp(np.percentile(means, [2.5, 97.5]))
    return float(low), float(high)


def sentence(table: pd.DataFrame, summary: pd.DataFrame) -> str:
    """What a reader may quote: the best law of free runs, and of held ones."""
    parts = []
    for kind in ("free", "held"):
        if kind not in summary.index.get_level_values(1):
            continue
        of_kind = summary.xs(kind, level=1)
        # only laws that speak of the same runs can be compared
        most = of_kind[of_kind["runs"] == of_kind["runs"].max()]["factor"]
        best, worst = most.idxmin(), most.idxmax()
        row = of_kind.loc[best]
        parts.append(
            f"on {row['runs']:.0f} {kind} runs that it has not seen, {best} is wrong by a factor of "
            f"{row['factor']:.2f} ({row['low']:.2f} to {row['high']:.2f}) on average, "
            f"and {worst} by {most[worst]:.2f}"
        )
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}."


def plot(table: pd.DataFrame) -> Figure:
    """Predicted against measured steps, a panel for each law; all groups in their colours."""
    laws = laws_of(table)
    columns = min(4, len(laws))
    rows = -(-len(laws) // columns)
    figure, panels = plt.subplots(
        rows,
        columns,
        figsize=(3 * columns, 3 * rows),
        layout="constrained",
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    groups = [group for group in (*reversed(GROUPS), "runs") if group in set(table["group"])]
    colours = dict(zip(groups, style.cycle_colours(len(groups)), strict=True))
    ends = [table["measured"].min() / 1.5, table["measured"].max() * 1.5]
    for axes, law in zip(panels.flat, laws, strict=False):
        of_law = table[table["law"] == law]
        for group, points in of_law.groupby("group"):
            axes.plot(points["measured"], points["predicted"], "o", ms=3, color=colours[str(group)])
        axes.plot(ends, ends, color="black", lw=0.8)
        factor = exp(log_errors(of_law).mean())
        axes.set(xscale="log", yscale="log", xlim=ends, title=f"{law}: factor {factor:.2f}")
        axes.title.set_fontsize("medium")
    for axes in panels.flat[len(laws) :]:
        axes.set_axis_off()
    for axes in panels[-1]:
        axes.set_xlabel("steps, measured")
    for axes in panels[:, 0]:
        axes.set_ylabel("steps, predicted")
    handles = [plt.Line2D([], [], ls="", marker="o", color=colours[group]) for group in groups]
    figure.legend(handles, groups, loc="outside lower center", ncol=4)
    return figure


if __name__ == "__main__":
    main()
