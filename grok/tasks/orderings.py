"""Fixed orders of a train set of pairs (the OrderedLearning study, arXiv:2603.25047)."""

import random
from dataclasses import dataclass
from math import isqrt

import torch
from torch import Tensor

ORDERINGS = ("random", "fixed_random", "hash", "stride", "target", "resonant")


def order_of(
    ordering: str, pairs: Tensor, labels: Tensor, p: int, seed: int, stride: int | None
) -> Tensor:
    """Indices (N,) that put pairs into a fixed order; ties keep the order they had.

    Arguments:
        ordering: "stride", by (a mod stride, a); "target", by label; "hash", as Python iterates a set
            of the pairs, to which they were added one by one; or "fixed_random", shuffled.
        pairs: (N, 2).
        labels: (N,).
        p: numbers are below it.
        seed: of the shuffle.
        stride: floor(sqrt(p)) if None.
    """
    if ordering == "stride":
        step = stride or isqrt(p)
        a = pairs[:, 0]
        return torch.argsort((a % step) * p + a, stable=True)
    if ordering == "target":
        return torch.argsort(labels, stable=True)
    if ordering == "hash":
        places = {(a, b): place for place, (a, b) in enumerate(pairs.tolist())}
        return torch.tensor([places[pair] for pair in set(places)])
    return torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Resonant:
    """Parameters of the resonant ordering."""

    stride: int
    n_harmonics: int = 4  # harmonics of p / stride, one per residue class in turn
    overlap_frac: float = 0.4  # fraction of b-values that all batches of a cycle have in common
    n_cycles: int = 3  # passes through the residue classes


def resonant_batches(p: int, seed: int, resonant: Resonant) -> Tensor:
    """Pairs (batches, size, 2) of the resonant ordering of sums modulo p.

    Batch (j, c) has the residue class j of a modulo the stride, padded with its last member. Part
    of its b-values is a pool that all batches of cycle c use; the others advance such that sums
    advance by one period of a harmonic of p / stride.
    """
    classes = [list(range(j, p, resonant.stride)) for j in range(resonant.stride)]
    size = max(map(len, classes))
    shared = round(resonant.overlap_frac * size)
    steps = [_step(p, resonant.stride, h) for h in range(resonant.n_harmonics)]
    pools = [random.Random(seed + c).sample(range(p), shared) for c in range(resonant.n_cycles)]
    batches = []
    for j, members in enumerate(classes):
        a = members + members[-1:] * (size - len(members))
        for c, pool in enumerate(pools):
            base = random.Random(1000 * seed + c * resonant.stride + j).randrange(p)
            step = steps[j % resonant.n_harmonics]
            b = pool + [(base + k * step) % p for k in range(size - shared)]
            batches.append(list(zip(a, b, strict=True)))
    return torch.tensor(batches)


def _step(p: int, stride: int, harmonic: int) -> int:
    """Difference of successive b such that a + b, with a advancing by `stride`, advances by one period of
    the harmonic."""
    frequency = round(p / stride) * 2**harmonic % p
    frequency = min(frequency, p - frequency) or 1
    return (round(p / frequency) - stride) % p
