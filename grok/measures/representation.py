"""How linear a representation is (Liu et al. 2022). Tensors of one replica; maps over more."""

from torch import Tensor


def standardize(representation: Tensor) -> Tensor:
    """(..., P, D) shifted to zero mean and scaled to unit (unbiased) deviation over the P symbols."""
    return (representation - representation.mean(-2, keepdim=True)) / representation.std(
        -2, keepdim=True
    )


def sum_gaps(representation: Tensor, quads: Tensor) -> Tensor:
    """Mean over D of (E_a + E_b - E_c - E_d)^2 for quads (Q, 4), on the standardized E; (..., Q)."""
    a, b, c, d = (standardize(representation)[..., quads[:, k], :] for k in range(4))
    return ((a + b - c - d) ** 2).mean(-1)


def product_gaps(representation: Tensor, quads: Tensor) -> Tensor:
    """Mean of (E_a E_b - E_c E_d)^2 for vectors read as square matrices, E divided by its RMS."""
    side = int(representation.shape[-1] ** 0.5)
    scaled = representation / (representation**2).mean((-2, -1), keepdim=True).sqrt()
    matrices = scaled.unflatten(-1, (side, side))
    a, b, c, d = (matrices[..., quads[:, k], :, :] for k in range(4))
    return ((a @ b - c @ d) ** 2).mean((-2, -1))


def rqi(holds: Tensor) -> Tensor:
    """Representation quality index: the share of parallelograms (..., Q) that hold."""
    return holds.double().mean(-1)
