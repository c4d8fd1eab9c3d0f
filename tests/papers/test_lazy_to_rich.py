"""Kumar et al. 2023: the network and its dynamics, and the claims at their thresholds."""

from math import inf

import pytest
import torch

from grok.claims.model import Runs, evaluate
from grok.claims.testing import claim_run, finding
from grok.engine.events import Record
from grok.engine.train import train
from grok.experiment.experiment import load_module
from grok.theory import lazy
from tests.conftest import PROJECT

SMALL = {"input_dim": 6, "units": 20, "train_count": 12, "test_count": 15, "eps": 0.3, "seed": 2}


@pytest.fixture(scope="module")
def paper():
    return load_module(PROJECT / "experiments" / "lazy_to_rich.py")


def problem(paper, **updates):
    return paper.ex.problem_of(paper.ex.full_config({**SMALL, **updates}))


def metrics_by_step(problem):
    events = train([problem], compiled=False)
    return {event.step: event.metrics for event in events if isinstance(event, Record)}


def test_output_is_the_mean_of_curved_units(paper):
    """f(x) = (1 / N) sum_i w_i . x + (eps / 2) (w_i . x)^2, here for weights written out."""
    network = paper.QuadraticUnits(2, 3)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[1.0, 0], [0, 2], [1, 1]]))
    x = torch.tensor([[1.0, 3.0]])  # h = 1, 6, 4
    expected = (1 + 6 + 4) / 3 + 0.1 / 2 * (1 + 36 + 16) / 3
    assert network(x, torch.tensor(0.1)).item() == pytest.approx(expected)


@pytest.mark.parametrize("alpha", [0.25, 2.0])
def test_training_follows_the_exact_dynamics_of_the_moments(paper, alpha):
    """Learning rate lr N / alpha^2: a step of the moments is lr / alpha (section 4)."""
    task = problem(paper, alpha=alpha, lr=0.5, train_steps=30)
    x, y = (task.data[f"train_{name}"].numpy() for name in ("inputs", "targets"))
    state = lazy.moments(task.module.weight.detach().numpy())
    for _ in range(30):
        state = lazy.descended(state, x, y, alpha, 0.3, 0.5 / alpha)
    loss = ((lazy.outputs(x, state, alpha, 0.3) - y) ** 2).mean()
    metrics = metrics_by_step(task)
    assert metrics[30]["train_loss"] == pytest.approx(loss, rel=1e-9)
    assert metrics[30]["train_loss"] < metrics[0]["train_loss"]


def test_inputs_and_targets_are_the_papers(paper):
    """Rows have squared length 1 in expectation; y = (b . x)^2 / 2; no test input is a train input."""
    data = problem(paper, input_dim=100, train_count=400, test_count=300).data
    for part in ("train", "test"):
        x = data[f"{part}_inputs"]
        assert float((x**2).sum(1).mean()) == pytest.approx(1, abs=0.05)
        expected = (x @ data["teacher"]) ** 2 / 2
        assert torch.equal(data[f"{part}_targets"], expected)
    assert not torch.isclose(data["train_inputs"][:300], data["test_inputs"]).any(1).all()
    assert float((data["teacher"] ** 2).mean()) == pytest.approx(1, abs=0.4)


def test_a_centred_network_starts_at_output_zero(paper):
    """Its error at the start is the target alone (Chizat et al.'s f - f_0)."""
    for centred in (True, False):
        task = problem(paper, centred=centred)
        errors = paper.QuadraticLoss().errors(task.module, task.data, "test")
        assert torch.allclose(errors, -task.data["test_targets"]) == centred


def test_accuracy_is_the_fraction_of_small_squared_errors(paper):
    task = problem(paper, near=0.2)
    metrics = task.metrics(task.module, task.data)
    for part in ("train", "test"):
        squared = paper.QuadraticLoss().errors(task.module, task.data, part) ** 2
        assert metrics[f"{part}_accuracy"].item() == (squared <= 0.2).double().mean().item()
        assert metrics[f"{part}_loss"].item() == pytest.approx(squared.mean().item())


