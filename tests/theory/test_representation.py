"""The theory of Liu et al. 2022 against brute force, published tables and autograd."""

from itertools import combinations, pairwise

import numpy as np
import pytest
import torch

from grok.tasks import tables
from grok.theory import representation as theory

PAIRS, LABELS = (tensor.numpy() for tensor in tables.addition(10))


def authors_split(seed: int, count: int = 45) -> np.ndarray:
    """The train set that the authors' code draws."""
    numpy = np.random.RandomState(seed)
    numpy.normal(0, 1, size=(19, 30))
    train = np.zeros(55, dtype=bool)
    train[numpy.choice(55, count, replace=False)] = True
    return train


def nullity(matrix: np.ndarray, p: int) -> int:
    """Dimension of the null space of A, per dimension of the representation: 2 if A E = 0 leaves only
    the linear representations, offset and slope."""
    return p - (int(np.linalg.matrix_rank(matrix)) if len(matrix) else 0)


def test_counts_for_p_10():
    brute = [(i, j) for i, j in combinations(range(55), 2) if PAIRS[i].sum() == PAIRS[j].sum()]
    assert len(PAIRS) == 55
    assert len(brute) == 70
    assert [tuple(row) for row in theory.parallelograms(LABELS)] == brute


def test_the_published_codes_list_of_quads_is_the_same_70():
    strict = {
        (i, n, j, m)
        for i in range(10)
        for j in range(i + 1, 10)
        for m in range(j, 10)
        for n in range(m + 1, 10)
        if i + n == j + m
    }
    ours = {tuple(sorted(q[:2])) + tuple(sorted(q[2:])) for q in theory.quads(PAIRS, LABELS)}
    assert {frozenset({q[:2], q[2:]}) for q in strict} == {frozenset({q[:2], q[2:]}) for q in ours}


def test_equations_vanish_on_a_linear_representation_and_only_there():
    matrix = theory.equations(PAIRS, LABELS, 10)
    assert np.allclose(matrix @ (3.0 + 0.5 * np.arange(10)), 0)
    assert np.abs(matrix @ np.arange(10) ** 2).min() > 0
    assert nullity(matrix, 10) == 2


@pytest.mark.parametrize(
    ("seed", "ideal"), [(58, 1.0), (59, 0.9), (60, 0.8), (0, 0.5), (1, 1.0), (2, 1.0)]
)
def test_ideal_accuracy_of_the_authors_seeds(seed, ideal):
    assert theory.ideal_accuracy(PAIRS, LABELS, authors_split(seed)) == pytest.approx(ideal)


def test_augmented_set_leaves_the_null_space_as_it_was():
    train = authors_split(0, 25)
    matrix = theory.equations(PAIRS, LABELS, 10)
    known, grown = theory.within(LABELS, train), theory.augmented(PAIRS, LABELS, train)
    before = nullity(matrix[known], 10)
    assert (grown | ~known).all()
    for q in range(len(matrix)):
        after = nullity(np.vstack([matrix[known], matrix[q]]), 10)
        assert (after == before) == grown[q]


def test_a_representation_in_which_all_holds_predicts_what_is_tied_to_the_train_set():
    train = np.isin(LABELS, [4, 9])  # one train sample per sum is enough to reach the others
    train[np.flatnonzero(LABELS == 4)[1:]] = False
    holds = np.ones(70, dtype=bool)
    assert set(LABELS[theory.reachable(LABELS, train, holds)]) == {4, 9}
    assert theory.predicted_accuracy(LABELS, train, np.zeros(70, dtype=bool)) == 0
    assert theory.predicted_accuracy(LABELS, train, ~holds, test_only=False) == train.mean()


@pytest.mark.parametrize(
    ("count", "published"), [(18, 0.0373), (22, 0.4270), (25, 0.8027), (40, 1.0)]
)
def test_pinned_probability_of_the_published_table(count, published):
    draws = 2000
    chance = theory.pinned_probability(PAIRS, LABELS, count, draws, np.random.default_rng(0))
    error = np.sqrt(max(published * (1 - published), 1e-4) / draws)
    assert abs(chance - published) < 4 * error


def test_critical_fraction_is_about_0_4():
    found = theory.critical_fraction(PAIRS, LABELS, 300, np.random.default_rng(0))
    assert 0.39 < found < 0.43


