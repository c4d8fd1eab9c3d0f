"""Clock and pizza: the measures of Zhong et al. on functions whose answers are known."""

import math

import pytest
import torch

from grok.measures.addition_circuits import (
    circularity,
    distance_irrelevance,
    gradient_symmetricity,
)

P = 59
NUMBERS = torch.arange(P).double()
A, B = torch.meshgrid(NUMBERS, NUMBERS, indexing="ij")


def test_logits_of_the_sum_alone_do_not_depend_on_the_distance():
    assert distance_irrelevance(torch.sin(2 * math.pi * (A + B) / P)) == pytest.approx(1)


def test_logits_of_the_distance_alone_are_a_pizza_s():
    """|cos(pi k (a - b) / p)|, the factor of the pizza's logits (section 3.2)."""
    assert distance_irrelevance(torch.cos(math.pi * (A - B) / P).abs()) == pytest.approx(0)


def test_logits_of_both_are_in_between():
    logits = torch.cos(math.pi * (A - B) / P) ** 2 + 0.3 * torch.sin(2 * math.pi * (A + B) / P)
    assert 0.2 < distance_irrelevance(logits) < 0.8


def test_gradients_of_a_function_of_the_sum_are_symmetric_and_opposite_ones_are_not():
    gradients = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    assert gradient_symmetricity(gradients, 3 * gradients) == pytest.approx(1)
    assert gradient_symmetricity(gradients, -gradients) == pytest.approx(-1)


def test_waves_are_circles_and_noise_is_not():
    """Two frequencies are two pairs of components, each of one frequency."""
    waves = [f(2 * math.pi * k * NUMBERS / P) for k in (3, 7) for f in (torch.cos, torch.sin)]
    scale = torch.tensor([3.0, 3.0, 1.0, 1.0]).double()
    assert circularity(torch.stack(waves, 1) * scale) == pytest.approx(1)
    noise = torch.randn(P, 16, generator=torch.Generator().manual_seed(0))
    assert circularity(noise) < 0.5
