"""Losses and accuracies of one replica's outputs."""

import torch
import torch.nn.functional as F
from torch import Tensor

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def in_dtype(x: Tensor, name: str | None) -> Tensor:
    """x in the dtype of this name, as it is if there is none."""
    return x if name is None else x.to(DTYPES[name])


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over all entries of (outputs - targets)^2."""
    return ((outputs - targets) ** 2).mean()


def cross_entropy(logits: Tensor, classes: Tensor, dtype: str | None = None) -> Tensor:
    """Mean of -log softmax(logits)[class] over (N, C) logits, computed in `dtype` if given."""
    return -F.log_softmax(in_dtype(logits, dtype), dim=-1).gather(-1, classes.unsqueeze(-1)).mean()


def stablemax(logits: Tensor, classes: Tensor, dtype: str | None = None) -> Tensor:
    """Mean of -log p(class) over (N, C) logits, p proportional to z + 1 where z >= 0 and 1 / (1 - z)
    below: a softmax that cannot saturate (Prieto et al. 2025, section 4)."""
    logp = log_stablemax(in_dtype(logits, dtype))
    return -logp.gather(-1, classes.unsqueeze(-1)).mean()


def log_stablemax(logits: Tensor, dim: int = -1) -> Tensor:
    """Logarithms of StableMax's probabilities along `dim`."""
    # clamped, so that the branch not taken gives no infinite gradient
    above, below = torch.log1p(logits.clamp(min=0)), torch.log1p((-logits).clamp(min=0))
    log_s = torch.where(logits >= 0, above, -below)
    return log_s - torch.logsumexp(log_s, dim, keepdim=True)


def accuracy(guesses: Tensor, classes: Tensor) -> Tensor:
    """Fraction of equal entries, in float64: nine of ten must not fall short of 0.9."""
    return (guesses == classes).double().mean()


def nearest(outputs: Tensor, candidates: Tensor) -> Tensor:
    """For outputs (N, K) and candidates (C, K), the index (N,) of the nearest candidate."""
    # |o - c|^2 without the term that all candidates share
    return ((candidates**2).sum(-1) - 2 * outputs @ candidates.mT).argmin(-1)
