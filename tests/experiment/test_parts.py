"""Parts of problems that papers share."""

import pytest

from grok.experiment import parts
from grok.experiment.experiment import load
from tests.conftest import PROJECT


@pytest.mark.parametrize(
    ("name", "named_configs"),
    [
        ("circuit_efficiency", []),
        ("delay_laws", []),
        ("doshi", []),
        ("early_prediction", []),
        ("humayun", ["cpu"]),  # digits; MNIST needs a download
        ("numerical_stability", []),
        ("thilak", []),
    ],
)
def test_metrics_of_a_paper_bound_the_memory_of_an_evaluation(monkeypatch, name, named_configs):
    """A large table is evaluated in portions. Four papers had made the loss and accuracies anew, and
    evaluated 2^27 logits and more at once."""
    monkeypatch.setattr(parts, "MOST_LOGITS", 1)
    paper = load(PROJECT / "experiments" / f"{name}.py")
    problem = paper.problem_of(paper.full_config({"device": "cpu"}, named_configs))
    assert problem.metrics.classification.rows_at_once == parts.ROWS_AT_ONCE
