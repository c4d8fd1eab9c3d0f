"""Local complexity against the analytic count, and its invariants (section 06.5 of the specification)."""

import pytest
import torch

from grok.measures.local_complexity import frame, local_complexity
from grok.models.mlp import mlp, scaled

D, P = 16, 9


@pytest.fixture
def model():
    torch.manual_seed(0)
    return scaled(mlp([D, 40, 30, 5], "relu"), 2.0).double()


@pytest.fixture
def points():
    return torch.rand(25, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_directions_are_orthonormal_and_no_more_than_there_are_dimensions():
    v = frame(P, D, 3)
    assert torch.allclose(v @ v.T, torch.eye(P, dtype=torch.float64))
    with pytest.raises(ValueError, match="17 orthonormal directions in 16"):
        frame(17, 16, 0)


@pytest.mark.parametrize("radius", [0.01, 0.1, 1.0])
def test_at_the_first_layer_it_is_the_analytic_count(model, points, radius):
    v, first = frame(P, D, 3), model[0]
    found = local_complexity(lambda x: [first(x)], points, v, radius)
    reach = radius * (first.weight @ v.T).abs().amax(1)  # of each neuron
    counted = (first(points).abs() < reach).sum(1).double().mean()
    assert found.item() == counted.item() > 0


def test_planes_through_a_point_are_all_counted_with_one_direction(model):
    torch.nn.init.zeros_(model[0].bias)
    at = torch.zeros(1, D, dtype=torch.float64)
    assert local_complexity(lambda x: [model[0](x)], at, frame(1, D, 0), 1e-3).item() == 40


def test_it_grows_with_the_radius_and_falls_away_from_the_origin(model, points):
    v = frame(P, D, 3)

    def hidden(x):
        return [model[:1](x), model[:3](x)]  # pre-activations of both hidden layers

    grows = [local_complexity(hidden, points, v, r).item() for r in (0.001, 0.01, 0.1, 1.0)]
    assert grows == sorted(grows) and grows[0] < grows[-1] <= 70
    near, far = (local_complexity(hidden, k * (points - 0.5), v, 0.1).item() for k in (0.1, 30))
    assert far < near
