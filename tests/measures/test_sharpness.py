"""Sharpness of a loss whose maximum in the box is known."""

import pytest
import torch
from torch import nn

from grok.measures.sharpness import sharpness
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


def test_rms_norms():
    norms = rms_norms({"a.weight": torch.tensor([3.0, 4.0])})
    assert norms == pytest.approx({"a/weight": (12.5) ** 0.5})
