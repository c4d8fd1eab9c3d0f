from itertools import permutations

import pytest
import torch

from grok.tasks import splits, tables


def test_addition_lists_each_unordered_pair_once():
    pairs, sums = tables.addition(10)
    assert [tuple(pair) for pair in pairs.tolist()] == [
        (i, j) for i in range(10) for j in range(i, 10)
    ]
    assert torch.equal(sums, pairs[:, 0] + pairs[:, 1])


@pytest.mark.parametrize("n", [2, 3, 4])
def test_symmetric_group_is_a_group_with_the_first_factor_applied_first(n):
    pairs, products = tables.symmetric_group(n)
    elements = list(permutations(range(n)))
    count = len(elements)
    table = products.view(count, count)
    for (a, b), product in zip(pairs.tolist(), products.tolist(), strict=True):
        assert elements[product] == tuple(elements[b][elements[a][i]] for i in range(n))
    assert all(len(set(row)) == count for row in [*table.tolist(), *table.T.tolist()])
    assert torch.equal(table[table], table[:, table])  # (ab)c = a(bc)


def test_train_size_rounds_down_but_not_by_an_error_of_rounding():
    assert splits.train_size(55, 0.45) == 24
    assert all(splits.train_size(55, n / 55) == n for n in range(1, 55))
