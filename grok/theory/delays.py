"""Laws of the delay of grokking, fitted on some runs and asked about others.

T is the number of steps to generalization, T_m that to memorization, D = T - T_m the delay. N is the
norm of all weights, eta the learning rate, lambda the (decoupled) weight decay, tau the temperature
that divides the logits, and rho the ratio of a held norm to the norm W_c at which free runs generalize.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, inf, log, nan

import numpy as np

LEAST_DELAY = 1.0  # steps; laws that predict an earlier end are wrong by that much
THRESHOLDS = 60  # weight decays that are tried as the threshold of `threshold_power`
HOMOGENEITY = 3  # degree of the bench's network in its weights


@dataclass(frozen=True)
class Trial:
    """One run, as the laws see it.

    Attributes:
        cell: Name of its settings without the seed.
        lr, weight_decay: Of its optimizer.
        memorized, generalized: Steps to either; generalized is infinite if it never came.
        held: Norm ratio rho, if the norm is held from the first step on; None for a free norm.
        temperature: Divisor of the logits.
        steps, norms, products: Evaluation steps, and at each the norm of all weights and the product
            of the layers' norms over the temperature.
    """

    cell: str
    lr: float
    weight_decay: float
    memorized: float
    generalized: float
    held: float | None = None
    temperature: float = 1.0
    steps: Sequence[float] | np.ndarray = ()
    norms: Sequence[float] | np.ndarray = ()
    products: Sequence[float] | np.ndarray = ()

    @property
    def delay(self) -> float:
        """D, at least LEAST_DELAY."""
        return max(self.generalized - self.memorized, LEAST_DELAY)

    @property
    def logit_scale(self) -> float:
        """rho^3 / tau, the scale of the logits of a held network; NaN with a free norm."""
        return nan if self.held is None else self.held**HOMOGENEITY / self.temperature

    def at(self, values: Sequence[float] | np.ndarray, step: float) -> float:
        """The value evaluated last, up to this step; the first one if all are of later steps."""
        index = int(np.searchsorted(np.asarray(self.steps), step, side="right")) - 1
        return float(np.asarray(values)[max(index, 0)])


Trials = Sequence[Trial]
Predict = Callable[[Trial], float]  # T of a run


def least_squares(
    columns: Sequence[Sequence[float]], y: Sequence[float]
) -> tuple[np.ndarray, float]:
    """Coefficients of the constant and of these columns, and R^2 of the fit."""
    target = np.asarray(y, dtype=float)
    design = np.column_stack([np.ones(len(target)), *columns])
    coefficients = np.linalg.lstsq(design, target, rcond=None)[0]
    residual = target - design @ coefficients
    total = target - target.mean()
    return coefficients, 1 - float(residual @ residual) / float(total @ total)


# -- laws of a free norm -------------------------------------------------------------------------


def inverse_decay(trials: Trials) -> Predict:
    """D = c / (eta lambda): arXiv:2603.13331 without its logarithm."""
    c = exp(float(np.mean([log(t.delay * t.lr * t.weight_decay) for t in trials])))
    return lambda t: t.memorized + c / (t.lr * t.weight_decay)


def first_passage(trials: Trials, from_peak: bool = False) -> Predict:
    """D = ln(V_m / V*) / (2 kappa eta lambda), V the squared norm: arXiv:2605.18845.

    V* is the geometric mean of V at generalization, and kappa makes the sums of both sides equal. V_m
    is V at memorization; where it is below V*, the predicted delay is negative. With `from_peak`, V_m
    is the largest V between memorization and generalization, which is never below V*.
    """

    def log_start(t: Trial) -> float:
        if not from_peak:
            return 2 * log(t.at(t.norms, t.memorized))
        steps = np.asarray(t.steps)
        is_between = (steps >= t.memorized) & (steps <= t.generalized)
        return 2 * log(np.asarray(t.norms)[is_between].max())

    log_target = float(np.mean([2 * log(t.at(t.norms, t.generalized)) for t in trials]))
    ratios = [log_start(t) - log_target for t in trials]
    kappa = sum(ratios) / sum(2 * t.delay * t.lr * t.weight_decay for t in trials)

    def predict(t: Trial) -> float:
        ratio = log_start(t) - log_target
        return t.memorized + ratio / (2 * kappa * t.lr * t.weight_decay)

    return predict


def threshold_power(trials: Trials) -> Predict:
    """T = c (lambda - lambda_c)^-nu: arXiv:2605.20441. Below lambda_c it is infinite."""
    c, nu, threshold = threshold_power_fit(trials)
    return lambda t: c * (t.weight_decay - threshold) ** -nu if t.weight_decay > threshold else inf


def threshold_power_fit(trials: Trials) -> tuple[float, float, float]:
    """c, nu and lambda_c of `threshold_power`, by least squares of ln T."""
    decays = np.array([t.weight_decay for t in trials])
    log_steps = [log(t.generalized) for t in trials]
    best = -inf
    found = (nan, nan, nan)
    for threshold in np.linspace(0, decays.min(), THRESHOLDS, endpoint=False):
        (start, slope), r2 = least_squares([np.log(decays - threshold)], log_steps)
        if r2 > best:
            best, found = r2, (exp(start), -slope, float(threshold))
    return found


def two_powers(trials: Trials) -> Predict:
    """D = c lambda^a eta^b."""
    (start, *powers), _ = two_powers_fit(trials)
    return lambda t: t.memorized + exp(start + np.dot(powers, [log(t.weight_decay), log(t.lr)]))


def two_powers_fit(trials: Trials) -> tuple[np.ndarray, float]:
    """ln c, a and b of `two_powers`, and R^2 in ln D."""
    columns = [[log(t.weight_decay) for t in trials], [log(t.lr) for t in trials]]
    return least_squares(columns, [log(t.delay) for t in trials])


# -- laws of a held norm -------------------------------------------------------------------------


def held_norm(trials: Trials) -> Predict:
    """T = c e^(alpha rho) eta^-b: arXiv:2606.13753, with a power of the learning rate."""
    return _exponential(trials, lambda t: nan if t.held is None else t.held)


def logit_scale(trials: Trials) -> Predict:
    """T = c e^(b rho^3 / tau) eta^-b': arXiv:2606.18465 with the scale that is set, not measured."""
    return _exponential(trials, lambda t: t.logit_scale)


