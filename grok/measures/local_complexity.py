"""How many of a network's hyperplanes pass near a point (Humayun et al. 2024, section 2)."""

from collections.abc import Callable

import torch
from torch import Tensor

# inputs (n, D) -> pre-activations (n, H) of the hidden layers
HiddenLayers = Callable[[Tensor], list[Tensor]]
POINTS_PER_CHUNK = 200  # bounds the memory that their vertices take


def frame(count: int, size: int, seed: int) -> Tensor:
    """Random orthonormal directions (count, size) in float64; ValueError if count exceeds size."""
    if count > size:
        raise ValueError(f"{count} orthonormal directions in {size} dimensions")
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(size, count, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(matrix).Q.T.contiguous()


def local_complexity(
    layers: HiddenLayers, points: Tensor, directions: Tensor, radius: float
) -> Tensor:
    """Mean number of hidden neurons whose sign differs among the vertices around a point.

    Arguments:
        layers: the network's hidden pre-activations.
        points: (n, D).
        directions: orthonormal, (P, D); the vertices of x are x + r v and x - r v.
        radius: r.
    """
    offsets = radius * torch.cat([directions, -directions])
    counts = []
    for chunk in points.split(POINTS_PER_CHUNK):
        vertices = chunk.unsqueeze(1) + offsets  # (n, 2P, D)
        total = torch.zeros(len(chunk), dtype=torch.int64, device=points.device)
        for values in layers(vertices.flatten(0, 1)):
            positive = (values > 0).unflatten(0, vertices.shape[:2])
            total = total + (positive.any(1) & ~positive.all(1)).sum(1)
        counts.append(total)
    return torch.cat(counts).double().mean()
