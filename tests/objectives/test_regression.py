"""Regression: the inputs, the loss and its metrics; squared error of class labels."""

import pytest
import torch

from grok.objectives.classification import ClassificationLoss, InputLogits
from grok.objectives.regression import RegressionLoss, RegressionMetrics
from grok.tasks import gaussian


def test_inputs_are_not_the_stream_of_the_weights():
    torch.manual_seed(5)
    assert not torch.isclose(
        torch.randn(1000, dtype=torch.float64), gaussian.inputs(1, 1000, 5)
    ).any()
    values, vectors = gaussian.principal(30, 10, 5)
    x = gaussian.inputs(30, 10, 5)
    torch.testing.assert_close(vectors @ values.diag() @ vectors.T, x.T @ x / 30)


def test_an_error_of_exactly_eps_counts_as_correct():
    """The error of a row is the mean over its outputs: here 0.5 and 2."""
    data = {
        "train_inputs": torch.tensor([[1.0, 0.0], [2.0, 0.0]]),
        "train_targets": torch.zeros(2, 2),
        "test_inputs": torch.tensor([[1.0, 0.0]]),
        "test_targets": torch.zeros(1, 2),
    }
    metrics = RegressionMetrics(RegressionLoss(), eps=0.5)(torch.nn.Identity(), data)
    assert float(metrics["train_loss"]) == 1.25
    assert float(metrics["train_accuracy"]) == 0.5
    assert float(metrics["test_accuracy"]) == 1


def test_squared_error_is_to_one_hot_labels():
    logits = torch.tensor([[[0.5, 1.0, 0.0]], [[0.0, 0.0, 2.0]]])
    loss = ClassificationLoss(InputLogits(), "squared_error").from_logits(
        logits, torch.tensor([[1], [0]])
    )
    assert float(loss) == pytest.approx((0.25 + 0 + 0 + 1 + 0 + 4) / 6)
