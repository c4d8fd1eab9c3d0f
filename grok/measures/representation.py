"""How linear a representation is (Liu et al. 2022).

Representations E are (..., P, D) for P symbols; parallelograms are `quads` (Q, 4) of symbols a, b,
c, d with E_a + E_b = E_c + E_d, or E_a E_b = E_c E_d for matrices.
"""

import torch
from torch import Tensor


def standardize(representation: Tensor) -> Tensor:
    """E (..., P, D), shifted to zero mean and scaled to unit (unbiased) deviation over the symbols."""
    return (representation - representation.mean(-2, keepdim=True)) / representation.std(
        -2, keepdim=True
    )


def sum_gaps(representation: Tensor, quads: Tensor) -> Tensor:
    """Mean over D of (E_a + E_b - E_c - E_d)^2, for the standardized E; (..., Q)."""
    a, b, c, d = standardize(representation)[..., quads.mT, :].unbind(-3)
    return ((a + b - c - d) ** 2).mean(-1)


def product_gaps(representation: Tensor, quads: Tensor) -> Tensor:
    """Mean entry of (E_a E_b - E_c E_d)^2, for vectors read as square matrices and E divided by its
    root mean square; (..., Q)."""
    side = int(representation.shape[-1] ** 0.5)
    scaled = representation / (representation**2).mean((-2, -1), keepdim=True).sqrt()
    matrices = scaled.unflatten(-1, (side, side))
    # four tensors of their own, since the compiler cannot multiply slices of one
    a, b, c, d = (matrices[..., quads[:, k], :, :] for k in range(4))
    return ((a @ b - c @ d) ** 2).mean((-2, -1))


def rqi(holds: Tensor) -> Tensor:
    """Representation quality index: the fraction of parallelograms (..., Q) that hold."""
    return holds.mean(-1, dtype=torch.float64)
