"""What a network of curved units minimizes and reports beside its teacher (Kumar et al. 2023)."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from grok.models.quadratic import QuadraticUnits
from grok.objectives.losses import in_dtype
from grok.tensors import Tensors


@dataclass(frozen=True)
class CurvedLoss:
    """Mean squared error of alpha f, less its initial value where data has it, on the train rows.

    Data: train_inputs (P, D), train_targets (P,), alpha, eps; train_start (P,).
    """

    loss_dtype: str | None = None

    def __call__(self, model: nn.Module, data: Tensors) -> Tensor:
        return (self.gap(model, data, "train") ** 2).mean()

    def gap(self, model: nn.Module, data: Tensors, split: str) -> Tensor:
        """Error (n,) of every row."""
        found = data["alpha"] * model(data[f"{split}_inputs"], data["eps"])
        return in_dtype(found - data[f"{split}_start"] - data[f"{split}_targets"], self.loss_dtype)


@dataclass(frozen=True)
class CurvedMetrics:
    """Losses, the share of rows whose squared error is at most `near`, and the cosine of the units' second
    moment with the teacher's."""

    loss: CurvedLoss
    near: float

    def __call__(self, model: nn.Module, data: Tensors) -> dict[str, Tensor]:
        result = {}
        for split in ("train", "test"):
            squares = self.loss.gap(model, data, split) ** 2
            result[f"{split}_loss"] = squares.mean()
            result[f"{split}_accuracy"] = (squares <= self.near).double().mean()
        teacher, weights = data["teacher"], cast(QuadraticUnits, model).weight
        along = ((weights @ teacher) ** 2).mean() / (teacher @ teacher)  # cosine of M with b b^T
        second = weights.T @ weights / len(weights)
        result["alignment"] = along / torch.linalg.matrix_norm(second)
        return result
