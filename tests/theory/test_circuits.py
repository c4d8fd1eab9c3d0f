"""The competition of two circuits: its table, and its descent against autograd."""

from math import inf

import numpy as np
import pytest
import torch

from grok.theory.circuits import Circuits, halved

STEPS = 100_000


@pytest.mark.parametrize(
    ("circuits", "train", "test", "end"),
    [
        (Circuits(), 122, 4531, (7.25, 0.91)),
        (Circuits(decay=0.0), 119, inf, (0.0, 14.95)),
        (Circuits(norm_gen=2.0, norm_mem=1.0), 120, inf, (0.91, 7.25)),
        (Circuits(start_gen=1.0, start_mem=0.005), 120, 120, (7.25, 0.91)),
    ],
    ids=["all three", "no decay", "memorizing is cheaper", "generalizing is fast"],
)
def test_grokking_needs_all_three_ingredients(circuits, train, test, end):
    path = circuits.descend(STEPS)
    found = [halved(losses) for losses in circuits.losses(path)]
    assert found == [pytest.approx(train, abs=1), pytest.approx(test, abs=1)]
    assert path[-1] == pytest.approx(end, abs=0.01)


def test_descent_is_descent_on_the_penalized_loss():
    one = Circuits()
    subs = torch.tensor([0.0, 0.0, one.start_gen, one.start_mem], dtype=torch.float64)
    for _ in range(200):
        subs.requires_grad_()
        w = subs[:2] * subs[2:]
        norms = torch.tensor([one.norm_gen, one.norm_mem], dtype=torch.float64)
        loss = torch.log1p((one.classes - 1) * torch.exp(-w.sum()))
        loss = loss + one.decay * (norms**2 * w.abs() ** (2 / one.kappa)).sum()
        (slope,) = torch.autograd.grad(loss, subs)
        subs = subs.detach() - 0.01 * slope.nan_to_num()
    np.testing.assert_allclose(one.descend(200)[-1], (subs[:2] * subs[2:]).numpy(), rtol=1e-9)
