"""Closed forms of gradient descent of a linear student on a linear teacher (Levi et al. 2023).

arXiv:2310.16441. lam is the input dimension over the number of samples, d_out the number of outputs,
t the number of steps at learning rate lr. Losses are for |D_0|^2 = 1, with D = student - teacher.
The eigenvalues nu of the sample covariance follow the Marchenko-Pastur law.
"""

from collections.abc import Callable

import numpy as np

NODES = 4000  # of the midpoint rule, exact to 1e-15 here

Losses = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # t (T,) -> train, generalization


def spectrum(lam: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes nu (4000,) and weights (4000,) of integrals over the Marchenko-Pastur law.

    The atom at 0 is left out, so the weights sum to min(1, 1 / lam).
    """
    theta = np.pi * (np.arange(NODES) + 0.5) / NODES
    nu = 1 + lam + 2 * np.sqrt(lam) * np.cos(theta)
    return nu, 2 * np.sin(theta) ** 2 / nu / NODES


def losses(
    t: np.ndarray, lam: float, lr: float, decay: float = 0.0, d_out: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Train and generalization loss (T,) after t (T,) steps, by gradient flow (section 3; with weight
    decay, eq. 15)."""
    nu, weight = spectrum(lam)
    rate, half = lr / d_out, decay / 2
    fall = np.exp(-4 * rate * np.outer(t, nu + half))
    if decay:
        rest = (np.exp(-2 * rate * np.outer(t, nu + half)) * nu + half) / (nu + half)
        fall = (fall + rest**2) / 2
    unseen: float | np.ndarray = max(0.0, 1 - 1 / lam)  # directions in which there is no sample
    if decay:
        unseen = unseen * ((1 + np.exp(-2 * rate * decay * np.asarray(t))) / 2)
    return fall @ (weight * nu) / d_out, (fall @ weight + unseen) / d_out


def descent(
    t: np.ndarray, nu: np.ndarray, gap: np.ndarray, teacher: np.ndarray, lr: float, decay: float
) -> tuple[np.ndarray, np.ndarray]:
    """Train and generalization loss (T,) of one data set after t (T,) steps, exactly.

    Each direction contracts by 1 - lr (2 nu + decay) / d_out per step, to a fixed point.

    Arguments:
        t: steps, (T,).
        nu: eigenvalues of the data's covariance, (d,).
        gap: D_0 in its eigenvectors, (d, d_out).
        teacher: the teacher in its eigenvectors, (d, d_out).
        lr, decay: learning rate and weight decay.
    """
    d_out = gap.shape[1]
    still = -decay * teacher / (2 * nu + decay)[:, None] if decay else np.zeros_like(teacher)
    factor = 1 - lr / d_out * (2 * nu + decay)
    # D_t = still + factor^t (D_0 - still); the squares are summed over outputs
    away = gap - still
    squares = [(away**2).sum(1), 2 * (away * still).sum(1), (still**2).sum(1)]
    power = factor ** np.asarray(t)[:, None]
    size = power**2 * squares[0] + power * squares[1] + squares[2]
    return size @ nu / d_out, size.sum(1) / d_out


def accuracy(loss: np.ndarray, eps: float, d_out: int = 1) -> np.ndarray:
    """Fraction of inputs whose squared error is at most eps, if the mean is `loss` (T,)."""
    from scipy.special import gammainc  # imported here, since all commands import this module

    return gammainc(d_out / 2, d_out * eps / (2 * np.maximum(loss, 1e-300)))


def loss_at(accuracy: float, eps: float, d_out: int = 1) -> float:
    """The loss at which `accuracy` is reached; eps / 3.84 at 95 % with one output."""
    from scipy.special import gammaincinv

    return d_out * eps / (2 * gammaincinv(d_out / 2, accuracy))


def first_time(
    loss_of: Callable[[np.ndarray], np.ndarray], level: float, longest: float = 1e9
) -> float:
    """The step, to a relative 1e-9, at which a falling loss reaches a level.

    loss_of: t (T,) -> loss (T,). inf if the loss is above the level after `longest` steps.
    """
    if loss_of(np.zeros(1))[0] <= level:
        return 0.0
    if loss_of(np.full(1, longest))[0] > level:
        return np.inf
    low, high = 0.0, longest
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if loss_of(np.full(1, middle))[0] > level else (low, middle)
    return high


def times(
    lam: float, lr: float, eps: float, decay: float = 0.0, d_out: int = 1, reached: float = 0.95
) -> tuple[float, float]:
    """Steps until train and generalization accuracy are `reached`; inf where they never are."""
    return sample_times(lambda t: losses(t, lam, lr, decay, d_out), eps, d_out, reached)


def sample_times(
    exact: Losses, eps: float, d_out: int, reached: float = 0.95
) -> tuple[float, float]:
    """As `times`, for losses exact(t) of one data set, as `descent` gives them."""
    level = loss_at(reached, eps, d_out)
    train = first_time(lambda t: exact(t)[0], level)
    return train, first_time(lambda t: exact(t)[1], level)


def delay(times: tuple[float, float]) -> float:
    """Grokking time: steps from the first of two `times` to the second; inf if the second is inf."""
    return times[1] - times[0] if times[1] < np.inf else np.inf
