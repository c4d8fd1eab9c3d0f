"""Losses and accuracies against torch's own and against fractions."""

import math

import pytest
import torch
import torch.nn.functional as F

from grok.training import losses


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
