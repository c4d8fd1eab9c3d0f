"""Softmax collapse and the direction of descent, on hand-made cases."""

import pytest
import torch
import torch.nn.functional as F

from grok.measures import saturation
from grok.objectives.losses import log_stablemax


@pytest.mark.parametrize(("dtype", "expected"), [(torch.float32, 0.5), (torch.float64, 0.0)])
def test_a_lead_of_20_is_all_in_float32_and_not_in_float64(dtype, expected):
    logits = torch.tensor([[20.0, 0, 0], [10.0, 0, 0]], dtype=dtype)
    assert saturation.collapsed(F.log_softmax(logits, -1)).item() == expected
    (slope,) = torch.autograd.grad(
        F.cross_entropy(x := logits.requires_grad_(), torch.tensor([0, 0])), x
    )
    assert (slope[0, 0] == 0).item() == (expected > 0)  # collapsed: no gradient of the right logit


def test_stablemax_does_not_collapse():
    assert saturation.collapsed(log_stablemax(torch.tensor([[1e4, -1e2, 0.0]]))).item() == 0


def test_alignment_is_one_where_descent_scales_the_weights_up():
    weights = torch.randn(7, dtype=torch.float64)
    assert saturation.alignment(-2 * weights, weights).item() == pytest.approx(1)
    assert saturation.alignment(weights, weights).item() == pytest.approx(-1)
    assert saturation.alignment(torch.zeros(7), torch.zeros(7)).item() == 0
