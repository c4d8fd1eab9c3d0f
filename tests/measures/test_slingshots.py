"""Slingshots: when a cycle is counted, and where float32 rounds."""

import pytest
import torch

from grok.measures import slingshots


def test_a_cycle_is_counted_once_and_armed_again():
    losses = [2, 1e-5, 0.5, 0.4, 1e-3, 0.6, 1e-5, 5e-3, 0.02, 1e-6]
    assert slingshots.cycles(range(10), losses) == [2, 8]
    assert slingshots.cycles(range(3), [1.0, 0.5, 2.0]) == []


def test_absorption_begins_where_float32_rounds_to_one():
    logits = torch.tensor([[0.0, -17.5], [0.0, -15.0]])
    labels = torch.tensor([0, 0])
    assert float(slingshots.absorbed(logits, labels)) == 0.5
    exact = torch.nn.functional.softmax(logits, -1)[:, 0]
    assert exact[0] == 1 and exact[1] < 1


def test_the_gradient_of_float32_does_not_sum_to_zero_once_absorbed():
    logits = torch.tensor([[20.0, 0.0, 1.0]])
    slope = logits.softmax(-1) - torch.tensor([[1.0, 0.0, 0.0]])
    assert float(slingshots.zero_sum_defect(slope)) == pytest.approx(1)
    exact = logits.double().softmax(-1) - torch.tensor([[1.0, 0.0, 0.0]])
    assert float(slingshots.zero_sum_defect(exact)) < 1e-6
