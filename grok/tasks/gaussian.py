"""Normal inputs and the eigenvectors of their covariance."""

from functools import lru_cache

import torch
from torch import Tensor


def inputs(count: int, size: int, seed: int) -> Tensor:
    """Independent standard normal inputs (N, d) in float64."""
    # not the stream that weights are drawn from: a student that is an input learns faster
    generator = torch.Generator().manual_seed(1_000_003 * seed + 7)
    return torch.randn(count, size, generator=generator, dtype=torch.float64)


@lru_cache(maxsize=16)
def principal(count: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Eigenvalues (d,), not negative, and eigenvectors (d, d) of X^T X / N of these inputs."""
    x = inputs(count, size, seed)
    values, vectors = torch.linalg.eigh(x.T @ x / count)
    return values.clamp(min=0), vectors