def _exponential(trials: Trials, variable: Callable[[Trial], float]) -> Predict:
    columns = [[variable(t) for t in trials], [log(t.lr) for t in trials]]
    (start, slope, power), _ = least_squares(columns, [log(t.generalized) for t in trials])
    return lambda t: exp(start + slope * variable(t) + power * log(t.lr))


# -- one clock for both --------------------------------------------------------------------------


def norm_clock(trials: Trials) -> Predict:
    """The step T at which the integral of dt / T_held(N(t), eta) is a constant.

    T_held is the T of runs held at the norm N. The constant is of the free runs among the trials.
    """
    return _clock(trials, lambda t: np.asarray(t.norms))


def product_clock(trials: Trials) -> Predict:
    """`norm_clock` with the product of the layers' norms over the temperature in place of N."""
    return _clock(trials, lambda t: np.asarray(t.products))


def _clock(trials: Trials, series: Callable[[Trial], np.ndarray]) -> Predict:
    rate = _rate([t for t in trials if t.held is not None], series)

    def ticks(t: Trial) -> np.ndarray:
        """The integral up to each evaluation step."""
        rates = rate(series(t), t.lr)
        steps = np.asarray(t.steps, dtype=float)
        return np.append(0, np.cumsum(np.diff(steps) * (rates[1:] + rates[:-1]) / 2))

    free = [t for t in trials if t.held is None]
    at_end = [np.interp(t.generalized, t.steps, ticks(t)) for t in free]
    constant = exp(float(np.mean(np.log(at_end))))

    def predict(t: Trial) -> float:
        passed, steps = ticks(t), np.asarray(t.steps, dtype=float)
        if passed[-1] >= constant:
            return float(np.interp(constant, passed, steps))
        # after its end, a run goes on as it was there
        return float(steps[-1] + (constant - passed[-1]) / rate(series(t)[-1:], t.lr)[0])

    return predict


def _rate(
    held: Trials, series: Callable[[Trial], np.ndarray]
) -> Callable[[np.ndarray, float], np.ndarray]:
    """1 / T_held(x, eta): ln T is piecewise linear in x at the most frequent learning rate, and a power
    of the learning rate that is piecewise linear in x. Beyond the held values the first is continued
    by its last piece above and a constant below, the second by constants."""
    cells: dict[tuple[float, float], list[tuple[float, float]]] = {}
    for t in held:
        assert t.held is not None
        is_after = np.asarray(t.steps) >= t.memorized
        x = float(np.mean(series(t)[is_after]))
        cells.setdefault((t.held, t.lr), []).append((x, log(t.generalized)))
    points = {cell: np.median(values, axis=0) for cell, values in cells.items()}
    rates = [lr for _, lr in points]
    usual = max(set(rates), key=rates.count)
    line = np.array(sorted(tuple(point) for (_, lr), point in points.items() if lr == usual))
    powers = []
    for ratio in sorted({ratio for ratio, _ in points}):
        others = {lr: point[1] for (r, lr), point in points.items() if r == ratio}
        if len(others) > 1 and usual in others:
            slope = np.polyfit(np.log([*others]), [*others.values()], 1)[0]
            powers.append((points[ratio, usual][0], slope))

    def rate(x: np.ndarray, lr: float) -> np.ndarray:
        log_steps = np.interp(x, line[:, 0], line[:, 1])
        (x0, y0), (x1, y1) = line[-2:]
        log_steps = log_steps + np.clip(x - x1, 0, None) * (y1 - y0) / (x1 - x0)
        if powers and lr != usual:
            log_steps = log_steps + np.interp(x, *np.array(powers).T) * log(lr / usual)
        return np.exp(-log_steps)

    return rate
