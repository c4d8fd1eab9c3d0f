"""Closed forms of Liu et al. 2022: which labels follow from parallelograms, and how fast they form.

A table has `pairs` (N, 2) of symbols below p with `labels` (N,). A parallelogram is a pair of rows with
equal labels; there are Q, in the order of `parallelograms`. `train` (N,) bool marks the train set D.
"""

import numpy as np
from numpy.typing import NDArray

ZERO = 1e-8  # below which a singular value, an eigenvalue or a residual counts as zero


def parallelograms(labels: NDArray) -> NDArray:
    """All unordered pairs of rows with equal labels, as row indices (Q, 2); P0 in the paper."""
    first, second = np.triu_indices(len(labels), k=1)
    same = labels[first] == labels[second]
    return np.stack([first[same], second[same]], axis=1)


def quads(pairs: NDArray, labels: NDArray) -> NDArray:
    """The symbols (Q, 4) of every parallelogram: a, b, c, d with E_a + E_b = E_c + E_d."""
    rows = parallelograms(labels)
    return np.concatenate([pairs[rows[:, 0]], pairs[rows[:, 1]]], axis=1)


def equations(pairs: NDArray, labels: NDArray, p: int) -> NDArray:
    """The matrix A (Q, p) with a row E_a + E_b - E_c - E_d for each parallelogram."""
    symbols = quads(pairs, labels)
    matrix = np.zeros((len(symbols), p))
    for column, sign in enumerate((1, 1, -1, -1)):
        np.add.at(matrix, (np.arange(len(symbols)), symbols[:, column]), sign)
    return matrix


def within(labels: NDArray, train: NDArray) -> NDArray:
    """Whether both rows of each parallelogram (Q,) are in the train set; P0(D) in the paper."""
    return train[parallelograms(labels)].all(axis=1)


def augmented(pairs: NDArray, labels: NDArray, train: NDArray) -> NDArray:
    """Whether each parallelogram (Q,) follows from those within the train set; P(D) in the paper.

    It does if its row of A is in the span of their rows, so that it leaves the null space as it is.
    """
    matrix = equations(pairs, labels, int(pairs.max()) + 1)
    known = within(labels, train)
    if not known.any():
        return known
    _, sizes, directions = np.linalg.svd(matrix[known], full_matrices=False)
    span = directions[sizes > ZERO]
    residual = matrix - matrix @ span.T @ span
    return known | (np.abs(residual).max(axis=1) < ZERO)


def reachable(labels: NDArray, train: NDArray, holds: NDArray) -> NDArray:
    """Whether each row (N,) is in the train set or in a parallelogram with a train row.

    holds: (Q,) bool, the parallelograms that count. The set is D-bar(D, P) in the paper.
    """
    first, second = parallelograms(labels)[holds].T
    result = train.copy()
    result[first[train[second]]] = True
    result[second[train[first]]] = True
    return result


def ideal_accuracy(
    pairs: NDArray, labels: NDArray, train: NDArray, test_only: bool = True
) -> float:
    """Accuracy that the train set allows, known before any training (Liu et al. 2022, section 3.2).

    Over the test rows, or over the whole table with test_only=False.
    """
    return predicted_accuracy(labels, train, augmented(pairs, labels, train), test_only)


def predicted_accuracy(
    labels: NDArray, train: NDArray, holds: NDArray, test_only: bool = True
) -> float:
    """Accuracy that follows from the parallelograms (Q,) that a representation satisfies.

    Over the test rows, or over the whole table with test_only=False.
    """
    known = reachable(labels, train, holds)
    return float(known[~train].mean() if test_only else known.mean())


def pinned_probability(
    pairs: NDArray, labels: NDArray, train_count: int, draws: int, rng: np.random.Generator
) -> float:
    """Probability that a random train set has nullity 2, so that only linear representations satisfy
    its parallelograms (figure 4a).

    train_count: rows of a train set. draws: number of random train sets.
    """
    p = int(pairs.max()) + 1
    matrix = equations(pairs, labels, p)
    rows = parallelograms(labels)
    trains = rng.permuted(np.tile(np.arange(len(pairs)) < train_count, (draws, 1)), axis=1)
    used = trains[:, rows].all(axis=2)  # (draws, Q)
    grams = np.einsum("dq,qi,qj->dij", used.astype(float), matrix, matrix, optimize=True)
    nullities = (np.linalg.eigvalsh(grams) < ZERO).sum(axis=1)
    return float((nullities == 2).mean())


def critical_fraction(
    pairs: NDArray, labels: NDArray, draws: int, rng: np.random.Generator
) -> float:
    """Train fraction at which half of the train sets have nullity 2; about 0.4 for p = 10.

    Interpolated between the two nearest train set sizes. draws: train sets of each size.
    """
    counts = np.arange(1, len(pairs) + 1)
    chances = [pinned_probability(pairs, labels, int(n), draws, rng) for n in counts]
    above = next(i for i, chance in enumerate(chances) if chance >= 0.5)
    low, high = (chances[above - 1] if above else 0.0), chances[above]
    count = counts[above] - (high - 0.5) / (high - low) if high > low else counts[above]
    return float(count / len(pairs))


def effective_loss(representation: NDArray, matrix: NDArray, average: bool) -> float:
    """Effective loss l_eff = l0 / Z0 of a representation (Liu et al. 2022, eq. 5).

    Arguments:
        representation: E (p, d).
        matrix: A (Q, p).
        average: l0 is the mean over parallelograms; False: the sum, as in the published code.
    """
    gaps = matrix @ representation
    divisor = len(matrix) if average else 1
    return float((gaps**2).sum() / divisor / (representation**2).sum())


def effective_gradient(representation: NDArray, matrix: NDArray, average: bool) -> NDArray:
    """Gradient (p, d) of `effective_loss`.

    It is orthogonal to E and, since the rows of A sum to 0, to translations.
    """
    divisor = len(matrix) if average else 1
    energy = (representation**2).sum()
    slope = matrix.T @ (matrix @ representation) / divisor
    loss = effective_loss(representation, matrix, average)
    return 2 * (slope - loss * representation) / energy


def effective_path(
    representation: NDArray, matrix: NDArray, lr: float, steps: int, average: bool
) -> NDArray:
    """Representations (steps + 1, p, d) of gradient descent on the effective loss (figure 4c)."""
    path = np.empty((steps + 1, *representation.shape))
    path[0] = representation
    for step in range(steps):
        path[step + 1] = path[step] - lr * effective_gradient(path[step], matrix, average)
    return path


def third_eigenvalue(matrix: NDArray, energy: float, average: bool) -> float:
    """lambda_3, the third smallest eigenvalue of H = (2 / Z0) A^T A [/ |P0(D)|] (eq. 8).

    The two smallest belong to translation and scale. 0 without parallelograms. energy: Z0.
    """
    if not len(matrix):
        return 0.0
    divisor = len(matrix) if average else 1
    return float(np.linalg.eigvalsh(2 * matrix.T @ matrix / divisor / energy)[2])
