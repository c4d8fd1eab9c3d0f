"""Morwani et al. 2024: the bound on margins, the solution that has it, and the claims."""

import math
from dataclasses import replace

import pytest
import torch

from grok.claims.testing import claim_run, finding
from grok.engine.events import Record
from grok.engine.train import train
from grok.errors import UserError
from grok.experiment.experiment import load_module
from tests.conftest import PROJECT

P = 7


@pytest.fixture(scope="module")
def paper():
    return load_module(PROJECT / "experiments" / "max_margin.py")


def problem(paper, **updates):
    config = {"p": P, "width": 24, "seed": 1, "dtype": "float64", **updates}
    return paper.ex.problem_of(paper.ex.full_config(config))


def solution(p: int) -> tuple[torch.Tensor, ...]:
    """u, v and w (p, 4 (p - 1)): for each frequency, eight neurons with the phases (a, 2 a, 3 a), a a
    multiple of 45 degrees, so that all terms but cos(k (a + b - c)) add up to zero."""
    numbers = torch.arange(p, dtype=torch.float64)
    neurons = [
        [torch.cos(2 * math.pi * (k * numbers / p + n * eighth / 8)) for n in (1, 2, 3)]
        for k in range(1, (p - 1) // 2 + 1)
        for eighth in range(8)
    ]
    return tuple(torch.stack(part, 1) for part in zip(*neurons, strict=True))


def measured(paper, weights) -> dict[str, float]:
    one = problem(paper, width=weights[0].shape[1])
    with torch.no_grad():
        for parameter, value in zip(one.module.parameters(), weights, strict=True):
            parameter.copy_(value)
        return {name: float(value) for name, value in one.metrics(one.module, one.data).items()}


def test_network_is_a_sum_of_squares(paper):
    module = paper.QuadraticSum(3, 2, 1.0)
    u, v, w = module.parameters()
    found = module(torch.tensor([[1, 2]]))[0]
    assert torch.allclose(found, ((u[1] + v[2]) ** 2) @ w.T)


def test_a_network_of_cosines_has_the_largest_margin_and_every_metric_at_its_limit(paper):
    """gamma* = sqrt(2 / 27) / (sqrt(p) (p - 1)), with all frequencies and equal norms."""
    found = measured(paper, solution(P))
    for name in ("margin_ratio", "mean_margin_ratio", "least_share", "power_share"):
        assert found[name] == pytest.approx(1, abs=1e-6), name
    assert found["frequencies"] == (P - 1) / 2
    for name in ("phase_gap", "norm_gap", "constant_share"):
        assert found[name] == pytest.approx(0, abs=1e-6), name


def test_no_network_exceeds_the_largest_margin(paper):
    """At any scale and any step: the margin is divided by the cubed norms."""
    for seed in range(5):
        one = problem(paper, seed=seed, train_steps=40, eval_steps=10, init_std=0.3)
        for event in train([one], compiled=False):
            if isinstance(event, Record):
                for name in ("margin_ratio", "mean_margin_ratio"):
                    assert event.metrics[name] <= 1 + 1e-3
    weights = solution(P)
    double = measured(paper, [2 * value for value in weights])
    assert double["margin_ratio"] == pytest.approx(1, abs=1e-6)


def test_penalties_are_of_neurons_or_of_all_weights(paper):
    one = problem(paper, penalty_weight=0.5)
    plain = replace(one.loss, penalty_weight=0.0)(one.module, one.data)
    squares = sum(value.square().sum(0) for value in one.module.parameters())
    expected = plain + 0.5 * (squares**1.5).sum()
    assert torch.allclose(one.loss(one.module, one.data), expected)
    squared = replace(one.loss, penalty="l2")(one.module, one.data)
    assert torch.allclose(squared, plain + 0.5 * squares.sum())


def test_an_even_modulus_is_refused(paper):
    with pytest.raises(UserError, match="p=8: expected an odd number"):
        problem(paper, p=8)


GOOD = {
    "margin_ratio": 0.999,
    "frequencies": 11.0,
    "least_share": 0.9,
    "power_share": 0.999,
    "phase_gap": 0.001,
    "norm_gap": 1e-4,
    "constant_share": 1e-6,
}


@pytest.mark.parametrize(
    ("id", "changes", "passed"),
    [
        ("B2a", {}, True),
        ("B2a", {"margin_ratio": 0.98}, False),
        ("B2b", {}, True),
        ("B2b", {"frequencies": 10.0, "least_share": 0.0}, False),
        ("B2b", {"least_share": 0.2}, False),
        ("B2c", {}, True),
        ("B2c", {"power_share": 0.98}, False),
        ("B2d", {}, True),
        ("B2d", {"phase_gap": 0.02}, False),
        ("B2e", {}, True),
        ("B2e", {"norm_gap": 0.01}, False),
        ("B2e", {"constant_share": 0.01}, False),
        ("B2-l2", {}, False),
        ("B2-l2", {"frequencies": 6.0, "margin_ratio": 0.5}, True),
    ],
)
def test_claims_pass_and_fail_at_their_bounds(paper, id, changes, passed):
    name = "l2" if id == "B2-l2" else "cpu"
    run = claim_run(name, result={**GOOD, **changes}, p=23)
    assert finding(paper, id, run).passed is passed
