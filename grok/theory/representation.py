"""Liu et al. 2022 in closed form: which labels follow from parallelograms, and how fast they form.

A table is given by `pairs` (N, 2) of symbols below p and `labels` (N,). A parallelogram is a pair
of samples with equal labels. `train` (N,) bool says which samples are trained on.
"""

import numpy as np
from numpy.typing import NDArray


def parallelograms(labels: NDArray) -> NDArray:
    """All unordered pairs of samples with equal labels, as sample indices (Q, 2); P0 in the paper."""
    first, second = np.triu_indices(len(labels), k=1)
    same = labels[first] == labels[second]
    return np.stack([first[same], second[same]], axis=1)


def quads(pairs: NDArray, labels: NDArray) -> NDArray:
    """The symbols (Q, 4) of every parallelogram: (a, b, c, d) with E_a + E_b = E_c + E_d."""
    found = parallelograms(labels)
    return np.concatenate([pairs[found[:, 0]], pairs[found[:, 1]]], axis=1)


def equations(pairs: NDArray, labels: NDArray, p: int) -> NDArray:
    """The matrix A (Q, p) with one row E_a + E_b - E_c - E_d = 0 for each parallelogram."""
    rows = quads(pairs, labels)
    matrix = np.zeros((len(rows), p))
    for column, sign in enumerate((1, 1, -1, -1)):
        np.add.at(matrix, (np.arange(len(rows)), rows[:, column]), sign)
    return matrix


def within(labels: NDArray, train: NDArray) -> NDArray:
    """Which parallelograms (Q,) have both samples in the train set; P0(D)."""
    return train[parallelograms(labels)].all(axis=1)


def nullity(matrix: NDArray, p: int) -> int:
    """Dimensions of representation space left free by A E = 0; 2 pins the linear representation."""
    return p - (int(np.linalg.matrix_rank(matrix)) if len(matrix) else 0)


def augmented(pairs: NDArray, labels: NDArray, train: NDArray) -> NDArray:
    """Which parallelograms (Q,) follow from those within the train set; P(D).

    A parallelogram follows if its row of A lies in the span of the rows of P0(D), so that adding it
    leaves the null space as it was.
    """
    matrix = equations(pairs, labels, int(pairs.max()) + 1)
    known = within(labels, train)
    if not known.any():
        return known
    _, sizes, directions = np.linalg.svd(matrix[known], full_matrices=False)
    span = directions[sizes > 1e-8]
    residual = matrix - matrix @ span.T @ span
    return known | (np.abs(residual).max(axis=1) < 1e-8)


def reachable(labels: NDArray, train: NDArray, holds: NDArray) -> NDArray:
    """Samples (N,) in the train set or tied to one by a parallelogram that holds; D-bar(D, P)."""
    first, second = parallelograms(labels)[holds].T
    result = train.copy()
    result[first[train[second]]] = True
    result[second[train[first]]] = True
    return result


def ideal_accuracy(
    pairs: NDArray, labels: NDArray, train: NDArray, test_only: bool = True
) -> float:
    """Accuracy that the train set allows before any training (Liu et al. 2022, section 3.2).

    Over the test samples, or over the whole table.
    """
    return predicted_accuracy(labels, train, augmented(pairs, labels, train), test_only)


def predicted_accuracy(
    labels: NDArray, train: NDArray, holds: NDArray, test_only: bool = True
) -> float:
    """Accuracy that follows from the parallelograms (Q,) that a representation satisfies."""
    known = reachable(labels, train, holds)
    return float(known[~train].mean() if test_only else known.mean())


def pinned_probability(
    pairs: NDArray, labels: NDArray, train_count: int, draws: int, rng: np.random.Generator
) -> float:
    """Probability that a random train set pins the linear representation, nullity 2 (figure 4a)."""
    p = int(pairs.max()) + 1
    matrix = equations(pairs, labels, p)
    ends = parallelograms(labels)
    trains = rng.permuted(np.tile(np.arange(len(pairs)) < train_count, (draws, 1)), axis=1)
    used = trains[:, ends].all(axis=2)
    grams = np.einsum("dq,qi,qj->dij", used.astype(float), matrix, matrix, optimize=True)
    return float(((np.linalg.eigvalsh(grams) < 1e-8).sum(axis=1) == 2).mean())


def critical_fraction(
    pairs: NDArray, labels: NDArray, draws: int, rng: np.random.Generator
) -> float:
    """Train fraction at which half of the train sets pin the representation; about 0.4 for p=10."""
    counts = np.arange(1, len(pairs) + 1)
    chances = [pinned_probability(pairs, labels, int(n), draws, rng) for n in counts]
    above = next(i for i, chance in enumerate(chances) if chance >= 0.5)
    low, high = (chances[above - 1] if above else 0.0), chances[above]
    count = counts[above] - (high - 0.5) / (high - low) if high > low else counts[above]
    return float(count / len(pairs))


def effective_loss(representation: NDArray, matrix: NDArray, average: bool) -> float:
    """l_eff = l0 / Z0 for E (p, d); l0 the mean over parallelograms (Liu et al. 2022, eq. 5).

    With average False l0 is the plain sum, as in the published code.
    """
    gaps = matrix @ representation
    share = len(matrix) if average else 1
    return float((gaps**2).sum() / share / (representation**2).sum())


def effective_gradient(representation: NDArray, matrix: NDArray, average: bool) -> NDArray:
    """Gradient (p, d) of `effective_loss`; orthogonal to E and, where rows sum to 0, to translation."""
    share = len(matrix) if average else 1
    energy = (representation**2).sum()
    pull = matrix.T @ (matrix @ representation) / share
    loss = effective_loss(representation, matrix, average)
    return 2 * (pull - loss * representation) / energy


def effective_path(
    representation: NDArray, matrix: NDArray, lr: float, steps: int, average: bool
) -> NDArray:
    """Path (steps + 1, p, d) of gradient descent on the effective loss (figure 4c)."""
    path = np.empty((steps + 1, *representation.shape))
    path[0] = representation
    for step in range(steps):
        path[step + 1] = path[step] - lr * effective_gradient(path[step], matrix, average)
    return path


def third_eigenvalue(matrix: NDArray, energy: float, average: bool) -> float:
    """lambda_3: third smallest eigenvalue of H = (2 / Z0) A^T A [/ |P0(D)|] (eq. 8), Z0 = `energy`.

    The two smallest belong to translation and scale. 0 where there is no parallelogram.
    """
    if not len(matrix):
        return 0.0
    share = len(matrix) if average else 1
    return float(np.linalg.eigvalsh(2 * matrix.T @ matrix / share / energy)[2])


def characteristic_steps(eigenvalue: float, lr: float) -> float:
    """n_h = 1 / (lambda_3 lr): steps in which the slowest nonlinear mode decays by e."""
    return 1 / (eigenvalue * lr) if eigenvalue > 0 else float("inf")