def test_alignment_is_one_for_units_along_the_teacher(paper):
    """And 1 / sqrt(D) for a second moment that is the identity."""
    teacher = torch.tensor([3.0, 4.0])
    along = torch.tensor([[2.0], [-1.0]]) * teacher
    assert paper.alignment(along, teacher).item() == pytest.approx(1)
    assert paper.alignment(torch.eye(2), teacher).item() == pytest.approx(2**-0.5)


def run(name="cpu", train=100, test=500, alignment=(0.0, 0.2), norms=(1.0, 1.2, 1.5), rise=0.1):
    """A run whose train and test loss fall to 0.05 at these steps; metrics at 0, train, test."""
    steps = sorted({0, 100, train, test, 10_000} - {inf})
    test_losses = [0.051] + [0.05 if step >= test else 0.051 + rise for step in steps[1:]]
    at = [0, min(train, 9000), min(test, 10_000)]
    series = {
        "train_loss": (steps, [0.05 if step >= train else 0.051 for step in steps]),
        "test_loss": (steps, test_losses),
        "alignment": (at, [0.0, *alignment]),
        "weight_norm": (at, list(norms)),
    }
    return claim_run(name, series=series)


@pytest.mark.parametrize(
    ("changes", "passed"),
    [
        ({}, True),
        ({"test": 499}, False),
        ({"test": inf}, False),
        ({"alignment": (0.0, 0.1)}, False),
        ({"rise": 0.0}, False),
    ],
)
def test_groks_at_five_times_the_steps_while_it_aligns(paper, changes, passed):
    assert finding(paper, "E3a", run(**changes)).passed == passed


@pytest.mark.parametrize(
    ("norms", "passed"),
    [
        ((1.0, 1.2, 1.5), True),
        ((1.0, 1.2, 1.49), False),
        ((1.0, 1.6, 1.5), False),
        ((1.0, 1.501, 1.5), True),  # it falls by less than a thousandth
        ((1.0, 1.502, 1.5), False),
    ],
)
def test_norm_must_grow_by_half_all_the_while(paper, norms, passed):
    assert finding(paper, "E3b", run(norms=norms)).passed == passed


def test_norm_of_a_network_that_never_generalizes_shows_nothing(paper):
    assert not finding(paper, "E3b", run(test=inf)).passed


@pytest.mark.parametrize(
    ("little", "medium", "much", "passed"),
    [
        (inf, 500, 200, True),
        (9000, 500, 200, False),  # little data are enough
        (inf, 499, 200, False),  # no delay in between
        (inf, inf, 200, False),
        (inf, 500, 201, False),  # a delay with much data
    ],
)
def test_only_the_intermediate_data_set_groks(paper, little, medium, much, passed):
    """Train sets are fitted at step 100."""
    names = {"cpu_little_data": little, "cpu": medium, "cpu_much_data": much}
    runs = [run(name, test=step) for name, step in names.items()]
    assert finding(paper, "E3-goldilocks", *runs).passed == passed


@pytest.mark.parametrize(
    ("train", "test", "passed"), [(100, inf, True), (100, 9000, False), (inf, inf, False)]
)
def test_little_data_is_fitted_and_never_generalized(paper, train, test, passed):
    fitted = run("cpu_little_data", train=train, test=test)
    assert finding(paper, "E3c", fitted).passed == passed


@pytest.mark.parametrize(
    ("rich", "medium", "lazy_step", "passed"),
    [(200, 300, 400, True), (200, inf, inf, False), (300, 300, 400, False), (200, 300, 300, False)],
)
def test_steps_grow_with_laziness(paper, rich, medium, lazy_step, passed):
    names = {"cpu_rich": rich, "cpu": medium, "cpu_lazy": lazy_step}
    runs = [run(name, test=step) for name, step in names.items()]
    assert finding(paper, "E3d", *runs).passed == passed


def test_a_lazy_network_that_never_generalizes_decides_nothing(paper):
    """Its steps are censored: it may be later, or have no step at all."""
    (claim,) = (one for one in paper.claim if one.id == "E3d")
    names = {"cpu_rich": 200, "cpu": 300, "cpu_lazy": inf}
    outcome = evaluate(claim, Runs(run(name, test=step) for name, step in names.items()))
    assert outcome.state == "undecided"
