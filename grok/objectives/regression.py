"""Loss and metrics of regression."""

from dataclasses import dataclass

from torch import Tensor, nn

from grok.objectives.losses import in_dtype
from grok.tensors import Tensors


@dataclass(frozen=True)
class RegressionLoss:
    """Mean squared error on the train rows.

    Data: PART_inputs (N, d) and PART_targets (N, d_out).
    """

    loss_dtype: str | None = None

    def __call__(self, model: nn.Module, data: Tensors) -> Tensor:
        return self.errors(model, data, "train").mean()

    def errors(self, model: nn.Module, data: Tensors, part: str) -> Tensor:
        """Squared error (N,) of every row of a part, the mean over its outputs."""
        gap = model(data[f"{part}_inputs"]) - data[f"{part}_targets"]
        return (in_dtype(gap, self.loss_dtype) ** 2).mean(-1)


@dataclass(frozen=True)
class RegressionMetrics:
    """{train,test}_loss, and {train,test}_accuracy: the fraction of rows with an error of at most eps."""

    loss: RegressionLoss
    eps: float

    def __call__(self, model: nn.Module, data: Tensors) -> dict[str, Tensor]:
        result = {}
        for part in ("train", "test"):
            errors = self.loss.errors(model, data, part)
            result[f"{part}_loss"] = errors.mean()
            result[f"{part}_accuracy"] = (errors <= self.eps).double().mean()
        return result
