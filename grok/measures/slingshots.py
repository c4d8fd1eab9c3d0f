"""Slingshots of Thilak et al. 2022 (arXiv:2206.04817): cycles of a loss below zero's resolution."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from grok.measures.vectors import Tensors, flat

ARMED, SPIKE = 1e-4, 1e-2  # train losses: below the first, then above the second
ABSORBED = 23 * float(np.log(2))  # margin from which a float32 softmax rounds to 1


def cycles(steps: Sequence[int], losses: Sequence[float]) -> list[int]:
    """Steps at which a train loss that was below 1e-4 exceeds 1e-2 again; one a cycle."""
    found, armed = [], False
    for step, loss in zip(steps, losses, strict=True):
        if armed and loss > SPIKE:
            found.append(int(step))
            armed = False
        armed = armed or loss < ARMED
    return found


def relative_change(now: Tensor, before: Tensor) -> Tensor:
    """Mean over rows of |h_now - h_before| / |h_before|, features (N, D)."""
    return ((now - before).norm(dim=-1) / before.norm(dim=-1)).mean()


def distance(now: Tensors, initial: Tensors) -> Tensor:
    """1 - cosine of the angle between two sets of weights."""
    a, b = flat(now), flat(initial)
    return 1 - a @ b / (a.norm() * b.norm())


def absorbed(logits: Tensor, labels: Tensor) -> Tensor:
    """Share of rows (N, C) whose right logit leads by so much that float32 sees no error (N,)."""
    right = logits.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    others = logits.scatter(-1, labels.unsqueeze(-1), -torch.inf).amax(-1)
    return (right - others > ABSORBED).double().mean()


def zero_sum_defect(gradient: Tensor) -> Tensor:
    """|sum_j g_j| / sum_j |g_j| of the loss's gradient by logits (N, C), meaned over rows: 0 exactly,
    more where rounding has eaten the right label's part."""
    return (
        gradient.sum(-1).abs() / gradient.abs().sum(-1).clamp(min=torch.finfo(gradient.dtype).tiny)
    ).mean()
