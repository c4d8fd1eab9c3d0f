"""Sums."""

import pytest

from grok.errors import UserError
from grok.experiment.experiment import load
from tests.conftest import PROJECT

SMALL = {"p": 7, "train_steps": 20, "seed": 3}


@pytest.fixture
def paper(store):
    found = load(PROJECT / "experiments" / "asked.py")
    found.store = store
    return found


def test_a_seed_decides_all(paper):
    results = [paper.run(config_updates=SMALL).result for _ in range(2)]
    values = [{k: v for k, v in one.items() if k != "seconds"} for one in results]
    assert values[0] == values[1]
    assert results[0]["train_loss"] > 0


def test_a_wrong_value_is_one_line(paper):
    with pytest.raises(UserError, match="train_fraction"):
        paper.full_config({"train_fraction": 1.5})
