"""A table of pairs as a train and a test set."""

import torch
from torch import Tensor

from grok.tasks.operations import Table


def split_table(
    table: Table, train_count: int, seed: int, noisy_labels: int = 0
) -> dict[str, Tensor]:
    """train_pairs (N, 2), train_labels (N,), test_pairs (M, 2), test_labels (M,).

    One permutation, drawn from `seed` alone, orders the rows, so train sets of growing size are
    nested. `noisy_labels` of the train rows get an label drawn from the train rows' (figure 6 of
    Power et al. 2022); the first of them in the train set.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(table.pairs), generator=generator)
    pairs, labels = table.pairs[order], table.labels[order]
    train_labels = labels[:train_count].clone()
    drawn = torch.randint(train_count, (noisy_labels,), generator=generator)
    train_labels[:noisy_labels] = labels[:train_count][drawn]
    return {
        "train_pairs": pairs[:train_count],
        "train_labels": train_labels,
        "test_pairs": pairs[train_count:],
        "test_labels": labels[train_count:],
    }


def drawn_pairs(p: int, train_count: int, test_count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Different pairs (train_count, 2) and (test_count, 2) of numbers below p, drawn uniformly."""
    generator = torch.Generator().manual_seed(seed)
    if train_count + test_count > p * p // 2:  # most of the table: shuffle it
        codes = torch.randperm(p * p, generator=generator)[: train_count + test_count]
    else:
        codes = torch.empty(0, dtype=torch.long)
        while len(codes) < train_count + test_count:
            codes = torch.unique(
                torch.cat(
                    [codes, torch.randint(p * p, (train_count + test_count,), generator=generator)]
                )
            )
        codes = codes[torch.randperm(len(codes), generator=generator)[: train_count + test_count]]
    pairs = torch.stack([codes // p, codes % p], 1)
    return pairs[:train_count], pairs[train_count:]
