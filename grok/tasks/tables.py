"""Operation tables: all rows (a, b) with their labels, as integer tensors."""

from itertools import permutations

import torch
from torch import Tensor


def addition(p: int) -> tuple[Tensor, Tensor]:
    """Unordered pairs (N, 2) with a <= b < p in row order, N = p (p + 1) / 2, and their sums (N,),
    which are not modular."""
    pairs = torch.combinations(torch.arange(p), 2, with_replacement=True)
    return pairs, pairs.sum(1)


def sums(p: int, terms: int) -> tuple[Tensor, Tensor]:
    """All rows (p^S, S) of S = `terms` numbers below p, in row order, and their sums modulo p."""
    rows = torch.cartesian_prod(*[torch.arange(p)] * terms)
    return rows, rows.sum(1) % p


def symmetric_group(n: int) -> tuple[Tensor, Tensor]:
    """Ordered pairs (N, 2) of elements of S_n in lexicographic order, N = (n!)^2, and products (N,).

    The product applies the first permutation first: (ab)[i] = b[a[i]].
    """
    elements = torch.tensor(list(permutations(range(n))))
    count = len(elements)
    pairs = torch.cartesian_prod(torch.arange(count), torch.arange(count))
    products = elements[pairs[:, 1]].gather(1, elements[pairs[:, 0]])
    digits = n ** torch.arange(n)
    codes = (elements * digits).sum(1)
    order = codes.argsort()
    return pairs, order[torch.searchsorted(codes[order], (products * digits).sum(1))]


def covered(pairs: Tensor, labels: Tensor, train: Tensor, test: Tensor) -> Tensor:
    """Whether each test pair (M,) can be looked up in the train set.

    It can if a train pair has the same b, and an a whose row of the table is the same.

    Arguments:
        pairs: all pairs of the table, (N, 2).
        labels: (N,).
        train: train pairs, (K, 2).
        test: test pairs, (M, 2).
    """
    p = int(pairs.max()) + 1
    table = torch.full((p, p), -1)
    table[pairs.unbind(1)] = labels
    _, row_class = torch.unique(table, dim=0, return_inverse=True)
    train_codes, test_codes = (row_class[part[:, 0]] * p + part[:, 1] for part in (train, test))
    return torch.isin(test_codes, train_codes)
