"""Losses and accuracies of one replica's outputs."""

import torch
import torch.nn.functional as F
from torch import Tensor

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over all entries of (outputs - targets)^2."""
    return ((outputs - targets) ** 2).mean()


def cross_entropy(logits: Tensor, classes: Tensor, dtype: str | None = None) -> Tensor:
    """Mean of -log softmax(logits)[class] over (N, C) logits, computed in `dtype` if given."""
    if dtype is not None:
        logits = logits.to(DTYPES[dtype])
    return -F.log_softmax(logits, dim=-1).gather(-1, classes.unsqueeze(-1)).mean()


def argmax_accuracy(logits: Tensor, classes: Tensor) -> Tensor:
    """Fraction of rows of (N, C) whose largest entry is at the class."""
    return (logits.argmax(-1) == classes).to(logits.dtype).mean()


def nearest(outputs: Tensor, candidates: Tensor) -> Tensor:
    """For outputs (N, K) and candidates (C, K), the index (N,) of the nearest candidate."""
    # |o - c|^2 without the term that all candidates share
    return ((candidates**2).sum(-1) - 2 * outputs @ candidates.mT).argmin(-1)
