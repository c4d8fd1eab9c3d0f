"""Xu et al. 2024: descent in the span of the inputs, its metrics, and the claims."""

import pytest
import torch

from grok.claims.testing import claim_run, finding
from grok.engine.events import Outcome
from grok.engine.train import train
from grok.errors import UserError
from grok.experiment.experiment import load_module
from tests.conftest import PROJECT

SMALL = {
    "input_dim": 300,
    "train_count": 12,
    "test_count": 20,
    "width": 6,
    "mean_norm": 5.0,
    "flipped": 0.2,
    "init_std": 1e-2,
    "lr": 0.01,
    "train_steps": 5,
    "seed": 3,
}


@pytest.fixture(scope="module")
def paper():
    return load_module(PROJECT / "experiments" / "xor_clusters.py")


def problem(paper, **updates):
    return paper.ex.problem_of(paper.ex.full_config({**SMALL, **updates}))


def test_descent_in_coordinates_is_descent_in_all_dimensions(paper):
    """In any orthonormal basis of the inputs' span the steps are the same: here the network of twelve
    coordinates is trained beside one of all dimensions, made from the same products."""
    one = problem(paper)
    data = one.data
    # inputs with these products: the basis is the first n axes, the rests lie on the next N
    n, width = 12, 6
    weights = torch.cat([one.module.weight.detach(), torch.eye(width, dtype=torch.float64)], 1)
    inputs = {
        part: torch.cat([data[f"{part}_coordinates"], data[f"{part}_rest"]], 1)
        for part in ("train", "test")
    }
    weights.requires_grad_()
    for _ in range(5):
        f = torch.relu(inputs["train"] @ weights.T) @ one.module.outputs
        loss = torch.log1p(torch.exp(-data["train_targets"] * f)).mean()
        (grad,) = torch.autograd.grad(loss, [weights])
        with torch.no_grad():
            weights -= 0.01 * grad
    found = next(e for e in train([one], compiled=False) if isinstance(e, Outcome)).weights
    torch.testing.assert_close(found["weight"], weights[:, :n].detach(), rtol=1e-9, atol=1e-12)
    assert torch.equal(weights[:, n:].detach(), torch.eye(width, dtype=torch.float64))


def test_initial_weights_do_not_repeat_numbers_of_the_inputs(paper, monkeypatch):
    """PyTorch's CPU generator reads the low 32 bits of a seed: two generators whose seeds differ above
    them give the same numbers, and the weights of a unit were the inputs, shifted by some places."""
    draw, generators = torch.randn, []

    def drawn(*size, generator=None, **options):
        generators.append(generator)
        return draw(*size, generator=generator, **options)

    monkeypatch.setattr(torch, "randn", drawn)
    problem(paper)
    seeds = {id(one): one.initial_seed() % 2**32 for one in generators}
    assert len(seeds) == len({*seeds.values()}) == 2


def test_products_are_those_of_inputs_around_four_means(paper):
    """Distances of the inputs, which a basis keeps, are those of noise of D dimensions."""
    data, weight = paper.clusters(paper.Config(**paper.ex.full_config(SMALL)))
    squares = data["train_coordinates"].square().sum(1)
    assert squares.mean() == pytest.approx(300 + 25, rel=0.1)
    norms = weight.square().sum(1) + data["rest_squares"]
    assert norms.mean() == pytest.approx(300 * 1e-4, rel=0.15)
    assert {*data["test_targets"].tolist()} == {-1.0, 1.0}
    assert data["is_flipped"].dtype == torch.bool


def test_a_linear_network_is_odd_and_an_even_one_is_not(paper):
    """relu(z) - relu(-z) = z, and relu(z) + relu(-z) = |z|."""
    one = problem(paper, width=2)
    data = {**one.data, "test_rest": torch.zeros(20, 2).double()}
    data["mean_rest"], data["rest_squares"] = torch.zeros(2, 2).double(), torch.zeros(2).double()
    with torch.no_grad():
        row = one.module.weight[0].clone()
        one.module.weight[1] = -row
        assert paper.metrics(one.module, data)["odd_share"] == pytest.approx(1)
        one.module.outputs[1] = one.module.outputs[0]
        assert paper.metrics(one.module, data)["odd_share"] == pytest.approx(0)


def test_more_inputs_than_dimensions_are_refused(paper):
    with pytest.raises(UserError, match="train_count=12: expected less than input_dim=10"):
        problem(paper, input_dim=10)


def series(train, flipped, test, odd, cosine):
    steps = [0, 1, 15, 30]
    names = ("train_accuracy", "flipped_accuracy", "test_accuracy", "odd_share", "mean_cosine")
    return {
        name: (steps, values)
        for name, values in zip(names, (train, flipped, test, odd, cosine), strict=True)
    }


GOOD = {
    "train": [0.5, 1, 1, 1],
    "flipped": [0.5, 1, 1, 1],
    "test": [0.5, 0.5, 0.99, 0.99],
    "odd": [0.6, 0.999, 0.3, 0.2],
    "cosine": [0.1, 0.1, 0.4, 0.5],
}


@pytest.mark.parametrize(
    ("id", "changes", "passed"),
    [
        ("B4a1", {}, True),
        ("B4a1", {"train": [0.5, 0.99, 1, 1]}, False),
        ("B4a1", {"test": [0.5, 0.7, 1, 1]}, False),
        ("B4a2", {}, True),
        ("B4a2", {"test": [0.5, 0.5, 0.9, 0.96]}, False),
        ("B4a2", {"train": [0.5, 1, 1, 0.98]}, False),
        ("B4a3", {}, True),
        ("B4a3", {"odd": [0.6, 0.98, 0.3, 0.2]}, False),
        ("B4a3", {"odd": [0.6, 0.999, 0.6, 0.2]}, False),
        ("B4a3", {"cosine": [0.1, 0.1, 0.1, 0.1]}, False),
    ],
)
def test_claims_pass_and_fail_at_their_bounds(paper, id, changes, passed):
    run = claim_run("cpu", series=series(**{**GOOD, **changes}))
    assert finding(paper, id, run).passed is passed


@pytest.mark.parametrize(
    ("steps", "test", "passed"),
    [
        ([0, 20, 100, 110], 0.97, True),
        ([0, 19, 100, 110], 0.97, False),
        ([0, 20, 99, 110], 0.97, False),
        ([0, 20, 100, 110], 0.7, False),  # it never generalizes, neither sooner nor later
    ],
)
def test_a_small_step_must_delay_both(paper, steps, test, passed):
    accuracies = {"train": [0.5, 1, 1, 1], "test": [0.5, 0.5, test, test]}
    found = {f"{part}_accuracy": (steps, values) for part, values in accuracies.items()}
    assert finding(paper, "B4a4", claim_run("slow", series=found)).passed is passed
