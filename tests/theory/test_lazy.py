"""The two moments of Kumar et al.'s network against the network itself."""

import numpy as np
import pytest
import torch

from grok.experiment.experiment import load_module
from grok.theory import lazy
from tests.conftest import PROJECT

D, P, N, ALPHA, EPS = 8, 20, 30, 1.5, 0.1


@pytest.fixture(scope="module")
def paper():
    return load_module(PROJECT / "experiments" / "lazy_to_rich.py")


@pytest.fixture
def task(paper):
    torch.manual_seed(0)
    x = torch.randn(P, D, dtype=torch.float64) / D**0.5
    beta = torch.randn(D, dtype=torch.float64)
    return paper.QuadraticUnits(D, N).double(), x, beta, (x @ beta) ** 2 / 2


def test_descent_on_the_moments_is_descent_on_the_weights(paper, task):
    module, x, _, y = task
    data = {
        "train_inputs": x,
        "train_targets": y,
        "train_start": torch.zeros(P, dtype=torch.float64),
        "alpha": torch.tensor(ALPHA),
        "eps": torch.tensor(EPS, dtype=torch.float64),
    }
    rate = N / ALPHA**2
    of = lazy.moments(module.weight.detach().numpy())
    for _ in range(1000):
        (slope,) = torch.autograd.grad(paper.QuadraticLoss()(module, data), [module.weight])
        with torch.no_grad():
            module.weight -= rate * slope
        of = lazy.descended(of, x.numpy(), y.numpy(), ALPHA, EPS, rate * ALPHA / N)
    ours = ALPHA * module(x, data["eps"]).detach().numpy()
    np.testing.assert_allclose(lazy.outputs(x.numpy(), of, ALPHA, EPS), ours, rtol=1e-10)
    assert paper.QuadraticLoss()(module, data).item() < 0.1 * (y**2).mean().item()  # it has learned


def test_the_population_loss_is_the_mean_over_many_inputs(task):
    module, _, beta, _ = task
    of = lazy.moments(module.weight.detach().numpy())
    x = np.random.default_rng(0).standard_normal((400_000, D)) / D**0.5
    gap = lazy.outputs(x, of, ALPHA, EPS) - (x @ beta.numpy()) ** 2 / 2
    found = lazy.population_loss(of, beta.numpy(), ALPHA, EPS)
    assert found == pytest.approx((gap**2).mean(), rel=0.02)


def test_a_perfect_second_moment_has_no_loss():
    beta = np.array([1.0, -2.0, 0.5])
    of = np.zeros(3), np.outer(beta, beta) / (ALPHA * EPS)
    assert lazy.population_loss(of, beta, ALPHA, EPS) == pytest.approx(0, abs=1e-15)
