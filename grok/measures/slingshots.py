"""Slingshots: cycles of a train loss that spikes after it has fallen below float32's resolution.

Thilak et al. 2022 (arXiv:2206.04817).
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from grok.measures.vectors import flat
from grok.tensors import Tensors

SMALL_LOSS, SPIKE_LOSS = 1e-4, 1e-2  # a cycle: the train loss falls below one, exceeds the other
ABSORPTION_MARGIN = 23 * float(np.log(2))  # of logits, from which a float32 softmax rounds to 1


def cycles(steps: Sequence[int], losses: Sequence[float]) -> list[int]:
    """Steps at which a train loss that was below 1e-4 exceeds 1e-2 again, one per cycle."""
    spikes, was_small = [], False
    for step, loss in zip(steps, losses, strict=True):
        if was_small and loss > SPIKE_LOSS:
            spikes.append(int(step))
            was_small = False
        was_small = was_small or loss < SMALL_LOSS
    return spikes


def relative_change(now: Tensor, before: Tensor) -> Tensor:
    """Mean over rows of |h_now - h_before| / |h_before|, for features (N, D)."""
    return ((now - before).norm(dim=-1) / before.norm(dim=-1)).mean()


def distance(now: Tensors, initial: Tensors) -> Tensor:
    """1 - cosine of the angle between two sets of weights."""
    a, b = flat(now), flat(initial)
    return 1 - a @ b / (a.norm() * b.norm())


def absorbed(logits: Tensor, labels: Tensor) -> Tensor:
    """Fraction of rows whose loss is 0 in float32: the label's logit leads by more than 23 log 2.

    Arguments:
        logits: (..., C).
        labels: (...).
    """
    label_logit = logits.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    is_label = labels.unsqueeze(-1) == torch.arange(logits.shape[-1], device=labels.device)
    others = logits.masked_fill(is_label, -torch.inf).amax(-1)
    return (label_logit - others > ABSORPTION_MARGIN).double().mean()


def zero_sum_defect(gradient: Tensor) -> Tensor:
    """Mean over rows of |sum_j g_j| / sum_j |g_j|, for the loss's gradient by logits (..., C).

    0 in exact arithmetic; larger where rounding has absorbed the label's part.
    """
    return (
        gradient.sum(-1).abs() / gradient.abs().sum(-1).clamp(min=torch.finfo(gradient.dtype).tiny)
    ).mean()
