"""Levi et al. 2023: training against the closed form, and the claims at their thresholds."""

from math import erf, inf, sqrt

import pytest
import torch

from grok.engine.events import Record
from grok.engine.train import train
from grok.experiment.experiment import load_module
from tests.conftest import PROJECT
from tests.helpers import claim_run, finding


@pytest.fixture(scope="module")
def levi():
    return load_module(PROJECT / "experiments" / "levi.py")


def metrics_by_step(levi, **updates):
    options = {"seed": 3, "input_dim": 20, "train_steps": 60, "lr": 0.1, **updates}
    events = train([levi.ex.problem_of(levi.ex.full_config(options))], compiled=False)
    return {e.step: e.metrics for e in events if isinstance(e, Record)}


@pytest.mark.parametrize("decay", [0.0, 0.01])
@pytest.mark.parametrize("outputs", [1, 3])
def test_training_in_eigenvectors_is_training_on_the_inputs(levi, decay, outputs):
    """A rotation of the inputs commutes with gradient descent from rotated weights."""
    options = {"output_dim": outputs, "weight_decay": decay}
    rotated = metrics_by_step(levi, **options)
    sampled = metrics_by_step(levi, **options, rotated=False)
    for step, metrics in sampled.items():
        assert rotated[step]["train_loss"] == pytest.approx(metrics["train_loss"], rel=1e-9)
    assert sampled[60]["train_loss"] < 0.5 * sampled[0]["train_loss"]


def test_accuracy_is_the_fraction_of_small_errors(levi):
    """By the formula on the eigenvectors, by counting 2000 inputs otherwise."""
    rotated, sampled = (metrics_by_step(levi, eps=0.5, rotated=flag) for flag in (True, False))
    for step, metrics in sampled.items():
        assert rotated[step]["test_accuracy"] == pytest.approx(metrics["test_accuracy"], abs=0.05)
        assert rotated[step]["test_loss"] == pytest.approx(metrics["test_loss"], rel=0.15)


def test_accuracy_of_one_output_is_an_error_function(levi):
    """A = erf(sqrt(eps / 2L)) for normal errors of variance L (section 3.2)."""
    student, teacher = levi.Student([4, 1], "linear"), torch.zeros(4, 1)
    data = {"teacher": teacher, "eigenvalues": torch.tensor([0.5, 1.0, 1.5, 2.0])}
    metrics = levi.RotatedMetrics(levi.RotatedLoss(), eps=0.1)(student, data)
    for part in ("train", "test"):
        expected = erf(sqrt(0.1 / (2 * metrics[f"{part}_loss"].item())))
        assert metrics[f"{part}_accuracy"].item() == pytest.approx(expected, rel=1e-5)


def test_student_and_teacher_differ_by_one_in_expectation(levi):
    """E |S - T|^2 = 1 with entries of variance 1 / (2 d_in d_out), for any number of outputs."""
    torch.manual_seed(0)
    student, teacher = (levi.Student([300, 40], "linear").layers[0] for _ in range(2))
    assert float(((student - teacher) ** 2).sum()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("activation", ["linear", "tanh"])
def test_both_layers_of_a_student_are_trained(levi, activation):
    options = {
        "seed": 0,
        "input_dim": 10,
        "hidden_dim": 4,
        "output_dim": 2,
        "lr": 1.0,
        "activation": activation,
        "train_steps": 5,
    }
    problem = levi.ex.problem_of(levi.ex.full_config(options))
    initial = [p.detach().clone() for p in problem.module.parameters()]
    *_, outcome = train([problem], compiled=False)
    for index, weights in enumerate(initial):
        assert (outcome.weights[f"layers.{index}"] != weights).any()


@pytest.mark.parametrize(("delay", "passed"), [(0.91, True), (1.09, True), (0.89, False)])
def test_delays_must_be_within_a_tenth_of_the_law(levi, delay, passed):
    """The mean over the seeds is compared, so one seed may deviate."""
    names = [f"decay_{name}" for name in levi.DECAYS]
    runs = [claim_run(name, {"delay": 100.0, "predicted_delay": 100.0}) for name in names[1:]]
    for seed, deviation in enumerate((0.5, -0.5)):
        result = {"delay": 100 * (delay + deviation), "predicted_delay": 100.0}
        runs.append(claim_run(names[0], result, seed=seed))
    outcome = finding(levi, "09d", *runs)
    assert outcome.passed == passed
    assert outcome.measured[names[0]] == pytest.approx(delay)


def test_an_infinite_delay_agrees_with_an_infinite_prediction(levi):
    """Weight decay of 3e-3 and more forbids generalizing, by the law as in training."""
    results = {name: {"delay": inf, "predicted_delay": inf} for name in levi.DECAYS}
    runs = [claim_run(f"decay_{name}", result) for name, result in results.items()]
    assert finding(levi, "09d", *runs).passed
    results["3e2"]["delay"] = 1000.0
    assert not finding(levi, "09d", *runs).passed


@pytest.mark.parametrize(
    ("growth", "accuracy", "loss", "passed"),
    [
        (101, 0.09, 1 / 3, True),
        (100, 0.09, 1 / 3, False),
        (101, 0.1, 1 / 3, False),
        (101, 0.09, 1 / 3 * 1.06, False),
    ],
)
def test_delay_diverges_at_lambda_one(levi, growth, accuracy, loss, passed):
    runs = [
        claim_run("ratio_50", {"delay": 10.0}),
        claim_run("ratio_95", {"delay": 10.0 * growth}),
        claim_run("ratio_150", {"test_loss": loss, "test_accuracy": 0.01}),
        claim_run("ratio_200", {"test_loss": 0.5, "test_accuracy": accuracy}),
    ]
    assert finding(levi, "09c", *runs).passed == passed


def test_a_loss_that_rises_once_refutes_smooth_grokking(levi):
    result = {"delay": 20_281.0, "predicted_delay": 20_281.0, "test_accuracy": 1.0}
    falling, rising = [1.0, 0.5, 0.5], [1.0, 0.5, 0.51]
    for test_loss, passed in ((falling, True), (rising, False)):
        series = {"train_loss": ([0, 1, 2], falling), "test_loss": ([0, 1, 2], test_loss)}
        assert finding(levi, "09a", claim_run("cpu", result, series)).passed == passed