@pytest.mark.parametrize("average", [True, False])
def test_gradient_of_the_effective_loss_equals_autograd(average):
    matrix = theory.equations(PAIRS, LABELS, 10)
    vectors = np.random.default_rng(0).normal(size=(10, 2))
    tensor = torch.tensor(vectors, requires_grad=True)
    gaps = torch.as_tensor(matrix) @ tensor
    loss = (gaps**2).sum() / (tensor**2).sum() / (70 if average else 1)
    loss.backward()
    assert theory.effective_loss(vectors, matrix, average) == pytest.approx(loss.item())
    assert np.allclose(theory.effective_gradient(vectors, matrix, average), tensor.grad)


def test_gradient_flow_keeps_mean_and_norm_and_ends_linear():
    matrix = theory.equations(PAIRS, LABELS, 10)
    start = np.random.default_rng(1).normal(size=(10, 1))
    start = (start - start.mean()) / start.std()
    path = theory.effective_path(start, matrix, lr=1e-3, steps=4000, average=False)
    assert np.allclose(path.sum((1, 2)), 0, atol=1e-9)
    assert np.allclose((path**2).sum((1, 2)), 10, rtol=2e-2)
    assert np.abs(matrix @ path[-1]).max() < 1e-3


def test_third_eigenvalue_is_that_of_the_published_run():
    """150 characteristic steps, 1 / (lambda_3 lr), at the learning rate 0.001."""
    matrix = theory.equations(PAIRS, LABELS, 10)
    assert theory.third_eigenvalue(matrix, 9, average=True) == pytest.approx(0.0952, abs=1e-4)
    code = theory.third_eigenvalue(matrix, 9, average=False)
    assert 1 / (code * 1e-3) == pytest.approx(150, rel=0.01)
    few = matrix[theory.within(LABELS, authors_split(0, 15))]
    assert theory.third_eigenvalue(few, 9, average=True) == pytest.approx(0, abs=1e-9)


