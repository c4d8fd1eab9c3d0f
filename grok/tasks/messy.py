"""Data whose inputs are laid out by their labels, more or less (Liu, Michaud, Tegmark 2022, figures 6, 8)."""

import torch
from torch import Tensor

from grok.tasks.tables import addition

NUMBERS = 10
SUMS = 2 * NUMBERS - 1  # 0 to 18
PAIRS = NUMBERS * (NUMBERS + 1) // 2
TARGETS = 30  # numbers in the vector of a sum


def sums(train_count: int, messiness: float, seed: int) -> dict[str, Tensor]:
    """{train,test}_inputs (N, 1) and _targets (N, 30) of the 55 unordered sums of numbers below ten.

    A number's own number is between its place in a row from -1 to 1 (messiness 0) and a normal one (1);
    an input is the sum of two. A target is a normal vector for each sum. Every sum has a pair to train
    on, or it could not be known: train_count is SUMS to PAIRS - 1.
    """
    generator = torch.Generator().manual_seed(seed)
    pairs, values = addition(NUMBERS)
    order = torch.randperm(PAIRS, generator=generator)
    first = torch.stack([(values[order] == s).nonzero()[0, 0] for s in range(SUMS)])
    is_first = torch.zeros(PAIRS, dtype=torch.bool).index_fill(0, first, True)
    order = torch.cat([order[is_first], order[~is_first]])
    anywhere = torch.randn(NUMBERS, 1, generator=generator, dtype=torch.float64)
    row = torch.linspace(-1, 1, NUMBERS, dtype=torch.float64).unsqueeze(1)
    places = messiness * anywhere + (1 - messiness) * row
    targets = torch.randn(SUMS, TARGETS, generator=generator, dtype=torch.float64)
    found = {}
    for split, rows in (("train", order[:train_count]), ("test", order[train_count:])):
        found[f"{split}_inputs"] = places[pairs[rows]].sum(1)
        found[f"{split}_targets"] = targets[values[rows]]
    return found


def tidied(images: Tensor, labels: Tensor, messiness: float) -> Tensor:
    """Images (N, D) between a plain grey that tells the digit (messiness 0) and themselves (1)."""
    greys = torch.linspace(-0.5, 0.5, 10, dtype=images.dtype)[labels].unsqueeze(1)
    return messiness * images + (1 - messiness) * greys
