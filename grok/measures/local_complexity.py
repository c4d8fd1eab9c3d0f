"""How many of a network's hyperplanes pass near a point (Humayun et al. 2024, section 2)."""

from collections.abc import Callable

import torch
from torch import Tensor

Layers = Callable[
    [Tensor], list[Tensor]
]  # inputs (n, D) -> pre-activations (n, H) of hidden layers
TOGETHER = 200  # points at a time, for the memory that their vertices take


def frame(count: int, size: int, seed: int) -> Tensor:
    """`count` orthonormal directions (count, size), drawn from `seed`; ValueError if more than `size`."""
    if count > size:
        raise ValueError(f"{count} orthonormal directions in {size} dimensions")
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(size, count, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(drawn).Q.T.contiguous()


def local_complexity(layers: Layers, points: Tensor, directions: Tensor, radius: float) -> Tensor:
    """Mean over points (n, D) of the number of hidden neurons whose sign is not the same at all vertices
    x + r v, x - r v, for directions v (P, D)."""
    moves = radius * torch.cat([directions, -directions])
    counts = []
    for some in points.split(TOGETHER):
        vertices = some.unsqueeze(1) + moves  # (n, 2P, D)
        total = 0
        for values in layers(vertices.flatten(0, 1)):
            positive = (values > 0).unflatten(0, vertices.shape[:2])
            total = total + (positive.any(1) & ~positive.all(1)).sum(1)
        counts.append(total)
    return torch.cat(counts).double().mean()
