"""Sparse parities: the label of random bits depends on a few of them (Barak et al. 2022; Merrill et al. 2023)."""

import torch

from grok.tasks.splits import split_rows
from grok.tensors import Tensors


def sparse_parity(
    bits: int, relevant: int, train_count: int, test_count: int, seed: int
) -> Tensors:
    """Random rows of signs whose product over the first `relevant` ones is the target.

    Which bits are relevant makes no difference to a network whose initial weights do not depend on
    the order of its inputs.

    Returns:
        {train,test}_inputs (N, bits), -1 or 1, and _targets (N,), -1 or 1, of the default dtype.
    """
    generator = torch.Generator().manual_seed(seed)
    count = train_count + test_count
    signs = torch.randint(0, 2, (count, bits), generator=generator) * 2 - 1
    inputs = signs.to(torch.get_default_dtype())
    return split_rows({"inputs": inputs, "targets": inputs[:, :relevant].prod(1)}, train_count)
