"""Standard normal inputs and the eigenvectors of their covariance."""

from functools import lru_cache

import torch
from torch import Tensor


def inputs(count: int, size: int, seed: int) -> Tensor:
    """Independent standard normal inputs (count, size) in float64."""
    # a stream other than that of the weights: a student equal to an input learns faster
    generator = torch.Generator().manual_seed(1_000_003 * seed + 7)
    return torch.randn(count, size, generator=generator, dtype=torch.float64)


@lru_cache(maxsize=16)
def principal(count: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Eigenvalues (size,), not negative, and eigenvectors (size, size) of X^T X / count, where X are
    the `inputs` of these arguments."""
    x = inputs(count, size, seed)
    values, vectors = torch.linalg.eigh(x.T @ x / count)
    return values.clamp(min=0), vectors
