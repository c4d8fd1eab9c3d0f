"""Facts of experiments/parity.py."""

import pytest

from grok.claims.testing import claim_run, finding
from grok.engine.events import Record
from grok.engine.train import train
from grok.errors import UserError
from grok.experiment.experiment import load_module
from grok.paths import experiment_file

SMALL = {"bits": 5, "train_count": 20, "test_count": 10, "width": 8, "batch_size": None}


@pytest.fixture(scope="module")
def paper():
    return load_module(experiment_file("parity"))


def metrics_by_step(paper):
    config = paper.ex.full_config({**SMALL, "train_steps": 20, "seed": 3})
    events = train([paper.ex.problem_of(config)], compiled=False)
    return {event.step: event.metrics for event in events if isinstance(event, Record)}


def test_equal_seeds_give_equal_runs(paper):
    """All randomness comes from the run's seed."""
    metrics = metrics_by_step(paper)
    assert metrics == metrics_by_step(paper)
    assert metrics[20]["train_loss"] < metrics[0]["train_loss"]


def test_the_parity_of_more_bits_than_there_are_is_refused(paper):
    config = paper.ex.full_config({**SMALL, "relevant": 6, "seed": 0})
    with pytest.raises(UserError, match="at most bits=5"):
        paper.ex.problem_of(config)


@pytest.mark.parametrize(("test_at", "passed"), [(20, True), (15, False)])
def test_the_claim_needs_twice_the_steps(paper, test_at, passed):
    """A run at the limit passes, and one below it does not."""
    series = {
        "train_accuracy": ([0, 10, 11], [0.5, 1.0, 1.0]),
        "test_accuracy": ([0, test_at, test_at + 1], [0.5, 1.0, 1.0]),
    }
    assert finding(paper, "parity-C1", claim_run("cpu", {}, series)).passed == passed
