"""A run that starts where another ended, and knows which."""

import pytest

from grok.lab.errors import UserError
from grok.lab.experiment import load
from grok.lab.repeat import repeat
from tests.conftest import PROJECT

TINY = {"train_steps": 30, "p": 5, "embedding_width": 6, "width": 4, "log_points": 10, "seed": 3}


@pytest.fixture
def paper(store):
    paper = load(PROJECT / "experiments" / "circuit_efficiency.py")
    paper.store = store
    return paper


def logged(store, run, name: str) -> dict[int, float]:
    found = store.database.metrics.find_one({"run_id": run._id, "name": name})
    return dict(zip(found["steps"], found["values"], strict=True))


def test_it_starts_with_the_weights_and_its_lineage_is_a_query(store, paper):
    first = paper.run(config_updates=TINY)
    second = paper.run(config_updates={**TINY, "initial_run": first._id, "train_count": 6})
    start, end = logged(store, second, "weight_norm")[0], logged(store, first, "weight_norm")[30]
    assert start == end
    assert store.database.runs.find_one({"info.initial_run": first._id})["_id"] == second._id
    assert repeat(store, second._id).first is None


def test_a_named_config_means_its_latest_run_of_this_seed(store, paper):
    paper.add_named_config("tiny", TINY)
    wanted = {**TINY, "initial_run": "tiny"}
    with pytest.raises(
        UserError, match=r"run this first: python experiments/circuit_efficiency\.py"
    ):
        paper.run(config_updates={**wanted, "seed": 4})
    runs = [paper.run(named_configs=["tiny"], config_updates={"seed": 3}) for _ in range(2)]
    paper.run(named_configs=["tiny"], config_updates={"seed": 5})
    found = paper.run(config_updates=wanted)
    assert found.info["initial_run"] == runs[1]._id


def test_weights_of_another_shape_are_refused_in_one_line(paper):
    first = paper.run(config_updates=TINY)
    with pytest.raises(UserError, match=r"initial_run.*names and shapes"):
        paper.run(config_updates={**TINY, "width": 5, "initial_run": first._id})
    with pytest.raises(UserError, match="no run 999999"):
        paper.run(config_updates={**TINY, "initial_run": 999_999})
