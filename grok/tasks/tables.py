"""Operation tables: all (a, b, a∘b), as integer tensors."""

from itertools import permutations

import torch
from torch import Tensor


def addition(p: int) -> tuple[Tensor, Tensor]:
    """Unordered pairs (N, 2) with a <= b < p in row order, N = p(p+1)/2, and sums (N,); not modular."""
    pairs = torch.combinations(torch.arange(p), 2, with_replacement=True)
    return pairs, pairs.sum(1)


def sums(p: int, terms: int) -> tuple[Tensor, Tensor]:
    """All rows (p^S, S) of S numbers below p, in row order, and their sums modulo p."""
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
    place = n ** torch.arange(n)
    codes = (elements * place).sum(1)
    order = codes.argsort()
    return pairs, order[torch.searchsorted(codes[order], (products * place).sum(1))]


def covered(pairs: Tensor, labels: Tensor, train: Tensor, test: Tensor) -> Tensor:
    """Which test pairs (M,) a lookup predicts: a train pair has the same b, and an a whose whole row of
    the table (pairs (N, 2), labels (N,)) is the same. train (K, 2), test (M, 2)."""
    p = int(pairs.max()) + 1
    table = torch.full((p, p), -1)
    table[pairs.unbind(1)] = labels
    _, kind = torch.unique(table, dim=0, return_inverse=True)
    codes = [kind[part[:, 0]] * p + part[:, 1] for part in (train, test)]
    return torch.isin(codes[1], codes[0])


def train_size(examples: int, fraction: float) -> int:
    """Examples in a train set of this fraction, rounded down (1e-9 forgives 55 * (45/55) < 45)."""
    return int(examples * fraction + 1e-9)
