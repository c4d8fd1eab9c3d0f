"""Where a softmax has no more to say (Prieto et al. 2025, arXiv:2501.04697)."""

import torch
from torch import Tensor


def collapsed(log_probabilities: Tensor) -> Tensor:
    """Share of rows (N, C) in which one class has all the probability: the others are lost in the sum in
    this precision, and a right label gives no gradient (section 3)."""
    return (log_probabilities.amax(-1) == 0).double().mean()


def alignment(gradient: Tensor, weights: Tensor) -> Tensor:
    """Cosine of descent -g and weights w, both (P,): 1 where an update only scales them (section 5)."""
    lengths = (gradient.norm() * weights.norm()).clamp(min=torch.finfo(gradient.dtype).tiny)
    return -(gradient @ weights) / lengths
