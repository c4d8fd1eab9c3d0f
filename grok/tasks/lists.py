"""Lists to be sorted, reversed or copied (Power et al. 2022, appendix A.1.1)."""

from math import perm

import torch
from torch import Tensor

LIST_OPERATIONS = ("sort", "reverse", "copy")


def lists(operation: str, p: int, length: int, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Different random lists of different numbers below p, and the operation's results on them.

    Arguments:
        operation: of LIST_OPERATIONS.
        p: numbers are below it.
        length: of every list, at most p.
        count: number of lists; fewer if there are not so many.
        seed: the lists depend on it alone.

    Returns:
        Lists and labels, both (count, length).
    """
    count = min(count, perm(p, length))
    generator = torch.Generator().manual_seed(seed)
    rows = torch.empty((0, length), dtype=torch.long)
    while len(rows) < count:
        more = torch.rand((2 * count, p), generator=generator).argsort(1)[:, :length]
        rows = torch.unique(torch.cat([rows, more]), dim=0)
    rows = rows[torch.randperm(len(rows), generator=generator)[:count]]
    if operation == "sort":
        return rows, rows.sort(1).values
    return rows, rows.flip(1) if operation == "reverse" else rows.clone()
