"""Margins of logits."""

import pytest
import torch

from grok.measures.margins import margins, summary


def test_a_margin_is_the_label_s_logit_less_the_largest_other():
    logits = torch.tensor([[1.0, 4.0, 2.0], [3.0, 0.5, -1.0], [0.0, 0.0, 0.0]])
    found = margins(logits, torch.tensor([1, 2, 0]))
    assert found.tolist() == [2.0, -4.0, 0.0]
    assert summary(found) == {
        "least": -4.0,
        "median": 0.0,
        "mean": pytest.approx(-2 / 3),
        "positive": pytest.approx(1 / 3),
    }
