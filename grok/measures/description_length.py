"""Description length: bytes of the simplest weights with nearly the same loss.

DeMoss, Sapora, Foerster, Hawes & Posner 2025, arXiv:2412.09810: weights are reduced in rank, rounded
to multiples of one number and compressed by bzip2.
"""

import bz2
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from grok.tensors import Tensors

SVD = tuple[Tensor, Tensor, Tensor]  # U, the singular values and V^T
# Of the sum of singular values, the part that is kept; and what weights are rounded to multiples of.
KEPT = (1.0, 0.99, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5)
UNITS = tuple(2.0 ** (exponent / 2) for exponent in range(2, -17, -1))


@dataclass(frozen=True)
class Description:
    """The shortest description that was found.

    size: bytes.
    kept: part of the sum of singular values, of KEPT.
    unit: what the weights are multiples of, of UNITS.
    """

    size: int
    kept: float
    unit: float


def decompositions(weights: Tensors) -> dict[str, SVD]:
    """The singular value decompositions of the weights with two dimensions, in double precision."""
    return {
        name: tuple(torch.linalg.svd(value.double(), full_matrices=False))
        for name, value in weights.items()
        if value.ndim == 2
    }


def shortest_description(
    weights: Tensors,
    loss: Callable[[Tensors], Tensor],
    tolerance: float,
    decomposed: Mapping[str, SVD] | None = None,
) -> Description | None:
    """The shortest description of weights whose loss differs by less than a tolerance; None if there
    is none.

    The paper searches ranks and units together by Bayesian optimization. Here, for each part of KEPT,
    the coarsest unit of UNITS is taken that keeps the loss.

    Arguments:
        weights: by name; of those with two dimensions the rank is reduced.
        loss: of weights.
        tolerance: in units of the loss; the paper's is 1 nat.
        decomposed: the `decompositions` of the weights; None to compute them.
    """
    target = float(loss(weights))
    if decomposed is None:
        decomposed = decompositions(weights)
    found = []
    for kept in KEPT:
        parts = {
            name: _factors(decomposed[name], value, kept)
            if name in decomposed
            else (value.double(),)
            for name, value in weights.items()
        }
        for unit in UNITS:
            numbers = {name: [torch.round(p / unit) for p in of] for name, of in parts.items()}
            rounded = {
                name: _product([n * unit for n in of]).to(weights[name].dtype)
                for name, of in numbers.items()
            }
            if abs(float(loss(rounded)) - target) < tolerance:
                found.append(Description(compressed_size(numbers), kept, unit))
                break
    return min(found, key=lambda one: one.size, default=None)


def compressed_size(numbers: dict[str, list[Tensor]]) -> int:
    """Bytes of whole numbers after bzip2, all in the smallest type that holds them."""
    flat = torch.cat([part.flatten() for parts in numbers.values() for part in parts])
    largest = float(flat.abs().max())
    types = (torch.int8, torch.int16, torch.int32, torch.int64)
    dtype = next(one for one in types if largest <= torch.iinfo(one).max)
    return len(bz2.compress(flat.to(dtype).cpu().numpy().tobytes()))


def naive_size(weights: Tensors) -> int:
    """Bytes of the weights after bzip2, as they are."""
    content = b"".join(value.detach().cpu().numpy().tobytes() for value in weights.values())
    return len(bz2.compress(content))


def _factors(svd: SVD, matrix: Tensor, kept: float) -> tuple[Tensor, ...]:
    """Two factors of the matrix at its reduced rank, or the matrix if it has fewer entries."""
    u, values, v = svd
    share = values.cumsum(0) / values.sum().clamp(min=torch.finfo(values.dtype).tiny)
    rank = min(int((share < kept - 1e-12).sum()) + 1, len(values))
    rows, columns = matrix.shape
    if rank * (rows + columns) >= rows * columns:
        return (matrix.double(),)
    root = values[:rank].sqrt()
    return u[:, :rank] * root, root[:, None] * v[:rank]


def _product(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else parts[0] @ parts[1]
