"""Early prediction: features of the beginning of a run, and how well they tell whether it will grok.

Scores are oriented: of a good one, runs that grok have larger values. Scipy and scikit-learn take a
second to import, so each function imports them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import ArrayLike

Series = Mapping[str, tuple[Sequence[int], Sequence[float]]]  # steps and values by metric
RESAMPLES = 2000
BOOTSTRAP_SEED = 0
LEAST_VALUES = 4  # of a ripple: fewer have no second differences to speak of


def level(steps: np.ndarray, values: np.ndarray, step: int) -> float:
    """The value logged last, up to a step; NaN if there is none."""
    index = int(np.searchsorted(steps, step, side="right")) - 1
    return float(values[index]) if index >= 0 else nan


def slope(steps: np.ndarray, values: np.ndarray, step: int) -> float:
    """The logarithm of the ratio of a metric at a step to its value at half of that step."""
    return log_level(steps, values, step) - log_level(steps, values, step // 2)


def log_level(steps: np.ndarray, values: np.ndarray, step: int) -> float:
    """The logarithm of `level`; NaN if it is not positive."""
    value = level(steps, values, step)
    return float(np.log(value)) if value > 0 else nan


def ripple(steps: np.ndarray, values: np.ndarray, step: int) -> float:
    """The spread of the second differences of a metric's logarithm in the half up to a step."""
    inside = values[(steps >= step // 2) & (steps <= step)]
    if len(inside) < LEAST_VALUES or (inside <= 0).any():
        return nan
    return float(np.std(np.diff(np.log(inside), 2)))


@dataclass(frozen=True)
class Feature:
    """A number that is read from one metric of the beginning of a run.

    metric: its name.
    kind: what is read of it: "level", "log_level", "slope" or "ripple".
    sign: 1 if runs that grok are expected to have larger values, else -1.
    uses_test: whether it reads labels of the test set.
    """

    metric: str
    kind: str
    sign: int
    uses_test: bool = False


FEATURES = {
    "test loss slope": Feature("test_loss", "slope", -1, True),
    "test loss": Feature("test_loss", "log_level", -1, True),
    "test accuracy": Feature("test_accuracy", "level", 1, True),
    "norm slope": Feature("weight_norm", "slope", -1),
    "norm": Feature("weight_norm", "log_level", -1),
    "train loss": Feature("train_loss", "log_level", 1),
    "train loss slope": Feature("train_loss", "slope", 1),
    "gradient norm": Feature("gradient_norm", "log_level", 1),
    "margin": Feature("margins/median", "level", -1),
    "top frequencies": Feature("top_frequencies", "level", 1),
    "output part": Feature("output_part", "level", 1),
    "ripple": Feature("train_loss", "ripple", -1),
}


def score(feature: Feature, series: Series, step: int) -> float:
    """A feature of a run up to a step, with its sign; NaN if the run does not have it."""
    if feature.metric not in series:
        return nan
    kinds = {"level": level, "log_level": log_level, "slope": slope, "ripple": ripple}
    steps, values = (np.asarray(array, float) for array in series[feature.metric])
    return feature.sign * kinds[feature.kind](steps, values, step)


def auroc(scores: ArrayLike, positive: ArrayLike) -> float:
    """The probability that a positive example has a larger score than a negative one, ties as half.

    It is the area under the ROC curve, and Mann and Whitney's U divided by the number of pairs; NaN
    without examples of both kinds.
    """
    from scipy.stats import rankdata

    is_positive = np.asarray(positive, bool)
    count, others = int(is_positive.sum()), int((~is_positive).sum())
    if not count or not others:
        return nan
    ranks = rankdata(np.asarray(scores, float))
    return float((ranks[is_positive].sum() - count * (count + 1) / 2) / (count * others))


def auroc_interval(
    scores: ArrayLike, positive: ArrayLike, cells: Sequence[object]
) -> tuple[float, float]:
    """95 % interval of `auroc`, by a bootstrap that draws cells, since the runs of one are alike.

    Arguments:
        cells: the cell that each example belongs to. Draws without examples of both kinds are left
            out.
    """
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    score_array, is_positive = np.asarray(scores, float), np.asarray(positive, bool)
    members = [np.flatnonzero([one == cell for one in cells]) for cell in dict.fromkeys(cells)]
    areas = []
    for _ in range(RESAMPLES):
        drawn = generator.integers(len(members), size=len(members))
        chosen = np.concatenate([members[index] for index in drawn])
        areas.append(auroc(score_array[chosen], is_positive[chosen]))
    low, high = np.nanpercentile(areas, [2.5, 97.5])
    return float(low), float(high)


def held_out_scores(
    features: ArrayLike, positive: ArrayLike, cells: Sequence[object]
) -> np.ndarray:
    """Scores (N,) of a logistic regression, each cell's from one that was fitted on the others.

    Arguments:
        features: (N, K), standardized on the cells that are fitted.
        positive: (N,), the labels.
        cells: the cell that each example belongs to. NaN where the other cells have one label only.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    X, is_positive = np.asarray(features, float), np.asarray(positive, bool)
    scores = np.full(len(X), nan)
    for cell in dict.fromkeys(cells):
        is_out = np.array([one == cell for one in cells])
        if len(set(is_positive[~is_out])) == 2:
            model = make_pipeline(StandardScaler(), LogisticRegression())
            model.fit(X[~is_out], is_positive[~is_out])
            scores[is_out] = model.decision_function(X[is_out])
    return scores


def residual_rank_correlation(x: ArrayLike, y: ArrayLike, others: Sequence[ArrayLike]) -> float:
    """Spearman's correlation of two variables once quadratic functions of others are taken from both.

    Arguments:
        x, y: (N,).
        others: (N,) each.
    """
    from scipy.stats import spearmanr

    columns = [np.asarray(other, float) for other in others]
    design = np.stack([np.ones(len(columns[0])), *columns, *(c**2 for c in columns)], 1)
    residuals = []
    for values in (np.asarray(x, float), np.asarray(y, float)):
        fitted = design @ np.linalg.lstsq(design, values, rcond=None)[0]
        residuals.append(values - fitted)
    return float(spearmanr(*residuals).statistic)
