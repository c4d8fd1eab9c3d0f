"""Orders in which a train set of pairs is shown (the OrderedLearning study, arXiv:2603.25047)."""

import random
from dataclasses import dataclass
from math import isqrt

import torch
from torch import Tensor

ORDERINGS = ("random", "fixed_random", "stride", "target", "resonant")


def order_of(
    ordering: str, pairs: Tensor, labels: Tensor, p: int, seed: int, stride: int | None
) -> Tensor:
    """The fixed order (N,) of pairs (N, 2) whose labels are (N,).

    stride: by (a mod s, a), s = floor(sqrt(p)) if None. target: by label. fixed_random: a shuffle
    drawn from the seed. Ties keep the order they had.
    """
    if ordering == "stride":
        step = stride or isqrt(p)
        a = pairs[:, 0]
        return torch.argsort((a % step) * p + a, stable=True)
    if ordering == "target":
        return torch.argsort(labels, stable=True)
    return torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Resonant:
    """How resonant batches are made: harmonics, share of b-values shared by neighbours, cycles."""

    stride: int
    n_harmonics: int = 4
    overlap_frac: float = 0.4
    n_cycles: int = 3


def resonant_batches(p: int, seed: int, how: Resonant) -> Tensor:
    """Pairs (batches, size, 2) of the resonant ordering of sums modulo p.

    Batch (j, c) holds the residue class j of a modulo the stride, padded with its last member. A
    share of its b-values comes from a pool that all batches of cycle c use; the others step so that
    sums move by one spacing of a harmonic of p / stride.
    """
    classes = [list(range(j, p, how.stride)) for j in range(how.stride)]
    size = max(map(len, classes))
    shared = round(how.overlap_frac * size)
    steps = [_step(p, how.stride, h) for h in range(how.n_harmonics)]
    pools = [random.Random(seed + c).sample(range(p), shared) for c in range(how.n_cycles)]
    batches = []
    for j, members in enumerate(classes):
        a = members + members[-1:] * (size - len(members))
        for c, pool in enumerate(pools):
            base = random.Random(1000 * seed + c * how.stride + j).randrange(p)
            step = steps[j % how.n_harmonics]
            b = pool + [(base + k * step) % p for k in range(size - shared)]
            batches.append(list(zip(a, b, strict=True)))
    return torch.tensor(batches)


def _step(p: int, stride: int, harmonic: int) -> int:
    """By how much b steps so that a + b, with a stepping by `stride`, moves by the harmonic's spacing."""
    frequency = round(p / stride) * 2**harmonic % p
    frequency = min(frequency, p - frequency) or 1
    return (round(p / frequency) - stride) % p
