"""Clusters of points, such as the four of XOR (Xu et al. 2024)."""

import torch
from torch import Tensor

from grok.tasks.splits import split_rows
from grok.tensors import Tensors


def xor_centers(size: int, distance: float) -> tuple[Tensor, Tensor]:
    """The four centers (4, size) of XOR clusters and their labels (4,): 0 on one axis, 1 on another.

    Arguments:
        size: dimension of the points.
        distance: of each center from the origin.
    """
    centers = torch.zeros(4, size)
    centers[[0, 1, 2, 3], [0, 0, 1, 1]] = distance * torch.tensor([1.0, -1.0, 1.0, -1.0])
    return centers, torch.tensor([0, 0, 1, 1])


def gaussian_clusters(
    centers: Tensor,
    labels: Tensor,
    train_count: int,
    test_count: int,
    seed: int,
    flipped: float = 0.0,
) -> Tensors:
    """Points around centers that are drawn at random, with standard normal deviations.

    Arguments:
        centers: (K, D).
        labels: (K,) of the centers.
        flipped: the fraction of train rows, drawn at random, whose label is that of another class.

    Returns:
        {train,test}_inputs (N, D) in the default dtype and _labels (N,).
    """
    generator = torch.Generator().manual_seed(seed)
    count, dtype = train_count + test_count, torch.get_default_dtype()
    chosen = torch.randint(0, len(centers), (count,), generator=generator)
    noise = torch.randn(count, centers.shape[1], generator=generator, dtype=dtype)
    classes = int(labels.max()) + 1
    of_rows = labels[chosen]
    rows = torch.randperm(train_count, generator=generator)[: round(flipped * train_count)]
    shifts = torch.randint(1, max(classes, 2), (len(rows),), generator=generator)
    of_rows[rows] = (of_rows[rows] + shifts) % classes
    inputs = centers[chosen].to(dtype) + noise
    return split_rows({"inputs": inputs, "labels": of_rows}, train_count)
