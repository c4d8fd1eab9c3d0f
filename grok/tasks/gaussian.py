"""Standard normal inputs and the eigenvectors of their covariance."""

from functools import lru_cache

import torch
from torch import Tensor

from grok.randomness import seed_of


def inputs(count: int, size: int, seed: int) -> Tensor:
    """Independent standard normal inputs (count, size) in float64."""
    # with the weights' seed, a student would equal an input, and learn faster
    generator = torch.Generator().manual_seed(seed_of(seed, 7))
    return torch.randn(count, size, generator=generator, dtype=torch.float64)


@lru_cache(maxsize=16)
def principal(count: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Eigenvalues (size,), not negative, and eigenvectors (size, size) of X^T X / count, where X are
    the `inputs` of these arguments."""
    x = inputs(count, size, seed)
    values, vectors = torch.linalg.eigh(x.T @ x / count)
    return values.clamp(min=0), vectors
