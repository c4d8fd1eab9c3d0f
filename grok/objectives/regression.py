"""What a student minimizes and reports beside its teacher (Levi et al. 2023)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from grok.objectives.losses import in_dtype
from grok.tensors import Tensors


@dataclass(frozen=True)
class RotatedLoss:
    """(1 / d_out) sum_i nu_i |S_i - T_i|^2 of a linear student in the eigenvectors of the inputs'
    covariance: the mean squared error on the train set, at a thousandth of the cost.

    Data: eigenvalues (d,), teacher (d, d_out).
    """

    loss_dtype: str | None = None

    def __call__(self, model: nn.Module, data: Tensors) -> Tensor:
        gap = in_dtype(model.layers[0] - data["teacher"], self.loss_dtype)
        return (data["eigenvalues"] @ gap**2).mean()


@dataclass(frozen=True)
class RotatedMetrics:
    """Train loss, generalization loss |S - T|^2 / d_out (inputs are standard normal), and the share of
    inputs whose squared error is at most eps, given that it is a sum of squares of normal numbers."""

    loss: RotatedLoss
    eps: float

    def __call__(self, model: nn.Module, data: Tensors) -> dict[str, Tensor]:
        gap = model.layers[0] - data["teacher"]
        found = {"train": self.loss(model, data), "test": (gap**2).sum(0).mean()}
        half = torch.full_like(found["test"], gap.shape[1] / 2)
        result = {}
        for part, loss in found.items():
            result[f"{part}_loss"] = loss
            error = (half * self.eps / loss.clamp(min=1e-300)).double()
            result[f"{part}_accuracy"] = torch.special.gammainc(half.double(), error)
        return result


@dataclass(frozen=True)
class RegressionLoss:
    """Mean squared error on the train inputs (N, d). Data: train_inputs, train_targets."""

    loss_dtype: str | None = None

    def __call__(self, model: nn.Module, data: Tensors) -> Tensor:
        return self.errors(model, data, "train").mean()

    def errors(self, model: nn.Module, data: Tensors, part: str) -> Tensor:
        """Squared error, meaned over outputs, of every input (N,)."""
        gap = model(data[f"{part}_inputs"]) - data[f"{part}_targets"]
        return (in_dtype(gap, self.loss_dtype) ** 2).mean(-1)


@dataclass(frozen=True)
class RegressionMetrics:
    """Loss, and the share of inputs whose squared error is at most eps, on train and test inputs."""

    loss: RegressionLoss
    eps: float

    def __call__(self, model: nn.Module, data: Tensors) -> dict[str, Tensor]:
        result = {}
        for part in ("train", "test"):
            errors = self.loss.errors(model, data, part)
            result[f"{part}_loss"] = errors.mean()
            result[f"{part}_accuracy"] = (errors <= self.eps).double().mean()
        return result


Parts = tuple[Tensors, Callable, Callable]


def rotated(
    student: nn.Module,
    teacher: nn.Module,
    values: Tensor,
    vectors: Tensor,
    eps: float,
    dtype: str | None,
) -> Parts:
    """Data, loss and metrics in the eigenvectors (d, d) of the covariance, into which the linear
    student and teacher are turned in place. values (d,): its eigenvalues."""
    with torch.no_grad():
        for network in (student, teacher):
            network.layers[0].copy_(vectors.to(network.layers[0]).T @ network.layers[0])
    known = teacher.layers[0].detach()
    loss = RotatedLoss(dtype)
    return {"eigenvalues": values.to(known), "teacher": known}, loss, RotatedMetrics(loss, eps)


def sampled(
    teacher: nn.Module, train: Tensor, test: Tensor, eps: float, dtype: str | None
) -> Parts:
    """Data, loss and metrics on inputs (N, d) to train and (M, d) to test on."""
    data = {}
    for name, inputs in (("train", train), ("test", test)):
        data[f"{name}_inputs"] = inputs.to(teacher.layers[0])
        data[f"{name}_targets"] = teacher(data[f"{name}_inputs"]).detach()
    loss = RegressionLoss(dtype)
    return data, loss, RegressionMetrics(loss, eps)
