"""Gradient descent of a linear student after a linear teacher (Levi, Beck, Bar-Sinai 2023,
arXiv:2310.16441), in closed form.

lam = inputs / samples. Losses are for |D_0|^2 = 1, D = student - teacher, outputs `d_out`; `t` counts
updates of rate `lr`. Eigenvalues nu of the sample covariance follow Marchenko and Pastur's law.
"""

import numpy as np
from scipy.special import gammainc, gammaincinv

NODES = 4000  # of the midpoint rule, exact to 1e-15 here


def spectrum(lam: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes nu (4000,) and their weights under the Marchenko-Pastur law, the atom at 0 left out: the
    weights sum to min(1, 1 / lam)."""
    theta = np.pi * (np.arange(NODES) + 0.5) / NODES
    nu = 1 + lam + 2 * np.sqrt(lam) * np.cos(theta)
    return nu, 2 * np.sin(theta) ** 2 / nu / NODES


def losses(
    t: np.ndarray, lam: float, lr: float, decay: float = 0.0, d_out: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Train and generalization loss (T,) after t (T,) updates, by gradient flow (section 3, equation
    15 with decay)."""
    nu, weight = spectrum(lam)
    rate, half = lr / d_out, decay / 2
    fall = np.exp(-4 * rate * np.outer(t, nu + half))
    if decay:
        rest = (np.exp(-2 * rate * np.outer(t, nu + half)) * nu + half) / (nu + half)
        fall = (fall + rest**2) / 2
    kept = max(0.0, 1 - 1 / lam)  # directions that no sample has
    if decay:
        kept *= (1 + np.exp(-2 * rate * decay * np.asarray(t))) / 2
    return fall @ (weight * nu) / d_out, (fall @ weight + kept) / d_out


def descent(
    t: np.ndarray, nu: np.ndarray, gap: np.ndarray, teacher: np.ndarray, lr: float, decay: float
) -> tuple[np.ndarray, np.ndarray]:
    """The same for one sample, exactly: its eigenvalues nu (d,), D_0 and the teacher (d, d_out) in its
    eigenvectors. Each direction shrinks by 1 - lr (2 nu + decay) / d_out an update, to a fixed point."""
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
    """Share of inputs whose squared error is at most eps, when the mean is `loss`."""
    return gammainc(d_out / 2, d_out * eps / (2 * np.maximum(loss, 1e-300)))


def loss_at(accuracy: float, eps: float, d_out: int = 1) -> float:
    """The loss at which an accuracy is reached; eps / 3.84 at 95 % with one output."""
    return d_out * eps / (2 * gammaincinv(d_out / 2, accuracy))


def first_time(loss_of, level: float, longest: float = 1e9) -> float:
    """The update, to 1e-9 of itself, at which loss_of(t (1,)) has fallen to a level; inf if it has not
    after `longest`. The loss must fall."""
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
    """Updates until train and generalization accuracy reach a level; inf where they never do."""
    return sample_times(lambda t: losses(t, lam, lr, decay, d_out), eps, d_out, reached)


def sample_times(exact, eps: float, d_out: int, reached: float = 0.95) -> tuple[float, float]:
    """The same for one sample, whose losses are exact(t), as `descent` gives them."""
    level = loss_at(reached, eps, d_out)
    return tuple(first_time(lambda t, part=part: exact(t)[part], level) for part in (0, 1))


def delay(times: tuple[float, float]) -> float:
    """From the train time to the other; inf if that never comes."""
    return times[1] - times[0] if times[1] < np.inf else np.inf


def late_losses(t: np.ndarray, lam: float, lr: float) -> tuple[np.ndarray, np.ndarray]:
    """Train and generalization loss long after the start, lam < 1, one output (equation 11)."""
    edge = (1 - np.sqrt(lam)) ** 2
    train = np.exp(-4 * lr * edge * t) / (16 * np.sqrt(np.pi) * lam**0.75 * (lr * t) ** 1.5)
    return train, train / edge
