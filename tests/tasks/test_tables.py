import itertools
from itertools import permutations

import pytest
import torch

from grok.tasks import tables


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


@pytest.mark.parametrize(("p", "terms"), [(5, 2), (3, 4)])
def test_sums_are_all_rows_in_order_modulo_p(p, terms):
    rows, labels = tables.sums(p, terms)
    expected = list(itertools.product(range(p), repeat=terms))
    assert [tuple(row) for row in rows.tolist()] == expected
    assert labels.tolist() == [sum(row) % p for row in expected]


@pytest.mark.parametrize("kind", ["random", "parity", "last row alone", "not square"])
def test_covered_is_the_lookup_by_brute_force(kind):
    """A test pair (a, b) is covered if a train pair (a', b) has an a' with the same row as a."""
    g = torch.Generator().manual_seed(3)
    p, size = 7, 40
    pairs = torch.cartesian_prod(torch.arange(p), torch.arange(p))
    if kind == "not square":  # b = 0 is left out, as by a division
        pairs = pairs[pairs[:, 1] > 0]
        size = 30
    a, b = pairs.unbind(1)
    labels = {
        "random": torch.randint(2, a.shape, generator=g),
        "parity": (a % 2 + b) % p,
        "last row alone": torch.where(a == p - 1, b + 1, b),
        "not square": (a % 3 * b) % p,
    }[kind]
    order = torch.randperm(len(pairs), generator=g)
    train, test = pairs[order[: size // 2]], pairs[order[size // 2 :]]
    row = {
        x: [(int(y), int(c)) for (z, y), c in zip(pairs.tolist(), labels, strict=True) if z == x]
        for x in range(p)
    }
    expected = [
        any(b2 == b1 and row[a2] == row[a1] for a2, b2 in train.tolist())
        for a1, b1 in test.tolist()
    ]
    assert tables.covered(pairs, labels, train, test).tolist() == expected
    if kind != "random":
        assert any(expected) and not all(expected)


def test_a_missing_entry_of_the_table_is_no_label():
    """Rows 0 and 1 agree in column 0; row 0 has the label 1 in column 1, where row 1 has none."""
    pairs, labels = torch.tensor([[0, 0], [0, 1], [1, 0]]), torch.tensor([2, 1, 2])
    assert tables.covered(pairs, labels, pairs[:1], pairs[2:]).tolist() == [False]
