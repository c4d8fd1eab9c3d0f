"""Parts of problems that papers share."""

import pytest
import torch

from grok.experiment import parts
from grok.experiment.config_types import LARGEST_SEED
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


@pytest.mark.parametrize("seed", [0, 5, 2**31, LARGEST_SEED])
def test_further_generators_differ_from_that_of_the_seed_and_from_each_other(seed):
    """torch's CPU generator reads the low 32 bits of a seed alone: labels that are drawn with the split,
    or weights with the inputs, depend on these."""
    generators = [parts.further_generator(seed, stream) for stream in (1, 2, 3)]
    generators.append(torch.Generator().manual_seed(seed))
    drawn = {tuple(torch.randint(1000, (8,), generator=g).tolist()) for g in generators}
    assert len(drawn) == 4
