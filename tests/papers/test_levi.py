"""Levi et al. 2023: training against the closed form, and the claims at their thresholds."""

from math import erf, inf, sqrt
from types import SimpleNamespace

import pytest
import torch

from grok.claims.model import Runs, evaluate
from grok.claims.testing import claim_run, finding
from grok.engine.events import Record
from grok.engine.train import train
from grok.experiment.experiment import Config, load_module
from grok.phases import first_step_held
from tests.conftest import PROJECT


@pytest.fixture(scope="module")
def levi():
    return load_module(PROJECT / "experiments" / "levi.py")


def metrics_by_step(levi, **updates):
    options = {"seed": 3, "input_dim": 20, "train_steps": 60, "lr": 0.1, **updates}
    options = {"log_points": 200, **options}
    events = train([levi.ex.problem_of(levi.ex.full_config(options))], compiled=False)
    return {e.step: e.metrics for e in events if isinstance(e, Record)}


@pytest.mark.parametrize("decay", [0.0, 0.01])
@pytest.mark.parametrize("outputs", [1, 3])
def test_training_in_eigenvectors_is_training_on_the_inputs(levi, decay, outputs):
    """A rotation of the inputs commutes with gradient descent from rotated weights."""
    options = {"output_dim": outputs, "weight_decay": decay}
    rotated = metrics_by_step(levi, **options, rotated=True)
    sampled = metrics_by_step(levi, **options)
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


@pytest.mark.parametrize("rotated", [False, True])
def test_trained_losses_follow_the_recursion_and_the_delay_is_that_of_the_accuracies(levi, rotated):
    """On the inputs as in eigenvectors; the delay is counted on what was trained, not on theory."""
    options = {"input_dim": 20, "inputs_per_sample": 0.5, "eps": 0.1, "train_steps": 300}
    config = levi.ex.full_config({"seed": 3, "lr": 0.1, "rotated": rotated, **options})
    problem = levi.ex.problem_of(config)
    records = [e for e in train([problem], compiled=False) if isinstance(e, Record)]
    steps = [record.step for record in records]
    series = {name: (steps, [r.metrics[name] for r in records]) for name in records[0].metrics}
    held = {name: first_step_held(*series[name], 0.95) for name in series}
    recorder = SimpleNamespace(series=series, first_step_held=lambda name, threshold: held[name])
    result = levi.summarize(Config(**config), problem, recorder)
    assert result["recursion_error"] < 1e-9
    assert result["delay"] == held["test_accuracy"] - held["train_accuracy"] > 0
    series["train_loss"][1][-1] *= 1.01
    assert levi.summarize(Config(**config), problem, recorder)["recursion_error"] > 9e-3
    held["test_accuracy"] = None
    assert levi.summarize(Config(**config), problem, recorder)["delay"] == inf


def delayed(name: str, delay: float, law: float = 100.0, seed: int = 0, **config):
    """A run with a measured delay, and with one by the recursion that agrees with the law."""
    result = {
        "delay": delay,
        "recursion_delay": law,
        "predicted_delay": law,
        "recursion_error": 1e-12,
    }
    return claim_run(name, result, seed=seed, **{"hidden_dim": None, "lr": 0.01, **config})


@pytest.mark.parametrize(("delay", "passed"), [(0.91, True), (1.09, True), (0.89, False)])
def test_delays_must_be_within_a_tenth_of_the_law(levi, delay, passed):
    """The mean over the seeds is compared, so one seed may deviate. It is the measured delay."""
    names = ["ratio_50", "ratio_70", "ratio_80", "cpu"]
    runs = [delayed(name, 100.0) for name in names[1:]]
    for seed, deviation in enumerate((0.5, -0.5)):
        runs.append(delayed(names[0], 100 * (delay + deviation), seed=seed))
    outcome = finding(levi, "09b", *runs)
    assert outcome.passed == passed
    assert outcome.measured[names[0]] == pytest.approx(delay)


def test_a_run_that_lacks_the_recursion_cannot_pass(levi):
    """It used to count as an error of zero."""
    names = ["ratio_50", "ratio_70", "ratio_80", "cpu"]
    names += [f"decay_{name}" for name in levi.DECAYS]
    names += [f"outputs_{count}" for count in levi.OUTPUTS]
    runs = [delayed(name, inf) for name in names]
    two_layers = claim_run("two_layers", {}, hidden_dim=50)
    outcome = finding(levi, "09b-recursion", *runs, two_layers)
    assert outcome.passed and outcome.measured["recursion error"] == 1e-12
    runs[-1].result["recursion_error"] = 1.1e-6
    assert not finding(levi, "09b-recursion", *runs).passed
    del runs[-1].result["recursion_error"]
    (claim,) = (claim for claim in levi.claim if claim.id == "09b-recursion")
    outcome = evaluate(claim, Runs(runs))
    assert not outcome.passed and outcome.why == "needs recursion_error in the result"


def test_an_infinite_delay_agrees_with_an_infinite_prediction(levi):
    """Weight decay of 3e-3 and more forbids generalizing, by the law as in training."""
    expected = {"1e4": 105.0, "1e3": 120.0, "3e3": inf, "1e2": inf}

    def outcome(**measured: float):
        delays = {**expected, **measured}
        runs = [delayed(f"decay_{n}", delays[n], law) for n, law in expected.items()]
        return finding(levi, "09d", delayed("cpu", 100.0), *runs).passed

    assert outcome()
    assert not outcome(**{"1e2": 1000.0})
    assert not outcome(**{"1e3": inf})


def test_untrained_students_have_no_longer_delay_with_decay(levi):
    """Where no run generalizes, all delays are infinite, and no one is longer than another."""
    runs = [delayed(f"decay_{name}", inf, inf) for name in levi.DECAYS]
    assert not finding(levi, "09d", delayed("cpu", inf, inf), *runs).passed


@pytest.mark.parametrize(
    ("growth", "accuracy", "loss", "passed"),
    [
        (101, 0.09, 1 / 3, True),
        (100, 0.09, 1 / 3, False),
        (inf, 0.09, 1 / 3, False),
        (101, 0.1, 1 / 3, False),
        (101, 0.09, 1 / 3 * 1.11, False),
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


@pytest.mark.parametrize(("with_30", "passed"), [(4.0, True), (1.0, False), (0.4, False)])
def test_delays_of_several_outputs_are_compared_times_the_learning_rate(levi, with_30, passed):
    """At 30 times the learning rate, a delay of a thirtieth of the steps is as long."""
    times = {"cpu": (0.01, 1.0), "outputs_10": (0.3, 2.0), "outputs_500": (1.0, 0.5)}
    times["outputs_30"] = 0.3, with_30
    runs = [delayed(name, time / lr, time / lr, lr=lr) for name, (lr, time) in times.items()]
    assert finding(levi, "09e", *runs).passed == passed


def test_a_loss_that_rises_once_refutes_smooth_grokking(levi):
    result = {"delay": 20_281.0, "predicted_delay": 20_281.0, "test_accuracy": 1.0}
    falling, rising = [1.0, 0.5, 0.5], [1.0, 0.5, 0.51]
    for test_loss, passed in ((falling, True), (rising, False)):
        series = {"train_loss": ([0, 1, 2], falling), "test_loss": ([0, 1, 2], test_loss)}
        assert finding(levi, "09a", claim_run("cpu", result, series)).passed == passed
