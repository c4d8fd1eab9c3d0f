"""Which runs will grok, from their first steps: features, their AUROC with intervals, and a rule.

`python analysis/early_prediction.py [SWEEP]`

SWEEP is a sweep's id or its file's name, of any experiment that logs accuracies; `grok replicate
early_prediction` makes the default one. For each feature that the runs have, the script prints and
draws the area under the ROC curve (AUROC) after 5 % and 10 % of the steps, with 95 % intervals of a
bootstrap over settings. Beside them are logistic regressions that predict each setting from the
others: on the hyperparameters that vary, on features of the training alone, and on both. Runs whose
test accuracy has reached 0.2 by then are left out. The last line says what `stop_when_hopeless` would
have done to the runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from grok.analysis import groups, query, style
from grok.claims.prediction import (
    FEATURES,
    Series,
    auroc,
    auroc_interval,
    held_out_scores,
    score,
)
from grok.engine.hopeless import rule_of
from grok.errors import UserError
from grok.phases import first_step_held
from grok.store.connection import Store

BENCH = "early_prediction_cpu"
WINDOWS = (0.05, 0.1)  # fractions of a run's steps
MOST_KNOWN = 0.2  # test accuracy in the window, from which a run is left out
TRAINING_ONLY = tuple(name for name, feature in FEATURES.items() if not feature.uses_test)
KINDS = {"logistic regression": "#000000", "training only": style.TRAIN, "test labels": style.TEST}
LARGEST_RATIO = 4  # of a hyperparameter's values, from which its logarithm is used
NOT_HYPERPARAMETERS = ("config.preset", "config.measures", "config.measure_options")
METRICS = ("train_accuracy", *{feature.metric: None for feature in FEATURES.values()})


@dataclass(frozen=True)
class Candidate:
    """A run as it is judged.

    series: its metrics.
    steps: how many it may make.
    last: the last one that it made.
    groks: the step at which it generalizes, None if it does not.
    cell: its setting, as text.
    hyperparameters: the numbers that vary.
    threshold: the accuracy that counts as reached.
    """

    series: Series
    steps: int
    last: int
    groks: int | None
    cell: tuple[str, ...]
    hyperparameters: tuple[float, ...]
    threshold: float


@click.command(help=__doc__)
@click.argument("sweep", default=BENCH)
@style.options
def main(sweep: str) -> None:
    store = query.connect()
    _, runs = query.sweep(store, sweep)
    keys, candidates = candidates_of(store, runs)
    tables = [areas(candidates, keys, window) for window in WINDOWS]
    table = pd.concat(tables)
    if table.empty:
        raise UserError(f"{sweep}: no window has runs that grok later and runs that do not")
    shown = table.set_index(["window", "predictor"]).drop(columns="kind")
    print(shown.round(3).to_string())
    print(verdict_on_rule(candidates))
    name = "early_prediction" if sweep == BENCH else f"early_prediction_{sweep}"
    style.write_text(f"{name}.csv", table.to_csv(index=False))
    style.save(plot(table), name)


def candidates_of(store: Store, runs: pd.DataFrame) -> tuple[list[str], list[Candidate]]:
    """The hyperparameters that vary, and the runs that could not be given up themselves.

    Raises:
        UserError: the runs have no accuracies.
    """
    query.require(runs, "config.train_steps", "result.threshold")
    if "config.stop_when_hopeless" in runs:
        runs = runs[~runs["config.stop_when_hopeless"].eq(True)]
    varying = [key for key in groups.varying_keys(runs) if key not in NOT_HYPERPARAMETERS]
    keys = [
        key
        for key in varying
        if pd.api.types.is_numeric_dtype(runs[key]) and runs[key].notna().all()
    ]
    long = query.metrics(store, runs["run"], METRICS)
    series: dict[object, dict[str, tuple[list[int], list[float]]]] = {}
    for (run, metric), points in long.groupby(["run", "metric"], observed=True):
        points = points.dropna().sort_values("step")
        series.setdefault(run, {})[str(metric)] = (
            points["step"].tolist(),
            points["value"].tolist(),
        )
    found = []
    for _, row in runs.iterrows():
        own = series.get(row["run"], {})
        if not {"train_accuracy", "test_accuracy"} <= own.keys():
            continue
        steps, accuracies = own["test_accuracy"]
        found.append(
            Candidate(
                own,
                int(row["config.train_steps"]),
                steps[-1],
                first_step_held(steps, accuracies, row["result.threshold"]),
                tuple(str(row[key]) for key in varying),
                tuple(float(row[key]) for key in keys),
                row["result.threshold"],
            )
        )
    if not found:
        raise UserError("these runs have no train_accuracy and test_accuracy")
    return keys, found


def areas(candidates: Sequence[Candidate], keys: Sequence[str], window: float) -> pd.DataFrame:
    """A row per predictor: window, predictor, kind, AUROC, its interval, runs and those that grok.

    Arguments:
        keys: the hyperparameters that vary.
        window: fraction of the steps that is read.
    """
    open_ones = [one for one in candidates if is_open(one, window)]
    groks = np.array([one.groks is not None for one in open_ones])
    cells = [one.cell for one in open_ones]
    columns = {}
    for name, feature in FEATURES.items():
        steps = [int(window * one.steps) for one in open_ones]
        column = np.array(
            [score(feature, one.series, step) for one, step in zip(open_ones, steps, strict=True)]
        )
        if len(column) and np.isfinite(column).all() and np.ptp(column):
            columns[name] = column
    rows: list[tuple] = []
    if len(open_ones) == 0 or groks.all() or not groks.any():
        return pd.DataFrame(rows, columns=["window", "predictor", "kind", "AUROC"])
    settings = [
        scaled(np.array([one.hyperparameters[index] for one in open_ones]))
        for index in range(len(keys))
    ]
    training = [columns[name] for name in TRAINING_ONLY if name in columns]
    regressions = {"hyperparameters": settings, "training": training, "both": settings + training}
    scores: dict[str, tuple[str, np.ndarray]] = {}
    for name, features in regressions.items():
        if features:
            held_out = held_out_scores(np.stack(features, 1), groks, cells)
            scores[name] = ("logistic regression", held_out)
    for name, values in columns.items():
        scores[name] = ("test labels" if FEATURES[name].uses_test else "training only", values)
    for name, (kind, values) in scores.items():
        if np.isfinite(values).all():
            low, high = auroc_interval(values, groks, cells)
            area = auroc(values, groks)
            rows.append((window, name, kind, area, low, high, len(groks), int(groks.sum())))
    names = ["window", "predictor", "kind", "AUROC", "low", "high", "runs", "grok"]
    return pd.DataFrame(rows, columns=names)


def is_open(one: Candidate, window: float) -> bool:
    """Whether a run goes on after the window and has not begun to generalize in it."""
    steps, accuracies = (np.asarray(array) for array in one.series["test_accuracy"])
    inside = accuracies[steps <= window * one.steps]
    return one.last > window * one.steps and len(inside) > 0 and inside.max() < MOST_KNOWN


def scaled(values: np.ndarray) -> np.ndarray:
    """The values of a hyperparameter, or their logarithms if they are positive and differ by a large factor."""
    if values.min() > 0 and values.max() >= LARGEST_RATIO * values.min():
        return np.log(values)
    return values


def verdict_on_rule(candidates: Sequence[Candidate]) -> str:
    """What the rule of hopeless runs would have done, in a sentence."""
    judged = saved = given_up = errors = 0
    for one in candidates:
        rule = rule_of(one.steps, one.series["train_accuracy"][0], one.threshold)
        logged = dict(zip(*one.series.get("weight_norm", ((), ())), strict=True))
        if rule is None or not {*rule.steps} <= {*logged, *range(one.last, one.steps)}:
            continue
        judged += 1
        if rule.steps[-1] >= one.last:
            continue
        accuracies = dict(zip(*one.series["train_accuracy"], strict=True))
        if rule.is_hopeless(accuracies[rule.steps[-1]], [logged[step] for step in rule.steps]):
            given_up += 1
            saved += one.last - rule.steps[-1]
            errors += one.groks is not None
    grok = sum(one.groks is not None for one in candidates)
    part = saved / max(sum(one.last for one in candidates), 1)
    return (
        f"stop_when_hopeless: of {judged} runs that can be judged it gives up {given_up} and saves "
        f"{part:.0%} of all steps; of {grok} runs that grok it gives up {errors}"
    )


def plot(table: pd.DataFrame) -> Figure:
    """AUROC with its interval for each predictor, a panel for each window."""
    windows = list(dict.fromkeys(table["window"]))
    names = list(dict.fromkeys(table["predictor"]))[::-1]
    size = (4.2 * len(windows) + 1, 0.28 * len(names) + 1.2)
    figure, panels = plt.subplots(
        1, len(windows), figsize=size, sharey=True, layout="constrained", squeeze=False
    )
    for axes, window in zip(panels.flat, windows, strict=True):
        part = table[table["window"] == window]
        for kind, colour in KINDS.items():
            of_kind = part[part["kind"] == kind]
            rows = [names.index(name) for name in of_kind["predictor"]]
            spread = [of_kind["AUROC"] - of_kind["low"], of_kind["high"] - of_kind["AUROC"]]
            axes.errorbar(
                of_kind["AUROC"],
                rows,
                xerr=np.abs(spread),
                fmt="o",
                ms=5,
                color=colour,
                label=kind,
            )
        axes.axvline(0.5, color="grey", lw=0.8, ls=":")
        runs, grok = part["runs"].iloc[0], part["grok"].iloc[0]
        axes.set_title(f"first {window:.0%} of the steps: {runs} runs, {grok} grok", fontsize=10)
        axes.set(xlim=(-0.02, 1.02), xlabel="AUROC")
    panels[0, 0].set_yticks(range(len(names)), names)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncol=3)
    return figure


if __name__ == "__main__":
    main()
