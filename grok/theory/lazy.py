"""The network of Kumar et al. 2023 in terms of two moments of its weights, exact at any width.

f = alpha (w.x + (eps / 2) x^T M x) with w = mean w_i and M = mean w_i w_i^T. Gradient descent on the
w_i is a recursion of w and M.
"""

import numpy as np

Moments = tuple[np.ndarray, np.ndarray]


def moments(weights: np.ndarray) -> Moments:
    """Mean (D,) and second moment (D, D) of the units' weights (N, D)."""
    return weights.mean(0), weights.T @ weights / len(weights)


def outputs(x: np.ndarray, state: Moments, alpha: float, eps: float) -> np.ndarray:
    """Outputs f (n,) for inputs x (n, D)."""
    mean, second = state
    return alpha * (x @ mean + eps / 2 * np.einsum("ni,ij,nj->n", x, second, x))


def descended(
    state: Moments, x: np.ndarray, y: np.ndarray, alpha: float, eps: float, rate: float
) -> Moments:
    """The moments after one step of gradient descent on the mean of (f - y)^2.

    Arguments:
        state: the moments before.
        x, y: inputs (P, D) and targets (P,).
        alpha, eps: the network's constants.
        rate: eta alpha / N, with the learning rate eta of the N weights.
    """
    mean, second = state
    gap = outputs(x, state, alpha, eps) - y
    g = 2 / len(x) * x.T @ gap
    turn = np.eye(len(mean)) - rate * eps * (2 / len(x)) * (x.T * gap) @ x
    shifted = turn @ mean
    cross = np.outer(shifted, g)
    return shifted - rate * g, turn @ second @ turn.T - rate * (
        cross + cross.T
    ) + rate**2 * np.outer(g, g)


def population_loss(state: Moments, beta: np.ndarray, alpha: float, eps: float) -> float:
    """Mean of (f - y)^2 over x ~ N(0, I / D), for the teacher y = (beta.x)^2 / 2."""
    mean, second = state
    d = len(mean)
    gap = alpha * eps * second - np.outer(beta, beta)
    quadratic = (np.trace(gap) / (2 * d)) ** 2 + (gap**2).sum() / (2 * d**2)
    return float(quadratic + alpha**2 * (mean @ mean) / d)
