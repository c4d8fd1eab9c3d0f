"""Data of the toy of Liu et al. 2022, drawn in the order of the authors' published code.

With the same seed the numbers are the authors' own: NumPy's legacy generator for targets and split,
torch's default generator for vectors and weights.
"""

import random
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from grok.tasks import tables


@dataclass
class ToyTask:
    """A table of N pairs with A different labels.

    pairs (N, 2), labels (N,), targets (A, K): one vector per label, train (N,) bool.
    """

    pairs: Tensor
    labels: Tensor
    targets: Tensor
    train: Tensor

    def split(self) -> dict[str, Tensor]:
        """Pairs and labels of the train and the test set, by name."""
        return {
            f"{name}_{kind}": values[self.train if name == "train" else ~self.train]
            for name in ("train", "test")
            for kind, values in (("pairs", self.pairs), ("labels", self.labels))
        }


def table_of(p: int, permutations: bool) -> tuple[Tensor, Tensor]:
    """Pairs and labels: unordered sums below p, or products of the permutations of p things."""
    return tables.symmetric_group(p) if permutations else tables.addition(p)


def script_task(pairs: Tensor, labels: Tensor, train_count: int, dim: int, seed: int) -> ToyTask:
    """As run_toy_model.py draws: targets are the symbols' own vectors. Call inside `drawing`."""
    targets = torch.cat([torch.randn((1, dim)) for _ in range(int(labels.max()) + 1)])
    chosen = random.Random(seed).sample(range(len(pairs)), train_count)
    return ToyTask(pairs, labels, targets, _mask(chosen, len(pairs)))


def table_task(
    pairs: Tensor, labels: Tensor, train_count: int, dim: int, seed: int, unused_inputs: int = 0
) -> ToyTask:
    """As train_add.py draws; `unused_inputs` vectors first, as the phase-diagram notebooks do."""
    numpy = np.random.RandomState(seed)
    numpy.normal(0, 1, size=(unused_inputs, dim))
    targets = torch.tensor(numpy.normal(0, 1, size=(int(labels.max()) + 1, dim)))
    chosen = numpy.choice(len(pairs), train_count, replace=False)
    return ToyTask(pairs, labels, targets.to(torch.get_default_dtype()), _mask(chosen, len(pairs)))


def _mask(chosen, length: int) -> Tensor:
    mask = torch.zeros(length, dtype=torch.bool)
    mask[torch.as_tensor(chosen)] = True
    return mask
