"""Data of the toy model of Liu et al. 2022, in the order of random numbers of the published code.

With the same seed the data are the authors' own: NumPy's legacy generator gives targets and split,
torch's default generator vectors and weights.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from grok.tasks import tables
from grok.tensors import Tensors


@dataclass
class ToyTask:
    """A table of N pairs with C different labels, and its train set."""

    pairs: Tensor  # (N, 2)
    labels: Tensor  # (N,)
    targets: Tensor  # (C, K), a vector per label
    train: Tensor  # (N,) bool

    def split(self) -> Tensors:
        """{train,test}_pairs (M, 2) and {train,test}_labels (M,)."""
        return {
            f"{name}_{kind}": values[self.train if name == "train" else ~self.train]
            for name in ("train", "test")
            for kind, values in (("pairs", self.pairs), ("labels", self.labels))
        }


def table_of(p: int, permutations: bool) -> tuple[Tensor, Tensor]:
    """Pairs (N, 2) and labels (N,): sums of unordered numbers below p, or products in S_p."""
    return tables.symmetric_group(p) if permutations else tables.addition(p)


def script_task(pairs: Tensor, labels: Tensor, train_count: int, dim: int, seed: int) -> ToyTask:
    """The task as in run_toy_model.py: targets are the symbols' own vectors.

    Uses torch's default generator, which the caller seeds.
    """
    targets = torch.cat([torch.randn((1, dim)) for _ in range(int(labels.max()) + 1)])
    chosen = random.Random(seed).sample(range(len(pairs)), train_count)
    return ToyTask(pairs, labels, targets, _mask(chosen, len(pairs)))


def table_task(
    pairs: Tensor, labels: Tensor, train_count: int, dim: int, seed: int, unused_inputs: int = 0
) -> ToyTask:
    """The task as in train_add.py; with `unused_inputs` vectors drawn first, as in the notebooks of
    the phase diagrams."""
    numpy = np.random.RandomState(seed)
    numpy.normal(0, 1, size=(unused_inputs, dim))
    targets = torch.tensor(numpy.normal(0, 1, size=(int(labels.max()) + 1, dim)))
    chosen = numpy.choice(len(pairs), train_count, replace=False)
    return ToyTask(pairs, labels, targets.to(torch.get_default_dtype()), _mask(chosen, len(pairs)))


def _mask(chosen: Sequence[int] | np.ndarray, length: int) -> Tensor:
    mask = torch.zeros(length, dtype=torch.bool)
    mask[torch.as_tensor(chosen)] = True
    return mask
