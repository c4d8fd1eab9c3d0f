"""What a run of Prieto et al. 2025 looks at, beside loss and accuracy."""

from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import grad

from grok.engine.functional import run_with
from grok.engine.problem import Problem
from grok.measures import saturation
from grok.measures.vectors import flat
from grok.objectives.classification import ClassificationMetrics
from grok.objectives.losses import in_dtype, log_stablemax
from grok.tensors import Tensors


@dataclass(frozen=True)
class SaturationMetrics:
    """Loss, accuracies, the share of train rows whose softmax has collapsed in the loss's precision, and
    the cosine of descent and weights."""

    classification: ClassificationMetrics

    def __call__(self, model: nn.Module, data: Tensors) -> dict[str, Tensor]:
        loss, now = self.classification.loss, dict(model.named_parameters())
        logits = in_dtype(loss.logits(model, data, "train", False), loss.loss_dtype)
        of = log_stablemax if loss.kind == "stablemax" else F.log_softmax
        slope = grad(lambda params: run_with(model, params, loss, data))(now)
        return {
            **self.classification(model, data),
            "collapsed": saturation.collapsed(of(logits, dim=-1).flatten(0, 1)),
            "alignment": saturation.alignment(flat(slope), flat(now)),
        }


def with_saturation(problem: Problem) -> Problem:
    """The problem, looked at for a softmax that saturates."""
    return replace(problem, metrics=SaturationMetrics(problem.metrics))
