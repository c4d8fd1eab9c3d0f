"""Loss and metrics of regression, and of linear students in eigenvectors (Levi et al. 2023)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from grok.models.linear import Student
from grok.objectives.losses import in_dtype
from grok.tensors import Tensors


@dataclass(frozen=True)
class RotatedLoss:
    """Mean squared error on the train set of a linear student, in the eigenvectors of the inputs'
    covariance: (1 / d_out) sum_i nu_i |S_i - T_i|^2, at a thousandth of the cost.

    Data: eigenvalues nu (d,), teacher T (d, d_out).
    """

    loss_dtype: str | None = None

    def __call__(self, model: nn.Module, data: Tensors) -> Tensor:
        gap = in_dtype(cast(Student, model).layers[0] - data["teacher"], self.loss_dtype)
        return (data["eigenvalues"] @ gap**2).mean()


@dataclass(frozen=True)
class RotatedMetrics:
    """{train,test}_loss and {train,test}_accuracy of a linear student, in closed form.

    Inputs are standard normal, so the generalization loss is |S - T|^2 / d_out, and a squared error
    is a sum of squares of normal numbers. The accuracy is the fraction of errors of at most eps.
    """

    loss: RotatedLoss
    eps: float

    def __call__(self, model: nn.Module, data: Tensors) -> dict[str, Tensor]:
        gap = cast(Student, model).layers[0] - data["teacher"]
        losses = {"train": self.loss(model, data), "test": (gap**2).sum(0).mean()}
        half = torch.full_like(losses["test"], gap.shape[1] / 2)
        result = {}
        for part, loss in losses.items():
            result[f"{part}_loss"] = loss
            error = (half * self.eps / loss.clamp(min=1e-300)).double()
            result[f"{part}_accuracy"] = torch.special.gammainc(half.double(), error)
        return result


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


Objective = tuple[Tensors, Callable, Callable]  # data, loss, metrics


def rotated(
    student: Student,
    teacher: Student,
    values: Tensor,
    vectors: Tensor,
    eps: float,
    dtype: str | None,
) -> Objective:
    """Data, loss and metrics of a linear student in the eigenvectors of the inputs' covariance.

    Arguments:
        student, teacher: linear; they are rotated into the eigenvectors in place.
        values: eigenvalues of the covariance, (d,).
        vectors: its eigenvectors, (d, d).
        eps: largest squared error of a correct row.
        dtype: of the loss.
    """
    with torch.no_grad():
        for network in (student, teacher):
            network.layers[0].copy_(vectors.to(network.layers[0]).T @ network.layers[0])
    known = teacher.layers[0].detach()
    loss = RotatedLoss(dtype)
    return {"eigenvalues": values.to(known), "teacher": known}, loss, RotatedMetrics(loss, eps)


def sampled(
    teacher: Student, train: Tensor, test: Tensor, eps: float, dtype: str | None
) -> Objective:
    """Data, loss and metrics on train inputs (N, d) and test inputs (M, d), labelled by the teacher."""
    data = {}
    for name, inputs in (("train", train), ("test", test)):
        data[f"{name}_inputs"] = inputs.to(teacher.layers[0])
        data[f"{name}_targets"] = teacher(data[f"{name}_inputs"]).detach()
    loss = RegressionLoss(dtype)
    return data, loss, RegressionMetrics(loss, eps)
