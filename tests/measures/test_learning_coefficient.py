"""The estimator of the local learning coefficient against closed forms."""

import math

import pytest
import torch

from grok.measures.learning_coefficient import default_n_beta, local_learning_coefficient


def estimate(loss, weights, n_beta, **options) -> float:
    named = {name: torch.tensor(value, dtype=torch.float64) for name, value in weights.items()}
    return local_learning_coefficient(loss, named, n_beta, **options)[0]


@pytest.mark.parametrize("curvatures", [[1.0] * 10, [1, 0.1, 10, 3, 0.3, 1, 1, 1, 1, 1]])
def test_a_regular_minimum_has_half_its_dimension(curvatures):
    """Exactly, with localization and finite steps: the sum over directions of curvature h of
    n h / (2 (n h + gamma)) / (1 - eps (n h + gamma) / 4). It tends to d / 2 = 5."""
    h, n_beta, eps, gamma = torch.tensor(curvatures).double(), 1000.0, 1e-4, 10.0
    pull = n_beta * h + gamma
    expected = float((n_beta * h / (2 * pull) / (1 - eps * pull / 4)).sum())
    assert expected == pytest.approx(5, rel=0.1)
    found = estimate(
        lambda w: (h * w["w"] ** 2).sum() / 2,
        {"w": [0.0] * 10},
        n_beta,
        step_size=eps,
        localization=gamma,
        burn_in=600,
        draws=1500,
        chains=32,
    )
    assert found == pytest.approx(expected, rel=0.03)


def test_a_minimum_of_fourth_order_has_a_quarter():
    """n w^4 has the mean 1/4 under the density e^(-n w^4), whatever n is."""
    found = estimate(
        lambda w: w["w"] ** 4,
        {"w": 0.0},
        1e4,
        step_size=5e-5,
        localization=1.0,
        burn_in=2000,
        draws=3000,
        chains=2048,
    )
    assert found == pytest.approx(1 / 4, rel=0.05)


@pytest.mark.parametrize(
    ("n_beta", "gamma", "value", "step_size", "burn_in", "draws"),
    [
        (1e3, 1.0, 0.390, 1e-4, 15_000, 5000),
        (1e4, 10.0, 0.354, 4e-5, 10_000, 5000),
        (1e4, 100.0, 0.182, 4e-5, 1500, 1500),
    ],
)
def test_a_product_of_two_weights_has_less_than_a_regular_minimum(
    n_beta, gamma, value, step_size, burn_in, draws
):
    """(x y)^2 has the coefficient 1/2 with multiplicity 2, so that at a finite number of data the
    estimate is below 1/2 by about 1 / log n. It is one integral: with y integrated out, the density of
    x is e^(-gamma x^2 / 2) / sqrt(n x^2 + gamma / 2), and y's part is n x^2 / (2 (n x^2 + gamma / 2))."""
    x = torch.linspace(-8, 8, 8_000_001, dtype=torch.float64)
    width = n_beta * x**2 + gamma / 2
    density = torch.exp(-gamma * x**2 / 2) / width.sqrt()
    expected = float((density * n_beta * x**2 / (2 * width)).sum() / density.sum())
    assert expected == pytest.approx(value, abs=5e-4)
    found = estimate(
        lambda w: (w["x"] * w["y"]) ** 2,
        {"x": 0.0, "y": 0.0},
        n_beta,
        step_size=step_size,
        localization=gamma,
        burn_in=burn_in,
        draws=draws,
        chains=1024,
    )
    assert found == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(
    ("widths", "rank", "coefficient", "n_beta", "step_size", "burn_in"),
    [
        ((5, 3, 5), 3, 10.5, 1e4, 5e-6, 8000),
        ((5, 3, 5), 2, 9.5, 1e4, 1e-5, 6000),
        ((5, 3, 5), 1, 8.0, 1e4, 1e-5, 6000),
        ((5, 3, 5), 0, 6.5, 1e3, 1e-4, 10_000),
        ((4, 3, 4), 1, 6.0, 1e4, 1e-5, 6000),
    ],
)
def test_a_deep_linear_network_has_the_coefficient_of_reduced_rank_regression(
    widths, rank, coefficient, n_beta, step_size, burn_in
):
    """Aoyagi & Watanabe 2005, for m inputs, h hidden units and n outputs: [2 (h + r) (m + n) + 2 m n -
    (h + r)^2 - m^2 - n^2 + (m + h + n + r mod 2)] / 8. Half the number of weights is 15, or 12.

    The steps are as large as the curvature of a rank allows. At rank 0 the multiplicity is 2, and an
    integral over singular values gives 6.22 for this number of data."""
    m, h, n = widths
    parity = (m + h + n + rank) % 2
    formula = 2 * (h + rank) * (m + n) + 2 * m * n - (h + rank) ** 2 - m**2 - n**2 + parity
    assert formula / 8 == coefficient
    a, b = torch.zeros(h, m).double(), torch.zeros(n, h).double()
    for i in range(rank):
        a[i, i] = b[i, i] = 1.0
    target = b @ a
    found = estimate(
        lambda w: ((w["b"] @ w["a"] - target) ** 2).sum() / 2,
        {"a": a.tolist(), "b": b.tolist()},
        n_beta,
        step_size=step_size,
        localization=1.0,
        burn_in=burn_in,
        draws=3000,
        chains=64,
    )
    assert found == pytest.approx(coefficient, rel=0.05)


def test_it_depends_on_the_seed_alone_and_says_how_far_the_chains_agree():
    weights = {"w": torch.zeros(3)}
    one, again, other = (
        local_learning_coefficient(lambda w: (w["w"] ** 2).sum(), weights, 50.0, seed=seed)
        for seed in (1, 1, 2)
    )
    assert one == again != other
    assert one[1] > 0
    single = local_learning_coefficient(lambda w: (w["w"] ** 2).sum(), weights, 50.0, chains=1)
    assert single[1] == 0
    assert default_n_beta(100) == 100 / math.log(100)
