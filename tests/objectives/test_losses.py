"""Losses and accuracies against torch's own and against fractions."""

import math

import pytest
import torch
import torch.nn.functional as F

from grok.objectives import losses


def test_nine_of_ten_reaches_a_threshold_of_0_9():
    guesses = torch.arange(10)
    classes = torch.cat([torch.arange(9), torch.tensor([0])])
    assert losses.accuracy(guesses, classes).item() >= 0.9


def test_cross_entropy_equals_torch_and_float64_keeps_what_float32_loses():
    logits = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    classes = torch.tensor([0, 1, 2, 3, 4, 0, 1])
    ours = losses.cross_entropy(logits, classes)
    assert ours.item() == pytest.approx(F.cross_entropy(logits, classes).item(), rel=1e-6)
    sure = torch.tensor([[20.0, 0.0]])
    assert losses.cross_entropy(sure, torch.tensor([0])).item() == 0
    precise = losses.cross_entropy(sure, torch.tensor([0]), "float64").item()
    assert precise == pytest.approx(math.exp(-20), rel=1e-6, abs=0)


def test_nearest_is_the_smallest_distance():
    outputs, candidates = torch.randn(20, 3), torch.randn(6, 3)
    assert torch.equal(
        losses.nearest(outputs, candidates), torch.cdist(outputs, candidates).argmin(1)
    )


def test_stablemax_sums_to_one_and_is_its_formula():
    logits = torch.randn(6, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 30
    found = losses.log_stablemax(logits).exp()
    assert torch.allclose(found.sum(-1), torch.ones(6, dtype=torch.float64))
    s = torch.where(logits >= 0, logits + 1, 1 / (1 - logits))
    assert torch.allclose(found, s / s.sum(-1, keepdim=True))


def test_the_gradient_of_stablemax_is_right_at_zero_too():
    logits = torch.tensor([[0.0, 0.0, 2.0, -3.0], [0.0, 1e6, -1e6, 5.0]], dtype=torch.float64)
    classes = torch.tensor([0, 2])
    logits.requires_grad_()
    (slope,) = torch.autograd.grad(losses.stablemax(logits, classes), logits)
    s = torch.where(logits >= 0, logits + 1, 1 / (1 - logits)).detach()
    rate = torch.where(logits >= 0, 1 / s, s).detach()  # d log s / dz
    expected = rate * (s / s.sum(-1, keepdim=True) - F.one_hot(classes, 4)) / 2
    assert torch.allclose(slope, expected, rtol=1e-12, atol=0)
