"""Networks by construction: what they get right without training, and their spectra."""

import numpy as np
import pytest
import torch

from grok.measures import periodicity
from grok.tasks.operations import table
from grok.tasks.tables import covered, sums
from grok.theory import modular


@pytest.mark.parametrize(
    ("width", "least", "most"), [(25, 0.38, 0.5), (50, 0.84, 0.92), (100, 0.99, 1), (500, 1, 1)]
)
def test_addition_without_training(width, least, most):
    whole = table("x_plus_y", 97)
    weights = modular.network(97, width, 2, False, 0)
    reached = modular.accuracy(*weights, whole.pairs.numpy(), whole.labels.numpy())
    assert least <= reached <= most


def test_squared_error_at_width_500():
    whole = table("x_plus_y", 97)
    outputs = modular.outputs_of(*modular.network(97, 500, 2, False, 0), whole.pairs.numpy())
    assert ((outputs - np.eye(97)[whole.labels]) ** 2).mean() == pytest.approx(0.008, abs=0.001)


def test_products_with_zeros():
    whole = table("x_times_y", 97)
    weights = modular.network(97, 200, 2, True, 0)
    assert modular.accuracy(*weights, whole.pairs.numpy(), whole.labels.numpy()) == 1


@pytest.mark.parametrize(
    ("terms", "p", "width", "least", "most"),
    [(3, 23, 200, 0.7, 0.9), (3, 23, 1000, 0.99, 1), (4, 11, 4000, 0.99, 1)],
)
def test_sums_of_more_terms(terms, p, width, least, most):
    rows, labels = sums(p, terms)
    assert len(rows) == p**terms
    weights = modular.network(p, width, terms, False, 0)
    assert least <= modular.accuracy(*weights, rows[::7].numpy(), labels[::7].numpy()) <= most


def test_discrete_logarithms():
    for p in (3, 23, 97):
        logs = modular.discrete_logarithm(p)
        a, b = np.arange(1, p), np.arange(1, p)[:, None]
        assert ((logs[a] + logs[b]) % (p - 1) == logs[a * b % p]).all()
    with pytest.raises(ValueError, match="not prime"):
        modular.discrete_logarithm(15)


def test_constructed_neurons_are_periodic_and_obey_the_phase_relation():
    weights = [torch.from_numpy(w) for w in modular.network(97, 60, 2, False, 0)]
    torch.testing.assert_close(
        periodicity.neuron_participation(*weights), torch.ones(60, dtype=torch.float64)
    )
    assert periodicity.phase_gap(*weights).max() < 1e-9
    shifted = weights[1].roll(5, 0)  # another phase by 5 steps of its frequency
    assert periodicity.phase_gap(weights[0], shifted).max() > 0.1


def test_products_are_periodic_in_the_logarithm_only():
    weights = [torch.from_numpy(w)[..., 1:] for w in modular.network(97, 61, 2, True, 0)]
    order = torch.from_numpy(modular.spectral_order(97, True))
    assert periodicity.neuron_participation(weights[0][:, order], weights[1][order]).min() > 0.999
    assert periodicity.neuron_participation(*weights).mean() < 0.06


def test_noise_is_not_periodic():
    noise = torch.randn(97, 2000, generator=torch.Generator().manual_seed(0))
    assert float(periodicity.participation(noise).mean()) == pytest.approx(0.0405, abs=0.001)


def test_a_lookup_of_siblings():
    """3 divides 96: a**3 has 32 values for 96 numbers, so every row but the first occurs three times."""
    whole = table("(5*a**3 + 2*b**4)**2 - b", 97)
    order = torch.randperm(97 * 97, generator=torch.Generator().manual_seed(0))
    train, test = whole.pairs[order[:4704]], whole.pairs[order[4704:]]
    known = covered(whole.pairs, whole.labels, train, test)
    assert float(known.double().mean()) == pytest.approx(0.74, abs=0.02)
    cubes = {(pow(a, 3, 97), b) for a, b in train.tolist()}
    assert known.tolist() == [(pow(a, 3, 97), b) in cubes for a, b in test.tolist()]
    plain = table("x_plus_y", 23)
    assert not covered(plain.pairs, plain.labels, plain.pairs[:200], plain.pairs[200:]).any()
