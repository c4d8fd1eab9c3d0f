"""Students of teachers (Levi et al. 2023), and losses to one-hot labels."""

import pytest
import torch

from grok.engine.events import Record
from grok.engine.train import train
from grok.experiment.experiment import load
from grok.objectives.classification import ClassificationLoss, InputLogits
from grok.tasks import gaussian
from tests.conftest import PROJECT


@pytest.fixture(scope="module")
def levi():
    return load(PROJECT / "experiments" / "levi.py")


def curves(paper, **updates):
    config = paper.full_config(
        {"seed": 3, "input_dim": 20, "train_steps": 60, "lr": 0.1, **updates}
    )
    events = train([paper.problem_of(config)], compiled=False)
    return {e.step: e.metrics for e in events if isinstance(e, Record)}


@pytest.mark.parametrize("decay", [0.0, 0.01])
@pytest.mark.parametrize("outputs", [1, 3])
def test_eigenvectors_change_nothing(levi, decay, outputs):
    options = {"output_dim": outputs, "weight_decay": decay}
    turned, plain = curves(levi, **options), curves(levi, **options, rotated=False)
    for step, metrics in plain.items():
        assert turned[step]["train_loss"] == pytest.approx(metrics["train_loss"], rel=1e-9)
    assert plain[60]["train_loss"] < 0.5 * plain[0]["train_loss"]


def test_accuracy_is_the_share_of_small_errors(levi):
    """By the formula on the eigenvectors, by counting 2000 inputs otherwise."""
    turned, plain = (curves(levi, eps=0.5, rotated=rotated) for rotated in (True, False))
    for step, metrics in plain.items():
        assert turned[step]["test_accuracy"] == pytest.approx(metrics["test_accuracy"], abs=0.05)
        assert turned[step]["test_loss"] == pytest.approx(metrics["test_loss"], rel=0.15)


@pytest.mark.parametrize("activation", ["linear", "tanh"])
def test_both_layers_of_a_student_are_trained(levi, activation):
    config = levi.full_config({"seed": 0, "input_dim": 10, "hidden_dim": 4, "output_dim": 2, "lr": 1.0,
                             "activation": activation, "train_steps": 5})  # fmt: skip
    problem = levi.problem_of(config)
    before = [p.detach().clone() for p in problem.module.parameters()]
    *_, end = train([problem], compiled=False)
    assert all((end.weights[f"layers.{i}"] != old).any() for i, old in enumerate(before))


def test_inputs_are_not_the_stream_of_the_weights():
    torch.manual_seed(5)
    assert not torch.isclose(
        torch.randn(1000, dtype=torch.float64), gaussian.inputs(1, 1000, 5)
    ).any()
    values, vectors = gaussian.principal(30, 10, 5)
    x = gaussian.inputs(30, 10, 5)
    torch.testing.assert_close(vectors @ values.diag() @ vectors.T, x.T @ x / 30)


def test_squared_error_is_to_one_hot_labels():
    logits = torch.tensor([[[0.5, 1.0, 0.0]], [[0.0, 0.0, 2.0]]])
    loss = ClassificationLoss(InputLogits(), "squared_error").from_logits(
        logits, torch.tensor([[1], [0]])
    )
    assert float(loss) == pytest.approx((0.25 + 0 + 0 + 1 + 0 + 4) / 6)
