"""The theory of Liu et al. 2022 against brute force, published tables and autograd."""

from itertools import combinations

import numpy as np
import pytest
import torch

from grok.tasks import tables
from grok.theory import representation as theory

PAIRS, ANSWERS = (tensor.numpy() for tensor in tables.addition(10))


def authors_split(seed: int, count: int = 45) -> np.ndarray:
    """The train set that the authors' code draws."""
    numpy = np.random.RandomState(seed)
    numpy.normal(0, 1, size=(19, 30))
    train = np.zeros(55, dtype=bool)
    train[numpy.choice(55, count, replace=False)] = True
    return train


def test_counts_for_p_10():
    brute = [(i, j) for i, j in combinations(range(55), 2) if PAIRS[i].sum() == PAIRS[j].sum()]
    assert len(PAIRS) == 55
    assert len(brute) == 70
    assert [tuple(row) for row in theory.parallelograms(ANSWERS)] == brute


def test_the_published_codes_list_of_quads_is_the_same_70():
    strict = {
        (i, n, j, m)
        for i in range(10)
        for j in range(i + 1, 10)
        for m in range(j, 10)
        for n in range(m + 1, 10)
        if i + n == j + m
    }
    ours = {tuple(sorted(q[:2])) + tuple(sorted(q[2:])) for q in theory.quads(PAIRS, ANSWERS)}
    assert {frozenset({q[:2], q[2:]}) for q in strict} == {frozenset({q[:2], q[2:]}) for q in ours}


def test_equations_vanish_on_a_linear_representation_and_only_there():
    matrix = theory.equations(PAIRS, ANSWERS, 10)
    assert np.allclose(matrix @ (3.0 + 0.5 * np.arange(10)), 0)
    assert np.abs(matrix @ np.arange(10) ** 2).min() > 0
    assert theory.nullity(matrix, 10) == 2
    assert theory.nullity(matrix[:0], 10) == 10


@pytest.mark.parametrize(
    ("seed", "ideal"), [(58, 1.0), (59, 0.9), (60, 0.8), (0, 0.5), (1, 1.0), (2, 1.0)]
)
def test_ideal_accuracy_of_the_authors_seeds(seed, ideal):
    assert theory.ideal_accuracy(PAIRS, ANSWERS, authors_split(seed)) == pytest.approx(ideal)


def test_augmented_set_leaves_the_null_space_as_it_was():
    train = authors_split(0, 25)
    matrix = theory.equations(PAIRS, ANSWERS, 10)
    known, grown = theory.within(ANSWERS, train), theory.augmented(PAIRS, ANSWERS, train)
    before = theory.nullity(matrix[known], 10)
    assert (grown | ~known).all()
    for q in range(len(matrix)):
        after = theory.nullity(np.vstack([matrix[known], matrix[q]]), 10)
        assert (after == before) == grown[q]


def test_a_representation_in_which_all_holds_predicts_what_is_tied_to_the_train_set():
    train = np.isin(ANSWERS, [4, 9])  # one train sample per sum is enough to reach the others
    train[np.flatnonzero(ANSWERS == 4)[1:]] = False
    holds = np.ones(70, dtype=bool)
    assert set(ANSWERS[theory.reachable(ANSWERS, train, holds)]) == {4, 9}
    assert theory.predicted_accuracy(ANSWERS, train, np.zeros(70, dtype=bool)) == 0
    assert theory.predicted_accuracy(ANSWERS, train, ~holds, test_only=False) == train.mean()


@pytest.mark.parametrize(
    ("count", "published"), [(18, 0.0373), (22, 0.4270), (25, 0.8027), (40, 1.0)]
)
def test_pinned_probability_of_the_published_table(count, published):
    draws = 2000
    chance = theory.pinned_probability(PAIRS, ANSWERS, count, draws, np.random.default_rng(0))
    error = np.sqrt(max(published * (1 - published), 1e-4) / draws)
    assert abs(chance - published) < 4 * error


def test_critical_fraction_is_about_0_4():
    found = theory.critical_fraction(PAIRS, ANSWERS, 300, np.random.default_rng(0))
    assert 0.39 < found < 0.43


@pytest.mark.parametrize("average", [True, False])
def test_gradient_of_the_effective_loss_equals_autograd(average):
    matrix = theory.equations(PAIRS, ANSWERS, 10)
    vectors = np.random.default_rng(0).normal(size=(10, 2))
    tensor = torch.tensor(vectors, requires_grad=True)
    gaps = torch.as_tensor(matrix) @ tensor
    loss = (gaps**2).sum() / (tensor**2).sum() / (70 if average else 1)
    loss.backward()
    assert theory.effective_loss(vectors, matrix, average) == pytest.approx(loss.item())
    assert np.allclose(theory.effective_gradient(vectors, matrix, average), tensor.grad)


def test_gradient_flow_keeps_mean_and_norm_and_ends_linear():
    matrix = theory.equations(PAIRS, ANSWERS, 10)
    start = np.random.default_rng(1).normal(size=(10, 1))
    start = (start - start.mean()) / start.std()
    path = theory.effective_path(start, matrix, lr=1e-3, steps=4000, average=False)
    assert np.allclose(path.sum((1, 2)), 0, atol=1e-9)
    assert np.allclose((path**2).sum((1, 2)), 10, rtol=2e-2)
    assert np.abs(matrix @ path[-1]).max() < 1e-3


def test_third_eigenvalue_and_characteristic_steps():
    matrix = theory.equations(PAIRS, ANSWERS, 10)
    assert theory.third_eigenvalue(matrix, 9, average=True) == pytest.approx(0.0952, abs=1e-4)
    code = theory.third_eigenvalue(matrix, 9, average=False)
    assert theory.characteristic_steps(code, 1e-3) == pytest.approx(150, rel=0.01)
    few = matrix[theory.within(ANSWERS, authors_split(0, 15))]
    assert theory.third_eigenvalue(few, 9, average=True) == pytest.approx(0, abs=1e-9)
    assert theory.characteristic_steps(0.0, 1e-3) == float("inf")
