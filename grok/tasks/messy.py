"""Inputs that are more or less arranged by their labels (Omnigrok, Liu et al. 2022, figures 6, 8)."""

import torch
from torch import Tensor

from grok.tasks.splits import split_rows
from grok.tasks.tables import addition
from grok.tensors import Tensors

NUMBERS = 10
SUMS = 2 * NUMBERS - 1  # 0 to 18
PAIRS = NUMBERS * (NUMBERS + 1) // 2
TARGETS = 30  # entries of the target vector of a sum


def sums(train_count: int, messiness: float, seed: int) -> Tensors:
    """{train,test}_inputs (N, 1) and _targets (N, 30) of the 55 unordered sums of numbers below ten.

    Each number has a position on a line, and an input is the sum of two positions. The target of
    every sum is a random normal vector.

    Arguments:
        train_count: SUMS to PAIRS - 1; every sum has a pair in the train set.
        messiness: 0 for equally spaced positions from -1 to 1, 1 for random normal ones; linear
            between.
        seed: of all that is random.
    """
    generator = torch.Generator().manual_seed(seed)
    pairs, values = addition(NUMBERS)
    order = torch.randperm(PAIRS, generator=generator)
    first = torch.stack([(values[order] == s).nonzero()[0, 0] for s in range(SUMS)])
    is_first = torch.zeros(PAIRS, dtype=torch.bool).index_fill(0, first, True)
    order = torch.cat([order[is_first], order[~is_first]])
    random = torch.randn(NUMBERS, 1, generator=generator, dtype=torch.float64)
    spaced = torch.linspace(-1, 1, NUMBERS, dtype=torch.float64).unsqueeze(1)
    positions = messiness * random + (1 - messiness) * spaced
    targets = torch.randn(SUMS, TARGETS, generator=generator, dtype=torch.float64)
    columns = {"inputs": positions[pairs[order]].sum(1), "targets": targets[values[order]]}
    return split_rows(columns, train_count)


def tidied(images: Tensor, labels: Tensor, messiness: float) -> Tensor:
    """Images (N, D) mixed with a uniform grey that depends on the label alone.

    labels: digits (N,). messiness: 0 for the grey, 1 for the images themselves; linear between.
    """
    greys = torch.linspace(-0.5, 0.5, 10, dtype=images.dtype)[labels].unsqueeze(1)
    return messiness * images + (1 - messiness) * greys
