"""Sharpness of a loss whose maximum in the box is known."""

import pytest
import torch
from torch import nn

from grok.measures.sharpness import sharpness, top_eigenvalue
from grok.measures.vectors import rms_norms


def test_sharpness_of_a_quadratic_bowl_at_its_bottom():
    module = nn.Linear(4, 1, bias=False).double()
    weights = {"weight": torch.tensor([[1.0, -2.0, 0.0, 3.0]], dtype=torch.float64)}
    centre, curvature = weights["weight"].clone(), torch.tensor([1.0, 5.0, 2.0, 0.5])

    def loss(model, data):
        return 0.5 + (curvature * (model.weight - centre) ** 2).sum()

    eps = 1e-2
    worst = (curvature * (eps * (centre.abs() + 1)) ** 2).sum().item()
    found, published = sharpness(module, loss, {}, weights, eps)
    assert found == pytest.approx(100 * worst / 1.5, rel=1e-6)
    assert published == 0


def test_sharpness_of_a_slope_is_the_better_corner_and_the_published_one_the_worse():
    module = nn.Linear(2, 1, bias=False).double()
    weights = {"weight": torch.tensor([[1.0, -1.0]], dtype=torch.float64)}

    def loss(model, data):
        return 1.0 + (model.weight * torch.tensor([[2.0, -3.0]])).sum()  # 6 here

    found, published = sharpness(module, loss, {}, weights, eps=0.1)
    assert found == pytest.approx(100 * (2 * 0.2 + 3 * 0.2) / 7, rel=1e-6)
    assert published == pytest.approx(100 * (2 * 0.2 + 3 * 0.2) / (1 - 6), rel=1e-6)


def test_an_adaptive_box_has_the_same_sharpness_at_any_scale_of_a_weight():
    """Scaling a weight by s and its input by 1 / s changes nothing but Keskar's box."""

    def measured(scale: float, adaptive: bool) -> float:
        module = nn.Linear(2, 1, bias=False).double()
        weights = {"weight": scale * torch.tensor([[1.0, -3.0]], dtype=torch.float64)}
        inputs = torch.tensor([[2.0, 1.0]]) / scale

        def loss(model, data):
            return 1.0 + (model.weight * inputs).sum() ** 2

        return sharpness(module, loss, {}, weights, eps=0.1, adaptive=adaptive)[0]

    # the output of -1 falls by 0.1 (2 + 3)
    assert measured(1, True) == pytest.approx(100 * (1.5**2 - 1) / 3, rel=1e-6)
    assert measured(0.01, True) == pytest.approx(measured(1, True), rel=1e-6)
    assert measured(0.01, False) > 10 * measured(1, False)


def test_the_top_eigenvalue_is_the_largest_curvature():
    """Of a quadratic form with the eigenvalues 1, 3 and -7 the last is largest in absolute value."""
    module = nn.Linear(3, 1, bias=False).double()
    basis = torch.linalg.qr(torch.tensor([[1.0, 2, 3], [4, 5, 6], [7, 8, 10]]).double()).Q
    for curvatures, top in (([1.0, 3.0, -7.0], -7.0), ([1.0, 3.0, 9.0], 9.0)):
        matrix = basis @ torch.diag(torch.tensor(curvatures).double()) @ basis.T

        def loss(model, data, matrix=matrix):
            return (model.weight @ matrix @ model.weight.T).squeeze() / 2

        weights = {"weight": torch.ones(1, 3, dtype=torch.float64)}
        found = top_eigenvalue(module, loss, {}, weights, tolerance=1e-6)
        assert found == pytest.approx(top, rel=1e-3)


def test_rms_norms():
    norms = rms_norms({"a.weight": torch.tensor([3.0, 4.0])})
    assert norms == pytest.approx({"a/weight": (12.5) ** 0.5})
