"""Pairs of operands as a train and a test set."""

import torch
from torch import Tensor

from grok.tasks.operations import Table
from grok.tasks.splits import split_rows
from grok.tensors import Tensors


def split_table(table: Table, train_count: int, seed: int, noisy_labels: int = 0) -> Tensors:
    """The rows of a table as {train,test}_pairs (N, 2) and {train,test}_labels (N,).

    One permutation, drawn from the seed alone, orders the rows, so train sets of growing size are
    nested.

    Arguments:
        table: N rows.
        train_count: rows of the train set.
        seed: of the permutation and of the noise.
        noisy_labels: number of train rows, the first ones, whose label is replaced by that of a
            random train row (Power et al. 2022, figure 6).
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(table.pairs), generator=generator)
    pairs, labels = table.pairs[order], table.labels[order]
    source = torch.randint(train_count, (noisy_labels,), generator=generator)
    noise = labels[source]
    labels[:noisy_labels] = noise
    return split_rows({"pairs": pairs, "labels": labels}, train_count)


def sample_pairs(p: int, train_count: int, test_count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Different random pairs of numbers below p, (train_count, 2) and (test_count, 2)."""
    generator = torch.Generator().manual_seed(seed)
    count = train_count + test_count
    if count > p * p // 2:  # most of the table: shuffle all of it
        codes = torch.randperm(p * p, generator=generator)[:count]
    else:
        codes = torch.empty(0, dtype=torch.long)
        while len(codes) < count:
            more = torch.randint(p * p, (count,), generator=generator)
            codes = torch.unique(torch.cat([codes, more]))
        codes = codes[torch.randperm(len(codes), generator=generator)[:count]]
    pairs = torch.stack([codes // p, codes % p], 1)
    return pairs[:train_count], pairs[train_count:]
