"""Saturated softmax: absorbed probabilities and gradients along the weights.

Prieto et al. 2025, "Grokking at the Edge of Numerical Stability" (arXiv:2501.04697).
"""

import torch
from torch import Tensor


def collapsed(log_probabilities: Tensor) -> Tensor:
    """Fraction of rows (N, C) whose largest probability rounds to 1 (softmax collapse, section 3).

    The other classes are lost in the sum at this precision, and a correct row has no gradient.
    """
    return (log_probabilities.amax(-1) == 0).double().mean()


def alignment(gradient: Tensor, weights: Tensor) -> Tensor:
    """Cosine of the descent direction -g and the weights w, both (P,): 1 if a step only scales the
    weights (naive loss minimization, section 5)."""
    lengths = (gradient.norm() * weights.norm()).clamp(min=torch.finfo(gradient.dtype).tiny)
    return -(gradient @ weights) / lengths
