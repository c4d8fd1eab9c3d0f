"""Margins: how much larger the label's logit is than the largest other."""

import torch
from torch import Tensor


def margins(logits_NC: Tensor, labels_N: Tensor) -> Tensor:
    """The logit of each row's label less the largest of the others (N,), positive where it is right."""
    label = labels_N.unsqueeze(-1)
    others = logits_NC.scatter(-1, label, -torch.inf)
    return logits_NC.gather(-1, label).squeeze(-1) - others.amax(-1)


def summary(margins_N: Tensor) -> dict[str, float]:
    """The least, the median and the mean margin, and the fraction of rows with a positive one."""
    return {
        "least": float(margins_N.min()),
        "median": float(margins_N.median()),
        "mean": float(margins_N.mean()),
        "positive": float((margins_N > 0).double().mean()),
    }
