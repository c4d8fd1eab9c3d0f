"""Lists to be sorted, reversed or copied (Power et al. 2022, A.1.1)."""

from math import perm

import torch
from torch import Tensor

LIST_OPERATIONS = ("sort", "reverse", "copy")


def lists(operation: str, p: int, length: int, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """`count` different lists (N, length) of different numbers below p, and their labels (N, length).

    Fewer, if there are not so many; the draw depends on the seed alone.
    """
    count = min(count, perm(p, length))
    generator = torch.Generator().manual_seed(seed)
    found = torch.empty((0, length), dtype=torch.long)
    while len(found) < count:
        drawn = torch.rand((2 * count, p), generator=generator).argsort(1)[:, :length]
        found = torch.unique(torch.cat([found, drawn]), dim=0)
    found = found[torch.randperm(len(found), generator=generator)[:count]]
    if operation == "sort":
        return found, found.sort(1).values
    return found, found.flip(1) if operation == "reverse" else found.clone()
