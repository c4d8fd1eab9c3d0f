"""Losses and accuracies of one replica's outputs."""

import torch
import torch.nn.functional as F
from torch import Tensor

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def in_dtype(x: Tensor, name: str | None) -> Tensor:
    """x in the named dtype of DTYPES; x unchanged if the name is None."""
    return x if name is None else x.to(DTYPES[name])


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over all entries of (outputs - targets)^2."""
    return ((outputs - targets) ** 2).mean()


def cross_entropy(logits: Tensor, labels: Tensor, dtype: str | None = None) -> Tensor:
    """Mean of -log softmax(logits)[label], for logits (..., C) and labels (...).

    dtype: the dtype in which it is computed; None for the logits' own.
    """
    return -F.log_softmax(in_dtype(logits, dtype), dim=-1).gather(-1, labels.unsqueeze(-1)).mean()


def stablemax(logits: Tensor, labels: Tensor, dtype: str | None = None) -> Tensor:
    """Cross-entropy of StableMax, which cannot saturate: the mean of -log p(label), where p is
    proportional to z + 1 for logits z >= 0 and to 1 / (1 - z) below (Prieto et al. 2025, section 4).

    Shapes and dtype as in `cross_entropy`.
    """
    logp = log_stablemax(in_dtype(logits, dtype))
    return -logp.gather(-1, labels.unsqueeze(-1)).mean()


def log_stablemax(logits: Tensor, dim: int = -1) -> Tensor:
    """Logarithms of StableMax's probabilities along `dim`, of the logits' shape."""
    # clamped: the branch that `where` discards must not have an infinite gradient
    above, below = torch.log1p(logits.clamp(min=0)), torch.log1p((-logits).clamp(min=0))
    log_s = torch.where(logits >= 0, above, -below)
    return log_s - torch.logsumexp(log_s, dim, keepdim=True)


def accuracy(predictions: Tensor, labels: Tensor) -> Tensor:
    """Fraction of equal entries, in float64, in which 9 of 10 is not less than 0.9."""
    return (predictions == labels).mean(dtype=torch.float64)


def nearest(outputs: Tensor, candidates: Tensor) -> Tensor:
    """Index (N,) of the candidate (C, K) that is nearest to each output (N, K)."""
    # |o - c|^2 without |o|^2, which is the same for all candidates
    return ((candidates**2).sum(-1) - 2 * outputs @ candidates.mT).argmin(-1)