def table_of(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Small tables: sums of unordered pairs, sums modulo 4 of ordered ones, labels at random."""
    if name == "sums":
        pairs, labels = tables.addition(4)
    elif name == "modular":
        pairs, labels = tables.sums(4, 2)
    else:
        pairs, _ = tables.sums(3, 2)
        labels = torch.tensor([0, 1, 2, 0, 1, 3, 3, 2, 0])
    return pairs.numpy(), labels.numpy()


TRAIN_SETS = [0, 1, 2, 3]  # seeds


def train_of(seed: int, count: int) -> np.ndarray:
    train = np.random.default_rng(seed).random(count) < (0.3, 0.5, 0.7, 0.9)[seed]
    train[0] = False  # a test row at least
    return train


@pytest.mark.parametrize("name", ["sums", "modular", "random"])
def test_equations_are_written_out(name):
    """Each row has 1 for a and b and -1 for c and d, added up where symbols are the same."""
    pairs, labels = table_of(name)
    p = int(pairs.max()) + 1
    rows = [(i, j) for i, j in combinations(range(len(labels)), 2) if labels[i] == labels[j]]
    assert [tuple(row) for row in theory.parallelograms(labels)] == rows
    expected = [[*pairs[i], *pairs[j]] for i, j in rows]
    assert theory.quads(pairs, labels).tolist() == expected
    matrix = [
        [int(s == a) + int(s == b) - int(s == c) - int(s == d) for s in range(p)]
        for a, b, c, d in expected
    ]
    assert theory.equations(pairs, labels, p).tolist() == matrix
    assert theory.equations(pairs, labels, p + 2).shape == (len(rows), p + 2)


@pytest.mark.parametrize("name", ["sums", "modular", "random"])
@pytest.mark.parametrize("seed", TRAIN_SETS)
def test_what_follows_from_a_train_set_by_brute_force(name, seed):
    pairs, labels = table_of(name)
    p, train = int(pairs.max()) + 1, train_of(seed, len(labels))
    rows = [(i, j) for i, j in combinations(range(len(labels)), 2) if labels[i] == labels[j]]
    known = [bool(train[i] and train[j]) for i, j in rows]
    assert theory.within(labels, train).tolist() == known
    matrix = theory.equations(pairs, labels, p)
    within = [matrix[q] for q in range(len(rows)) if known[q]]
    rank = np.linalg.matrix_rank(np.array(within)) if within else 0
    follows = [
        known[q] or (bool(within) and np.linalg.matrix_rank(np.array([*within, matrix[q]])) == rank)
        for q in range(len(rows))
    ]
    assert theory.augmented(pairs, labels, train).tolist() == follows
    for holds in (np.array(known), np.array(follows), np.ones(len(rows), bool)):
        reached = train.copy()
        for (i, j), counts in zip(rows, holds, strict=True):
            if counts and (train[i] or train[j]):
                reached[[i, j]] = True
        assert theory.reachable(labels, train, holds).tolist() == reached.tolist()
        test = reached[~train]
        assert theory.predicted_accuracy(labels, train, holds) == pytest.approx(test.mean())
        whole = theory.predicted_accuracy(labels, train, holds, test_only=False)
        assert whole == pytest.approx(reached.mean())
    for test_only in (True, False):
        assert theory.ideal_accuracy(pairs, labels, train, test_only) == pytest.approx(
            theory.predicted_accuracy(labels, train, np.array(follows), test_only)
        )


def test_a_train_set_without_parallelograms_gives_nothing():
    train = np.zeros(55, dtype=bool)
    train[0] = True
    assert not theory.augmented(PAIRS, LABELS, train).any()
    assert theory.ideal_accuracy(PAIRS, LABELS, train) == 0
    assert theory.reachable(LABELS, train, np.ones(70, dtype=bool)).tolist() == train.tolist()
    assert theory.third_eigenvalue(np.empty((0, 10)), 9.0, average=True) == 0


@pytest.mark.parametrize("count", [4, 6, 8, 10])
def test_pinned_probability_is_the_fraction_of_all_train_sets(count):
    """Of the 10 rows of sums below 4 all train sets of a size, against 4000 random ones."""
    pairs, labels = table_of("sums")
    matrix = theory.equations(pairs, labels, 4)
    pinned = []
    for rows in combinations(range(10), count):
        train = np.isin(np.arange(10), rows)
        pinned.append(nullity(matrix[theory.within(labels, train)], 4) == 2)
    chance = theory.pinned_probability(pairs, labels, count, 4000, np.random.default_rng(0))
    exact = np.mean(pinned)
    assert chance == pytest.approx(exact, abs=4 * (exact * (1 - exact) / 4000) ** 0.5 + 1e-12)


def test_critical_fraction_interpolates_between_sizes(monkeypatch):
    """Chances 0, 0.2, 0.6, 1 by size: 0.5 is reached at 2 + 3/4 of 4 rows; at once, at the first."""
    pairs, labels = np.zeros((4, 2), int), np.zeros(4, int)

    def chances(*values):
        monkeypatch.setattr(
            theory, "pinned_probability", lambda pairs, labels, count, draws, rng: values[count - 1]
        )
        return theory.critical_fraction(pairs, labels, 1, np.random.default_rng(0))

    assert chances(0.0, 0.2, 0.6, 1.0) == pytest.approx(2.75 / 4)
    assert chances(0.0, 0.2, 0.5, 1.0) == pytest.approx(3 / 4)
    assert chances(0.0, 0.5, 0.5, 1.0) == pytest.approx(2 / 4)
    assert chances(1.0, 1.0, 1.0, 1.0) == pytest.approx(0.5 / 4)
    assert chances(0.5, 1.0, 1.0, 1.0) == pytest.approx(1 / 4)
    assert chances(0.0, 0.0, 0.0, 1.0) == pytest.approx(3.5 / 4)


@pytest.mark.parametrize("average", [True, False])
def test_effective_loss_path_and_eigenvalue_by_their_formulas(average):
    pairs, labels = table_of("sums")
    matrix, count = theory.equations(pairs, labels, 4), len(theory.parallelograms(labels))
    vectors = np.random.default_rng(2).normal(size=(4, 3))
    sums = [
        (vectors[a] + vectors[b] - vectors[c] - vectors[d])
        for a, b, c, d in theory.quads(pairs, labels)
    ]
    l0 = sum(float(gap @ gap) for gap in sums) / (count if average else 1)
    assert theory.effective_loss(vectors, matrix, average) == pytest.approx(l0 / (vectors**2).sum())
    gradient = theory.effective_gradient(vectors, matrix, average)
    for index in np.ndindex(vectors.shape):
        step = np.zeros_like(vectors)
        step[index] = 1e-6
        ends = [theory.effective_loss(vectors + s * step, matrix, average) for s in (1, -1)]
        assert gradient[index] == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-7)
    path = theory.effective_path(vectors, matrix, 0.05, 3, average)
    assert path.shape == (4, 4, 3) and np.array_equal(path[0], vectors)
    for now, after in pairwise(path):
        moved = now - 0.05 * theory.effective_gradient(now, matrix, average)
        assert np.allclose(after, moved, rtol=1e-12)
    hessian = 2 / 7.0 * matrix.T @ matrix / (count if average else 1)
    third = np.sort(np.linalg.eigvalsh(hessian))[2]
    assert theory.third_eigenvalue(matrix, 7.0, average) == pytest.approx(third)
